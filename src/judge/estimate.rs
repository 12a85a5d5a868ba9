//! What verdicts will cost, before the first is asked for.

use super::Request;
use super::prompt::SYSTEM;
use crate::api::price::{Usage, tokens};

/// Tokens beside the texts: what a tool schema and the turns take.
const OVERHEAD: u64 = 600;
/// Tokens of a usual verdict.
const VERDICT: u64 = 70;

/// What a request will probably take.
pub fn likely(request: &Request) -> Usage {
    let input = tokens(SYSTEM) + tokens(&request.rubric) + tokens(&request.response) + OVERHEAD;
    Usage { input, output: VERDICT, ..Usage::default() }
}

/// What a request can take at most: hardly a tokenizer makes more than a token of two bytes.
pub fn at_most(request: &Request, max_tokens: u32) -> Usage {
    let texts = (SYSTEM.len() + request.rubric.len() + request.response.len()) as u64;
    Usage { input: texts / 2 + 2 * OVERHEAD, output: u64::from(max_tokens), ..Usage::default() }
}
