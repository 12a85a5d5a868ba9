//! Judges: a language model scores what no rule can check, such as "The answer is friendly". The judge is blind: it
//! sees a response and a criterion, never the condition under which the response was given.
//!
//! - [`Judge`]: the trait, with one file per backend: [`Anthropic`], [`Batch`], [`ClaudeCli`], [`OpenAi`], [`Local`].
//! - `prompt`: the text for the judge, and the form of a verdict.
//! - [`stage`]: judges a finished run. It requests only unknown verdicts, stores each on disk (`cache`, `ledger`)
//!   before it counts it, and leaves a row unjudged, never at zero, if a judge fails.
//! - `estimate`: the probable cost. `pool`: many requests at a time.

mod anthropic;
mod batch;
mod cache;
mod claude_cli;
mod estimate;
mod ledger;
mod local;
mod openai;
mod pool;
mod prompt;
pub mod stage;

pub use anthropic::Anthropic;
pub use batch::Batch;
pub use claude_cli::ClaudeCli;
pub use local::Local;
pub use openai::OpenAi;
pub use prompt::PROMPT_VERSION;

use crate::Result;
use crate::api::price::{Price, Usage};

/// Reads a reply as each judge would; for fuzzing.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_as_each(reply: &str) {
    let mut usage = Usage::default();
    let _ = prompt::parse_text(reply);
    let _ = openai::read(reply, &mut usage);
    let _ = claude_cli::read(reply, &mut usage);
    if let Ok(message) = serde_json::from_str(reply) {
        let _ = anthropic::read(&message, &mut usage);
    }
}

/// The default model of a Claude judge.
pub const DEFAULT_MODEL: &str = "claude-haiku-4-5-20251001";

/// A request for one verdict: one response and one criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The key of the verdict: SHA-256 of judge, prompt version, rubric and response.
    pub key: String,
    /// The criterion, in words.
    pub rubric: String,
    /// The response.
    pub response: String,
    /// Whether the next request is for the same response: a long prompt is then worth writing to a prompt cache.
    pub shared: bool,
}

/// The verdict of a judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How far the criterion is met, in [0, 1].
    pub score: f64,
    /// The reason, in one line.
    pub reason: String,
}

/// The result of one [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The key of the request.
    pub key: String,
    /// The verdict, or why there is none.
    pub verdict: std::result::Result<Verdict, String>,
    /// Tokens that were billed, also for replies that were not verdicts.
    pub usage: Usage,
}

/// Receives each [`Reply`] when it arrives. An error stops the judge.
pub type Report<'a> = dyn FnMut(Reply) -> Result<()> + 'a;

/// A language model that gives verdicts.
pub trait Judge {
    /// The identity of the judge: everything besides the prompt that a verdict depends on.
    fn fingerprint(&self) -> String;

    /// Checks that requests can be made.
    ///
    /// # Errors
    /// If something is missing without which no request can succeed, such as a key.
    fn ready(&self) -> Result<()> {
        Ok(())
    }

    /// Its price, if known.
    fn price(&self) -> Option<Price>;

    /// Largest number of tokens it may generate for a verdict.
    fn max_tokens(&self) -> u32 {
        prompt::MAX_TOKENS
    }

    /// Requests verdicts. Every request gets a reply, unless an error is returned.
    ///
    /// # Errors
    /// If no further request can succeed, or if `report` fails.
    fn judge(&mut self, requests: &[Request], report: &mut Report) -> Result<()>;

    /// Collects verdicts that an earlier process requested and did not receive.
    fn resume(&mut self, _report: &mut Report) -> Result<()> {
        Ok(())
    }
}
