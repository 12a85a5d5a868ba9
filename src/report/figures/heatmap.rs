//! Scores by type of instruction and condition, each with its interval.

use super::svg::{Anchor, Svg, text_width};
use crate::report::words;
use crate::stats::Estimate;

const CELL: (f64, f64) = (64.0, 34.0);

/// The shade, one of eleven, of a score in [0, 1].
pub fn shade(score: f64) -> usize {
    (score.clamp(0.0, 1.0) * 10.0).round() as usize
}

/// Whether an interval is the whole range.
pub fn is_everything(score: &Estimate) -> bool {
    score.low <= 0.0 && score.high >= 1.0
}

/// Draws rows by columns.
pub fn heatmap(rows: &[(String, &[Option<Estimate>])], columns: &[String]) -> Svg {
    let left = rows.iter().map(|(name, _)| text_width(name, 12.5)).fold(0.0, f64::max) + 16.0;
    let longest = columns.iter().map(|name| text_width(name, 11.0)).fold(0.0, f64::max);
    let top = longest * 0.72 + 22.0;
    // Turned headings extend beyond the last column.
    let right = longest * 0.72 + 8.0;
    let mut svg = Svg::new(left + CELL.0 * columns.len() as f64 + right, top + CELL.1 * rows.len() as f64 + 8.0);
    for (index, name) in columns.iter().enumerate() {
        let x = left + CELL.0 * (index as f64 + 0.5);
        svg.turned_text((x - 4.0, top - 8.0), -45.0, Anchor::Start, "small", name);
    }
    for (row, (name, scores)) in rows.iter().enumerate() {
        let y = top + CELL.1 * row as f64;
        svg.text((left - 10.0, y + CELL.1 / 2.0 + 4.0), Anchor::End, "", name);
        for (column, score) in scores.iter().enumerate() {
            let x = left + CELL.0 * column as f64;
            let box_ = (CELL.0 - 2.0, CELL.1 - 2.0);
            let Some(score) = score else {
                svg.rect((x + 1.0, y + 1.0), box_, "none");
                continue;
            };
            let shade = shade(score.point);
            let ink = if shade > 6 { " light" } else { "" };
            let centre = x + CELL.0 / 2.0;
            svg.rect((x + 1.0, y + 1.0), box_, &format!("h{shade}"));
            svg.text((centre, y + 15.0), Anchor::Middle, ink.trim(), &words::number(score.point));
            if !is_everything(score) {
                let range = format!("{}–{}", words::number(score.low), words::number(score.high));
                svg.text((centre, y + 27.0), Anchor::Middle, &format!("tiny{ink}"), &range);
            }
        }
    }
    svg
}
