//! Proportions.

use super::Estimate;
use super::student::t_quantile;

/// A proportion of observations in clusters, given as successes and observations of each cluster. The interval is
/// Wilson's (1927) at the effective number of observations, the number of independent observations with the same
/// variance (Korn & Graubard 1998), with t for `G - 1` degrees of freedom instead of the normal. If all observations
/// succeed or all fail, each cluster counts once. A single cluster gives no information, and the interval is [0, 1].
/// `n` is the number of observations.
pub fn clustered_proportion(clusters: &[(usize, usize)], level: f64) -> Estimate {
    let g = clusters.len();
    let (successes, n) = clusters.iter().fold((0, 0), |(yes, n), cluster| (yes + cluster.0, n + cluster.1));
    let point = if n == 0 { 0.5 } else { successes as f64 / n as f64 };
    if g < 2 {
        return Estimate { point, low: 0.0, high: 1.0, level, n };
    }
    let apart = |&(yes, of): &(usize, usize)| (yes as f64 - point * of as f64).powi(2);
    let variance = clusters.iter().map(apart).sum::<f64>() * g as f64 / (g as f64 - 1.0) / (n as f64).powi(2);
    let effective = if variance > 0.0 { (point * (1.0 - point) / variance).min(n as f64) } else { g as f64 };
    let [low, high] = score_interval(point, effective, t_quantile((1.0 + level) / 2.0, g));
    Estimate { point, low, high, level, n }
}

fn score_interval(point: f64, count: f64, z: f64) -> [f64; 2] {
    let denominator = 1.0 + z * z / count;
    let center = (point + z * z / (2.0 * count)) / denominator;
    let half = z * (point * (1.0 - point) / count + z * z / (4.0 * count * count)).sqrt() / denominator;
    [(center - half).max(0.0), (center + half).min(1.0)]
}
