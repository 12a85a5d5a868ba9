//! Power: which differences a number of examples can show.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// Upper limit of the search for the number of examples.
const MOST: usize = 10_000_000;

/// The smallest mean difference that a two-sided paired t test at level `alpha` finds with probability `power`, given
/// the standard deviation of the differences: `(t[1-alpha/2] + t[power]) sd / sqrt(n)` with `n - 1` degrees of freedom.
/// Infinite for fewer than two examples.
pub fn minimum_detectable_difference(sd: f64, n: usize, alpha: f64, power: f64) -> f64 {
    if n < 2 {
        return f64::INFINITY;
    }
    let Ok(t) = StudentsT::new(0.0, 1.0, (n - 1) as f64) else { return f64::INFINITY };
    (t.inverse_cdf(1.0 - alpha / 2.0) + t.inverse_cdf(power)) * sd / (n as f64).sqrt()
}

/// The smallest number of examples that finds `difference`; `None` if it is 0 or needs more than ten million.
pub fn examples_needed(difference: f64, sd: f64, alpha: f64, power: f64) -> Option<usize> {
    let enough = |n| minimum_detectable_difference(sd, n, alpha, power) <= difference.abs();
    if difference == 0.0 || !enough(MOST) {
        return None;
    }
    let (mut few, mut many) = (1, MOST); // `few` is not enough, `many` is
    while many - few > 1 {
        let middle = few + (many - few) / 2;
        if enough(middle) { many = middle } else { few = middle }
    }
    Some(many)
}
