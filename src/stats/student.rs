//! Student's t interval of a mean.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::{Estimate, mean, mean_bca, standard_deviation};

/// Number of examples from which on a bootstrap interval reaches its nominal coverage, whatever the skew.
pub const ENOUGH: usize = 30;

/// Mean with its interval: by t below 30 values, where the bootstrap's coverage is too low, else by [`mean_bca`].
/// `None` without values.
pub fn mean_interval(values: &[f64], level: f64, seed: u64) -> Option<Estimate> {
    match values.len() {
        0 => None,
        few if few < ENOUGH => Some(t_interval(values, level)),
        _ => mean_bca(values, level, seed),
    }
}

/// Mean with its t interval: `mean ± t[(1 + level) / 2, n - 1] sd / sqrt(n)`. A single value has no spread, so its
/// interval is the point itself.
///
/// # Panics
/// If there are no values.
pub fn t_interval(values: &[f64], level: f64) -> Estimate {
    assert!(!values.is_empty(), "a mean of something");
    let (n, point) = (values.len(), mean(values));
    let half = t_quantile((1.0 + level) / 2.0, n) * standard_deviation(values) / (n as f64).sqrt();
    Estimate { point, low: point - half, high: point + half, level, n }
}

/// The quantile of the t distribution with `n - 1` degrees of freedom; 0 for fewer than two values.
pub(super) fn t_quantile(p: f64, n: usize) -> f64 {
    if n < 2 {
        return 0.0;
    }
    StudentsT::new(0.0, 1.0, (n - 1) as f64).map_or(0.0, |t| t.inverse_cdf(p))
}
