//! The table of curves compared with each other.

use super::{Cell, Row, Table, headings};
use crate::report::analysis::{Analysis, CurveComparison};
use crate::report::words::number;

/// Every two curves that differ in one axis.
pub fn curves(analysis: &Analysis) -> Table {
    Table {
        id: "curves-table",
        caption: "Curves compared by the area between them".to_owned(),
        broad: false,
        headings: headings(&[
            ("curve", "A curve, and the one it is compared with"),
            ("earned", "Paired difference of the earned score, averaged over the common fractions, and its interval"),
            ("p (Holm, earned)", "Sign-flip permutation test of it, corrected over all pairs of curves: what decides"),
            ("score", "The same difference of the score, and its interval"),
            ("p (Holm)", "Sign-flip permutation test of it, corrected over all pairs of curves"),
            ("up to", "The largest common fraction"),
            ("n", "Examples that have every fraction of both"),
        ]),
        rows: analysis.curve_comparisons.iter().map(|one| row(analysis, one)).collect(),
    }
    .only_if(analysis.curve_comparisons.iter().any(|one| one.earned.is_some()), &["earned", "p (Holm, earned)"])
}

fn row(analysis: &Analysis, one: &CurveComparison) -> Row {
    let (score, earned) = (&one.score, one.earned.as_ref());
    let certain = |decides: bool| decides && one.is_significant();
    Row {
        name: analysis.curves[one.b].name.clone(),
        sub: format!("against {}", analysis.curves[one.a].name),
        asked: None,
        cells: vec![
            Cell::estimate(earned.map(|earned| earned.difference)).strong_if(certain(earned.is_some())),
            Cell::p(earned.map(|earned| earned.p_holm)),
            Cell::estimate(Some(score.difference)).strong_if(certain(earned.is_none())),
            Cell::p(Some(score.p_holm)),
            Cell::number(one.ratios.last().copied(), number),
            Cell::new(one.decides().n.to_string(), Some(one.decides().n as f64)),
        ],
    }
}
