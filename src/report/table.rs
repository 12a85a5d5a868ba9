//! The rows as a table: columns (conditions of runs) by examples, failed trials set aside.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::Run;
use crate::evict::{Aggregate, Granularity, Layers};
use crate::exp::{InstructionRow, TrialRow};

/// Columns by examples.
#[derive(Debug)]
pub struct Table<'a> {
    /// The runs.
    pub runs: &'a [Run],
    /// The examples that all runs have, in the order of the first.
    pub examples: Vec<&'a str>,
    /// Examples that are left out because some run lacks them.
    pub left_out: usize,
    /// Conditions in the order of the runs' manifests, run by run.
    pub columns: Vec<Column<'a>>,
}

/// A condition of a run.
#[derive(Debug)]
pub struct Column<'a> {
    /// Index of the run.
    pub run: usize,
    /// The condition's name in the run's files.
    pub name: &'a str,
    /// What identifies it.
    pub factors: Factors,
    /// Finished trials, by example.
    pub trials: Vec<Vec<Trial<'a>>>,
    /// Failed trials, by example.
    pub failed: Vec<Vec<&'a TrialRow>>,
}

/// A finished trial and its instructions, by their index.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// Its row.
    pub row: &'a TrialRow,
    /// The rows of its instructions.
    pub instructions: Vec<&'a InstructionRow>,
}

/// What identifies a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Factors {
    /// Name of the policy.
    pub policy: String,
    /// How many positions survive.
    pub budget: Budget,
    /// Sinks of `streaming` under a ratio.
    pub sinks: Option<usize>,
    /// `keep` or `compact`.
    pub positions: String,
    /// `prompt`, `system` or `context`.
    pub scope: String,
    /// What is protected.
    pub protect: String,
    /// `kv` or `text`.
    pub memory: String,
    /// Length of evicted blocks.
    pub block: usize,
    /// What kept a set of positions of its own.
    pub granularity: Granularity,
    /// The layers that forgot.
    pub layers: Layers,
    /// How scores of layers and heads became one.
    pub aggregate: Aggregate,
    /// Whether each part of the prompt survived in proportion to its length.
    pub fair: bool,
}

/// How many positions survive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// This fraction is evicted, as written.
    Ratio(String),
    /// So many of the first and of the last positions survive.
    Window(usize, usize),
    /// At most so many positions while the model generates, so many evicted at once.
    Rolling(usize, usize),
}

impl Budget {
    /// The fraction evicted, where the budget is one.
    pub fn ratio(&self) -> Option<f64> {
        match self {
            Budget::Ratio(text) => text.parse().ok(),
            Budget::Window(..) | Budget::Rolling(..) => None,
        }
    }

    /// `0.5`, or `100+100`.
    pub fn text(&self) -> String {
        match self {
            Budget::Ratio(text) => text.clone(),
            Budget::Window(first, last) => format!("{first}+{last}"),
            Budget::Rolling(budget, 1) => format!("rolling {budget}"),
            Budget::Rolling(budget, every) => format!("rolling {budget} (by {every})"),
        }
    }
}

impl Factors {
    fn of(row: &TrialRow) -> Self {
        let window = row.ratio.is_empty();
        Factors {
            policy: row.policy.clone(),
            budget: if let (Some(budget), Some(every)) = (row.rolling, row.every) {
                Budget::Rolling(budget, every)
            } else if window {
                Budget::Window(row.keep_first.unwrap_or(0), row.keep_last.unwrap_or(0))
            } else {
                Budget::Ratio(row.ratio.clone())
            },
            sinks: if window && row.rolling.is_none() { None } else { row.keep_first },
            positions: row.positions.clone(),
            scope: row.scope.clone(),
            protect: row.protect.clone(),
            memory: row.memory.clone(),
            block: row.block,
            granularity: row.granularity,
            layers: row.layers,
            aggregate: row.aggregate,
            fair: row.fair,
        }
    }

    /// Whether this is the full cache.
    pub fn is_baseline(&self) -> bool {
        self.policy == "none"
    }

    /// In words: `random at 0.5`, `streaming (compact) at 100+100`.
    pub fn words(&self) -> String {
        if self.is_baseline() {
            return "the full cache".to_owned();
        }
        format!("{} at {}", self.series(), self.budget.text())
    }

    /// The policy and, in parentheses, what differs from the defaults: the name of a curve.
    pub fn series(&self) -> String {
        let mut details = Vec::new();
        let mut add = |detail: String| details.push(detail);
        if let Some(sinks) = self.sinks.filter(|&sinks| sinks != crate::evict::DEFAULT_SINKS) {
            add(format!("{sinks} sinks"));
        }
        if self.block > 1 {
            add(format!("blocks of {}", self.block));
        }
        if self.granularity != Granularity::Token {
            add(format!("by {}", self.granularity));
        }
        if self.layers != Layers::All {
            add(format!("{} layers", self.layers));
        }
        if self.aggregate != Aggregate::Mean {
            add(format!("{} of heads", self.aggregate));
        }
        if self.fair {
            add("fair".to_owned());
        }
        if self.positions != "keep" {
            add(self.positions.clone());
        }
        if self.memory != "kv" {
            add(self.memory.clone());
        }
        if self.scope != "prompt" {
            add(format!("scope {}", self.scope));
        }
        if self.protect != "none" {
            add(format!("protecting {}", self.protect));
        }
        match details.is_empty() {
            true => self.policy.clone(),
            false => format!("{} ({})", self.policy, details.join(", ")),
        }
    }
}

