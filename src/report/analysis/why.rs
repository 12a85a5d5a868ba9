//! What was forgotten: scores by type of instruction and by place in the prompt; with the noise floor and the agreement
//! of judges.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::Resampling;
use super::conditions::estimate;
use crate::report::Table;
use crate::report::table::mean;
use crate::span::Label;
use crate::stats::{Estimate, cohens_kappa};

/// Scores of some of the instructions, in each condition.
#[derive(Debug, Clone, Serialize)]
pub struct Row<Name> {
    /// The group of instructions: a type, or a place.
    pub name: Name,
    /// By condition: mean over examples; `n` counts the examples that have such an instruction. With fewer than ten the
    /// interval is the whole range from 0 to 1.
    pub scores: Vec<Option<Estimate>>,
}

/// The place of an instruction among those of its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Before all others.
    First,
    /// Between others.
    Middle,
    /// After all others.
    Last,
}

impl Place {
    /// The name in files: `first`, `middle`, `last`.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::First => "first",
            Place::Middle => "middle",
            Place::Last => "last",
        }
    }
}

/// How far the means of two identical conditions differ by chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NoiseFloor {
    /// Differences up to this one are expected in 95 of 100 repetitions of the full cache.
    pub difference: f64,
    /// Number of examples with repeats.
    pub n: usize,
    /// Number of repeats of each.
    pub repeats: usize,
}

/// Agreement of rules and judge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Number of instructions of trials that both scored.
    pub n: usize,
    /// Fraction on which they agree.
    pub agreed: f64,
    /// Cohen's kappa: agreement beyond chance.
    pub kappa: f64,
}

pub(super) fn types(table: &Table, resampling: Resampling) -> Vec<Row<String>> {
    let kinds: BTreeSet<&str> = table
        .columns
        .iter()
        .flat_map(|column| column.finished())
        .flat_map(|trial| &trial.instructions)
        .map(|row| row.kind.as_str())
        .collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    rows(table, &kinds, resampling, |_, row| kinds.binary_search(&row.kind.as_str()).ok())
        .into_iter()
        .zip(&kinds)
        .map(|(scores, kind)| Row { name: (*kind).to_owned(), scores })
        .collect()
}

/// By place. This needs the prompts, because the index of an instruction is not its place.
pub(super) fn places(table: &Table, resampling: Resampling) -> Vec<Row<Place>> {
    const PLACES: [Place; 3] = [Place::First, Place::Middle, Place::Last];
    let mut by_run: Vec<HashMap<(&str, usize), usize>> = Vec::new();
    for run in table.runs {
        let mut places = HashMap::new();
        for prompt in run.prompts.iter().flatten() {
            let mut starts: Vec<(usize, usize)> = prompt
                .spans
                .iter()
                .filter_map(|span| match span.label {
                    Label::Instruction(index) => Some((span.start, index)),
                    _ => None,
                })
                .collect();
            starts.sort_unstable();
            starts.dedup_by_key(|(_, index)| *index);
            let last = starts.len().saturating_sub(1);
            if last == 0 {
                continue; // the only one is neither first nor last
            }
            for (rank, (_, index)) in starts.into_iter().enumerate() {
                let place = if rank == 0 { 0 } else { 1 + usize::from(rank == last) };
                places.insert((prompt.example_id.as_str(), index), place);
            }
        }
        by_run.push(places);
    }
    if by_run.iter().all(HashMap::is_empty) {
        return Vec::new();
    }
    rows(table, &PLACES, resampling, |run, row| by_run[run].get(&(row.example_id.as_str(), row.instruction)).copied())
        .into_iter()
        .zip(PLACES)
        .map(|(scores, name)| Row { name, scores })
        .filter(|row| row.scores.iter().any(Option::is_some))
        .collect()
}

/// By group and condition: the mean score over examples. `group_of` sees the run and the row.
fn rows<T>(
    table: &Table,
    groups: &[T],
    resampling: Resampling,
    group_of: impl Fn(usize, &crate::exp::InstructionRow) -> Option<usize>,
) -> Vec<Vec<Option<Estimate>>> {
    let n = table.examples.len();
    let mut samples: Vec<Vec<Option<f64>>> = Vec::with_capacity(groups.len() * table.columns.len());
    for column in &table.columns {
        let mut sums = vec![(0.0, 0usize); groups.len() * n];
        for (example, trial) in
            column.trials.iter().enumerate().flat_map(|(e, trials)| trials.iter().map(move |t| (e, t)))
        {
            for row in &trial.instructions {
                if let (Some(group), Some(score)) = (group_of(column.run, row), row.score) {
                    let (sum, count) = &mut sums[group * n + example];
                    *sum += score;
                    *count += 1;
                }
            }
        }
        let mean = |(sum, count): &(f64, usize)| (*count > 0).then(|| sum / *count as f64);
        samples.extend((0..groups.len()).map(|group| sums[group * n..][..n].iter().map(mean).collect::<Vec<_>>()));
    }
    let estimates = crate::threads::map(&samples, |sample| estimate(sample, resampling).map(or_everything));
    (0..groups.len())
        .map(|group| (0..table.columns.len()).map(|column| estimates[column * groups.len() + group]).collect())
        .collect()
}

/// With fewer examples than this the interval is the whole range.
const FEW: usize = 10;

fn or_everything(estimate: Estimate) -> Estimate {
    if estimate.n < FEW { Estimate { low: 0.0, high: 1.0, ..estimate } } else { estimate }
}

/// The noise floor, from the repeats of the full cache, if there are any.
pub(super) fn noise_floor(table: &Table) -> Option<NoiseFloor> {
    let column = &table.columns[table.baseline(0)?];
    let mut variances = Vec::new();
    let mut repeats = usize::MAX;
    for trials in &column.trials {
        // Of a chat, the mean over its turns.
        let mut of_repeats: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for (repeat, score) in trials.iter().filter_map(|trial| Some((trial.row.repeat, trial.row.mean_score?))) {
            of_repeats.entry(repeat).or_default().push(score);
        }
        let scores: Vec<f64> = of_repeats.into_values().filter_map(|scores| mean(scores.into_iter())).collect();
        if scores.len() < 2 {
            continue;
        }
        let centre = mean(scores.iter().copied())?;
        variances.push(scores.iter().map(|score| (score - centre).powi(2)).sum::<f64>() / (scores.len() - 1) as f64);
        repeats = repeats.min(scores.len());
    }
    let n = variances.len();
    // The variance of the difference of two means over n examples of `repeats` draws each.
    let variance = 2.0 * mean(variances.into_iter())? / (n * repeats) as f64;
    Some(NoiseFloor { difference: 1.96 * variance.sqrt(), n, repeats })
}

pub(super) fn agreement(table: &Table) -> Option<Agreement> {
    let rows = table.columns.iter().flat_map(|column| column.finished()).flat_map(|trial| &trial.instructions);
    let both: Vec<(bool, bool)> =
        rows.filter_map(|row| Some((row.by_rule()? >= 0.5, row.judge_score? >= 0.5))).collect();
    let (rules, judge): (Vec<bool>, Vec<bool>) = both.iter().copied().unzip();
    let kappa = cohens_kappa(&rules, &judge)?;
    let agreed = both.iter().filter(|(rule, judge)| rule == judge).count() as f64 / both.len() as f64;
    Some(Agreement { n: both.len(), agreed, kappa })
}
