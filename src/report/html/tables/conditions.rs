//! The tables of conditions: their scores; then their predictions, breakdown, time and memory.

use super::{Cell, Row, Table, headings};
use crate::report::analysis::{Analysis, Condition};
use crate::report::words::{decimals, percent};

/// The tables with their headings.
pub fn conditions(analysis: &Analysis) -> Vec<(&'static str, Table)> {
    [("Scores", "conditions-table", SCORES), ("Predictions, breakdown, time and memory", "costs-table", COSTS)]
        .map(|(heading, id, columns)| (heading, table(analysis, heading, id, columns)))
        .into()
}

/// Only columns that have a value in some condition are shown.
fn table(analysis: &Analysis, heading: &str, id: &'static str, columns: &[Column]) -> Table {
    let shown: Vec<&Column> = columns
        .iter()
        .filter(|(_, cell)| analysis.conditions.iter().any(|condition| !cell(condition).value.is_empty()))
        .collect();
    let row = |condition: &Condition| Row {
        name: condition.words.clone(),
        sub: condition.name.clone(),
        asked: None,
        cells: shown.iter().map(|(_, cell)| cell(condition)).collect(),
    };
    let names = shown.iter().map(|(heading, _)| *heading);
    let first = ("condition", "What was done to the cache, and its name in the CSV files");
    Table {
        id,
        caption: format!("Conditions: {}", heading.to_lowercase()),
        broad: true,
        headings: headings(&std::iter::once(first).chain(names).collect::<Vec<_>>()),
        rows: analysis.conditions.iter().map(row).collect(),
    }
}

/// A column: its heading and hint, and its cell.
type Column = ((&'static str, &'static str), fn(&Condition) -> Cell);

/// What was scored.
const SCORES: &[Column] = &[
    (("score", "Mean over examples of the fraction of instructions followed, and its interval"), |condition| {
        Cell::estimate(condition.score)
    }),
    (("all followed", "Fraction of examples with every instruction followed, and its interval"), |condition| {
        Cell::estimate(condition.all_followed)
    }),
    (("passed", "Share of the rules passed that have a chance, and its interval"), |condition| {
        Cell::estimate(condition.earned.map(|earned| earned.passed))
    }),
    (
        ("chance", "Share of them passed by answers to other prompts under the same condition, and its interval"),
        |condition| Cell::estimate(condition.earned.map(|earned| earned.chance)),
    ),
    (
        ("earned", "Passed less chance, over 1 less chance: 0 is luck, 1 is always followed; and its interval"),
        |condition| Cell::estimate(condition.earned.map(|earned| earned.earned)),
    ),
    (("evicted", "Mean fraction of the cached positions that were evicted"), |condition| {
        Cell::new(percent(condition.evicted), Some(condition.evicted))
    }),
    (("at 0", "Fraction of examples that score 0"), |condition| {
        Cell::new(percent(condition.at_floor), Some(condition.at_floor))
    }),
    (("at 1", "Fraction of examples that score 1"), |condition| {
        Cell::new(percent(condition.at_ceiling), Some(condition.at_ceiling))
    }),
];

/// What else was measured.
const COSTS: &[Column] = &[
    (
        ("KL", "Geometric mean of the KL divergence from the full cache in nats per token, and its interval"),
        |condition| Cell::with_places(condition.fidelity.kl, 3),
    ),
    (("× floor", "The same as a multiple of that of the full cache against itself, example by example"), |condition| {
        Cell::with_places(condition.fidelity.times_floor, 1)
    }),
    (
        ("NLL", "Negative log-likelihood of the baseline's answer in nats per token, less that under the full cache"),
        |condition| Cell::with_places(condition.fidelity.nll_difference, 3),
    ),
    (
        (
            "flips",
            "Fraction of tokens whose most likely successor is another than under the full cache, and its interval",
        ),
        |condition| Cell::estimate(condition.fidelity.flips),
    ),
    (("broke down", "Fraction of answers that are empty or said half of themselves before"), |condition| {
        Cell::new(percent(condition.broken), Some(condition.broken))
    }),
    (("cut off", "Fraction of answers that reached the limit of tokens"), |condition| {
        Cell::new(percent(condition.truncated), Some(condition.truncated))
    }),
    (("prefill", "Median milliseconds to read the prompt"), |condition| {
        Cell::new(format!("{} ms", decimals(condition.cost.prefill_ms, 0)), Some(condition.cost.prefill_ms))
    }),
    (("evict", "Median microseconds to evict"), |condition| {
        Cell::new(format!("{} µs", decimals(condition.cost.evict_us, 0)), Some(condition.cost.evict_us))
    }),
    (("decode", "Median milliseconds to generate the answer, and tokens per second"), |condition| {
        Cell::new(format!("{} ms", decimals(condition.cost.decode_ms, 0)), Some(condition.cost.decode_ms))
            .with(condition.cost.tokens_per_s.map_or(String::new(), |speed| format!("{} t/s", decimals(speed, 0))))
    }),
    (
        ("× full", "Tokens per second as a multiple of the full cache's, and its interval, where speed was measured"),
        |condition| Cell::with_places(condition.speed.and_then(|speed| speed.times_full), 2),
    ),
    (("KV kept", "Mean bytes of keys and values that survive, and of all before the eviction"), |condition| {
        Cell::new(bytes(condition.cost.kv_bytes_kept), Some(condition.cost.kv_bytes_kept))
            .with(format!("of {}", bytes(condition.cost.kv_bytes_full)))
    }),
    (("trials", "Finished trials, and those that failed"), |condition| {
        let failed = if condition.n_failed > 0 { format!("{} failed", condition.n_failed) } else { String::new() };
        Cell::new(condition.n_trials.to_string(), Some(condition.n_trials as f64)).with(failed)
    }),
];

fn bytes(count: f64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let unit = (0..3).find(|unit| count < 1000f64.powi(unit + 1)).unwrap_or(3);
    let scaled = count / 1000f64.powi(unit);
    format!("{} {}", decimals(scaled, if scaled < 10.0 && unit > 0 { 1 } else { 0 }), UNITS[unit as usize])
}
