//! The rows as a table: conditions of runs by examples, with failed trials kept separately.

use std::collections::{HashMap, HashSet};

use super::Run;
use crate::condition::Condition;
use crate::exp::{InstructionRow, TrialRow};

/// The table: one column per condition, one row per example.
#[derive(Debug)]
pub struct Table<'a> {
    /// The runs.
    pub runs: &'a [Run],
    /// The examples that are in all runs, in the order of the first run.
    pub examples: Vec<&'a str>,
    /// Number of examples that are left out because a run lacks them.
    pub left_out: usize,
    /// The conditions, run by run, in the order of the manifests.
    pub columns: Vec<Column<'a>>,
}

/// A condition of a run.
#[derive(Debug)]
pub struct Column<'a> {
    /// Index of the run.
    pub run: usize,
    /// The condition's name in the run's files.
    pub name: String,
    /// The condition.
    pub condition: Condition,
    /// Finished trials, by example: repeats, and in a chat turns.
    pub trials: Vec<Vec<Trial<'a>>>,
    /// Failed trials, by example.
    pub failed: Vec<Vec<&'a TrialRow>>,
}

/// A finished trial with the rows of its instructions.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// Its row.
    pub row: &'a TrialRow,
    /// The rows of its instructions, in the order of `instructions.csv`.
    pub instructions: Vec<&'a InstructionRow>,
}

impl<'a> Table<'a> {
    /// Arranges the rows of the given runs.
    pub fn new(runs: &'a [Run]) -> Self {
        let (examples, left_out) = common_examples(runs);
        let index: HashMap<&str, usize> = examples.iter().enumerate().map(|(index, &id)| (id, index)).collect();
        let columns = runs.iter().enumerate().flat_map(|(number, run)| columns(number, run, &index)).collect();
        Table { runs, examples, left_out, columns }
    }

    /// The baseline of a run; the first one, if the run has one for each KV cache type.
    pub fn baseline(&self, run: usize) -> Option<usize> {
        self.columns.iter().position(|column| column.run == run && column.condition.is_full())
    }

    /// The baseline that a column is compared with.
    pub fn baseline_of(&self, column: usize) -> Option<usize> {
        let Column { run, condition, .. } = &self.columns[column];
        let full = condition.baseline();
        self.columns.iter().position(|column| column.run == *run && column.condition == full)
    }
}

impl Column<'_> {
    /// The finished trials.
    pub fn finished(&self) -> impl Iterator<Item = &Trial<'_>> {
        self.trials.iter().flatten()
    }

    /// By example: the mean over repeats and turns of `value`; `None` if it has no value in any.
    pub fn by_example(&self, value: impl Fn(&Trial) -> Option<f64>) -> Vec<Option<f64>> {
        self.trials.iter().map(|trials| mean(trials.iter().filter_map(&value))).collect()
    }

    /// By example: the mean score.
    pub fn scores(&self) -> Vec<Option<f64>> {
        self.by_example(|trial| trial.row.mean_score)
    }
}

/// The arithmetic mean; `None` if there are no values.
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

/// The conditions of a run that have rows, in the order of its manifest.
fn columns<'a>(number: usize, run: &'a Run, examples: &HashMap<&str, usize>) -> Vec<Column<'a>> {
    let mut columns: Vec<Column> = run
        .manifest
        .conditions()
        .into_iter()
        .map(|(name, condition)| Column {
            run: number,
            name,
            condition,
            trials: vec![Vec::new(); examples.len()],
            failed: vec![Vec::new(); examples.len()],
        })
        .collect();
    let place: HashMap<String, usize> =
        columns.iter().enumerate().map(|(index, column)| (column.name.clone(), index)).collect();
    let mut at: HashMap<(usize, usize, u32, u32), usize> = HashMap::with_capacity(run.trials.len());
    for row in &run.trials {
        let (Some(&example), Some(&index)) = (examples.get(row.example_id.as_str()), place.get(&row.condition)) else {
            continue;
        };
        let column = &mut columns[index];
        if !row.error.is_empty() {
            column.failed[example].push(row);
            continue;
        }
        let trials = &mut column.trials[example];
        let slot = *at.entry((index, example, row.repeat, row.turn)).or_insert(trials.len());
        let trial = Trial { row, instructions: Vec::new() };
        // A trial with two rows counts once; a resume would keep the later row.
        match trials.get_mut(slot) {
            Some(earlier) => *earlier = trial,
            None => trials.push(trial),
        }
    }
    for row in &run.instructions {
        let (Some(&example), Some(&index)) = (examples.get(row.example_id.as_str()), place.get(&row.condition)) else {
            continue;
        };
        let Some(&slot) = at.get(&(index, example, row.repeat, row.turn)) else { continue };
        let rows = &mut columns[index].trials[example][slot].instructions;
        match rows.iter().position(|earlier| earlier.instruction == row.instruction) {
            Some(earlier) => rows[earlier] = row,
            None => rows.push(row),
        }
    }
    for (index, column) in columns.iter_mut().enumerate() {
        for (example, failed) in column.failed.iter_mut().enumerate() {
            // A failed trial that succeeded in a later attempt is not a failure.
            failed.retain(|row| !at.contains_key(&(index, example, row.repeat, row.turn)));
        }
    }
    columns.retain(|column| {
        column.trials.iter().any(|trials| !trials.is_empty()) || column.failed.iter().any(|rows| !rows.is_empty())
    });
    for trial in columns.iter_mut().flat_map(|column| column.trials.iter_mut().flatten()) {
        trial.instructions.sort_by_key(|row| row.instruction);
    }
    columns
}
