//! Runs with a stopping rule: their progress, and the intervals that hold at any time.

use std::collections::HashMap;

use serde::Serialize;

use super::Condition;
use crate::exp::stop::StopRule;
use crate::report::Table;
use crate::report::table::Column;
use crate::stats::Estimate;

/// A run under a stopping rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EarlyStop {
    /// Index of the run.
    pub run: usize,
    /// The rule.
    pub rule: StopRule,
    /// The level at which its intervals hold together.
    pub level: f64,
    /// Number of visited examples when the rule was met; `None` if it never was.
    pub stopped_after: Option<usize>,
    /// Number of examples to visit.
    pub of: usize,
}

pub(super) fn stops(table: &Table) -> Vec<EarlyStop> {
    let stopping = table.runs.iter().enumerate().filter_map(|(run, read)| Some((run, read.stopping.as_ref()?)));
    let stop = |(run, stopping): (usize, &crate::exp::stop::Stopping)| EarlyStop {
        run,
        rule: stopping.rule,
        level: stopping.level,
        stopped_after: stopping.stopped_after,
        of: stopping.order.len(),
    };
    stopping.map(stop).collect()
}

/// By condition: the confidence sequence for its difference from the full cache, over the examples in the order of the
/// run. Only for a single run: which examples several runs have in common may depend on when they stopped.
pub(super) fn anytime(table: &Table, conditions: &[Condition]) -> HashMap<usize, Estimate> {
    let ([run], Some(baseline)) = (table.runs, table.baseline(0)) else { return HashMap::new() };
    let Some(stopping) = &run.stopping else { return HashMap::new() };
    let scores: HashMap<&str, Vec<Option<f64>>> =
        table.columns.iter().map(|column| (column.name.as_str(), Column::scores(column))).collect();
    let place: HashMap<&str, usize> = table.examples.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let mut sequences = stopping.sequences();
    for id in &stopping.order {
        let Some(&example) = place.get(id.as_str()) else { continue };
        sequences
            .push(scores[table.columns[baseline].name.as_str()][example], |name| *scores.get(name)?.get(example)?);
    }
    let index = |name: &str| conditions.iter().position(|condition| condition.name == name);
    sequences.intervals().filter_map(|(name, interval)| Some((index(name)?, interval))).collect()
}
