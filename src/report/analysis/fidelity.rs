//! How far predictions moved from those under the full cache, and from each other.
//!
//! Divergences spread over orders of magnitude, so means and ratios are geometric. If batching allowed a measurement of
//! the full cache against itself, the result is the floor: it has its own row, and is the unit of the other rows.

use serde::Serialize;

use super::Resampling;
use crate::report::Table;
use crate::report::table::{Column, Trial};
use crate::stats::{Estimate, mean_interval};

/// How far the model's predictions moved from those under the full cache.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Fidelity {
    /// Geometric mean over examples of the KL divergence from the full cache, per token of the baseline's answer.
    /// Examples whose predictions did not move at all are excluded; if they are the majority, there is no mean.
    pub kl: Option<Estimate>,
    /// The same as a multiple of the floor: geometric mean over examples of the ratio.
    pub times_floor: Option<Estimate>,
    /// Fraction of tokens at which the most likely next token differs from that under the full cache.
    pub flips: Option<Estimate>,
    /// Negative log-likelihood of the baseline's answer, per token, minus that under the full cache.
    pub nll_difference: Option<Estimate>,
}

pub(super) fn of(table: &Table, column: &Column, resampling: Resampling) -> Fidelity {
    let Resampling { level, seed } = resampling;
    let baseline = table.baseline(column.run).map(|index| &table.columns[index]);
    let interval = |values: Vec<f64>| mean_interval(&values, level, seed);
    let flips = column.by_example(|trial| Some(1.0 - trial.row.top1_agree?));
    let nll = |column: &Column| column.by_example(|trial| trial.row.nll);
    let paired = |baseline: &Column| {
        let both = nll(column).into_iter().zip(nll(baseline)).filter_map(|(cut, full)| Some(cut? - full?));
        interval(both.collect())
    };
    let evicted = !column.condition.is_full();
    Fidelity {
        kl: geometric(divergences(column).into_iter(), resampling),
        times_floor: baseline.filter(|_| evicted).and_then(|baseline| ratio(baseline, column, resampling)),
        flips: interval(flips.into_iter().flatten().collect()),
        nll_difference: baseline.filter(|_| evicted).and_then(paired),
    }
}

/// Geometric mean over examples of the KL divergence of `b` divided by that of `a`.
pub(super) fn ratio(a: &Column, b: &Column, resampling: Resampling) -> Option<Estimate> {
    let pairs = divergences(a).into_iter().zip(divergences(b));
    // A ratio with a zero has no logarithm.
    let over = |a: f64, b: f64| if a > 0.0 && b > 0.0 { b / a } else { 0.0 };
    geometric(pairs.map(|(a, b)| Some(over(a?, b?))), resampling)
}

/// By example: the mean over repeats.
fn divergences(column: &Column) -> Vec<Option<f64>> {
    column.by_example(|trial: &Trial| trial.row.kl_mean)
}

/// Geometric mean of the values that are not 0. `None` if these are less than half: a few examples would then represent
/// all.
pub(super) fn geometric(values: impl Iterator<Item = Option<f64>>, resampling: Resampling) -> Option<Estimate> {
    let measured: Vec<f64> = values.flatten().collect();
    let logs: Vec<f64> = measured.iter().filter(|&&value| value > 0.0).map(|value| value.ln()).collect();
    if 2 * logs.len() < measured.len() {
        return None;
    }
    let mean = mean_interval(&logs, resampling.level, resampling.seed)?;
    Some(Estimate { point: mean.point.exp(), low: mean.low.exp(), high: mean.high.exp(), ..mean })
}
