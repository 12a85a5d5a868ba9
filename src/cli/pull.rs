//! `kvllama pull`: downloads a model from the Hugging Face hub.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print;
use crate::models::{self, Hub, HubFile, Observer};
use crate::{Error, Result};

/// Get a model from the Hugging Face hub.
///
/// NAME is one of those that `kvllama models` lists, or any GGUF file of the hub as
/// OWNER/REPO:FILE.gguf, optionally with @REVISION (a branch, tag or commit) at its end.
///
/// An interrupted pull goes on where it stopped when the same command is run again. The file is
/// put in place only after its SHA-256 is found to be the one that the hub states. Its path is
/// printed to stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// A short name, or OWNER/REPO:FILE.gguf[@REVISION].
    name: String,

    /// Where to put it [default: $KVLLAMA_MODELS, or else models].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Refuse the file unless it has this SHA-256.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

const AFTER_HELP: &str = "\
Examples:
  kvllama pull gemma-3-270m-it-q4_0
  kvllama pull unsloth/gemma-3-1b-it-GGUF:gemma-3-1b-it-Q8_0.gguf
  HF_TOKEN=hf_... kvllama pull gemma-3-12b-it-q4_0-google

Environment:
  HF_TOKEN     access token, for gated files; sent to the hub alone, never shown
  HF_ENDPOINT  another hub or mirror than https://huggingface.co
  HTTPS_PROXY, NO_PROXY are honoured.";

pub(super) fn execute(args: Args, quiet: bool) -> Result<()> {
    let file = HubFile::parse(&args.name)?;
    let directory = args.dir.unwrap_or_else(models::directory);
    let mut progress = Progress::new(&file.local, quiet);
    let pulled = models::pull(&hub()?, &file, &directory, args.sha256.as_deref(), &mut progress);
    progress.finish();
    print(&format!("{}\n", pulled?.display()))
}

/// The hub that the environment variables describe.
fn hub() -> Result<Hub> {
    let read = |name: &str| match std::env::var(name) {
        Ok(value) => Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::input(format!("{name} is not UTF-8"))),
    };
    let mut hub = Hub { token: read("HF_TOKEN")?, ..Hub::default() };
    if let Some(endpoint) = read("HF_ENDPOINT")? {
        hub.endpoint = endpoint;
    }
    Ok(hub)
}

/// Shows the progress of a download on stderr: a live bar on a terminal, a plain line from time to time elsewhere.
struct Progress {
    quiet: bool,
    name: String,
    bar: Option<ProgressBar>,
    /// The time of the first received byte, and the number of bytes that were here before.
    began: Option<(Instant, u64)>,
    last_line: Instant,
}

const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    fn new(name: &str, quiet: bool) -> Self {
        let live = !quiet && std::io::stderr().is_terminal();
        let bar = live.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Progress { quiet, name: name.to_owned(), bar, began: None, last_line: Instant::now() }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        // Stderr may be closed; the file matters.
        let write = || drop(writeln!(anstream::stderr(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Observer for Progress {
    fn progress(&mut self, done: u64, total: Option<u64>) {
        let (began, first) = *self.began.get_or_insert_with(|| {
            if let Some(bar) = &self.bar {
                bar.set_style(style(total.is_some()));
                bar.set_position(done);
                bar.reset_eta();
            }
            (Instant::now(), done)
        });
        if let Some(bar) = &self.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
            return;
        }
        let finished = total == Some(done);
        if self.quiet || (self.last_line.elapsed() < LINE_EVERY && !finished) {
            return;
        }
        self.last_line = Instant::now();
        let rate = done.saturating_sub(first) as f64 / began.elapsed().as_secs_f64().max(1e-3);
        let mut text = format!("{}: {}", self.name, HumanBytes(done));
        if let Some(total) = total {
            text += &format!(" of {} ({}%)", HumanBytes(total), u128::from(done) * 100 / u128::from(total.max(1)));
        }
        text += &format!(", {}/s", HumanBytes(rate as u64));
        if let Some(total) = total.filter(|_| !finished && rate >= 1.0) {
            let left = Duration::from_secs_f64(total.saturating_sub(done) as f64 / rate);
            text += &format!(", {} to go", HumanDuration(left));
        }
        self.line(&text);
    }

    fn note(&mut self, text: &str) {
        self.line(text);
        // A pause or a restart would falsify the measured speed.
        self.began = None;
    }
}

fn style(sized: bool) -> ProgressStyle {
    let template = if sized {
        "{bar:30} {bytes} of {total_bytes} ({percent}%), {bytes_per_sec}, {eta} to go"
    } else {
        "{spinner} {bytes}, {bytes_per_sec}"
    };
    ProgressStyle::with_template(template).expect("the template is valid")
}
