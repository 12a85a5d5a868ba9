//! What chats forget: the standing rules turn by turn, and the turn at which each of them was first broken.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Condition, Resampling};
use crate::exp::{InstructionRow, PromptRow};
use crate::report::table::{Column, mean};
use crate::report::{Table, words};
use crate::span::Label;
use crate::stats::{Estimate, Life, holm, kaplan_meier, log_rank, mean_interval, paired_log_rank};

/// The standing rules of chats: instructions whose text stands in the system message.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Turns {
    /// Number of chats with standing rules, in any run.
    pub chats: usize,
    /// Condition by condition.
    pub conditions: Vec<Standing>,
    /// Each condition against its full cache: one family for Holm's correction.
    pub comparisons: Vec<FirstBroken>,
}

/// The standing rules under one condition.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// Index of the condition.
    pub condition: usize,
    /// By turn: the mean score over chats; `None` where no standing rule was checked.
    pub scores: Vec<Option<Estimate>>,
    /// By turn: the mean fraction of the text of these rules that is in the cache.
    pub survival: Vec<Option<f64>>,
    /// By turn: the fraction of the rules that were never broken up to that turn (Kaplan-Meier, with intervals over chats;
    /// `n` rules at risk). It ends with the last rule at risk.
    pub unbroken: Vec<Estimate>,
}

/// Two conditions, by the turn at which each standing rule was first broken.
#[derive(Debug, Clone, Serialize)]
pub struct FirstBroken {
    /// Index of the full cache.
    pub a: usize,
    /// Index of the condition.
    pub b: usize,
    /// Number of chats that both answered.
    pub n: usize,
    /// The log-rank statistic, as of independent groups.
    pub chi_square: f64,
    /// Its p-value; chats are pairs, so `p` is the one to go by.
    pub p_unpaired: f64,
    /// The p-value of the log-rank test in which the two courses of a chat are exchanged.
    pub p: f64,
    /// The same after Holm's correction.
    pub p_holm: f64,
}

/// By example: the instructions that are standing rules, each with the place of its text. Those of one text are one rule.
type Rules<'a> = HashMap<&'a str, HashMap<usize, usize>>;

pub(super) fn turns(table: &Table, conditions: &[Condition], resampling: Resampling) -> Turns {
    let rules: Rules = table.runs.iter().flat_map(|run| run.prompts.iter().flatten()).filter_map(standing).collect();
    let prompts = table.runs.iter().flat_map(|run| run.prompts.iter().flatten());
    let n_turns = prompts.map(|prompt| prompt.turns.len()).max().unwrap_or(0);
    if rules.is_empty() {
        return Turns::default();
    }
    let lives: Vec<Vec<Option<Vec<Life>>>> = table.columns.iter().map(|column| lives(column, table, &rules)).collect();
    let standing = |(index, column): (usize, &Column)| {
        let known: Vec<Vec<Life>> = lives[index].iter().flatten().cloned().collect();
        let unbroken = kaplan_meier(&known, resampling.level);
        let by_turn = |value: &dyn Fn(&InstructionRow) -> Option<f64>, turn: usize| -> Vec<f64> {
            let values = column.trials.iter().enumerate().filter_map(|(example, trials)| {
                let rules = rules.get(table.examples[example])?;
                let rows = trials.iter().flat_map(|trial| &trial.instructions);
                let here = rows.filter(|row| row.turn as usize == turn && rules.contains_key(&row.instruction));
                mean(here.filter_map(|row| value(row)))
            });
            values.collect()
        };
        let score = |turn| mean_interval(&by_turn(&|row| row.score, turn), resampling.level, resampling.seed);
        let survival = |turn| mean(by_turn(&|row| row.survival, turn).into_iter());
        Standing {
            condition: index,
            scores: (0..n_turns).map(score).collect(),
            survival: (0..n_turns).map(survival).collect(),
            unbroken,
        }
    };
    let standing: Vec<Standing> = table.columns.iter().enumerate().map(standing).collect();
    let mut comparisons: Vec<FirstBroken> = Vec::new();
    for b in 0..table.columns.len() {
        let Some(a) = table.baseline_of(b).filter(|&a| a != b && !conditions[b].is_baseline()) else { continue };
        let pairs = lives[a].iter().zip(&lives[b]).filter_map(|(a, b)| Some((a.clone()?, b.clone()?)));
        let (before, after): (Vec<Vec<Life>>, Vec<Vec<Life>>) = pairs.unzip();
        if before.is_empty() {
            continue;
        }
        let (chi_square, p_unpaired) = log_rank(&before.concat(), &after.concat());
        let p = paired_log_rank(&before, &after, resampling.seed);
        comparisons.push(FirstBroken { a, b, n: before.len(), chi_square, p_unpaired, p, p_holm: p });
    }
    let corrected = holm(&comparisons.iter().map(|one| one.p).collect::<Vec<_>>());
    comparisons.iter_mut().zip(corrected).for_each(|(one, p)| one.p_holm = p);
    let chats = lives.iter().map(|lives| lives.iter().flatten().count()).max().unwrap_or(0);
    Turns { chats, conditions: standing, comparisons }
}

