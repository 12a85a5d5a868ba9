//! `kvllama completions SHELL`: the line that lets a shell complete kvllama's words.
//!
//! The shell asks the binary itself at every Tab, so that names of models are those that are on this machine.

use std::ffi::OsStr;

use clap::{Command, CommandFactory as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use super::{Cli, print};
use crate::data::bundled::BUNDLED;
use crate::evict::{POLICIES, WRAPPERS};
use crate::{Result, models};

/// Print what makes a shell complete commands, options, and the names of models, policies and data sets.
///
/// The shell asks `kvllama` at every Tab: a model appears as soon as it is in the models directory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell: bash, zsh, fish, elvish or powershell.
    #[arg(value_name = "SHELL", value_parser = clap::builder::PossibleValuesParser::new(Shells::builtins().names()), hide_possible_values = true)]
    shell: String,
}

const EXAMPLES: &str = "\
Put one of these lines into your shell's start file:
  bash   source <(kvllama completions bash)        ~/.bashrc
  zsh    source <(kvllama completions zsh)         ~/.zshrc, after compinit
  fish   kvllama completions fish | source         ~/.config/fish/config.fish
  elvish eval (kvllama completions elvish | slurp) ~/.config/elvish/rc.elv";

/// The environment variable with which the printed script calls the binary.
const ASKED: &str = "KVLLAMA_COMPLETE";

pub(super) fn execute(args: Args) -> Result<()> {
    let mut script = Vec::new();
    let shell = Shells::builtins();
    let shell = shell.completer(&args.shell).expect("clap knows the shells");
    shell.write_registration(ASKED, "kvllama", "kvllama", "kvllama", &mut script).expect("memory does not fail");
    print(&String::from_utf8_lossy(&script))
}

/// Answers a shell that asks for completions, and ends the process; otherwise it does nothing.
pub(super) fn answer() {
    CompleteEnv::with_factory(command).var(ASKED).complete();
}

/// The command line with what completes the values of its options.
fn command() -> Command {
    let mut command = Cli::command();
    let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |subcommand| {
            subcommand.mut_args(|arg| match (name.as_str(), arg.get_id().as_str()) {
                (_, "model" | "judge_model_file") => arg.add(ArgValueCompleter::new(of_models)),
                (_, "policy") => arg.add(ArgValueCompleter::new(of_policies)),
                ("exp" | "probe", "data") => arg.add(ArgValueCompleter::new(of_data)),
                ("pull", "name") => arg.add(ArgValueCandidates::new(to_pull)),
                _ => arg,
            })
        });
    }
    command
}

/// Models on this machine by name, and paths.
fn of_models(typed: &OsStr) -> Vec<CompletionCandidate> {
    let here = models::list(&models::directory()).unwrap_or_default().into_iter().filter(|model| model.present);
    named_or_path(typed, here.map(|model| CompletionCandidate::new(model.name)))
}

/// Bundled data sets, and paths.
fn of_data(typed: &OsStr) -> Vec<CompletionCandidate> {
    named_or_path(typed, BUNDLED.iter().map(|set| candidate(set.name, set.summary)))
}

fn to_pull() -> Vec<CompletionCandidate> {
    models::known().iter().map(|model| candidate(model.name, model.licence)).collect()
}

fn named_or_path(typed: &OsStr, named: impl Iterator<Item = CompletionCandidate>) -> Vec<CompletionCandidate> {
    use clap_complete::engine::{PathCompleter, ValueCompleter as _};
    let start = typed.to_string_lossy();
    let mut found: Vec<_> =
        named.filter(|candidate| candidate.get_value().to_string_lossy().starts_with(&*start)).collect();
    found.extend(PathCompleter::any().complete(typed));
    found
}

/// Policies after the last comma of a list, and wrappers before a plus: `random,ada` becomes `random,adakv+`.
fn of_policies(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let (before, start) = typed.split_at(typed.rfind([',', '+']).map_or(0, |at| at + 1));
    let policies = POLICIES.iter().map(|policy| (policy.name.to_owned(), policy.summary));
    let wrappers = WRAPPERS.iter().map(|wrapper| (format!("{}+", wrapper.name), wrapper.summary));
    let all = policies.chain(wrappers).filter(|(name, _)| name.starts_with(start));
    all.map(|(name, summary)| candidate(&format!("{before}{name}"), summary)).collect()
}

fn candidate(name: &str, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(name).help(Some(about.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<_> = ["kvllama"].iter().chain(words).map(Into::into).collect();
        let last = words.len() - 1;
        let found = clap_complete::engine::complete(&mut command(), words, last, None).unwrap();
        found.iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn names_of_policies_data_sets_and_models_are_completed() {
        assert_eq!(completed(&["exp", "--policy", "random,sna"]), ["random,snapkv"]);
        assert_eq!(completed(&["probe", "--policy", "sinks+ada"]), ["sinks+adakv+"]);
        assert_eq!(completed(&["exp", "--data", "rec"]), ["recall", "recall-completion"]);
        assert_eq!(completed(&["exp", "--model", "defa"]), ["default"]);
        assert_eq!(completed(&["pull", "gemma-3-270m-it-q8"]), ["gemma-3-270m-it-q8_0"]);
        assert_eq!(completed(&["exp", "--primar"]), ["--primary"]);
    }
}
