//! The report: what did forgetting cost, and how sure are we?
//!
//! Rows become a [`table`], the table becomes an [`Analysis`] (written as `stats.json`), and the analysis is shown: in
//! the [`terminal`], as a page ([`html`]), as [`figures`], as a paragraph of [`methods`]
//! with its citations in [`bibtex`]. Only [`load`] reads files;
//! only [`crate::stats`] computes statistics.

pub mod analysis;
pub mod bibtex;
pub mod csv;
pub mod figures;
pub mod html;
mod keep_sets;
pub(crate) mod load;
pub mod methods;
pub mod table;
pub mod terminal;
mod warning;
mod warnings;
mod words;

pub use analysis::Analysis;
pub use load::{Run, load};
pub use table::Table;
pub use warning::Warning;

/// Computes all numbers of a report, and the warnings that limit them.
pub fn analyze(runs: &[Run], level: f64, seed: u64) -> Analysis {
    let table = Table::new(runs);
    let mut analysis = analysis::of(&table, level, seed);
    analysis.warnings = warnings::find(&table, &analysis);
    analysis
}
