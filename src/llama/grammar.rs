//! Generation under a grammar.

use std::sync::Arc;

use super::ffi::{RawGrammar, take_error};
use super::{Model, Token};
use crate::{Error, Result};

/// A place in a text that follows a GBNF grammar; it knows which tokens may come next.
pub struct Grammar {
    raw: RawGrammar,
    model: Arc<Model>,
}

impl Grammar {
    /// The start of a text. The grammar's first symbol is `root`.
    ///
    /// # Errors
    /// If the grammar cannot be parsed.
    pub fn new(model: &Arc<Model>, gbnf: &str) -> Result<Self> {
        let raw = RawGrammar::new(&model.raw, gbnf)
            .ok_or_else(|| Error::failed(format!("llama.cpp refuses the grammar: {}", take_error())))?;
        Ok(Grammar { raw, model: Arc::clone(model) })
    }

    /// Accepts and returns the most likely token that the grammar allows; `None` at the end of the text.
    ///
    /// # Errors
    /// If the grammar allows no token of the vocabulary, or if the number of logits is not that of the vocabulary.
    pub fn next(&mut self, logits: &[f32]) -> Result<Option<Token>> {
        if logits.len() != self.model.n_vocab() {
            return Err(Error::failed(format!("{} logits for a vocabulary of {}", logits.len(), self.model.n_vocab())));
        }
        let all: Vec<Token> = (0..).take(logits.len()).collect();
        // Usually the most likely token is allowed, and checking it alone avoids a pass over the vocabulary.
        let likeliest = greedy(logits, &all).filter(|&token| self.raw.allows(&[token])[0]);
        let token = likeliest.or_else(|| {
            let allowed = self.raw.allows(&all);
            let tokens: Vec<Token> =
                all.into_iter().zip(allowed).filter_map(|(token, yes)| yes.then_some(token)).collect();
            greedy(logits, &tokens)
        });
        let token = token.ok_or_else(|| Error::failed("the model has no token with which the grammar could go on"))?;
        if self.model.is_end_of_generation(token) {
            return Ok(None);
        }
        self.raw.accept(token);
        Ok(Some(token))
    }
}

/// The most likely of `tokens`; of equally likely ones the lowest id.
fn greedy(logits: &[f32], tokens: &[Token]) -> Option<Token> {
    let logit = |token: Token| logits[token as usize];
    tokens.iter().copied().reduce(|best, token| if logit(token) > logit(best) { token } else { best })
}
