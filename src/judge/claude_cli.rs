//! Claude through the `claude` command in print mode: it uses a subscription instead of an API key.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::prompt::{self, FORM, SYSTEM};
use super::{Judge, Report, Request, Verdict, pool};
use crate::api::price::{Price, Usage};
use crate::api::{Patience, Trouble, persist, shorten};
use crate::{Error, Result, interrupt, threads};

/// The `claude` command.
pub struct ClaudeCli {
    program: PathBuf,
    model: String,
    patience: Patience,
    parallel: usize,
}

impl ClaudeCli {
    /// `program` is a path, or a name on the PATH.
    pub fn new(program: PathBuf, model: &str, patience: Patience, parallel: usize) -> Self {
        ClaudeCli { program, model: model.to_owned(), patience, parallel }
    }

    /// Makes one call. The question goes through a pipe, because it may be long, and other users can see arguments.
    fn call(&self, question: &str) -> std::result::Result<String, Trouble> {
        let name = self.program.display();
        let mut child = Command::new(&self.program)
            .args(["-p", "--output-format", "json", "--model", &self.model])
            .args(["--system-prompt", &format!("{SYSTEM}\n\n{FORM}")])
            // No tools, no settings, no memory files: this judge sees the same as the other judges.
            .args(["--tools", "", "--strict-mcp-config", "--setting-sources", "", "--no-session-persistence"])
            .current_dir(std::env::temp_dir())
            // With a key in the environment, it would bill the API.
            .env_remove("ANTHROPIC_API_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                Error::input(format!("cannot run `{name}`: {error}; install Claude Code, or choose another --judge"))
            })?;
        let mut stdin = child.stdin.take().expect("piped");
        let question = question.to_owned();
        // Pipes run on threads of their own, so that neither a full pipe nor a silent child blocks this one.
        threads::start(move || drop(stdin.write_all(question.as_bytes())))?;
        let stdout = drain(child.stdout.take().expect("piped"))?;
        let stderr = drain(child.stderr.take().expect("piped"))?;

        let end = Instant::now() + self.patience.timeout;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < end && !interrupt::requested() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(None) => {
                    let _ = child.kill().and_then(|()| child.wait()); // it may have ended just now
                    if interrupt::requested() {
                        return Err(Error::Interrupted.into());
                    }
                    let seconds = self.patience.timeout.as_secs_f64();
                    return Err(Trouble::passing(format!("`{name}` gave no answer within {seconds} s")));
                }
                Err(error) => return Err(Trouble::passing(format!("cannot wait for `{name}`: {error}"))),
            }
        };
        // A child of the child may keep the pipe open after the end.
        let text = |pipe: mpsc::Receiver<String>| pipe.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let answer = text(stdout);
        // If `claude` fails, its JSON still says why.
        if status.success() || answer.trim_start().starts_with('{') {
            return Ok(answer);
        }
        let said = text(stderr);
        let said = said.lines().chain(answer.lines()).find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        Err(Trouble::passing(format!("`{name}` failed ({status}): {}", shorten(said.trim(), 200))))
    }
}

/// Reads a pipe to its end.
fn drain(mut pipe: impl std::io::Read + Send + 'static) -> Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel();
    threads::start(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes); // what came before an error still tells something
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    })?;
    Ok(receiver)
}

impl Judge for ClaudeCli {
    fn fingerprint(&self) -> String {
        format!("claude-cli {}", self.model)
    }

    /// `None`: a subscription has no price per token.
    fn price(&self) -> Option<Price> {
        None
    }

    fn judge(&mut self, requests: &[Request], report: &mut Report) -> Result<()> {
        let ask = |request: &Request, usage: &mut Usage| {
            let (response, criterion) = prompt::question(request);
            let question = format!("{response}\n\n{criterion}");
            persist(&self.patience, || read(&self.call(&question)?, usage))
        };
        pool::each(requests, self.parallel, ask, report)
    }
}

pub(super) fn read(answer: &str, usage: &mut Usage) -> std::result::Result<Verdict, Trouble> {
    let answer: Value = serde_json::from_str(answer)
        .map_err(|error| Trouble::Misformed(format!("`claude` did not answer in JSON: {error}")))?;
    let count = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
    *usage += Usage {
        input: count("input_tokens"),
        output: count("output_tokens"),
        cache_write: count("cache_creation_input_tokens"),
        cache_read: count("cache_read_input_tokens"),
    };
    let text = answer["result"].as_str().unwrap_or_default();
    if answer["is_error"] == true || answer["subtype"].as_str().is_some_and(|subtype| subtype != "success") {
        let said = shorten(text.lines().next().unwrap_or_default(), 200);
        return Err(Trouble::passing(format!("`claude` reports an error: {said}")));
    }
    prompt::parse_text(text).map_err(Trouble::Misformed)
}
