//! Wilcoxon's signed-rank test.

use super::normal_cdf;

/// Largest number of pairs for the exact distribution, which also needs differences of different sizes.
const EXACT: usize = 50;

/// Two-sided p-value of Wilcoxon's signed-rank test (1945), as `scipy.stats.wilcoxon` computes it:
/// zeros are dropped; exact for up to 50 differences without ties or zeros, else the normal
/// approximation with tie correction, without continuity correction. 1 if all differences are 0.
pub fn wilcoxon(differences: &[f64]) -> f64 {
    let mut sizes: Vec<(f64, bool)> =
        differences.iter().filter(|&&value| value != 0.0).map(|&value| (value.abs(), value > 0.0)).collect();
    let n = sizes.len();
    if n == 0 {
        return 1.0;
    }
    sizes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut positive, mut ties, mut start) = (0.0, 0.0, 0);
    while start < n {
        let end = start + sizes[start..].partition_point(|size| size.0 <= sizes[start].0);
        let (count, rank) = ((end - start) as f64, (start + 1 + end) as f64 / 2.0);
        positive += rank * sizes[start..end].iter().filter(|size| size.1).count() as f64;
        ties += count.powi(3) - count;
        start = end;
    }
    if ties == 0.0 && n <= EXACT && n == differences.len() {
        return exact(n, positive as usize);
    }
    let n = n as f64;
    let expected = n * (n + 1.0) / 4.0;
    let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - ties / 2.0) / 24.0;
    (2.0 * normal_cdf(-(positive - expected).abs() / variance.sqrt())).min(1.0)
}

/// The exact two-sided p-value: counts, for every sum, the sets of ranks 1..=n with this sum; all sets are equally
/// likely.
fn exact(n: usize, positive: usize) -> f64 {
    let most = n * (n + 1) / 2;
    let mut sets = vec![0.0f64; most + 1];
    sets[0] = 1.0;
    for rank in 1..=n {
        for sum in (rank..=most).rev() {
            sets[sum] += sets[sum - rank];
        }
    }
    let tail: f64 = sets[..=positive.min(most - positive)].iter().sum();
    (2.0 * tail / 2f64.powi(n as i32)).min(1.0)
}
