//! Judges: what no rule can check is scored by a language model, blind: it sees a response and a
//! criterion, never the condition the response was given under.
//!
//! - [`Judge`]: the trait; one file a backend: [`Anthropic`], [`Batch`], [`ClaudeCli`], [`OpenAi`], [`Local`].
//! - `prompt`: what a judge is told, and what counts as a verdict.
//! - [`stage`]: judges a finished run: what is already known is not asked again, what is learnt is on
//!   the disk (`cache`, `ledger`) before it is counted, and a judge that fails leaves a row unjudged, never at zero.
//! - [`price`]: what it costs. `http`, `retry`, `pool`: asking many times, patiently. [`Secret`]: keys.

mod anthropic;
mod batch;
mod cache;
mod claude_cli;
mod http;
mod ledger;
mod local;
mod openai;
mod pool;
pub mod price;
mod prompt;
mod retry;
mod secret;
pub mod stage;

pub use anthropic::Anthropic;
pub use batch::Batch;
pub use claude_cli::ClaudeCli;
pub use http::Endpoint;
pub use local::Local;
pub use openai::OpenAi;
pub use prompt::PROMPT_VERSION;
pub use retry::Patience;
pub use secret::Secret;

use crate::Result;
use price::{Price, Usage};

/// The model that judges where none is named.
pub const DEFAULT_MODEL: &str = "claude-haiku-4-5-20251001";

/// One response to be judged by one criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The key of the verdict: SHA-256 of judge, prompt version, rubric and response.
    pub key: String,
    /// The criterion, in words.
    pub rubric: String,
    /// The response.
    pub response: String,
    /// Whether another request for the same response stands next to it: a long prompt then pays its way
    /// into a prompt cache.
    pub shared: bool,
}

/// What a judge found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How far the criterion is met, in [0, 1].
    pub score: f64,
    /// Why, in one line.
    pub reason: String,
}

/// What came of one [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The key of the request.
    pub key: String,
    /// The verdict, or why there is none.
    pub verdict: std::result::Result<Verdict, String>,
    /// Tokens that were billed, also for answers that were no verdicts.
    pub usage: Usage,
}

/// Takes each [`Reply`] as it comes. An error stops the judge.
pub type Report<'a> = dyn FnMut(Reply) -> Result<()> + 'a;

/// A language model that gives verdicts.
pub trait Judge {
    /// Who judges: everything about the judge, beside the prompt, that a verdict hangs on.
    fn fingerprint(&self) -> String;

    /// What it costs, if that is known.
    fn price(&self) -> Option<Price>;

    /// Most tokens it is let generate for a verdict.
    fn max_tokens(&self) -> u32 {
        prompt::MAX_TOKENS
    }

    /// Asks for verdicts. Every request is replied to, unless an error is returned.
    ///
    /// # Errors
    /// If no further request can succeed, or if `report` fails.
    fn judge(&mut self, requests: &[Request], report: &mut Report) -> Result<()>;

    /// Collects verdicts that an earlier process asked for and did not live to see.
    fn resume(&mut self, _report: &mut Report) -> Result<()> {
        Ok(())
    }
}
