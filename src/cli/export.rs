//! `kvllama export`: a run in the formats of other tools.

use std::path::PathBuf;

use super::print;
use crate::export::{Export, Format};
use crate::{Error, Result, report};

/// Write a run in the format of another tool: Parquet, CSV, inspect_ai, kvpress or Every Eval Ever.
///
/// The tables `trials` and `instructions` have typed columns and, in each row, the axes of its condition; the text, the kwargs
/// and the reason of the rule's verdict stand beside each instruction.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The run directory.
    #[arg(value_name = "RUN")]
    directory: PathBuf,

    /// The format.
    #[arg(long, value_name = "FORMAT", value_enum)]
    to: Format,

    /// Where the files go [default: export/FORMAT in the run directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// In CSV files, put an apostrophe before text that a spreadsheet would execute as a formula (=, +, -, @).
    #[arg(long)]
    excel_safe: bool,
}

const EXAMPLES: &str = "\
Examples:
  kvllama export results/curve --to parquet
  kvllama export results/curve --to csv --excel-safe --out for-excel
  kvllama export results/curve --to inspect && inspect view --log-dir results/curve/export/inspect";

pub(super) fn execute(args: Args) -> Result<()> {
    if args.excel_safe && !matches!(args.to, Format::Csv | Format::Kvpress) {
        return Err(Error::input("--excel-safe is for CSV files; it goes with --to csv and --to kvpress"));
    }
    let run = report::load(std::slice::from_ref(&args.directory))?.remove(0);
    let directory = args.out.unwrap_or_else(|| args.directory.join("export").join(args.to.name()));
    let files = Export { format: args.to, excel_safe: args.excel_safe }.write(&run, &directory)?;
    match files.as_slice() {
        [] => Err(Error::input(format!("{} has no scored trial; there is nothing to export", run.name))),
        few if few.len() <= 4 => print(&few.iter().map(|file| format!("{}\n", file.display())).collect::<String>()),
        many => print(&format!("{} files in {}\n", many.len(), directory.display())),
    }
}
