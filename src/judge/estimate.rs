//! Estimates the cost of verdicts before the first request.

use super::Request;
use super::prompt::SYSTEM;
use crate::api::price::{Usage, tokens};

/// Tokens in addition to the texts, for the tool schema and the turns.
const OVERHEAD: u64 = 600;
/// Tokens of a typical verdict.
const VERDICT: u64 = 70;

/// The probable tokens of a request.
pub fn likely(request: &Request) -> Usage {
    let input = tokens(SYSTEM) + tokens(&request.rubric) + tokens(&request.response) + OVERHEAD;
    Usage { input, output: VERDICT, ..Usage::default() }
}

/// An upper limit for the tokens of a request: tokenizers hardly ever make more than one token per two bytes.
pub fn at_most(request: &Request, max_tokens: u32) -> Usage {
    let texts = (SYSTEM.len() + request.rubric.len() + request.response.len()) as u64;
    Usage { input: texts / 2 + 2 * OVERHEAD, output: u64::from(max_tokens), ..Usage::default() }
}
