//! The slope of values against a dose, such as the fraction evicted, by example, and its test.

use rand::SeedableRng as _;

use super::monte_carlo::{Orders, p_value};
use super::{Draws, sign_flip};

/// Permutations of a Monte Carlo test; in large runs fewer, so that they take at most `STEPS` steps, but at least
/// `FEWEST`.
const PERMUTATIONS: usize = 9_999;
const FEWEST: usize = 999;
const STEPS: usize = 20_000_000;

/// Weights that give the least-squares slope of values on their doses: `(x - mean) / sum of (x - mean)^2`. Their
/// sum is 0.
///
/// # Panics
/// If there are not two different doses.
pub fn slope_weights(doses: &[f64]) -> Vec<f64> {
    let center = super::mean(doses);
    let squares: f64 = doses.iter().map(|dose| (dose - center).powi(2)).sum();
    assert!(squares > 0.0, "two different doses");
    doses.iter().map(|dose| (dose - center) / squares).collect()
}

/// Two-sided p-value of the hypothesis that the slope is 0. `values` has one list per example, in the order of `doses`;
/// under the null hypothesis the values of an example may be exchanged.
///
/// If the doses are symmetric about their middle, as equally spaced ones are, reversing an example's values changes the
/// sign of its slope. This gives the sign-flip test, which is exact for few examples. Else labels are permuted within
/// each example at random, and the observed ones are counted in (Phipson & Smyth 2010).
pub fn slope_test(values: &[Vec<f64>], doses: &[f64], seed: u64) -> f64 {
    let weights = slope_weights(doses);
    let weighted = |values: &[f64]| -> f64 { values.iter().zip(&weights).map(|(value, weight)| value * weight).sum() };
    if is_symmetric(doses) {
        let round = |slope: f64| (slope * 1e12).round() / 1e12;
        let slopes: Vec<f64> = values.iter().map(|values| round(weighted(values))).collect();
        return sign_flip(&slopes, seed);
    }
    let observed: f64 = values.iter().map(|values| weighted(values)).sum();
    // An example whose values do not change with the labels adds nothing.
    let changing = values.iter().filter(|values| values.iter().any(|value| *value != values[0]));
    let values: Vec<f64> = changing.flatten().copied().collect();
    let threshold = observed.abs() * (1.0 - 1e-12);
    let mut rng = Draws::seed_from_u64(seed);
    let mut orders = Orders::of(doses.len());
    p_value(permutations(values.len()), || {
        let permuted = |values: &[f64]| -> f64 {
            orders.draw(&mut rng).iter().zip(&weights).map(|(&at, weight)| values[at] * weight).sum()
        };
        values.chunks_exact(doses.len()).map(permuted).sum::<f64>().abs() >= threshold
    })
}

/// The number of permutations of a Monte Carlo test, each of so many steps.
pub(super) fn permutations(steps: usize) -> usize {
    STEPS.checked_div(steps).unwrap_or(PERMUTATIONS).clamp(FEWEST, PERMUTATIONS)
}

fn is_symmetric(doses: &[f64]) -> bool {
    let ends = doses[0] + doses[doses.len() - 1];
    doses.iter().zip(doses.iter().rev()).all(|(low, high)| (low + high - ends).abs() < 1e-9)
}
