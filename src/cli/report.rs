//! `kvllama report`: what did forgetting cost, and how sure are we?

use std::path::{Path, PathBuf};

use super::{interrupt, print, print_json};
use crate::live::{self, Server, Watched};
use crate::report::{self, Run, analyze, bibtex, csv, figures, html, methods, terminal};
use crate::{Error, Result};

/// What did forgetting cost, and how sure are we? Statistics of one or more finished runs.
///
/// Prints a screenful of means with intervals, paired comparisons and warnings, and writes
/// report.html (one file, no network needed), stats.json and summary.csv (one row a condition) into the run directory. Several runs
/// are compared on the examples that all of them have.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Run directories, as `kvllama exp` writes them.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,

    /// Where report.html, stats.json and summary.csv go [default: the run's directory; for several runs a new one beside the first].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Also write every figure as SVG and PNG into this directory.
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,

    /// Confidence level of the intervals, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 95.0)]
    level: f64,

    /// Seed of resampling and permutation: the same rows and seed give the same report.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Print stats.json instead of the screenful, and write no file but the figures asked for.
    #[arg(long)]
    json: bool,

    /// Print the methods paragraph of these runs, ready to paste, and write no file but the figures asked for.
    #[arg(long, conflicts_with = "json")]
    methods: bool,

    /// Print BibTeX entries of what these runs used (kvllama, llama.cpp, policies, rules), with the keys that --methods cites;
    /// after the paragraph if both are given. Writes no file but the figures asked for.
    #[arg(long, conflicts_with = "json")]
    bibtex: bool,

    /// Follow a run while it goes on: serve a page on 127.0.0.1 that shows curves, the time to go and the last answers, until
    /// every planned trial has its row. Shards of a run are shown together. `--level`, `--seed` and files belong to
    /// the report alone.
    #[arg(long, conflicts_with_all = ["json", "methods", "bibtex", "figures", "out"])]
    watch: bool,

    /// The port of --watch; 0 takes a free one.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "watch")]
    port: u16,

    /// Open the page in the browser.
    #[arg(long, conflicts_with_all = ["json", "methods", "bibtex"])]
    open: bool,
}

const EXAMPLES: &str = "\
Examples:
  kvllama report results/curve
  kvllama report results/curve --figures paper/figures
  kvllama report results/q4 results/q8             two quantizations on their common examples
  kvllama report results/curve --watch --open      while the run goes on
  kvllama report results/curve --methods           what was done, in words
  kvllama report results/curve --bibtex > kv.bib   the papers to cite";

pub(super) fn execute(args: Args) -> Result<()> {
    if !(50.0..100.0).contains(&args.level) {
        return Err(Error::input(format!(
            "--level is {}; it is the confidence of the intervals in percent, from 50 to below 100",
            args.level
        )));
    }
    if args.watch {
        return watch(&args);
    }
    let runs = report::load(&args.directories)?;
    let analysis = analyze(&runs, args.level / 100.0, args.seed);
    if analysis.n_examples == 0 {
        return Err(Error::input(
            "the runs have no example in common; give runs on the same data, or put shards of one run together with \
             `kvllama merge`",
        ));
    }
    let drawn = args.figures.as_deref().map(|directory| figures::write(&analysis, directory)).transpose()?;
    if args.json {
        return print_json(&analysis);
    }
    if args.methods || args.bibtex {
        let mut parts = if args.methods { methods::paragraphs(&runs, &analysis) } else { Vec::new() };
        parts.extend(args.bibtex.then(|| bibtex::entries(&runs).trim_end().to_owned()));
        return print(&(parts.join("\n\n") + "\n"));
    }
    let directory = args.out.clone().unwrap_or_else(|| beside(&runs));
    std::fs::create_dir_all(&directory).map_err(Error::io("cannot make", &directory))?;
    let [page, stats, summary] = ["report.html", "stats.json", "summary.csv"].map(|name| directory.join(name));
    html::write(&runs, &analysis, &page)?;
    let mut json = serde_json::to_string_pretty(&analysis).expect("plain data");
    json.push('\n');
    crate::files::write_atomically(&stats, json.as_bytes())?;
    crate::files::write_atomically(&summary, csv::of_conditions(&analysis).as_bytes())?;
    let mut text = terminal::render(&analysis, textwrap::termwidth());
    text.push_str(&format!("\npage: {}\nnumbers: {}, {}\n", page.display(), stats.display(), summary.display()));
    if let (Some(files), Some(directory)) = (drawn, &args.figures) {
        text.push_str(&format!("figures: {} files in {}\n", files.len(), directory.display()));
    }
    print(&text)?;
    if args.open {
        open(&page.display().to_string());
    }
    Ok(())
}

/// Serves the live page until the run ends or Ctrl-C.
fn watch(args: &Args) -> Result<()> {
    let mut watched = Watched::new(&args.directories)?;
    let server = Server::new(args.port)?;
    interrupt::install()?;
    print(&format!("watch: {}\n", server.address()))?;
    if args.open {
        open(&server.address());
    }
    let state = live::serve(&server, &mut watched, |watched| tracing::info!("{}", watched.sums().line()))?;
    print(&format!("{state}: {}\n", watched.sums().line()))
}

/// Opens a file or an address in the browser; without a browser, the message names what to open.
fn open(what: &str) {
    let (program, before): (&str, &[&str]) = match std::env::consts::OS {
        "macos" => ("open", &[]),
        "windows" => ("cmd", &["/C", "start", ""]),
        _ => ("xdg-open", &[]),
    };
    let started = std::process::Command::new(program)
        .args(before)
        .arg(what)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    if let Err(error) = started {
        tracing::warn!("cannot start a browser with {program} ({error}); open {what} yourself");
    }
}

/// The run's own directory; for several runs a directory beside the first, named after all of them.
fn beside(runs: &[Run]) -> PathBuf {
    let first = &runs[0].directory;
    if runs.len() == 1 {
        return first.clone();
    }
    let names: Vec<_> = runs.iter().map(|run| run.name.replace(['/', '\\'], "-")).collect();
    first.parent().unwrap_or(Path::new(".")).join(format!("compare-{}", names.join("+")))
}
