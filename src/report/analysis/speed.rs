//! How fast conditions answer, where they answered alone and in turn (`exp --measure-speed`).

use serde::Serialize;

use super::Resampling;
use super::fidelity::geometric;
use crate::report::Table;
use crate::report::table::{Column, Trial};
use crate::stats::{Estimate, mean_interval};

/// The speed of a condition.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speed {
    /// Tokens per second while an answer is generated: mean over examples of the mean over repeats.
    pub tokens_per_s: Estimate,
    /// The same as a multiple of the full cache's: geometric mean over examples of the ratio.
    pub times_full: Option<Estimate>,
    /// Milliseconds until the first token: reading the prompt, scoring and evicting, and one token of the answer.
    pub first_token_ms: Estimate,
}

/// `None` if conditions answered side by side: the speed of each then depends on what else was in its batch.
pub(super) fn of(table: &Table, column: &Column, resampling: Resampling) -> Option<Speed> {
    if !table.runs[column.run].manifest.generation.measure_speed {
        return None;
    }
    let interval = |values: Vec<Option<f64>>| {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        mean_interval(&values, resampling.level, resampling.seed)
    };
    let baseline = table.baseline(column.run).map(|index| &table.columns[index]);
    let times_full = baseline.filter(|_| !column.condition.is_full()).and_then(|baseline| {
        let pairs = std::iter::zip(speeds(column), speeds(baseline));
        geometric(pairs.map(|(cut, full)| Some(cut? / full?)), resampling)
    });
    Some(Speed {
        tokens_per_s: interval(speeds(column))?,
        times_full,
        first_token_ms: interval(column.by_example(first_token))?,
    })
}

/// By example: the mean over repeats.
fn speeds(column: &Column) -> Vec<Option<f64>> {
    column.by_example(|trial: &Trial| trial.row.tokens_per_s)
}

fn first_token(trial: &Trial) -> Option<f64> {
    let row = trial.row;
    let one = (row.n_generated > 0).then(|| row.decode_ms / row.n_generated as f64)?;
    Some(row.prefill_ms + row.replay_ms.unwrap_or(0.0) + row.evict_us / 1e3 + one)
}
