//! The page's tables: cells and their sort keys.

use serde::Serialize;

use crate::report::analysis::{Analysis, Condition, Dose, EarnedDifference, Forgotten, Question, shown};
use crate::report::figures::{is_everything, shade};
use crate::report::words::{decimals, interval, number, percent, thousands};
use crate::stats::Estimate;

/// The heading of a column.
#[derive(Serialize)]
pub struct Heading {
    name: &'static str,
    hint: &'static str,
}

fn headings(headings: &[(&'static str, &'static str)]) -> Vec<Heading> {
    headings.iter().map(|&(name, hint)| Heading { name, hint }).collect()
}

/// A cell.
#[derive(Serialize)]
pub struct Cell {
    text: String,
    /// A second line.
    sub: String,
    /// The sort key; empty sorts last.
    value: String,
}

impl Cell {
    fn new(text: String, value: Option<f64>) -> Self {
        let value = value.filter(|value| value.is_finite()).map_or(String::new(), |value| value.to_string());
        Cell { text, sub: String::new(), value }
    }

    /// A number, or a dash.
    fn number(value: Option<f64>, show: impl Fn(f64) -> String) -> Self {
        Cell::new(value.map_or("–".to_owned(), show), value)
    }

    fn with(mut self, sub: String) -> Self {
        self.sub = sub;
        self
    }
}

/// A row of comparisons.
#[derive(Serialize)]
pub struct ComparisonRow {
    name: String,
    against: String,
    question: Question,
    significant: bool,
    p_holm: f64,
    cells: Vec<Cell>,
}

/// Columns of [`comparisons`].
pub fn comparison_headings(analysis: &Analysis) -> Vec<Heading> {
    let anytime = has_anytime(analysis)
        .then_some(("anytime", "Interval that holds whenever a run is stopped, for all conditions together"));
    let first = [
        ("comparison", "The condition, and what it is compared with"),
        ("difference", "Mean paired difference of the score, and its interval"),
    ];
    let earned = has_earned(analysis).then_some([
        ("earned", "Paired difference of the earned score, and its interval"),
        (
            "p (Holm, earned)",
            "Sign-flip permutation test of it, corrected over all comparisons of this report: what decides",
        ),
    ]);
    let noise = noise_floor(analysis).map(|_| {
        ("/ noise", "The difference as a multiple of the noise floor: what two runs of the full cache differ by")
    });
    let others = [
        ("p (Holm)", "Sign-flip permutation test, corrected over all comparisons of this report"),
        ("p (raw)", "Sign-flip permutation test before the correction, and Wilcoxon's signed-rank test"),
        ("d_z", "Cohen's d of the paired differences, and Cliff's δ: how much more often a score is higher than lower"),
        ("lost / gained", "Single instructions followed under one of the two only"),
        ("broken / sound", "Loss of score that fell on answers which broke down, and on sound ones"),
        (
            "detectable",
            "The difference that 80 of 100 such experiments would find at the corrected level, and the examples that a \
             difference of 0.10 needs for that",
        ),
        ("n", "Examples that both conditions have"),
    ];
    headings(
        &first
            .into_iter()
            .chain(earned.into_iter().flatten())
            .chain(noise)
            .chain(anytime)
            .chain(others)
            .collect::<Vec<_>>(),
    )
}

/// A row of the table of single forgotten instructions.
#[derive(Serialize)]
pub struct ForgottenRow {
    name: String,
    cells: Vec<Cell>,
}

/// Rows of the table of single forgotten instructions: the instruction itself, the others, and all after filler.
pub fn forgotten(analysis: &Analysis) -> Vec<ForgottenRow> {
    let cell = |share: &Option<Estimate>| match share {
        Some(share) => Cell::new(shown(share), Some(share.point)).with(format!("of {}", thousands(share.n))),
        None => Cell::new("–".to_owned(), None),
    };
    let row = |one: &Forgotten| {
        let name =
            if one.name.is_empty() { "still followed".to_owned() } else { format!("still followed ({})", one.name) };
        ForgottenRow { name, cells: [&one.own, &one.others, &one.filler].map(cell).into() }
    };
    analysis.forgotten.iter().map(row).collect()
}

