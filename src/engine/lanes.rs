//! Many memories side by side: conditions that share a reading of their prompt answer in one batch.
//!
//! The prompt's cells are shared by every lane; each lane is a sequence with its own entries
//! removed. One batch holds the next token of every lane, so the weights are read once for all. A
//! lane that finishes takes the next job at once; the next prompt is read while lanes of the one
//! before still answer, for their cells outlive the reading they were forked from.
//!
//! Conditions that move cells need their own: in a context with streams every lane holds a copy of the prompt's. What
//! was never heard is read by its lane alone.
//!
//! What a batch is made of changes low bits of the logits (ggml-org/llama.cpp#7052), so late greedy
//! tokens may differ from those of [`Reader::answer`]; the first token's logits agree within float noise.

use std::time::{Duration, Instant};

use super::reader::SHARED;
use super::{Answer, Cut, Forgetting, Reader, StopReason};
use crate::Result;
use crate::condition::Memory;
use crate::llama::{Prompt, Sampler, Slot, Token};

/// One condition to answer under.
pub struct Job<Id> {
    /// Whatever the caller knows it by.
    pub id: Id,
    /// What is evicted; the reader must [take](Reader::takes) it.
    pub forgetting: Forgetting,
    /// Draws its tokens.
    pub sampler: Sampler,
}

/// Jobs at work in the sequences of a reader.
pub struct Lanes<Id> {
    lanes: Vec<Option<Lane<Id>>>,
    /// The job that is being put into a lane.
    entering: Option<Job<Id>>,
    n_predict: usize,
}

struct Lane<Id> {
    job: Job<Id>,
    cut: Cut,
    /// Which reading it was forked from.
    reading: u64,
    start: Instant,
    /// What the reader had spent on reading when the lane started: no part of its answer.
    read_before: Duration,
    /// The next token to be decoded.
    next: Token,
    tokens: Vec<Token>,
}

impl<Id> Lanes<Id> {
    /// `at_once` empty lanes (the reader they are used with has at least as many) for answers of up to `n_predict` tokens.
    pub fn new(at_once: usize, n_predict: usize) -> Self {
        Lanes { lanes: (0..at_once).map(|_| None).collect(), entering: None, n_predict }
    }

    /// Takes out every job that is not done: what is left to do after a decode that failed.
    pub fn take_all(&mut self) -> Vec<Job<Id>> {
        let at_work = self.lanes.iter_mut().filter_map(|lane| lane.take().map(|lane| lane.job));
        at_work.chain(self.entering.take()).collect()
    }

    /// Whether no job is at work.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Option::is_none)
    }

    /// Whether every lane has a job.
    pub fn is_full(&self) -> bool {
        self.lanes.iter().all(Option::is_some)
    }
}

impl Reader {
    /// Puts a job on `prompt` into a free lane. A shared cache has room for one prompt beside the one being read: where
    /// lanes of an older one still answer, or all are taken, they go on until it has, and `done` gets what finishes.
    ///
    /// # Errors
    /// If decoding fails or `done` does. The jobs not done, this one among them, are then in [`Lanes::take_all`].
    pub fn enter<Id>(
        &mut self,
        lanes: &mut Lanes<Id>,
        prompt: &Prompt,
        job: Job<Id>,
        mut done: impl FnMut(Job<Id>, Cut, Answer) -> Result<()>,
    ) -> Result<()> {
        lanes.entering = Some(job);
        let cached = &prompt.tokens[..prompt.n_cached()];
        let in_the_way = |reader: &Reader, lanes: &Lanes<Id>| {
            let others = lanes.lanes.iter().flatten().any(|lane| lane.reading != reader.reading());
            lanes.is_full() || (others && !reader.context.has_streams() && !reader.has_read(cached))
        };
        while in_the_way(self, lanes) {
            self.advance(lanes, &mut done)?;
        }
        let keep_cells = !lanes.is_empty();
        let index = lanes.lanes.iter().position(Option::is_none).expect("not all are taken");
        let forgetting = &lanes.entering.as_ref().expect("set above").forgetting;
        let cut = self.fork_cut(prompt, forgetting, SHARED + 1 + index as i32, keep_cells)?;
        let job = lanes.entering.take().expect("set above");
        lanes.lanes[index] = Some(Lane {
            job,
            cut,
            reading: self.reading(),
            start: Instant::now(),
            read_before: self.time_reading(),
            next: prompt.tokens[prompt.n_cached()],
            tokens: Vec::new(),
        });
        Ok(())
    }

    /// Answers until all lanes are empty; `done` gets each job as it finishes.
    ///
    /// # Errors
    /// If decoding fails or `done` does. The jobs not done are then in [`Lanes::take_all`].
    pub fn drain<Id>(
        &mut self,
        lanes: &mut Lanes<Id>,
        mut done: impl FnMut(Job<Id>, Cut, Answer) -> Result<()>,
    ) -> Result<()> {
        while !lanes.is_empty() {
            self.advance(lanes, &mut done)?;
        }
        Ok(())
    }

    /// Decodes the next token of every lane.
    fn advance<Id>(
        &mut self,
        lanes: &mut Lanes<Id>,
        done: &mut impl FnMut(Job<Id>, Cut, Answer) -> Result<()>,
    ) -> Result<()> {
        let slots: Vec<_> = lanes.lanes.iter().flatten().map(Lane::slot).collect();
        self.context.decode(&slots)?;
        let n_predict = lanes.n_predict;
        for (row, lane) in lanes.lanes.iter_mut().filter(|lane| lane.is_some()).enumerate() {
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
                if active.job.sampler.stops_loop(&active.tokens) {
                    StopReason::Loop
                } else if active.tokens.len() < n_predict {
                    continue;
                } else {
                    StopReason::Length
                }
            };
            let Lane { job, cut, start, read_before, tokens, .. } = lane.take().expect("checked above");
            let decode = start.elapsed().saturating_sub(self.time_reading() - read_before);
            self.context.forget_sequence(cut.seq);
            let text = self.context.model().text(&tokens);
            done(job, cut, Answer { tokens, text, stop, decode })?;
        }
        Ok(())
    }

    /// Reads the prompt, unless it is the one read last, and cuts it in the sequence `seq`. With `keep_cells`,
    /// other sequences keep what they hold.
    pub(super) fn fork_cut(
        &mut self,
        prompt: &Prompt,
        forgetting: &Forgetting,
        seq: i32,
        keep_cells: bool,
    ) -> Result<Cut> {
        debug_assert!(self.takes(forgetting));
        if forgetting.memory == Memory::Text {
            let cut = self.read_kept(prompt, forgetting, seq)?;
            self.add_time_reading(cut.prefill);
            return Ok(cut);
        }
        let cached = &prompt.tokens[..prompt.n_cached()];
        let prefill = self.read_shared(cached, keep_cells)?;
        self.context.fork(SHARED, seq)?;
        if forgetting.read_before == cached.len() {
            return self.apply(seq, forgetting, prefill);
        }
        // What follows the eviction is read after it, into cells of its own.
        self.context.truncate(seq, forgetting.read_before)?;
        let mut cut = self.apply(seq, forgetting, prefill)?;
        let start = Instant::now();
        let after = &cached[forgetting.read_before..];
        self.context.read(seq, after, cut.next_pos, false)?;
        cut.next_pos += after.len();
        let spent = start.elapsed();
        self.add_time_reading(spent);
        cut.prefill += spent;
        Ok(cut)
    }
}

impl<Id> Lane<Id> {
    fn slot(&self) -> Slot {
        Slot { token: self.next, pos: self.cut.next_pos as i32, seq: self.cut.seq, logits: true }
    }
}
