//! The table of comparisons.

use super::{Cell, Row, Table, headings};
use crate::report::analysis::{Analysis, Comparison};
use crate::report::words::{decimals, interval, number, thousands};

/// All comparisons of a report.
pub fn comparisons(analysis: &Analysis) -> Table {
    Table {
        id: "comparisons-table",
        caption: "Paired comparisons over examples".to_owned(),
        broad: true,
        headings: headings(&columns(analysis)),
        rows: analysis.comparisons.iter().map(|comparison| row(analysis, comparison)).collect(),
    }
}

fn row(analysis: &Analysis, comparison: &Comparison) -> Row {
    let named = |condition: usize| analysis.conditions[condition].words.as_str();
    let earned = comparison.earned.as_ref();
    // The cell of the deciding difference stands out.
    let certain = |decides: bool| decides && comparison.is_significant();
    let mut cells = vec![Cell::estimate(Some(comparison.difference)).strong_if(certain(earned.is_none()))];
    if has_earned(analysis) {
        cells.push(Cell::estimate(earned.map(|earned| earned.difference)).strong_if(certain(earned.is_some())));
        cells.push(Cell::p(earned.map(|earned| earned.p_holm)));
    }
    if let Some(floor) = noise_floor(analysis) {
        let times = comparison.difference.point.abs() / floor;
        cells.push(Cell::new(format!("{} ×", decimals(times, 1)), Some(times)));
    }
    if has_anytime(analysis) {
        // The sort key is the distance from 0 that is certain.
        let certain = comparison.anytime.map(|anytime| anytime.low.max(-anytime.high));
        cells.push(Cell::new(comparison.anytime.as_ref().map_or("–".to_owned(), interval), certain));
    }
    let delta = Some(comparison.cliffs_delta).filter(|delta| delta.is_finite());
    let detectable = Some(comparison.detectable).filter(|&detectable| detectable > 0.0);
    let needed = comparison.examples_needed.map_or(String::new(), |needed| format!("0.10: n {}", thousands(needed)));
    cells.extend([
        Cell::p(Some(comparison.p_holm)),
        Cell::p(Some(comparison.p_permutation)).with(format!("W {}", Cell::p(Some(comparison.p_wilcoxon)).text)),
        Cell::number(comparison.d_z, number).with(delta.map_or(String::new(), |delta| format!("δ {}", number(delta)))),
        comparison.changed.map_or_else(Cell::none, |changed| {
            let net = changed.lost as f64 - changed.gained as f64;
            Cell::new(format!("{} / {}", changed.lost, changed.gained), Some(net))
        }),
        comparison.breakdown.map_or_else(Cell::none, |loss| {
            Cell::new(format!("{} / {}", number(loss.broken), number(loss.sound)), Some(loss.broken))
        }),
        // Scores are between 0 and 1.
        Cell::number(detectable, |size| if size < 1.0 { number(size) } else { "none".to_owned() }).with(needed),
        Cell::new(comparison.n.to_string(), Some(comparison.n as f64)),
    ]);
    Row {
        name: named(comparison.b).to_owned(),
        sub: format!("against {}", named(comparison.a)),
        asked: Some((comparison.question, comparison.decides().1)),
        cells,
    }
}

/// Its columns: names and hints.
fn columns(analysis: &Analysis) -> Vec<(&'static str, &'static str)> {
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
    let earned = earned.into_iter().flatten();
    first.into_iter().chain(earned).chain(noise).chain(anytime).chain(others).collect()
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
