//! The bootstrap interval of a mean.

use rand::SeedableRng as _;

use super::tally::Tally;
use super::{Draws, Estimate, mean, normal_cdf, normal_quantile};

/// Number of resamples: each end of a 95% interval then rests on 100 of them.
const RESAMPLES: usize = 3_999;

/// Mean with its bias-corrected and accelerated (BCa) bootstrap interval (Efron 1987; Efron &
/// Tibshirani 1993, chapter 14). `None` without values.
///
/// If all values are equal, or there is only one, resampling has no effect: the interval is the point itself and says
/// nothing about other examples.
pub fn mean_bca(values: &[f64], level: f64, seed: u64) -> Option<Estimate> {
    if values.is_empty() {
        return None;
    }
    let (n, point) = (values.len(), mean(values));
    if values.iter().all(|&value| value == values[0]) {
        return Some(Estimate { point: values[0], low: values[0], high: values[0], level, n });
    }
    let mut rng = Draws::seed_from_u64(seed);
    let tally = Tally::of(values.iter().copied());
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| tally.resampled_sum(&mut rng) / n as f64).collect();
    means.sort_unstable_by(f64::total_cmp);

    // Bias: the place of the point among the resampled means. Ties count half; equal sums differ in their last bits by
    // the order of summation.
    let slack = 1e-12 * values.iter().map(|value| value.abs()).fold(0.0, f64::max);
    let less = means.partition_point(|&resampled| resampled < point - slack);
    let not_more = means.partition_point(|&resampled| resampled <= point + slack);
    let share = (less + not_more) as f64 / (2 * RESAMPLES) as f64;
    let edge = 1.0 / (RESAMPLES + 1) as f64;
    let bias = normal_quantile(share.clamp(edge, 1.0 - edge));

    // Acceleration: the skewness of the jackknife means. They differ from their own mean by (mean - value) / (n - 1),
    // and the factor cancels.
    let cubes: f64 = values.iter().map(|value| (value - point).powi(3)).sum();
    let squares: f64 = values.iter().map(|value| (value - point).powi(2)).sum();
    let acceleration = cubes / (6.0 * squares.powf(1.5));

    let end = |p: f64| {
        let z = bias + normal_quantile(p);
        quantile(&means, normal_cdf(bias + z / (1.0 - acceleration * z)))
    };
    let tail = (1.0 - level) / 2.0;
    Some(Estimate { point, low: end(tail), high: end(1.0 - tail), level, n })
}

/// The quantile of sorted values, interpolated linearly.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * at.fract()
}
