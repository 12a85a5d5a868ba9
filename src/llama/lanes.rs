//! One prompt, many memories: conditions that share a reading of the prompt answer side by side.
//!
//! The prompt's cells are shared by every lane; each lane is a sequence with its own entries
//! removed. One batch holds the next token of every lane, so the weights are read once for all. A
//! lane that finishes takes the next job at once.
//!
//! What a batch is made of changes low bits of the logits (ggml-org/llama.cpp#7052), so late greedy
//! tokens may differ from those of [`Reader::answer`]; the first token's logits agree within float noise.

use std::time::{Duration, Instant};

use super::reader::SHARED;
use super::{Answer, Cut, Forgetting, Prompt, Reader, Sampler, Slot, StopReason, Token};
use crate::Result;

/// One condition to answer under.
pub struct Job<Id> {
    /// Whatever the caller knows it by.
    pub id: Id,
    /// What is evicted; it must share the reading ([`Forgetting::can_share`]).
    pub forgetting: Forgetting,
    /// Draws its tokens.
    pub sampler: Sampler,
}

struct Lane<Id> {
    job: Job<Id>,
    cut: Cut,
    start: Instant,
    /// The next token to be decoded.
    next: Token,
    tokens: Vec<Token>,
}

impl Reader {
    /// Answers all `jobs` on one prompt, `at_once` of them at a time (the reader has so many lanes). `done` gets each
    /// as it finishes.
    pub fn answer_all<Id>(
        &mut self,
        prompt: &Prompt,
        at_once: usize,
        jobs: impl IntoIterator<Item = Job<Id>>,
        n_predict: usize,
        mut done: impl FnMut(Job<Id>, Cut, Answer) -> Result<()>,
    ) -> Result<()> {
        let mut jobs = jobs.into_iter();
        let mut lanes: Vec<Option<Lane<Id>>> = (0..at_once.min(self.lanes())).map(|_| None).collect();
        loop {
            for (index, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.is_none()) {
                let Some(job) = jobs.next() else { break };
                let cut = self.fork_cut(prompt, &job.forgetting, SHARED + 1 + index as i32)?;
                let next = prompt.tokens[prompt.n_cached()];
                *lane = Some(Lane { job, cut, start: Instant::now(), next, tokens: Vec::new() });
            }
            let slots: Vec<_> = lanes.iter().flatten().map(Lane::slot).collect();
            if slots.is_empty() {
                return Ok(());
            }
            self.context.decode(&slots)?;
            for (row, lane) in lanes.iter_mut().filter(|lane| lane.is_some()).enumerate() {
                let Some(active) = lane else { continue };
                let next = active.job.sampler.next(self.context.logits(row)?)?;
                active.cut.next_pos += 1;
                active.next = next;
                let stop = if active.job.sampler.stops_at(self.context.model(), next) {
                    StopReason::EndOfTurn
                } else if active.tokens.len() == n_predict {
                    StopReason::Length
                } else {
                    active.tokens.push(next);
                    if active.tokens.len() < n_predict {
                        continue;
                    }
                    StopReason::Length
                };
                let Lane { job, cut, start, tokens, .. } = lane.take().expect("checked above");
                self.context.forget_sequence(cut.seq);
                let text = self.context.model().text(&tokens);
                done(job, cut, Answer { tokens, text, stop, decode: start.elapsed() })?;
            }
        }
    }

    pub(super) fn fork_cut(&mut self, prompt: &Prompt, forgetting: &Forgetting, seq: i32) -> Result<Cut> {
        debug_assert!(forgetting.can_share());
        let prefill: Duration = self.read_shared(&prompt.tokens[..prompt.n_cached()])?;
        self.context.fork(SHARED, seq);
        self.apply(seq, forgetting, prefill)
    }
}

impl<Id> Lane<Id> {
    fn slot(&self) -> Slot {
        Slot { token: self.next, pos: self.cut.next_pos as i32, seq: self.cut.seq, logits: true }
    }
}
