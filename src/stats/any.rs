//! Does any dose matter? One test over all of them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::slope::{permutations, shuffle};

/// The result of [`any_dose_test`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnyDose {
    /// Two-sided p-value of the hypothesis that no dose changes the values.
    pub p: f64,
    /// Index of the dose that differs most from the first.
    pub at: usize,
}

/// Tests whether the values at any dose differ from those at the first, by the largest statistic over doses (Westfall &
/// Young 1993). `values` has one list per example, with the same doses in each.
///
/// The statistic of a dose is `|sum of d| / sqrt(sum of d^2)` over the examples' differences `d` from the first dose.
/// The root mean square is its scale, not the standard deviation: that becomes 0 where a few equal differences are
/// all there is, and then calls luck an effect. Under the null hypothesis the values of an example may be exchanged, so
/// they are permuted within examples at random, and the observed ones are counted in (Phipson & Smyth 2010).
pub fn any_dose_test(values: &[Vec<f64>], seed: u64) -> AnyDose {
    let (observed, at) = largest(values);
    // An example whose values are all equal adds nothing.
    let mut values: Vec<Vec<f64>> =
        values.iter().filter(|values| values.iter().any(|value| *value != values[0])).cloned().collect();
    let Some(doses) = values.first().map(Vec::len) else { return AnyDose { p: 1.0, at } };
    let permutations = permutations(values.len() * doses);
    let threshold = observed * (1.0 - 1e-12);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut hits = 1usize;
    for _ in 0..permutations {
        values.iter_mut().for_each(|values| shuffle(values, &mut rng));
        hits += usize::from(largest(&values).0 >= threshold);
    }
    AnyDose { p: hits as f64 / (permutations + 1) as f64, at }
}

/// The largest statistic, and the index of its dose.
fn largest(values: &[Vec<f64>]) -> (f64, usize) {
    let doses = values.first().map_or(0, Vec::len);
    let mut sums = vec![(0.0, 0.0); doses];
    for values in values {
        for (value, (sum, squares)) in values.iter().zip(&mut sums) {
            // Scores are fractions, which have no exact binary form.
            let difference = ((value - values[0]) * 1e12).round() / 1e12;
            *sum += difference;
            *squares += difference * difference;
        }
    }
    let statistic = |&(sum, squares): &(f64, f64)| if squares > 0.0 { sum.abs() / squares.sqrt() } else { 0.0 };
    let statistics = sums.iter().map(statistic).enumerate().skip(1);
    statistics.fold((0.0, 1), |best, (at, one)| if one > best.0 { (one, at) } else { best })
}
