//! Answers that were given before, and are given again so that a chat can go on.

use super::StopReason;
use crate::llama::{Model, Token};
use crate::{Error, Result};

/// An answer that was given before. The model computes it once more, token by token; where it would now say something
/// else (low bits of a batch of other sequences, another machine), the text that was given decides.
///
/// # Errors
/// If no token continues the text: it is of another model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its text.
    pub text: String,
    /// How many tokens it had.
    pub n_tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
}

impl Given {
    /// The token after `tokens`: the drawn one if it continues the text, else the longest one that does; `None` at the end.
    /// `drawn` is `None` if the model would end its answer here.
    pub(super) fn next(&self, model: &Model, tokens: &[Token], drawn: Option<Token>) -> Result<Option<Token>> {
        let said = bytes(model, tokens);
        // Control tokens have no text.
        let silent = drawn.is_some_and(|token| model.piece(token).is_empty());
        if self.is_all(&said) && (tokens.len() >= self.n_tokens || !silent) {
            return Ok(None);
        }
        if let Some(drawn) = drawn
            && self.begins_with(&[&said[..], &model.piece(drawn)].concat())
        {
            return Ok(Some(drawn));
        }
        let left = self.text.as_bytes().get(said.len()..).unwrap_or_default();
        let ids = 0..Token::try_from(model.n_vocab()).unwrap_or(Token::MAX);
        let pieces = ids.map(|token| (token, model.piece(token)));
        let known = pieces.filter(|(_, piece)| !piece.is_empty() && left.starts_with(piece));
        let longest = known.max_by_key(|(_, piece)| piece.len()).map(|(token, _)| token);
        longest.filter(|_| self.begins_with(&said)).map(Some).ok_or_else(|| {
            Error::failed("the chat cannot go on: this model cannot give its answer on disk again; use another --out")
        })
    }

    /// Whether the answer ended here without a token that ends the turn.
    pub(super) fn ends_after(&self, model: &Model, tokens: &[Token]) -> bool {
        self.stop != StopReason::EndOfTurn && tokens.len() >= self.n_tokens && self.is_all(&bytes(model, tokens))
    }

    fn is_all(&self, said: &[u8]) -> bool {
        String::from_utf8_lossy(said) == self.text
    }

    /// A character may be unfinished at the end of `said`.
    fn begins_with(&self, said: &[u8]) -> bool {
        self.text.starts_with(String::from_utf8_lossy(said).trim_end_matches(char::REPLACEMENT_CHARACTER))
    }
}

fn bytes(model: &Model, tokens: &[Token]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| model.piece(token)).collect()
}
