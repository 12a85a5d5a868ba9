//! Proportions.

use statrs::distribution::{Binomial, DiscreteCDF as _};

use super::{Estimate, normal_quantile};

/// A proportion with Wilson's score interval (1927). With `n` 0 the interval is everything.
pub fn wilson(successes: usize, n: usize, level: f64) -> Estimate {
    if n == 0 {
        return Estimate { point: 0.5, low: 0.0, high: 1.0, level, n };
    }
    let (count, point) = (n as f64, successes as f64 / n as f64);
    let z = normal_quantile((1.0 + level) / 2.0);
    let denominator = 1.0 + z * z / count;
    let center = (point + z * z / (2.0 * count)) / denominator;
    let half = z * (point * (1.0 - point) / count + z * z / (4.0 * count * count)).sqrt() / denominator;
    Estimate { point, low: (center - half).max(0.0), high: (center + half).min(1.0), level, n }
}

/// Exact two-sided McNemar test (1947) on the discordant pairs: `lost` passed before and fail
/// after, `gained` the other way round.
pub fn mcnemar(lost: usize, gained: usize) -> f64 {
    let pairs = (lost + gained) as u64;
    match Binomial::new(0.5, pairs) {
        Ok(binomial) if pairs > 0 => (2.0 * binomial.cdf(lost.min(gained) as u64)).min(1.0),
        _ => 1.0,
    }
}
