//! `kvllama merge`: combines shards into one run.

use std::path::PathBuf;

use serde_json::json;

use super::{print, print_json};
use crate::Result;
use crate::exp::{self, Merged};

/// Merge shards, or runs of the same model and data, into one run.
///
/// The merged run is like one that was never sharded: it resumes, and it can be scored, judged and
/// reported. Trials that
/// several runs hold count once (the first run's); repeating a merge changes nothing. Runs that differ in what
/// determines results are refused; runs of different builds or devices are merged and reported as mixed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvllama merge results/shard-1 results/shard-2 --out results/whole
  kvllama exp ... --shard 3/8 --out results/shard-3        a shard that was missing
  kvllama merge results/shard-* --out results/whole        again: adds only what is new")]
pub(super) struct Args {
    /// Run directories.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,

    /// The merged run.
    #[arg(long, value_name = "DIR", required = true)]
    out: PathBuf,

    /// Merge runs of different models, data or settings too, under the first run's description.
    #[arg(long)]
    force: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args) -> Result<()> {
    let merged = exp::merge(&args.directories, &args.out, args.force)?;
    if args.json {
        return print_json(&json!({"out": args.out, "merged": merged}));
    }
    print(&text(&merged, &args.out.display().to_string()))
}

fn text(merged: &Merged, out: &str) -> String {
    let mut text = format!("{} trials in {out}\n", merged.trials);
    let mut say = |line: String| text.push_str(&(line + "\n"));
    if merged.repeated > 0 {
        say(format!(
            "{} were in more than one run and count once; of {} the answers differ",
            merged.repeated, merged.conflicting
        ));
    }
    if merged.failed > 0 {
        say(format!(
            "{} failed; `kvllama exp` with the settings of these runs and --out {out} tries them again",
            merged.failed
        ));
    }
    if merged.missing > 0 {
        say(format!("{} planned trials are in no run:", merged.missing));
        for missing in &merged.missing_by_condition {
            say(format!("  {}: {}", missing.condition, missing.trials));
        }
    }
    for mixed in &merged.mixed {
        say(format!("mixed: the runs differ in {mixed}"));
    }
    text
}
