//! Teacher forcing: tokens that are given to the model instead of its own.

use super::{Answer, Cut, Forgetting, Reader};
use crate::Result;
use crate::llama::{Prompt, Sampler, Token};

/// An answer that begins with given tokens.
pub struct Forced {
    /// The cut cache before the last prompt token.
    pub cut: Cut,
    /// The logits after the last prompt token and after each given token: `[1 + given, n_vocab]`, row by row.
    pub logits: Vec<f32>,
    /// What the model generates after the given tokens.
    pub answer: Answer,
}

impl Reader {
    /// Reads the prompt, cuts it, feeds the `given` tokens, and lets the model go on for at most `n_predict` tokens.
    ///
    /// # Errors
    /// Those of [`Reader::cut`] and [`Reader::step`].
    pub fn forced(
        &mut self,
        prompt: &Prompt,
        forgetting: &Forgetting,
        given: &[Token],
        sampler: &mut Sampler,
        n_predict: usize,
    ) -> Result<Forced> {
        let cut = self.cut(prompt, forgetting)?;
        let mut at = cut;
        let row = self.step(&mut at, prompt.tokens[prompt.n_cached()])?;
        let mut logits = row.to_vec();
        let mut next = sampler.next(row)?;
        for &token in given {
            let row = self.step(&mut at, token)?;
            logits.extend_from_slice(row);
            next = sampler.next(row)?;
        }
        let answer = self.go_on(&mut at, next, sampler, n_predict)?;
        Ok(Forced { cut, logits, answer })
    }
}
