//! `kvllama score`: scores existing responses.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{means, print, print_json};
use crate::exp;
use crate::score::ifeval::{self, Accuracies};
use crate::{Error, Result};

/// Score responses again: those of a finished run, or any file of IFEval responses.
///
/// With a run directory, every response is checked again by its rules and all scores and means are
/// computed again; nothing is generated, and a judge's verdicts stay.
///
/// With --ifeval, reads JSON lines {key, prompt, instruction_id_list, kwargs, response}, writes JSON lines {key,
/// follow_all_strict, follow_list_strict, follow_all_loose, follow_list_loose}, and prints the four
/// accuracies. Verdicts equal those of the official IFEval code; docs/scoring.md says where not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples
  kvllama score results/curve
  kvllama score --ifeval responses.jsonl --out verdicts.jsonl
  kvllama score --ifeval answers.jsonl --prompts input_data.jsonl --out verdicts.jsonl --json")]
pub(super) struct Args {
    /// A run directory whose responses are scored again.
    #[arg(value_name = "RUN", required_unless_present = "ifeval", conflicts_with_all = ["ifeval", "out", "prompts"])]
    run: Option<PathBuf>,

    /// Responses of any model, JSON lines.
    #[arg(long, value_name = "RESPONSES.jsonl", requires = "out")]
    ifeval: Option<PathBuf>,

    /// The file for the verdicts, one line per response, in the same order.
    #[arg(long, value_name = "OUT.jsonl", requires = "ifeval")]
    out: Option<PathBuf>,

    /// IFEval's prompts (input_data.jsonl), joined by key or else by prompt to responses that come
    /// without their instructions.
    #[arg(long, value_name = "INPUT_DATA.jsonl")]
    prompts: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args) -> Result<()> {
    match (&args.run, &args.ifeval, &args.out) {
        (Some(run), ..) => score_run(run, args.json),
        (None, Some(responses), Some(out)) => score_file(responses, out, args.prompts.as_deref(), args.json),
        _ => unreachable!("clap asks for a run, or for --ifeval with --out"),
    }
}

fn score_run(run: &Path, json: bool) -> Result<()> {
    let rescored = exp::rescore(run)?;
    if json {
        return print_json(&json!({
            "checked": rescored.checked, "changed": rescored.changed, "conditions": rescored.means,
        }));
    }
    let verdicts = format!("{} of {} verdicts changed\n", rescored.changed, rescored.checked);
    print(&(means::table(&rescored.means) + &verdicts))
}

fn score_file(responses: &Path, out: &Path, prompts: Option<&Path>, json: bool) -> Result<()> {
    let inputs = [Some(responses), prompts];
    if let Ok(out) = out.canonicalize()
        && inputs.into_iter().flatten().any(|input| input.canonicalize().is_ok_and(|input| input == out))
    {
        return Err(Error::input(format!("--out {} would overwrite what is read; name another file", out.display())));
    }
    let scored = ifeval::score(&ifeval::read(responses, prompts)?);
    ifeval::write(out, &scored)?;
    let accuracies = Accuracies::of(&scored);
    if json { print_json(&accuracies) } else { print(&table(&accuracies)) }
}

fn table(accuracies: &Accuracies) -> String {
    let Accuracies { prompts, instructions, prompt_strict, instruction_strict, prompt_loose, instruction_loose } =
        accuracies;
    format!(
        "             strict   loose        n\n\
         prompt       {prompt_strict:.4}  {prompt_loose:.4}  {prompts:>7}\n\
         instruction  {instruction_strict:.4}  {instruction_loose:.4}  {instructions:>7}\n"
    )
}
