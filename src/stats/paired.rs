//! Two conditions on the same examples.

use rand::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::monte_carlo::p_value;
use super::tally::Tally;
use super::{Draws, Estimate, mean, mean_interval, skewness, standard_deviation, wilcoxon};

/// A paired comparison of `b` with `a`, for example `random@0.5` with the full cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Number of examples.
    pub n: usize,
    /// Mean of `a`.
    pub mean_a: f64,
    /// Mean of `b`.
    pub mean_b: f64,
    /// Mean of `b - a` with its interval.
    pub difference: Estimate,
    /// Two-sided p-value of the sign-flip permutation test, the main test.
    pub p_permutation: f64,
    /// Two-sided p-value of Wilcoxon's signed-rank test.
    pub p_wilcoxon: f64,
    /// Cohen's d for paired data: mean difference over its standard deviation. `None` if all differences are equal.
    pub d_z: Option<f64>,
    /// Cliff's delta: how much more often a `b` exceeds an `a` than the other way round, in [-1, 1].
    pub cliffs_delta: f64,
    /// Standard deviation of the differences.
    pub sd_difference: f64,
    /// Skewness of the differences; the sign-flip test assumes symmetric differences.
    pub skewness: f64,
}

/// Compares two conditions, paired by index. `None` without pairs.
///
/// # Panics
/// If the slices differ in length.
pub fn compare(a: &[f64], b: &[f64], level: f64, seed: u64) -> Option<Comparison> {
    assert_eq!(a.len(), b.len(), "paired data");
    // Scores are fractions: 0.8 - 0.6 and 0.4 - 0.2 are a tie, though not in binary floating point.
    let round = |value: f64| (value * 1e12).round() / 1e12;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| round(b - a)).collect();
    let (a, b): (Vec<_>, Vec<_>) = a.iter().zip(b).map(|(&a, &b)| (round(a), round(b))).unzip();
    let difference = mean_interval(&differences, level, seed)?;
    let sd = standard_deviation(&differences);
    Some(Comparison {
        n: a.len(),
        mean_a: mean(&a),
        mean_b: mean(&b),
        difference,
        p_permutation: sign_flip(&differences, seed),
        p_wilcoxon: wilcoxon(&differences),
        d_z: (sd > 0.0).then(|| difference.point / sd),
        cliffs_delta: cliffs_delta(&a, &b),
        sd_difference: sd,
        skewness: skewness(&differences),
    })
}

/// Largest number of nonzero differences for which all sign patterns are counted.
const EXACT: usize = 20;
/// Number of random sign patterns for more differences. If many values are all different it is smaller, but at least
/// `FEWEST_FLIPS`.
const FLIPS: usize = 99_999;
const FEWEST_FLIPS: usize = 9_999;
/// Limit for the number of signs drawn one by one.
const SIGNS: usize = 10_000_000;

/// The sign-flip permutation test of a mean of 0 (Fisher 1935): under the null hypothesis each difference is as likely
/// as its negative. Exact for up to 20 nonzero differences; else Monte Carlo.
pub fn sign_flip(differences: &[f64], seed: u64) -> f64 {
    let moved: Vec<f64> = differences.iter().copied().filter(|&difference| difference != 0.0).collect();
    let total: f64 = moved.iter().sum();
    let scale: f64 = moved.iter().map(|difference| difference.abs()).sum();
    // Sums of equal size differ in their last bits by the order of summation.
    let threshold = total.abs() - 1e-12 * scale;
    if moved.len() <= EXACT {
        let mut hits = 0u32;
        let mut sum = total;
        for pattern in 0..1u32 << moved.len() {
            hits += u32::from(sum.abs() >= threshold);
            // Gray code: from one pattern to the next, one sign changes.
            let flipped = (pattern + 1).trailing_zeros() as usize;
            if let Some(difference) = moved.get(flipped) {
                let negative_now = (gray(pattern) >> flipped) & 1 == 0;
                sum += if negative_now { -2.0 * difference } else { 2.0 * difference };
            }
        }
        return f64::from(hits) / f64::from(1u32 << moved.len());
    }
    let mut rng = Draws::seed_from_u64(seed);
    let tally = Tally::of(moved.iter().map(|difference| difference.abs()));
    let flips = SIGNS.checked_div(tally.n_rare()).unwrap_or(FLIPS).clamp(FEWEST_FLIPS, FLIPS);
    p_value(flips, || tally.flipped_sum(&mut rng).abs() >= threshold)
}

fn gray(pattern: u32) -> u32 {
    pattern ^ (pattern >> 1)
}

fn cliffs_delta(a: &[f64], b: &[f64]) -> f64 {
    let mut sorted = a.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let balance: i64 = b
        .iter()
        .map(|&value| {
            let below = sorted.partition_point(|&other| other < value) as i64;
            let not_above = sorted.partition_point(|&other| other <= value) as i64;
            below - (sorted.len() as i64 - not_above)
        })
        .sum();
    balance as f64 / (a.len() * b.len()) as f64
}
