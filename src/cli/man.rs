//! `kvllama man [DIR]`: the manual pages.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::{Cli, print};
use crate::{Error, Result};

/// Print the manual page, or write one page per command into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where to write kvllama.1, kvllama-exp.1 and so on; the directory is made if it is missing.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kvllama man | man -l -
  kvllama man ~/.local/share/man/man1 && man kvllama-exp";

pub(super) fn execute(args: Args) -> Result<()> {
    let Some(directory) = args.directory else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page).expect("memory does not fail");
        return print(&String::from_utf8_lossy(&page));
    };
    std::fs::create_dir_all(&directory).map_err(Error::io("cannot make", &directory))?;
    clap_mangen::generate_to(Cli::command(), &directory).map_err(Error::io("cannot write into", &directory))?;
    print(&format!("manual pages: {}\n", directory.display()))
}
