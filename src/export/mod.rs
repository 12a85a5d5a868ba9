//! A run in the formats of other tools.
//!
//! [`Sheet`] is the run as two typed tables, written as CSV or Parquet; inspect_ai, kvpress and Every Eval Ever get one
//! log or folder per condition. [`Export`] reads no file: it takes a loaded [`Run`].

mod conditions;
mod csv;
mod eee;
mod inspect;
mod kinds;
mod kvpress;
mod parquet;
mod sheet;

use std::path::{Path, PathBuf};

use crate::report::Run;
use crate::{Error, Result};
pub use sheet::{Column, Kind, Sheet, instructions, trials};

/// A format of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// trials.parquet and instructions.parquet, typed, for pandas, Polars, DuckDB and R
    Parquet,
    /// trials.csv and instructions.csv with the axes of the condition in each row
    Csv,
    /// Logs of inspect_ai, one per condition, for `inspect view`
    Inspect,
    /// Result folders of kvpress's leaderboard, one per condition
    Kvpress,
    /// Records of Every Eval Ever (schema 0.3.0), one per condition
    Eee,
}

impl Format {
    /// Its name on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What is written, and how.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    /// The format.
    pub format: Format,
    /// Whether cells of CSV files that a spreadsheet would execute get an apostrophe before them.
    pub excel_safe: bool,
}

impl Export {
    /// Writes a run into `directory`, which is made if it is missing; returns the files.
    ///
    /// # Errors
    /// If the run has chats or several questions about one context, of which logs and folders of other tools hold one
    /// answer alone, or if a file cannot be written.
    pub fn write(self, run: &Run, directory: &Path) -> Result<Vec<PathBuf>> {
        let tables = matches!(self.format, Format::Parquet | Format::Csv);
        if !tables && run.trials.iter().any(|row| row.turn > 0) {
            return Err(Error::input(format!(
                "{} has chats, or several questions about one context, and the format {} holds one answer for each example; \
                 export it as parquet or csv",
                run.name,
                self.format.name()
            )));
        }
        let files = match self.format {
            Format::Parquet => sheets(run, "parquet", parquet::of),
            Format::Csv => sheets(run, "csv", |sheet| csv::of(sheet, self.excel_safe)),
            Format::Inspect => inspect::of(run),
            Format::Kvpress => kvpress::of(run, self.excel_safe),
            Format::Eee => eee::of(run),
        };
        let mut paths = Vec::with_capacity(files.len());
        for (name, bytes) in files {
            let path = directory.join(name);
            let parent = path.parent().unwrap_or(directory);
            std::fs::create_dir_all(parent).map_err(Error::io("cannot make", parent))?;
            crate::files::write_atomically(&path, &bytes)?;
            paths.push(path);
        }
        Ok(paths)
    }
}

/// A file: its path within the directory, and its content.
type File = (PathBuf, Vec<u8>);

fn sheets(run: &Run, extension: &str, write: impl Fn(&Sheet) -> Vec<u8>) -> Vec<File> {
    let sheets = [("trials", trials(run)), ("instructions", instructions(run))];
    sheets.into_iter().map(|(name, sheet)| (format!("{name}.{extension}").into(), write(&sheet))).collect()
}

/// JSON with a line feed at its end.
fn json_bytes(value: &serde_json::Value) -> Vec<u8> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data");
    text.push('\n');
    text.into_bytes()
}
