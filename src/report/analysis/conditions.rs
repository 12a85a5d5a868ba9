//! The results of each condition: score, fidelity, time and memory.

use serde::Serialize;

use super::breakdown;
use super::chance::Chance;
use super::fidelity::{self, Fidelity};
use super::leakage::{self, Leakage};
use super::speed::{self, Speed};
use super::{Resampling, RunFacts, earned};
use crate::evict::Ratio;
use crate::report::Table;
use crate::report::table::{Column, Trial, mean};
use crate::stats::{Earned, Estimate, mean_interval};

/// A condition of a run, and its results.
#[derive(Debug, Clone, Serialize)]
pub struct Condition {
    /// Index of the run.
    pub run: usize,
    /// Its name in the run's files.
    pub name: String,
    /// Its name in sentences: `random at 0.5`.
    pub words: String,
    /// Its name without the budget, which is the name of its curve.
    pub series: String,
    /// The condition itself.
    #[serde(flatten)]
    pub condition: crate::condition::Condition,
    /// The requested fraction to evict; 0 for the baseline, absent for a budget in counts.
    pub ratio: Option<f64>,
    /// The fraction of cached positions that were evicted, mean over trials.
    pub evicted: f64,
    /// Finished trials.
    pub n_trials: usize,
    /// Failed trials; they are in no mean.
    pub n_failed: usize,
    /// Finished trials without a score; they are in no mean.
    pub n_unscored: usize,
    /// Finished trials that evicted nothing.
    pub n_untouched: usize,
    /// Mean over examples of the mean score over repeats. `n` counts examples.
    pub score: Option<Estimate>,
    /// Share of passed rules, chance and earned score; `None` if no rule has a chance that can be measured.
    pub earned: Option<Earned>,
    /// The mean score for "every instruction was followed".
    pub all_followed: Option<Estimate>,
    /// Fraction of examples whose score is 0.
    pub at_floor: f64,
    /// Fraction of examples whose score is 1.
    pub at_ceiling: f64,
    /// Fraction of answers cut off by the limit of tokens.
    pub truncated: f64,
    /// Fraction of answers that broke down: empty, or at least half of it repetition.
    pub broken: f64,
    /// How far the model's predictions moved.
    pub fidelity: Fidelity,
    /// Time and memory.
    pub cost: Cost,
    /// Speed, where it was measured.
    pub speed: Option<Speed>,
    /// What answers reveal, if rules are about that.
    pub leakage: Option<Leakage>,
}

/// Time and memory of a trial.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cost {
    /// Median milliseconds to read the prompt.
    pub prefill_ms: f64,
    /// Median microseconds to evict.
    pub evict_us: f64,
    /// Median milliseconds to generate the answer.
    pub decode_ms: f64,
    /// Median tokens per second while generating.
    pub tokens_per_s: Option<f64>,
    /// Mean bytes of keys and values before the eviction.
    pub kv_bytes_full: f64,
    /// Mean bytes of keys and values after it.
    pub kv_bytes_kept: f64,
}

impl Condition {
    /// Whether this is the full cache.
    pub fn is_baseline(&self) -> bool {
        self.condition.is_full()
    }
}

pub(super) fn conditions(table: &Table, runs: &[RunFacts], chance: &Chance, resampling: Resampling) -> Vec<Condition> {
    let mut conditions = crate::threads::map(&table.columns, |column| condition(table, column, runs, resampling));
    let earned = earned::of_conditions(chance, conditions.len(), resampling.level);
    conditions.iter_mut().zip(earned).for_each(|(condition, earned)| condition.earned = earned);
    conditions
}

fn condition(table: &Table, column: &Column, runs: &[RunFacts], resampling: Resampling) -> Condition {
    let scores = column.scores();
    let estimated = |values: Vec<Option<f64>>| estimate(&values, resampling);
    let n_trials = column.finished().count();
    let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let of_trials = |test: &dyn Fn(&Trial) -> bool| column.finished().filter(|trial| test(trial)).count();
    let n_scored = scores.iter().flatten().count();
    let at = |value: f64| share(scores.iter().flatten().filter(|score| **score == value).count(), n_scored);
    let (words, series) = (column.condition.words(), column.condition.series());
    let told_apart = |text: String| if runs.len() > 1 { format!("{text} in {}", runs[column.run].name) } else { text };
    let median_of = |value: &dyn Fn(&Trial) -> f64| median(column.finished().map(value).collect()).unwrap_or(0.0);
    let mean_of = |value: &dyn Fn(&Trial) -> f64| mean(column.finished().map(value)).unwrap_or(0.0);
    Condition {
        run: column.run,
        name: column.name.clone(),
        words: told_apart(words),
        series: told_apart(series),
        ratio: if column.condition.is_full() { Some(0.0) } else { column.condition.budget.ratio().map(Ratio::as_f64) },
        condition: column.condition.clone(),
        evicted: mean_of(&|trial| share(trial.row.n_evicted, trial.row.n_evicted + trial.row.n_kept)),
        n_trials,
        n_failed: column.failed.iter().flatten().count(),
        n_unscored: of_trials(&|trial| trial.row.mean_score.is_none()),
        n_untouched: of_trials(&|trial| trial.row.n_evicted == 0),
        all_followed: estimated(column.by_example(followed_all)),
        at_floor: at(0.0),
        at_ceiling: at(1.0),
        truncated: share(of_trials(&|trial| trial.row.stop_reason == "length"), n_trials),
        broken: share(of_trials(&breakdown::is_broken), n_trials),
        fidelity: fidelity::of(table, column, resampling),
        speed: speed::of(table, column, resampling),
        leakage: leakage::of(table, column, resampling),
        cost: Cost {
            prefill_ms: median_of(&|trial| trial.row.prefill_ms),
            evict_us: median_of(&|trial| trial.row.evict_us),
            decode_ms: median_of(&|trial| trial.row.decode_ms),
            tokens_per_s: median(column.finished().filter_map(|trial| trial.row.tokens_per_s).collect()),
            kv_bytes_full: mean_of(&|trial| trial.row.kv_bytes_full as f64),
            kv_bytes_kept: mean_of(&|trial| trial.row.kv_bytes_kept as f64),
        },
        score: estimated(scores),
        earned: None,
    }
}

/// 1 if every instruction was followed, 0 if not; `None` unless all of them were scored.
fn followed_all(trial: &Trial) -> Option<f64> {
    let followed: Option<Vec<bool>> = trial.instructions.iter().map(|row| super::survival::followed(row)).collect();
    followed.filter(|all| !all.is_empty()).map(|all| if all.iter().all(|followed| *followed) { 1.0 } else { 0.0 })
}

/// Mean of the scores that exist, with its interval over examples, which ends at 0 and 1 as scores do.
pub(super) fn estimate(by_example: &[Option<f64>], resampling: Resampling) -> Option<Estimate> {
    let values: Vec<f64> = by_example.iter().flatten().copied().collect();
    let estimate = mean_interval(&values, resampling.level, resampling.seed)?;
    Some(Estimate { low: estimate.low.max(0.0), high: estimate.high.min(1.0), ..estimate })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}
