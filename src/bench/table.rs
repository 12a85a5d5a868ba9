//! Tables of measurements.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// One section's measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// The section's name.
    pub section: String,
    /// What was measured, and the meaning of the ratio.
    pub note: String,
    /// The measurements.
    pub rows: Vec<Row>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The value; the median of several runs.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it is compared with, in the same unit.
    pub beside: Option<Beside>,
    /// The ratio of the two; the table's note says which is divided by which.
    pub ratio: Option<f64>,
    /// The ratio that it should have.
    pub goal: Option<Goal>,
}

/// The other side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    /// What it is.
    pub what: String,
    /// Its value, in the same unit.
    pub value: f64,
}

/// The ratio that a measurement should have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This ratio or more.
    AtLeast(f64),
    /// This ratio or less.
    AtMost(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Goal::AtLeast(least) => write!(f, "≥ {least}"),
            Goal::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

impl Row {
    /// A measurement without a comparison.
    pub(super) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Row { what: what.into(), value, unit, beside: None, ratio: None, goal: None }
    }

    /// The same, compared with another value.
    pub(super) fn beside(self, what: impl Into<String>, value: f64, ratio: f64) -> Self {
        Row { beside: Some(Beside { what: what.into(), value }), ratio: Some(ratio), ..self }
    }

    /// The same with the ratio that it should have.
    pub(super) fn goal(self, goal: Goal) -> Self {
        Row { goal: Some(goal), ..self }
    }
}

impl Table {
    /// The table as Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("### {}\n\n{}\n\n", self.section, self.note);
        out.push_str("| what | kvllama | beside | ratio | goal |\n|---|--:|--:|--:|--:|\n");
        for row in &self.rows {
            let value = |value| format!("{} {}", significant(value), row.unit).trim_end().to_owned();
            let beside = row
                .beside
                .as_ref()
                .map_or_else(String::new, |beside| format!("{} {}", beside.what, value(beside.value)));
            let ratio = row.ratio.map(significant).unwrap_or_default();
            let goal = row.goal.map(|goal| goal.to_string()).unwrap_or_default();
            let _ = writeln!(out, "| {} | {} | {beside} | {ratio} | {goal} |", row.what, value(row.value));
        }
        out
    }
}

/// Formats a number with three significant digits, or more if its integer part has more.
fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..9.0).contains(&magnitude) {
        return format!("{value:.1e}");
    }
    format!("{value:.*}", (2.0 - magnitude).max(0.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_both_sides_the_ratio_and_the_goal() {
        let row = Row::new("prefill", 123.45, "tokens/s").beside("llama-bench", 1000.0, 0.123_45);
        let rows = vec![row.goal(Goal::AtLeast(0.97)), Row::new("alone", 0.0, "")];
        let text = Table { section: "single".into(), note: "Why.".into(), rows }.markdown();
        assert!(text.contains("| prefill | 123 tokens/s | llama-bench 1000 tokens/s | 0.123 | ≥ 0.97 |\n"), "{text}");
        assert!(text.contains("| alone | 0 |  |  |  |\n"), "{text}");
    }
}
