//! From logits to the next token.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use serde::{Deserialize, Serialize};

use super::{Model, Token};
use crate::{Error, Result};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely token (greedy).
    pub temperature: f32,
    /// Only the `k` most likely tokens; 0 for all.
    pub top_k: u32,
    /// Nucleus sampling: the smallest set of this total probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the most likely; 0 for all.
    pub min_p: f32,
    /// Continue the answer after the model ends its turn.
    #[serde(default)]
    pub ignore_eos: bool,
    /// End an answer that repeats the same words without end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_loops: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, ignore_eos: false, stop_loops: false }
    }
}

impl Sampling {
    /// Whether every draw gives the most likely token.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Refuses values outside their ranges.
    pub fn check(&self) -> Result<()> {
        let unit = |name: &str, value: f32| {
            if (0.0..=1.0).contains(&value) {
                Ok(())
            } else {
                Err(Error::input(format!("{name} is {value}; it must lie between 0 and 1")))
            }
        };
        unit("--top-p", self.top_p)?;
        unit("--min-p", self.min_p)?;
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::input(format!("--temp is {}; it must be 0 (greedy) or positive", self.temperature)));
        }
        Ok(())
    }
}

/// Draws the tokens of one sequence, with a seed.
pub struct Sampler {
    /// llama.cpp's samplers; `None` if greedy.
    chain: Option<LlamaSampler>,
    ignore_eos: bool,
    stop_loops: bool,
}

impl Sampler {
    /// Uses llama.cpp's samplers in llama.cpp's order: top-k, top-p, min-p, temperature, draw.
    pub fn new(sampling: &Sampling, seed: u32) -> Self {
        if sampling.is_greedy() {
            return Sampler { chain: None, ignore_eos: sampling.ignore_eos, stop_loops: sampling.stop_loops };
        }
        let mut chain = Vec::new();
        if sampling.top_k > 0 {
            chain.push(LlamaSampler::top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
        }
        if sampling.top_p < 1.0 {
            chain.push(LlamaSampler::top_p(sampling.top_p, 1));
        }
        if sampling.min_p > 0.0 {
            chain.push(LlamaSampler::min_p(sampling.min_p, 1));
        }
        chain.push(LlamaSampler::temp(sampling.temperature));
        chain.push(LlamaSampler::dist(seed));
        Sampler {
            chain: Some(LlamaSampler::chain_simple(chain)),
            ignore_eos: sampling.ignore_eos,
            stop_loops: sampling.stop_loops,
        }
    }

    /// Whether the answer ends at this token.
    pub fn stops_at(&self, model: &Model, token: Token) -> bool {
        !self.ignore_eos && model.is_end_of_generation(token)
    }

    /// Whether the answer ends here because it repeats the same words without end.
    pub fn stops_loop(&self, tokens: &[Token]) -> bool {
        self.stop_loops && loops(tokens)
    }

    /// Draws the next token. Of equally likely tokens, greedy takes the one with the lowest id.
    ///
    /// # Errors
    /// If the logits are not finite: the model or its numerics are broken.
    pub fn next(&mut self, logits: &[f32]) -> Result<Token> {
        let highest = highest(logits).filter(|highest| highest.is_finite());
        let Some(highest) = highest else {
            return Err(Error::failed(
                "the model's logits are not finite: the weights or the KV cache type are broken",
            ));
        };
        let best = logits.iter().position(|&logit| logit == highest).expect("it is one of them");
        let Some(chain) = &mut self.chain else { return Ok(id(best)) };
        let data =
            logits.iter().enumerate().map(|(index, &logit)| LlamaTokenData::new(LlamaToken(id(index)), logit, 0.0));
        let mut candidates = LlamaTokenDataArray::from_iter(data, false);
        chain.apply(&mut candidates);
        let token = candidates.selected_token().map_or(id(best), |token| token.0);
        chain.accept(LlamaToken(token));
        Ok(token)
    }
}

/// Whether the last tokens are one run of up to 32 tokens, repeated at least four times and over at least 48 tokens.
fn loops(tokens: &[Token]) -> bool {
    const LONGEST: usize = 32;
    const TIMES: usize = 4;
    const LEAST: usize = 48;
    (1..=LONGEST).any(|period| {
        let length = (TIMES * period).max(LEAST);
        let Some(start) = tokens.len().checked_sub(length) else { return false };
        let tail = &tokens[start..];
        tail[period..] == tail[..length - period]
    })
}

/// The index of the highest logit; `None` if one is not a number. It compares in parallel vector lanes, which take a
/// third of the time of a plain loop: the search runs after every token, over up to 262,144 logits.
fn highest(logits: &[f32]) -> Option<f32> {
    const LANES: usize = 16;
    let (mut highest, mut nan) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for ((&logit, highest), nan) in chunk.iter().zip(&mut highest).zip(&mut nan) {
            *highest = if logit > *highest { logit } else { *highest };
            *nan |= logit.is_nan();
        }
    }
    let any_nan = nan.contains(&true) || rest.iter().any(|logit| logit.is_nan());
    (!any_nan).then(|| highest.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max))
}

fn id(index: usize) -> Token {
    Token::try_from(index).expect("vocabularies are smaller than 2^31")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_a_run_said_again_and_again() {
        let said = |run: &[Token], times: usize| [&[7, 8, 9][..], &run.repeat(times)].concat();
        assert!(loops(&said(&[5], 48)) && !loops(&said(&[5], 47)));
        assert!(loops(&said(&[1, 2, 3, 4, 5], 10)) && !loops(&said(&[1, 2, 3, 4, 5], 9)));
        let long: Vec<Token> = (100..132).collect();
        assert!(loops(&said(&long, 4)) && !loops(&said(&long, 3)));
        assert!(!loops(&(0..200).collect::<Vec<_>>()) && !loops(&[]));
    }
}
