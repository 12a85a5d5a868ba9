//! The data of the example browser: compact and complete.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;
use serde_json::json;

use super::probe;
use crate::data::Instruction;
use crate::evict::parse_ranges;
use crate::exp::{InstructionRow, PromptRow};
use crate::report::Table;
use crate::report::analysis::{Analysis, Question};
use crate::report::table::{Trial, mean};
use crate::score::{self, Checker};
use crate::{Error, Result, threads};

/// The data that the browser needs before an example is chosen.
///
/// Only the first `shown` examples can be chosen.
pub fn index(table: &Table, analysis: &Analysis, shown: usize) -> String {
    let conditions: Vec<_> = analysis
        .conditions
        .iter()
        .map(|condition| {
            let key = match analysis.runs.len() {
                1 => condition.name.clone(),
                _ => format!("{}:{}", analysis.runs[condition.run].name, condition.name),
            };
            json!({
                "words": condition.words, "key": key, "run": condition.run,
                "options": probe::of_condition(&condition.condition),
            })
        })
        .collect();
    let examples: Vec<_> = table
        .examples
        .iter()
        .enumerate()
        .take(shown)
        .map(|(example, id)| {
            let score = |column: &crate::report::table::Column| {
                mean(column.trials[example].iter().filter_map(|trial| trial.row.mean_score)).map(rounded)
            };
            json!([id, table.columns.iter().map(score).collect::<Vec<_>>()])
        })
        .collect();
    let repeats = table.columns.iter().flat_map(|column| column.finished()).map(|trial| trial.row.repeat + 1).max();
    let turns = table.columns.iter().flat_map(|column| column.finished()).map(|trial| trial.row.turn + 1).max();
    // The first view: the largest cost, against its full cache.
    let against = analysis.comparisons.iter().filter(|comparison| comparison.question == Question::Baseline);
    let first = against.min_by(|a, b| a.difference.point.total_cmp(&b.difference.point));
    let (against, condition) = first.map_or((0, analysis.conditions.len() - 1), |first| (first.a, first.b));
    script_json(&json!({
        "conditions": conditions, "examples": examples, "repeats": repeats.unwrap_or(1),
        "turns": turns.unwrap_or(1),
        "asks": table.runs.iter().flat_map(|run| run.prompts.iter().flatten()).any(|prompt| !prompt.questions.is_empty()),
        "against": against, "condition": condition,
        "probes": table.runs.iter().map(|run| probe::of_run(&run.manifest)).collect::<Vec<_>>(),
    }))
}

/// The prompts of a run, by example.
type Prompts<'a> = HashMap<&'a str, &'a PromptRow>;

/// Number of examples that are made at once: the last ones may be in vain.
const AT_ONCE: usize = 64;

/// The elements that hold the examples, one per example, and their number: examples are added until they take `most`
/// bytes.
///
/// # Errors
/// If a row's evicted ranges cannot be read.
pub fn examples(table: &Table, most: usize) -> Result<(String, usize)> {
    let prompts: Vec<Prompts> = table
        .runs
        .iter()
        .map(|run| run.prompts.iter().flatten().map(|row| (row.example_id.as_str(), row)).collect())
        .collect();
    let all: Vec<usize> = (0..table.examples.len()).collect();
    let mut elements = String::new();
    let mut shown = 0;
    for some in all.chunks(AT_ONCE) {
        for element in threads::map(some, |&index| example(table, &prompts, index)) {
            if elements.len() >= most {
                return Ok((elements, shown));
            }
            elements.push_str(&element?);
            shown += 1;
        }
    }
    Ok((elements, shown))
}

fn example(table: &Table, prompts: &[Prompts], example: usize) -> Result<String> {
    let id = table.examples[example];
    let mut strings = Strings::default();
    let prompts: Vec<Option<&PromptRow>> = prompts.iter().map(|run| run.get(id).copied()).collect();
    let asked = prompts.iter().flatten().next().map(|prompt| &*prompt.instructions);
    let instructions = match asked {
        Some(instructions) => json!(instructions),
        None => {
            let mut kinds = Vec::new();
            let trials = table.columns.iter().flat_map(|column| &column.trials[example]);
            for row in trials.flat_map(|trial| &trial.instructions) {
                if kinds.len() <= row.instruction {
                    kinds.resize(row.instruction + 1, json!({}));
                }
                kinds[row.instruction] = json!({"type": row.kind});
            }
            json!(kinds)
        }
    };
    let mut reasons = Reasons::of(asked.unwrap_or_default());
    let mut trials = Vec::new();
    let mut failed = Vec::new();
    for (condition, column) in table.columns.iter().enumerate() {
        for trial in &column.trials[example] {
            trials.push(Shown::new(condition, trial, &mut reasons, &mut strings)?);
        }
        for row in &column.failed[example] {
            failed.push((condition, strings.add(row.error.as_str())));
        }
    }
    let prompts: Vec<_> = prompts
        .into_iter()
        .map(|prompt| {
            let spans = |prompt: &PromptRow| -> Vec<_> {
                prompt.spans.iter().map(|span| (span.label, span.start, span.end)).collect()
            };
            prompt.map(|prompt| json!({"pieces": prompt.pieces, "spans": spans(prompt), "turns": prompt.turns, "questions": prompt.questions}))
        })
        .collect();
    let data = Example { prompts, instructions, trials, failed, strings: strings.all };
    Ok(format!("<script type=\"application/json\" id=\"x{example}\">{}</script>\n", script_json(&data)))
}

