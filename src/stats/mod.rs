//! Statistics of an experiment: pure functions over numbers.
//!
//! The unit is the **example**: repeats are averaged before they get here, so that every interval and test resamples
//! examples (clusters), never trials. Comparisons are paired by example. Random draws are seeded, so that a report
//! always gives the same numbers.

mod any;
mod bootstrap;
mod earned;
mod gate;
mod kaplan_meier;
mod kappa;
mod logistic;
mod monte_carlo;
mod multiple;
mod paired;
mod power;
mod proportion;
mod sequence;
mod slope;
mod student;
mod tally;
mod wilcoxon;

pub use any::{AnyDose, any_dose_test};
pub use bootstrap::mean_bca;
pub use earned::{Asked, Contrast, Earned, Shares, Verdicts, contrast, shares};
pub use gate::holm_gated;
pub use kaplan_meier::{Life, kaplan_meier, log_rank, paired_log_rank};
pub use kappa::cohens_kappa;
pub use logistic::{Logistic, Observations, logistic};
pub use multiple::holm;
pub use paired::{Comparison, compare, sign_flip};
pub use power::{examples_needed, minimum_detectable_difference};
pub use proportion::clustered_proportion;
pub use sequence::ConfidenceSequence;
pub use slope::{slope_test, slope_weights};
pub use student::{ENOUGH, mean_interval, t_interval};
pub use wilcoxon::wilcoxon;

use serde::{Deserialize, Serialize};

/// The generator of random draws: fast, with the same stream on every machine and in every version.
type Draws = rand_xoshiro::Xoshiro256PlusPlus;

/// An estimate with its interval, such as 0.63 [0.58, 0.68].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub point: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Confidence level, such as 0.95.
    pub level: f64,
    /// Number of observations.
    pub n: usize,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation; 0 for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let center = mean(values);
    let squares: f64 = values.iter().map(|value| (value - center).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// Skewness: the third central moment over the 1.5th power of the second; 0 if all values are equal.
pub fn skewness(values: &[f64]) -> f64 {
    let center = mean(values);
    let moment =
        |power: i32| values.iter().map(|value| (value - center).powi(power)).sum::<f64>() / values.len() as f64;
    let variance = moment(2);
    if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 }
}

/// The quantile of the standard normal distribution.
fn normal_quantile(p: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF as _, Normal};
    Normal::standard().inverse_cdf(p)
}

/// The cumulative distribution function of the standard normal distribution.
fn normal_cdf(z: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF as _, Normal};
    Normal::standard().cdf(z)
}
