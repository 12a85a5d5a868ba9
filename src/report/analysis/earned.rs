//! Earned scores of conditions, and comparisons on them.

use serde::Serialize;

use super::Resampling;
use super::chance::Chance;
use crate::stats::{self, Earned, Estimate};

/// A paired comparison on earned scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EarnedDifference {
    /// Number of common examples that have a rule with a chance, or that are donors.
    pub n: usize,
    /// Earned score of `a` on them.
    pub earned_a: f64,
    /// Earned score of `b` on them.
    pub earned_b: f64,
    /// `b - a`, with its t interval over examples.
    pub difference: Estimate,
    /// Two-sided sign-flip permutation test.
    pub p_permutation: f64,
    /// The same after Holm's correction over all earned comparisons of the report.
    pub p_holm: f64,
    /// Standard deviation over examples.
    pub sd_difference: f64,
    /// Skewness over examples: the sign-flip test assumes symmetric differences.
    pub skewness: f64,
}

/// The earned score of each column.
pub(super) fn of_conditions(chance: &Chance, n_columns: usize, level: f64) -> Vec<Option<Earned>> {
    (0..n_columns).map(|column| chance.shares(&[column])?[0].earned(level)).collect()
}

/// Compares pairs of columns `(a, b)`: one family for Holm's correction.
pub(super) fn compare(
    chance: &Chance,
    pairs: &[(usize, usize)],
    resampling: Resampling,
) -> Vec<Option<EarnedDifference>> {
    let mut compared = crate::threads::map(pairs, |&(a, b)| pair(chance, a, b, resampling));
    let p: Vec<f64> = compared.iter().flatten().map(|compared| compared.p_permutation).collect();
    compared.iter_mut().flatten().zip(stats::holm(&p)).for_each(|(compared, p)| compared.p_holm = p);
    compared
}

fn pair(chance: &Chance, a: usize, b: usize, resampling: Resampling) -> Option<EarnedDifference> {
    let shares = chance.shares(&[a, b])?;
    let contrast = stats::contrast(&shares, &[-1.0, 1.0])?;
    Some(EarnedDifference {
        n: contrast.by_example.len(),
        earned_a: shares[0].score()?,
        earned_b: shares[1].score()?,
        difference: stats::t_interval(&contrast.by_example, resampling.level),
        p_permutation: stats::sign_flip(&contrast.tested, resampling.seed),
        p_holm: 1.0,
        sd_difference: stats::standard_deviation(&contrast.by_example),
        skewness: stats::skewness(&contrast.by_example),
    })
}
