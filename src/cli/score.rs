//! `kvllama score`: verdicts on responses that are there already.

use std::path::PathBuf;

use super::{print, print_json};
use crate::score::ifeval::{self, Accuracies};
use crate::{Error, Result};

/// Score a file of responses by IFEval's rules, offline.
///
/// Reads JSON lines {key, prompt, instruction_id_list, kwargs, response}, writes JSON lines {key,
/// follow_all_strict, follow_list_strict, follow_all_loose, follow_list_loose}, and prints the four
/// accuracies. Verdicts equal those of the official IFEval code; docs/scoring.md says where not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples
  kvllama score --ifeval responses.jsonl --out verdicts.jsonl
  kvllama score --ifeval answers.jsonl --prompts input_data.jsonl --out verdicts.jsonl --json")]
pub(super) struct Args {
    /// The responses, JSON lines.
    #[arg(long, value_name = "RESPONSES.jsonl")]
    ifeval: PathBuf,

    /// Where the verdicts go, one line a response, in the same order.
    #[arg(long, value_name = "OUT.jsonl")]
    out: PathBuf,

    /// IFEval's prompts (input_data.jsonl), joined by key or else by prompt to responses that come
    /// without their instructions.
    #[arg(long, value_name = "INPUT_DATA.jsonl")]
    prompts: Option<PathBuf>,

    /// Print the accuracies as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args) -> Result<()> {
    let inputs = [Some(&args.ifeval), args.prompts.as_ref()];
    if let Ok(out) = args.out.canonicalize()
        && inputs.into_iter().flatten().any(|input| input.canonicalize().is_ok_and(|input| input == out))
    {
        return Err(Error::input(format!("--out {} would overwrite what is read; name another file", out.display())));
    }
    let scored = ifeval::score(&ifeval::read(&args.ifeval, args.prompts.as_deref())?);
    ifeval::write(&args.out, &scored)?;
    let accuracies = Accuracies::of(&scored);
    if args.json { print_json(&accuracies) } else { print(&table(&accuracies)) }
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