/// The noise floor, if repeats of the full cache give one.
fn noise_floor(analysis: &Analysis) -> Option<f64> {
    analysis.noise_floor.map(|floor| floor.difference).filter(|&difference| difference > 0.0)
}

fn has_anytime(analysis: &Analysis) -> bool {
    analysis.comparisons.iter().any(|comparison| comparison.anytime.is_some())
}

fn has_earned(analysis: &Analysis) -> bool {
    analysis.comparisons.iter().any(|comparison| comparison.earned.is_some())
}

/// Rows of the table of comparisons.
pub fn comparisons(analysis: &Analysis) -> Vec<ComparisonRow> {
    let p = |p: f64| Cell::new(if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }, Some(p));
    analysis
        .comparisons
        .iter()
        .map(|comparison| ComparisonRow {
            name: analysis.conditions[comparison.b].words.clone(),
            against: format!("against {}", analysis.conditions[comparison.a].words),
            question: comparison.question,
            significant: comparison.is_significant(),
            p_holm: comparison.decides().1,
            cells: [Cell::new(number(comparison.difference.point), Some(comparison.difference.point))
                .with(interval(&comparison.difference))]
            .into_iter()
            .chain(has_earned(analysis).then(|| earned_cells(comparison.earned.as_ref(), p)).into_iter().flatten())
            .chain(noise_floor(analysis).map(|floor| {
                let times = comparison.difference.point.abs() / floor;
                Cell::new(format!("{} ×", decimals(times, 1)), Some(times))
            }))
            .chain(has_anytime(analysis).then(|| {
                // The sort key is the distance from 0 that is certain.
                let certain = comparison.anytime.map(|anytime| anytime.low.max(-anytime.high));
                Cell::new(comparison.anytime.as_ref().map_or("–".to_owned(), interval), certain)
            }))
            .chain([
                p(comparison.p_holm),
                p(comparison.p_permutation).with(format!("W {}", p(comparison.p_wilcoxon).text)),
                Cell::number(comparison.d_z, number).with(
                    Some(comparison.cliffs_delta)
                        .filter(|delta| delta.is_finite())
                        .map_or(String::new(), |delta| format!("δ {}", number(delta))),
                ),
                match &comparison.changed {
                    Some(changed) => {
                        let net = changed.lost as f64 - changed.gained as f64;
                        Cell::new(format!("{} / {}", changed.lost, changed.gained), Some(net))
                    }
                    None => Cell::number(None, number),
                },
                match &comparison.breakdown {
                    Some(loss) => {
                        let text = format!("{} / {}", number(loss.broken), number(loss.sound));
                        Cell::new(text, Some(loss.broken))
                    }
                    None => Cell::number(None, number),
                },
                Cell::number(Some(comparison.detectable).filter(|detectable| *detectable > 0.0), number)
                    .with(comparison.examples_needed.map_or(String::new(), |needed| format!("0.10: n {needed}"))),
                Cell::new(comparison.n.to_string(), Some(comparison.n as f64)),
            ])
            .collect(),
        })
        .collect()
}

fn earned_cells(earned: Option<&EarnedDifference>, p: impl Fn(f64) -> Cell) -> [Cell; 2] {
    let Some(earned) = earned else { return [Cell::number(None, number), Cell::number(None, number)] };
    let difference = earned.difference;
    [Cell::new(number(difference.point), Some(difference.point)).with(interval(&difference)), p(earned.p_holm)]
}

/// A row of slopes.
#[derive(Serialize)]
pub struct DoseRow {
    name: String,
    cells: Vec<Cell>,
}

/// Columns of [`doses`].
pub fn dose_headings() -> Vec<Heading> {
    headings(&[
        ("curve", "What was done to the cache at each fraction"),
        ("score", "Change of the score per tenth evicted, by the slope of each example, and its interval"),
        ("p (Holm)", "Permutation test of no slope, corrected over all curves"),
        ("earned", "Change of the earned score per tenth evicted, and its interval"),
        (
            "p (Holm, earned)",
            "Permutation test of no slope of the earned score, corrected over all curves: what decides",
        ),
        (
            "certain from",
            "From this fraction on, tested from the largest down, every cost is certain, all curves together",
        ),
        ("area", "Mean score over the fractions, and mean earned score"),
        ("n", "Examples that have every fraction"),
    ])
}