/// An example as the page's script reads it.
#[derive(Serialize)]
struct Example<'a> {
    prompts: Vec<Option<serde_json::Value>>,
    instructions: serde_json::Value,
    trials: Vec<Shown>,
    /// Condition and error of each failed trial.
    failed: Vec<(usize, usize)>,
    strings: Vec<Cow<'a, str>>,
}

/// Texts by number: equal answers are written once.
#[derive(Default)]
struct Strings<'a> {
    all: Vec<Cow<'a, str>>,
    known: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Strings<'a> {
    fn add(&mut self, text: impl Into<Cow<'a, str>>) -> usize {
        let text = text.into();
        if let Some(&known) = self.known.get(&text) {
            return known;
        }
        self.all.push(text.clone());
        self.known.insert(text, self.all.len() - 1);
        self.all.len() - 1
    }
}

/// Why the rules of an example give its answers the scores they give.
struct Reasons {
    /// By instruction; `None` for a criterion of a judge.
    checkers: Vec<Option<Checker>>,
    /// By instruction and the number of the answer: the score and the number of the reason.
    known: HashMap<(usize, usize), (f64, usize)>,
}

impl Reasons {
    fn of(instructions: &[Instruction]) -> Self {
        let checker = |instruction: &Instruction| Checker::new(&instruction.kind, &instruction.kwargs).ok();
        Reasons { checkers: instructions.iter().map(checker).collect(), known: HashMap::new() }
    }

    /// The number of the reason; `None` if the rule is not known or if the row's verdict is another, from other rules.
    fn of_row(&mut self, row: &InstructionRow, answer: usize, strings: &mut Strings) -> Option<usize> {
        let passed = row.pass_strict?;
        let checker = self.checkers.get(row.instruction)?.as_ref()?;
        let (score, reason) = *self.known.entry((row.instruction, answer)).or_insert_with(|| {
            let (score, reason) = checker.explain(&strings.all[answer]);
            (score, strings.add(reason))
        });
        (score::is_full(score) == (passed == 1)).then_some(reason)
    }
}

/// An instruction's index, survival, strict and loose pass, judge's score and reason, score, and the rule's reason: a
/// tuple, because a page may hold hundreds of thousands.
type VerdictCells =
    (usize, Option<f64>, Option<u8>, Option<u8>, Option<f64>, Option<usize>, Option<f64>, Option<usize>);

/// A trial as the page's script reads it.
#[derive(Serialize)]
struct Shown {
    condition: usize,
    repeat: u32,
    turn: u32,
    seed: u64,
    response: usize,
    score: Option<f64>,
    /// KL divergence from the full cache per token, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<f64>,
    stop: String,
    tokens: usize,
    /// Lengths of runs of positions: kept, evicted, kept, ...
    runs: Vec<usize>,
    verdicts: Vec<VerdictCells>,
}

impl Shown {
    fn new<'a>(condition: usize, trial: &Trial<'a>, reasons: &mut Reasons, strings: &mut Strings<'a>) -> Result<Self> {
        let row = trial.row;
        let evicted = parse_ranges(&row.evicted_ranges)
            .map_err(|error| Error::input(format!("trials.csv, {} {}: {error}", row.example_id, row.condition)))?;
        let (mut runs, mut at) = (Vec::with_capacity(2 * evicted.len()), 0);
        for range in evicted {
            runs.extend([range.start.saturating_sub(at), range.len()]);
            at = range.end;
        }
        let response = strings.add(row.response.as_str());
        let mut verdict = |row: &&'a InstructionRow| {
            let judge = (!row.judge_reason.is_empty()).then(|| strings.add(row.judge_reason.as_str()));
            let rule = reasons.of_row(row, response, strings);
            let survival = row.survival.map(rounded);
            (row.instruction, survival, row.pass_strict, row.pass_loose, row.judge_score, judge, row.score, rule)
        };
        Ok(Shown {
            condition,
            repeat: row.repeat,
            turn: row.turn,
            seed: row.seed,
            kl: row.kl_mean,
            score: row.mean_score.map(rounded),
            stop: row.stop_reason.clone(),
            tokens: row.n_generated,
            runs,
            verdicts: trial.instructions.iter().map(&mut verdict).collect(),
            response,
        })
    }
}

/// Four decimals: more than the page shows.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// JSON that cannot close or open anything in HTML.
fn script_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data").replace('<', "\\u003c")
}
