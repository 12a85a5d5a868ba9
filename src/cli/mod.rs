//! The command line: one file per subcommand. It turns arguments into calls of the library and contains no other logic.

mod bench;
mod calibrate;
mod completions;
mod config;
mod data;
mod doctor;
mod engine;
mod exp;
mod export;
mod interrupt;
mod judge;
mod judge_view;
mod man;
mod means;
mod merge;
mod models;
mod policies;
mod probe;
mod progress;
mod prompt_view;
mod pull;
mod report;
mod score;
mod worker;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::{Error, Result};

/// What does a language model forget when its memory is cut?
///
/// kvllama lets a model read a whole prompt, evicts entries of its KV cache, lets it answer, and
/// scores how well each instruction of the prompt was still followed. Cutting text from the input
/// is never having heard it; eviction is having heard and forgotten it. kvllama tells these apart.
#[derive(Debug, Parser)]
#[command(name = "kvllama", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print more on stderr: -v for the progress of each step, -vv for llama.cpp's own log.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Everywhere")]
    verbose: u8,

    /// Print only errors on stderr.
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Everywhere")]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Start with
  kvllama exp --policy random --ratio 0.5      the main job, on the embedded model
  kvllama probe --prompt 'Hi' --ratio 0.5      one eviction, before your eyes
  kvllama report results/NAME                  what forgetting cost, and how sure we are
  kvllama doctor                               what this build and this machine can do

Exit codes: 0 done, 1 the work failed, 2 bad input or usage, 130 interrupted (finished rows are safe).
stdout is data, stderr is progress and logs. Honoured: RUST_LOG, NO_COLOR, KVLLAMA_MODELS, HF_TOKEN, HF_ENDPOINT.";

#[derive(Debug, Subcommand)]
enum Command {
    Exp(Box<exp::Args>),
    Probe(Box<probe::Args>),
    Score(score::Args),
    Judge(Box<judge::Args>),
    Report(report::Args),
    Export(export::Args),
    Merge(merge::Args),
    Pull(pull::Args),
    Models(models::Args),
    Policies(policies::Args),
    Calibrate(calibrate::Args),
    Data(data::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
    Worker(worker::Args),
}

/// Runs the command line and returns the process's exit code.
pub fn main() -> ExitCode {
    if let Err(error) = config::cpu_matches_build() {
        return fail(&error);
    }
    #[cfg(unix)]
    interrupt::outlive_large_files();
    completions::answer();
    let cli = match config::arguments().and_then(|arguments| Cli::try_parse_from(arguments).map_err(usage)) {
        Ok(cli) => cli,
        Err(error) => return fail(&error),
    };
    log(&cli);
    let result = match cli.command {
        Command::Exp(args) => exp::execute(*args, cli.quiet),
        Command::Probe(args) => probe::execute(*args),
        Command::Score(args) => score::execute(args),
        Command::Judge(args) => judge::execute(*args, cli.quiet),
        Command::Report(args) => report::execute(args),
        Command::Export(args) => export::execute(args),
        Command::Merge(args) => merge::execute(args),
        Command::Pull(args) => pull::execute(args, cli.quiet),
        Command::Models(args) => models::execute(args),
        Command::Policies(args) => policies::execute(args),
        Command::Calibrate(args) => calibrate::execute(args),
        Command::Data(args) => data::execute(args, cli.quiet),
        Command::Doctor(args) => doctor::execute(args),
        Command::Bench(args) => bench::execute(args),
        Command::Completions(args) => completions::execute(args),
        Command::Man(args) => man::execute(args),
        Command::Worker(args) => worker::execute(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Whether a command line, with the config file that it names, can be understood; for fuzzing.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn understands(typed: Vec<std::ffi::OsString>) -> Result<bool> {
    config::merge(typed).map(|merged| Cli::try_parse_from(merged).is_ok())
}

/// Crates whose log is never shown: `ureq` logs raw requests at trace level, and with them keys and tokens; the others
/// warn of lines without length in our own figures.
const SILENCED: [&str; 4] = ["ureq", "resvg", "usvg", "tiny_skia"];

/// Handles usage errors, help and version: clap prints them itself, and its exit codes equal ours.
fn usage(error: clap::Error) -> Error {
    error.exit()
}

fn fail(error: &Error) -> ExitCode {
    // A pipe closed by its reader (`| head`) is not a failure.
    if let Error::Io { source, .. } = error
        && source.kind() == std::io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let _ = writeln!(anstream::stderr(), "{style}error:{style:#} {}", error.sentence());
    ExitCode::from(error.exit_code())
}

fn log(cli: &Cli) {
    let default = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info,llama.cpp=warn",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(anstream::stderr().current_choice() != anstream::ColorChoice::Never)
        .with_target(false)
        .finish()
        .with(filter_fn(|metadata| !SILENCED.iter().any(|target| metadata.target().starts_with(target))))
        .init();
}

/// Prints data to stdout.
fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Error::Io { what: "cannot write to stdout".to_owned(), source })
}

/// Prints a value as JSON to stdout.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("plain data");
    print(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command lines in the code blocks of a Markdown file, with continued lines put together.
    fn command_lines(markdown: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let (mut inside, mut goes_on) = (false, false);
        for line in markdown.lines() {
            if line.trim_start().starts_with("```") {
                (inside, goes_on) = (!inside, false);
                continue;
            }
            let continued = line.strip_prefix("> ").filter(|_| !lines.is_empty());
            match (inside, lines.last_mut()) {
                (true, Some(last)) if goes_on || continued.is_some() => {
                    *last = format!("{} {}", last.trim_end_matches('\\'), continued.unwrap_or(line).trim_start());
                }
                (true, _) => lines.push(line.strip_prefix("$ ").unwrap_or(line).to_owned()),
                _ => {}
            }
            goes_on = inside && line.ends_with('\\');
        }
        lines
    }

    /// The `kvllama` commands of a shell's line, without redirections.
    fn commands(line: &str) -> Vec<Vec<String>> {
        let words: Vec<String> = shlex::split(line).unwrap_or_default();
        let parts = words.split(|word| ["|", "&&", "||", "&"].contains(&word.as_str()) || word.ends_with(';'));
        let commands = parts.filter_map(|part| {
            let start = part.iter().position(|word| !word.contains('=') || word.starts_with('-'))?;
            let part = &part[start..];
            let part = match part.iter().position(|word| word == "--") {
                Some(at) if part[0] == "cargo" && part.get(1)? == "run" => &part[at..],
                _ if part[0] == "kvllama" || part[0].ends_with("/kvllama") => part,
                _ => return None,
            };
            let end = part.iter().position(|word| word.starts_with(['>', '<']) || word == "2>&1").unwrap_or(part.len());
            let is_pattern = |word: &String| word == "..." || word.contains('$');
            (!part[..end].iter().any(is_pattern)).then(|| part[..end].to_vec())
        });
        commands.collect()
    }

    #[test]
    fn every_command_of_the_documentation_is_understood() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let others =
            ["README.md", "data/README.md", "models/README.md", "results/README.md"].map(|name| root.join(name));
        let mut n = 0;
        for path in docs.chain(others).filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
            let text = std::fs::read_to_string(&path).unwrap();
            for command in command_lines(&text).iter().flat_map(|line| commands(line)) {
                n += 1;
                if let Err(error) = Cli::try_parse_from(&command) {
                    assert!(!error.use_stderr(), "{}: {command:?}: {error}", path.display());
                }
            }
        }
        assert!(n > 40, "{n} commands were found");
    }
}