impl<'a> Table<'a> {
    /// Arranges the rows of some runs.
    pub fn new(runs: &'a [Run]) -> Self {
        let (examples, left_out) = common_examples(runs);
        let index: HashMap<&str, usize> = examples.iter().enumerate().map(|(index, &id)| (id, index)).collect();
        let columns = runs.iter().enumerate().flat_map(|(number, run)| columns(number, run, &index)).collect();
        Table { runs, examples, left_out, columns }
    }

    /// The baseline of a run.
    pub fn baseline(&self, run: usize) -> Option<usize> {
        self.columns.iter().position(|column| column.run == run && column.factors.is_baseline())
    }
}

impl Column<'_> {
    /// The finished trials.
    pub fn finished(&self) -> impl Iterator<Item = &Trial<'_>> {
        self.trials.iter().flatten()
    }

    /// By example: the mean over repeats of what `value` sees in a trial; `None` where it sees nothing.
    pub fn by_example(&self, value: impl Fn(&Trial) -> Option<f64>) -> Vec<Option<f64>> {
        self.trials.iter().map(|trials| mean(trials.iter().filter_map(&value))).collect()
    }

    /// By example: the mean score.
    pub fn scores(&self) -> Vec<Option<f64>> {
        self.by_example(|trial| trial.row.mean_score)
    }
}

/// The arithmetic mean; `None` of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

fn common_examples(runs: &[Run]) -> (Vec<&str>, usize) {
    let sets: Vec<HashSet<&str>> =
        runs.iter().map(|run| run.trials.iter().map(|row| row.example_id.as_str()).collect()).collect();
    let mut all: HashSet<&str> = sets.iter().flatten().copied().collect();
    let mut common = Vec::new();
    for row in runs.iter().take(1).flat_map(|run| &run.trials) {
        let id = row.example_id.as_str();
        if all.contains(id) && sets.iter().all(|set| set.contains(id)) {
            all.remove(id);
            common.push(id);
        }
    }
    (common, all.len())
}

/// The conditions of a run that have rows, in the order of its manifest; unknown ones come last.
fn columns<'a>(number: usize, run: &'a Run, examples: &HashMap<&str, usize>) -> Vec<Column<'a>> {
    let mut order: Vec<String> = run.manifest.settings.conditions.iter().map(ToString::to_string).collect();
    let mut place: HashMap<String, usize> =
        order.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
    let mut columns: Vec<Option<Column>> = order.iter().map(|_| None).collect();
    let mut at: HashMap<(usize, usize, u32), usize> = HashMap::with_capacity(run.trials.len());
    for row in &run.trials {
        let Some(&example) = examples.get(row.example_id.as_str()) else { continue };
        let index = *place.entry(row.condition.clone()).or_insert_with(|| {
            order.push(row.condition.clone());
            columns.push(None);
            order.len() - 1
        });
        let column = columns[index].get_or_insert_with(|| Column {
            run: number,
            name: &row.condition,
            factors: Factors::of(row),
            trials: vec![Vec::new(); examples.len()],
            failed: vec![Vec::new(); examples.len()],
        });
        if !row.error.is_empty() {
            column.failed[example].push(row);
            continue;
        }
        let trials = &mut column.trials[example];
        let slot = *at.entry((index, example, row.repeat)).or_insert(trials.len());
        let trial = Trial { row, instructions: Vec::new() };
        // A trial that stands twice counts once; the later row is the one that resume would keep.
        match trials.get_mut(slot) {
            Some(earlier) => *earlier = trial,
            None => trials.push(trial),
        }
    }
    for row in &run.instructions {
        let (Some(&example), Some(&index)) = (examples.get(row.example_id.as_str()), place.get(&row.condition)) else {
            continue;
        };
        let Some(&slot) = at.get(&(index, example, row.repeat)) else { continue };
        if let Some(column) = &mut columns[index] {
            let rows = &mut column.trials[example][slot].instructions;
            match rows.iter().position(|earlier| earlier.instruction == row.instruction) {
                Some(earlier) => rows[earlier] = row,
                None => rows.push(row),
            }
        }
    }
    for (index, column) in columns.iter_mut().enumerate() {
        let Some(column) = column else { continue };
        for (example, failed) in column.failed.iter_mut().enumerate() {
            // Tried again, and not in vain.
            failed.retain(|row| !at.contains_key(&(index, example, row.repeat)));
        }
    }
    let mut columns: Vec<Column> = columns.into_iter().flatten().collect();
    for trial in columns.iter_mut().flat_map(|column| column.trials.iter_mut().flatten()) {
        trial.instructions.sort_by_key(|row| row.instruction);
    }
    columns
}
