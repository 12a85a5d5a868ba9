//! The trials of a run, condition by condition.

use std::collections::HashMap;

use crate::condition::Condition;
use crate::exp::{InstructionRow, Key, PromptRow, TrialRow};
use crate::report::Run;
use crate::report::table::mean;
use crate::span::Label;
use crate::stats::standard_deviation;

/// A trial with its instructions.
pub struct Trial<'a> {
    /// Its row.
    pub row: &'a TrialRow,
    /// The rows of its instructions, by number.
    pub instructions: Vec<&'a InstructionRow>,
}

impl Trial<'_> {
    /// What became of each instruction, a line each: `✓ punctuation:no_comma`.
    pub fn verdicts(&self) -> String {
        let lines = self.instructions.iter().map(|row| {
            let mark = match row.score {
                Some(score) if crate::score::is_full(score) => "✓",
                Some(_) => "✗",
                None => "?",
            };
            let judge = if row.judge_reason.is_empty() { String::new() } else { format!(": {}", row.judge_reason) };
            format!("{mark} {}{judge}", row.kind)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// One condition of a run, with its trials in the order of the run's examples.
pub struct Column<'a> {
    /// Its name in the run's files.
    pub name: String,
    /// The condition.
    pub condition: Condition,
    /// Its trials, failed ones included.
    pub trials: Vec<Trial<'a>>,
}

impl Column<'_> {
    /// Mean over examples of the mean score over repeats, its standard error, the standard deviation over examples, and
    /// the number of examples; `None` without scores.
    pub fn headline(&self) -> Option<Headline> {
        let mut examples: Vec<(&str, Vec<f64>)> = Vec::new();
        for trial in &self.trials {
            let Some(score) = trial.row.mean_score else { continue };
            match examples.last_mut() {
                Some((id, scores)) if *id == trial.row.example_id => scores.push(score),
                _ => examples.push((&trial.row.example_id, vec![score])),
            }
        }
        let scores: Vec<f64> = examples.iter().filter_map(|(_, scores)| mean(scores.iter().copied())).collect();
        let deviation = (scores.len() > 1).then(|| standard_deviation(&scores));
        Some(Headline { mean: mean(scores.iter().copied())?, deviation, n: scores.len() })
    }

    /// The share of positions that were evicted, as the mean over trials.
    pub fn evicted(&self) -> f64 {
        let shares = self.trials.iter().filter(|trial| trial.row.n_kept + trial.row.n_evicted > 0).map(|trial| {
            let row = trial.row;
            row.n_evicted as f64 / (row.n_kept + row.n_evicted) as f64
        });
        mean(shares).unwrap_or(0.0)
    }
}

/// The headline of a condition.
pub struct Headline {
    /// Mean over examples of the mean over repeats.
    pub mean: f64,
    /// Standard deviation over examples; `None` for a single one.
    pub deviation: Option<f64>,
    /// Number of examples.
    pub n: usize,
}

impl Headline {
    /// The standard error of the mean.
    pub fn error(&self) -> Option<f64> {
        self.deviation.map(|deviation| deviation / (self.n as f64).sqrt())
    }
}

/// The trials in the order examples, conditions, repeats, turns. A trial with two rows counts once, as the later row has it.
pub fn ordered(run: &Run) -> Vec<Trial<'_>> {
    let mut examples: HashMap<&str, usize> = HashMap::new();
    let conditions: HashMap<String, usize> =
        run.manifest.conditions().into_iter().enumerate().map(|(at, (name, _))| (name, at)).collect();
    let mut trials: HashMap<Key, Trial> = HashMap::with_capacity(run.trials.len());
    for row in &run.trials {
        let n = examples.len();
        examples.entry(&row.example_id).or_insert(n);
        trials.insert(row.key(), Trial { row, instructions: Vec::new() });
    }
    for row in &run.instructions {
        let Some(trial) = trials.get_mut(&row.key()) else { continue };
        match trial.instructions.iter_mut().find(|earlier| earlier.instruction == row.instruction) {
            Some(earlier) => *earlier = row,
            None => trial.instructions.push(row),
        }
    }
    let mut trials: Vec<Trial> = trials.into_values().collect();
    for trial in &mut trials {
        trial.instructions.sort_by_key(|row| row.instruction);
    }
    trials.sort_by_key(|trial| {
        let row = trial.row;
        (examples[row.example_id.as_str()], conditions[row.condition.as_str()], row.repeat, row.turn)
    });
    trials
}

/// The conditions of a run that have trials, in the order of its manifest.
pub fn columns(run: &Run) -> Vec<Column<'_>> {
    let conditions = run.manifest.conditions().into_iter();
    let mut columns: Vec<Column> =
        conditions.map(|(name, condition)| Column { name, condition, trials: Vec::new() }).collect();
    for trial in ordered(run) {
        if let Some(column) = columns.iter_mut().find(|column| column.name == trial.row.condition) {
            column.trials.push(trial);
        }
    }
    columns.retain(|column| !column.trials.is_empty());
    columns
}

/// The prompts of a run by example.
pub fn prompts(run: &Run) -> HashMap<&str, &PromptRow> {
    run.prompts.iter().flatten().map(|row| (row.example_id.as_str(), row)).collect()
}

/// The turns of a prompt as `(role, text)`; a prompt without labelled turns is one user turn.
pub fn turns(prompt: &PromptRow) -> Vec<(&'static str, String)> {
    let role = |label| match label {
        Label::System => Some("system"),
        Label::User => Some("user"),
        Label::Assistant => Some("assistant"),
        _ => None,
    };
    let turns = prompt.spans.iter().filter_map(|span| {
        let text = prompt.pieces.get(span.range())?.concat();
        Some((role(span.label)?, text))
    });
    let turns: Vec<_> = turns.collect();
    if turns.is_empty() { vec![("user", prompt.pieces.concat())] } else { turns }
}

/// A name as a part of a file name: `random@0.5/compact` becomes `random@0.5+compact`.
pub fn slug(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.@+=".contains(letter);
    let separator = |letter| if letter == '/' { '+' } else { '-' };
    name.chars().map(|letter| if plain(letter) { letter } else { separator(letter) }).collect()
}
