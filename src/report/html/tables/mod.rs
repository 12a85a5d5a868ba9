//! The page's tables: cells and their sort keys.

mod comparisons;
mod conditions;
mod curves;
mod doses;
mod heat;
mod leakage;

pub use comparisons::comparisons;
pub use conditions::conditions;
pub use curves::curves;
pub use doses::doses;
pub use heat::{Heat, layers, types};
pub use leakage::leakage;

use serde::Serialize;

use crate::report::analysis::{Analysis, Forgotten, Question, shown};
use crate::report::words::{decimals, thousands};
use crate::stats::Estimate;

/// A table that a click on a heading sorts.
#[derive(Serialize)]
pub struct Table {
    id: &'static str,
    /// For people who cannot see it.
    caption: String,
    /// Whether it may be wider than the text.
    broad: bool,
    headings: Vec<Heading>,
    rows: Vec<Row>,
}

impl Table {
    /// Without these columns unless they are wanted: nobody needs a column of dashes.
    fn only_if(mut self, wanted: bool, columns: &[&str]) -> Self {
        if !wanted {
            let kept: Vec<bool> = self.headings.iter().map(|heading| !columns.contains(&heading.name)).collect();
            // The name of a row stands before its cells.
            self.rows.iter_mut().for_each(|row| retain(&mut row.cells, &kept[1..]));
            retain(&mut self.headings, &kept);
        }
        self
    }
}

fn retain<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    items.retain(|_| kept.next().copied().unwrap_or(true));
}

/// A row: its name, what is written below the name, and the other cells.
#[derive(Serialize)]
struct Row {
    name: String,
    sub: String,
    /// What a row of comparisons asks, and its deciding p: the page filters by them.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<(Question, f64)>,
    cells: Vec<Cell>,
}

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
    /// Whether the reader's eye should find it.
    strong: bool,
}

impl Cell {
    fn new(text: String, value: Option<f64>) -> Self {
        let value = value.filter(|value| value.is_finite()).map_or(String::new(), |value| value.to_string());
        Cell { text, sub: String::new(), value, strong: false }
    }

    /// A number, or a dash.
    fn number(value: Option<f64>, show: impl Fn(f64) -> String) -> Self {
        Cell::new(value.map_or("–".to_owned(), show), value)
    }

    /// A dash.
    fn none() -> Self {
        Cell::new("–".to_owned(), None)
    }

    fn with(mut self, sub: String) -> Self {
        self.sub = sub;
        self
    }

    fn strong_if(mut self, strong: bool) -> Self {
        self.strong = strong;
        self
    }

    /// A p-value, or a dash.
    fn p(p: Option<f64>) -> Self {
        Cell::number(p, |p| if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") })
    }

    /// An estimate with two decimals and, below, its interval; or a dash.
    fn estimate(estimate: Option<Estimate>) -> Self {
        Cell::with_places(estimate, 2)
    }

    /// The same with another number of decimals.
    fn with_places(estimate: Option<Estimate>, places: usize) -> Self {
        let value = |value: f64| decimals(value, places);
        let ends = |estimate: Estimate| format!("[{}, {}]", value(estimate.low), value(estimate.high));
        Cell::number(estimate.map(|estimate| estimate.point), value).with(estimate.map_or(String::new(), ends))
    }
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
        None => Cell::none(),
    };
    let row = |one: &Forgotten| {
        let name =
            if one.name.is_empty() { "still followed".to_owned() } else { format!("still followed ({})", one.name) };
        ForgottenRow { name, cells: [&one.own, &one.others, &one.filler].map(cell).into() }
    };
    analysis.forgotten.iter().map(row).collect()
}
