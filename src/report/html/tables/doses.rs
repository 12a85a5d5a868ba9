//! The table of slopes.

use super::{Cell, Row, Table, headings};
use crate::report::analysis::{Analysis, Dose};
use crate::report::words::number;
use crate::stats::Estimate;

/// How scores fall with the fraction evicted, curve by curve.
pub fn doses(analysis: &Analysis) -> Table {
    Table {
        id: "doses-table",
        caption: "How scores fall with the fraction evicted".to_owned(),
        broad: true,
        headings: headings(&[
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
            (
                "any",
                "Max-T permutation test over all fractions at once, corrected over all curves, and the fraction that differs \
                 most from the full cache",
            ),
            ("area", "Mean score over the fractions, and mean earned score"),
            ("n", "Examples that have every fraction"),
        ]),
        rows: analysis.doses.iter().map(|dose| row(analysis, dose)).collect(),
    }
    .only_if(analysis.doses.iter().any(|dose| dose.earned.is_some()), &["earned", "p (Holm, earned)"])
}

fn row(analysis: &Analysis, dose: &Dose) -> Row {
    let tenth = |slope: Estimate| Estimate {
        point: slope.point / 10.0,
        low: slope.low / 10.0,
        high: slope.high / 10.0,
        ..slope
    };
    let (score, earned) = (&dose.score, dose.earned.as_ref());
    let decides = dose.decides();
    let area = Cell::new(number(score.area), Some(score.area));
    let certain = |decides: bool| decides && dose.decides().is_significant();
    Row {
        name: analysis.curves[dose.curve].name.clone(),
        sub: String::new(),
        asked: None,
        cells: vec![
            Cell::with_places(Some(tenth(score.slope)), 3).strong_if(certain(earned.is_none())),
            Cell::p(Some(score.p_holm)),
            Cell::with_places(earned.map(|earned| tenth(earned.slope)), 3).strong_if(certain(earned.is_some())),
            Cell::p(earned.map(|earned| earned.p_holm)),
            Cell::number(decides.certain_from, number),
            Cell::p(Some(decides.any.p_holm)).with(format!("at {}", number(decides.any.ratio))),
            area.with(earned.map_or(String::new(), |earned| number(earned.area))),
            Cell::new(decides.n.to_string(), Some(decides.n as f64)),
        ],
    }
}