/// Rows of the table of slopes.
pub fn doses(analysis: &Analysis) -> Vec<DoseRow> {
    let p = |p: f64| Cell::new(if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }, Some(p));
    let tenth = |slope: Estimate| Estimate {
        point: slope.point / 10.0,
        low: slope.low / 10.0,
        high: slope.high / 10.0,
        ..slope
    };
    let slope = |slope: Option<Estimate>| fine(slope.map(tenth));
    let row = |dose: &Dose| {
        let (score, earned) = (&dose.score, dose.earned.as_ref());
        DoseRow {
            name: analysis.curves[dose.curve].name.clone(),
            cells: vec![
                slope(Some(score.slope)),
                p(score.p_holm),
                slope(earned.map(|earned| earned.slope)),
                earned.map_or_else(|| Cell::number(None, number), |earned| p(earned.p_holm)),
                Cell::number(dose.decides().certain_from, number),
                Cell::new(number(score.area), Some(score.area))
                    .with(earned.map_or(String::new(), |earned| number(earned.area))),
                Cell::new(dose.decides().n.to_string(), Some(dose.decides().n as f64)),
            ],
        }
    };
    analysis.doses.iter().map(row).collect()
}

/// A row of conditions.
#[derive(Serialize)]
pub struct ConditionRow {
    name: String,
    cells: Vec<Cell>,
}

/// A column of the table of conditions: its heading, its cell.
type Column = ((&'static str, &'static str), fn(&Condition) -> Cell);

