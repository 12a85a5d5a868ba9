//! Does any dose matter? One test over all of them.

use rand::SeedableRng as _;

use super::Draws;
use super::monte_carlo::{Orders, p_value};
use super::slope::permutations;

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
/// they are permuted within examples at random.
pub fn any_dose_test(values: &[Vec<f64>], seed: u64) -> AnyDose {
    // Scores are fractions, which have no exact binary form; equal ones must be equal.
    let round = |value: &f64| (value * 1e12).round() / 1e12;
    let values: Vec<Vec<f64>> = values.iter().map(|values| values.iter().map(round).collect()).collect();
    let doses = values.first().map_or(0, Vec::len);
    let in_order: Vec<usize> = (0..doses).collect();
    let mut sums = vec![(0.0, 0.0); doses];
    values.iter().for_each(|values| add(values, &in_order, &mut sums));
    let (observed, at) = largest_of(&sums);
    // An example whose values are all equal adds nothing.
    let changing = values.iter().filter(|values| values.iter().any(|value| *value != values[0]));
    let changing: Vec<f64> = changing.flatten().copied().collect();
    if changing.is_empty() {
        return AnyDose { p: 1.0, at };
    }
    let threshold = observed * (1.0 - 1e-12);
    let mut rng = Draws::seed_from_u64(seed);
    let mut orders = Orders::of(doses);
    let p = p_value(permutations(changing.len()), || {
        sums.fill((0.0, 0.0));
        for values in changing.chunks_exact(doses) {
            add(values, orders.draw(&mut rng), &mut sums);
        }
        largest_of(&sums).0 >= threshold
    });
    AnyDose { p, at }
}

/// Adds an example's differences from the first dose, and their squares.
fn add(values: &[f64], order: &[usize], sums: &mut [(f64, f64)]) {
    let first = values[order[0]];
    for (&at, (sum, squares)) in order.iter().zip(sums) {
        let difference = values[at] - first;
        *sum += difference;
        *squares += difference * difference;
    }
}

/// The largest statistic, and the index of its dose.
fn largest_of(sums: &[(f64, f64)]) -> (f64, usize) {
    let statistic = |&(sum, squares): &(f64, f64)| if squares > 0.0 { sum.abs() / squares.sqrt() } else { 0.0 };
    let statistics = sums.iter().map(statistic).enumerate().skip(1);
    statistics.fold((0.0, 1), |best, (at, one)| if one > best.0 { (one, at) } else { best })
}
