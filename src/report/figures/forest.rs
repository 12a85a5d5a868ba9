//! Differences with their intervals, one per row.

use super::svg::{Anchor, Svg, text_width};
use crate::report::words;
use crate::stats::Estimate;

/// One difference.
#[derive(Debug, Clone)]
pub struct Difference {
    pub label: String,
    /// The index of its colour and mark.
    pub style: usize,
    pub value: Estimate,
    /// p after Holm's correction.
    pub p: f64,
}

const ROW: f64 = 24.0;

/// Draws all rows under one axis.
pub fn forest(rows: &[Difference], axis: &str, width: f64) -> Svg {
    let widest = rows.iter().map(|row| text_width(&row.label, 12.5)).fold(0.0, f64::max);
    let narrow = width < 560.0;
    // Long labels are above the intervals. A narrow figure has no numbers; they are in the table.
    let above = narrow || widest > 0.4 * width;
    let (left, row) = if above { (12.0, ROW + 16.0) } else { (widest + 18.0, ROW) };
    let right = if narrow { 12.0 } else { 226.0 };
    let (head, foot) = (8.0, 46.0);
    let mut svg = Svg::new(width, head + row * rows.len() as f64 + foot);
    let reach = rows.iter().flat_map(|row| [row.value.low.abs(), row.value.high.abs()]).fold(0.05, f64::max);
    // A margin, so that no interval ends at the edge.
    let low = rows.iter().map(|row| row.value.low).fold(0.0, f64::min).min(-0.05 * reach) - 0.05 * reach;
    let high = rows.iter().map(|row| row.value.high).fold(0.0, f64::max).max(0.05 * reach) + 0.05 * reach;
    let x = |value: f64| left + (value - low) / (high - low) * (width - left - right);
    let bottom = svg.height - foot;
    let step = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0].into_iter().find(|step| (x(*step) - x(0.0)) > 44.0).unwrap_or(1.0);
    let mut tick = (low / step).ceil() * step;
    while tick <= high + 1e-9 {
        svg.line((x(tick), head), (x(tick), bottom), if tick.abs() < 1e-9 { "rule" } else { "grid" });
        svg.text((x(tick), bottom + 16.0), Anchor::Middle, "small muted", &words::number(tick));
        tick += step;
    }
    svg.line((x(low), bottom), (x(high), bottom), "axis");
    svg.text(((x(low) + x(high)) / 2.0, svg.height - 8.0), Anchor::Middle, "", axis);
    for (index, difference) in rows.iter().enumerate() {
        let top = head + row * index as f64;
        let y = top + row - ROW / 2.0;
        let (size, p) = (words::estimate(&difference.value), words::p_value("p", difference.p));
        if above {
            svg.text((left, top + 14.0), Anchor::Start, "small", &difference.label);
        } else {
            svg.text((left - 12.0, y + 4.0), Anchor::End, "", &difference.label);
        }
        if !narrow {
            svg.text((width - 84.0, y + 4.0), Anchor::End, "small", &size);
            svg.text((width - 8.0, y + 4.0), Anchor::End, "small muted", &p);
        }
        svg.open(difference.style);
        svg.line((x(difference.value.low), y), (x(difference.value.high), y), "whisker");
        for end in [difference.value.low, difference.value.high] {
            svg.line((x(end), y - 3.5), (x(end), y + 3.5), "whisker");
        }
        svg.mark(difference.style, (x(difference.value.point), y), &format!("{}: {size}, {p}", difference.label));
        svg.close();
    }
    svg
}