const CONDITIONS: &[Column] = &[
    (("score", "Mean over examples of the fraction of instructions followed, and its interval"), |condition| {
        scored(condition.score)
    }),
    (("all followed", "Fraction of examples with every instruction followed, and its interval"), |condition| {
        scored(condition.all_followed)
    }),
    (("passed", "Share of the rules passed that have a chance, and its interval"), |condition| {
        scored(condition.earned.map(|earned| earned.passed))
    }),
    (
        ("chance", "Share of them passed by answers to other prompts under the same condition, and its interval"),
        |condition| scored(condition.earned.map(|earned| earned.chance)),
    ),
    (
        ("earned", "Passed less chance, over 1 less chance: 0 is luck, 1 is always followed; and its interval"),
        |condition| scored(condition.earned.map(|earned| earned.earned)),
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
    (
        ("KL", "Geometric mean of the KL divergence from the full cache in nats per token, and its interval"),
        |condition| fine(condition.fidelity.kl),
    ),
    (("× floor", "The same as a multiple of that of the full cache against itself, example by example"), |condition| {
        let times = condition.fidelity.times_floor;
        Cell::number(times.map(|times| times.point), |times| decimals(times, 1)).with(
            times.map_or(String::new(), |times| format!("[{}, {}]", decimals(times.low, 1), decimals(times.high, 1))),
        )
    }),
    (
        ("NLL", "Negative log-likelihood of the baseline's answer in nats per token, less that under the full cache"),
        |condition| fine(condition.fidelity.nll_difference),
    ),
    (
        (
            "flips",
            "Fraction of tokens whose most likely successor is another than under the full cache, and its interval",
        ),
        |condition| scored(condition.fidelity.flips),
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
    (("KV kept", "Mean bytes of keys and values that survive, and of all before the eviction"), |condition| {
        Cell::new(bytes(condition.cost.kv_bytes_kept), Some(condition.cost.kv_bytes_kept))
            .with(format!("of {}", bytes(condition.cost.kv_bytes_full)))
    }),
    (("trials", "Finished trials, and those that failed"), |condition| {
        let failed = if condition.n_failed > 0 { format!("{} failed", condition.n_failed) } else { String::new() };
        Cell::new(condition.n_trials.to_string(), Some(condition.n_trials as f64)).with(failed)
    }),
];

/// The columns that have a value in some condition.
fn columns(analysis: &Analysis) -> impl Iterator<Item = &'static Column> {
    let any = |test: fn(&Condition) -> bool| analysis.conditions.iter().any(test);
    let kl = any(|condition| condition.fidelity.kl.is_some());
    let floor = any(|condition| condition.fidelity.times_floor.is_some());
    let likelihood = any(|condition| condition.fidelity.nll_difference.is_some());
    let flips = any(|condition| condition.fidelity.flips.is_some());
    let earned = any(|condition| condition.earned.is_some());
    CONDITIONS.iter().filter(move |((name, _), _)| match *name {
        "passed" | "chance" | "earned" => earned,
        "KL" => kl,
        "× floor" => floor,
        "NLL" => likelihood,
        "flips" => flips,
        _ => true,
    })
}

/// One of the tables of conditions.
#[derive(Serialize)]
pub struct ConditionTable {
    id: &'static str,
    heading: &'static str,
    headings: Vec<Heading>,
    rows: Vec<ConditionRow>,
}

/// The first column of the second table.
const SECOND: &str = "KL";

/// The tables of conditions: their scores; then their predictions, breakdown, time and memory.
pub fn conditions(analysis: &Analysis) -> Vec<ConditionTable> {
    let second = CONDITIONS.iter().position(|((name, _), _)| *name == SECOND).unwrap_or(CONDITIONS.len());
    let is_second = |column: &Column| {
        CONDITIONS.iter().position(|other| other.0 == column.0).is_some_and(|position| position >= second)
    };
    let table = |id, heading, of_second: bool| {
        let shown: Vec<_> = columns(analysis).filter(|column| is_second(column) == of_second).collect();
        let names: Vec<_> = shown.iter().map(|(heading, _)| *heading).collect();
        let row = |condition: &Condition| ConditionRow {
            name: condition.words.clone(),
            cells: shown.iter().map(|(_, cell)| cell(condition)).collect(),
        };
        ConditionTable {
            id,
            heading,
            headings: headings(&[&[("condition", "What was done to the cache")], names.as_slice()].concat()),
            rows: analysis.conditions.iter().map(row).collect(),
        }
    };
    vec![
        table("conditions-table", "scores", false),
        table("costs-table", "Predictions, breakdown, time and memory", true),
    ]
}

/// Three decimals.
fn fine(estimate: Option<Estimate>) -> Cell {
    let value = |value: f64| decimals(value, 3);
    Cell::number(estimate.map(|estimate| estimate.point), value)
        .with(estimate.map_or(String::new(), |estimate| format!("[{}, {}]", value(estimate.low), value(estimate.high))))
}

fn scored(score: Option<crate::stats::Estimate>) -> Cell {
    Cell::number(score.map(|score| score.point), number).with(score.map_or(String::new(), |score| interval(&score)))
}

fn bytes(count: f64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let unit = (0..3).find(|unit| count < 1000f64.powi(unit + 1)).unwrap_or(3);
    let scaled = count / 1000f64.powi(unit);
    format!("{} {}", decimals(scaled, if scaled < 10.0 && unit > 0 { 1 } else { 0 }), UNITS[unit as usize])
}

/// A row of the heat map.
#[derive(Serialize)]
pub struct HeatRow {
    name: String,
    cells: Vec<Option<HeatCell>>,
}

/// A cell of the heat map.
#[derive(Serialize)]
pub struct HeatCell {
    shade: usize,
    text: String,
    range: String,
    n: usize,
}

/// Types by conditions.
pub fn heat(analysis: &Analysis) -> Vec<HeatRow> {
    let cell = |score: &crate::stats::Estimate| HeatCell {
        shade: shade(score.point),
        text: number(score.point),
        range: if is_everything(score) {
            String::new()
        } else {
            format!("{}–{}", number(score.low.max(0.0)), number(score.high.min(1.0)))
        },
        n: score.n,
    };
    let row = |row: &crate::report::analysis::Row<String>| HeatRow {
        name: row.name.clone(),
        cells: row.scores.iter().map(|score| score.as_ref().map(cell)).collect(),
    };
    analysis.types.iter().map(row).collect()
}