impl Turns {
    /// Each comparison as a sentence.
    pub fn sentences(&self, conditions: &[Condition]) -> Vec<String> {
        let sentence = |one: &FirstBroken| {
            let last = |condition: usize| self.conditions.get(condition)?.unbroken.last();
            let kept = |condition| last(condition).map_or("–".to_owned(), words::estimate);
            format!(
                "{} against {}: of the standing rules {} were never broken against {}; log-rank {}, n = {}",
                conditions[one.b].words,
                conditions[one.a].words,
                kept(one.b),
                kept(one.a),
                words::p_value("p(Holm)", one.p_holm),
                words::count(one.n, "chat")
            )
        };
        self.comparisons.iter().map(sentence).collect()
    }

    /// The largest number of turns.
    pub fn n_turns(&self) -> usize {
        self.conditions.iter().map(|one| one.scores.len()).max().unwrap_or(0)
    }
}

/// The standing rules of an example, if it is a chat that has any.
fn standing(prompt: &PromptRow) -> Option<(&str, HashMap<usize, usize>)> {
    let system = prompt.spans.iter().find(|span| span.label == Label::System)?;
    let rules = prompt.spans.iter().filter_map(|span| match span.label {
        Label::Instruction(index) if system.start <= span.start && span.end <= system.end => Some((index, span.start)),
        _ => None,
    });
    let rules: HashMap<usize, usize> = rules.collect();
    (!prompt.turns.is_empty() && !rules.is_empty()).then_some((prompt.example_id.as_str(), rules))
}

/// By example: for each of its rules the turn at which it was first broken, in the first repeat alone, so that repeats do
/// not count as new evidence; `None` if nothing was scored.
fn lives(column: &Column, table: &Table, rules: &Rules) -> Vec<Option<Vec<Life>>> {
    let of_chat = |(example, trials): (usize, &Vec<crate::report::table::Trial>)| {
        let rules = rules.get(table.examples[example])?;
        let first = trials.iter().map(|trial| trial.row.repeat).min()?;
        let rows = trials.iter().filter(|trial| trial.row.repeat == first).flat_map(|trial| &trial.instructions);
        let mut checked: BTreeMap<usize, Vec<(usize, bool)>> = BTreeMap::new();
        for row in rows {
            if let (Some(&rule), Some(followed)) = (rules.get(&row.instruction), super::survival::followed(row)) {
                checked.entry(rule).or_default().push((row.turn as usize, followed));
            }
        }
        let life = |mut checked: Vec<(usize, bool)>| {
            checked.sort_unstable();
            let broken = checked.iter().find(|(_, followed)| !followed);
            broken.or(checked.last()).map(|&(time, followed)| Life { time, ended: !followed })
        };
        let lives: Vec<Life> = checked.into_values().filter_map(life).collect();
        (!lives.is_empty()).then_some(lives)
    };
    column.trials.iter().enumerate().map(of_chat).collect()
}
