//! `kvllama models`: the known models, and those on this machine.

use std::fmt::Write as _;
use std::path::PathBuf;

use indicatif::HumanBytes;

use super::{print, print_json};
use crate::Result;
use crate::models::{self, Listed};

/// List the models that are known by name and those that are here.
///
/// Every name listed as here can be given to --model. The size of a model that is
/// not here is about what `kvllama pull` would download.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvllama models\n  kvllama models --json | jq -r '.[] | select(.present).name'")]
pub(super) struct Args {
    /// Where to look [default: $KVLLAMA_MODELS, or else models].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Print as JSON: name, size, present, path, partial, hub, licence, gated.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args) -> Result<()> {
    let list = models::list(&args.dir.unwrap_or_else(models::directory))?;
    if args.json { print_json(&list) } else { print(&table(&list)) }
}

fn table(list: &[Listed]) -> String {
    let width = list.iter().map(|model| model.name.len()).max().unwrap_or(0);
    let mut out = format!("{:width$}  {:>11}  WHERE\n", "NAME", "SIZE");
    for model in list {
        let size = HumanBytes(model.size).to_string();
        let _ = writeln!(out, "{:width$}  {size:>11}  {}", model.name, place(model));
    }
    out.push_str("\nGet one with `kvllama pull NAME`. Licences:\n");
    for (licence, families) in licences(list) {
        let _ = writeln!(out, "  {}: {licence}", families.join(", "));
    }
    out
}

/// Each licence with its families of models.
fn licences(list: &[Listed]) -> Vec<(&'static str, Vec<&str>)> {
    let mut licences: Vec<(&str, Vec<&str>)> = Vec::new();
    for (licence, name) in list.iter().filter_map(|model| Some((model.licence?, model.name.as_str()))) {
        let family = name.split('-').next().unwrap_or(name);
        match licences.iter_mut().find(|(known, _)| *known == licence) {
            None => licences.push((licence, vec![family])),
            Some((_, families)) if families.contains(&family) => {}
            Some((_, families)) => families.push(family),
        }
    }
    licences
}

fn place(model: &Listed) -> String {
    match &model.path {
        Some(path) => path.display().to_string(),
        None if model.present => "inside kvllama".to_owned(),
        None => {
            let mut text = "not here".to_owned();
            if model.partial > 0 {
                let _ = write!(text, ", {} pulled so far", HumanBytes(model.partial));
            }
            if model.gated {
                text.push_str(" (gated: pulling it takes an HF_TOKEN)");
            }
            text
        }
    }
}
