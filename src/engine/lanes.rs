//! Lanes: conditions that share one reading of their prompt answer side by side, in one batch.
//!
//! All lanes share the prompt's cells; each lane is a sequence with its own entries removed. One batch holds the next
//! token of every lane, so the weights are read once for all. When a lane finishes, it takes the next job at once. The
//! next prompt can be read while lanes of the one before still answer, because they keep their cells after the sequence
//! from which they were forked is emptied.
//!
//! Conditions that move cells need their own: in a context with streams every lane holds a copy of the prompt's cells.
//! With `--memory text`, a lane reads its own prompt.
//!
//! The composition of a batch changes low bits of the logits (ggml-org/llama.cpp#7052), so late greedy tokens may
//! differ from those of [`Reader::answer`]; the first token's logits agree within float noise.

use std::time::{Duration, Instant};

use super::reader::{Place, SHARED};
use super::{Answer, Cut, Forgetting, Reader, StopReason};
use crate::Result;
use crate::condition::Memory;
use crate::llama::{Prompt, Sampler, Slot, Token};

/// One condition to answer, in one repeat.
pub struct Job<Id> {
    /// The caller's own identifier of the job.
    pub id: Id,
    /// The eviction; the reader must [take](Reader::takes) it.
    pub forgetting: Forgetting,
    /// Draws the tokens of the answer.
    pub sampler: Sampler,
}

/// The lanes of a reader and the jobs in them.
pub struct Lanes<Id> {
    lanes: Vec<Option<Lane<Id>>>,
    /// The job that is being put into a lane.
    entering: Option<Job<Id>>,
    n_predict: usize,
}

struct Lane<Id> {
    job: Job<Id>,
    cut: Cut,
    /// The number of the reading from which the lane was forked.
    reading: u64,
    /// Its share of the time of all batches so far: a batch of 8 counts an eighth of its time for each lane.
    spent: Duration,
    /// The next token to be decoded.
    next: Token,
    tokens: Vec<Token>,
}

impl<Id> Lanes<Id> {
    /// Makes `at_once` empty lanes for answers of up to `n_predict` tokens. The reader has at least as many lanes.
    pub fn new(at_once: usize, n_predict: usize) -> Self {
        Lanes { lanes: (0..at_once).map(|_| None).collect(), entering: None, n_predict }
    }

    /// Takes out all unfinished jobs, for example after a decode that failed.
    pub fn take_all(&mut self) -> Vec<Job<Id>> {
        let at_work = self.lanes.iter_mut().filter_map(|lane| lane.take().map(|lane| lane.job));
        at_work.chain(self.entering.take()).collect()
    }

    /// Whether no lane has a job.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Option::is_none)
    }

    /// Whether every lane has a job.
    pub fn is_full(&self) -> bool {
        self.lanes.iter().all(Option::is_some)
    }

    fn at(&mut self, place: Place) -> impl Iterator<Item = &mut Lane<Id>> {
        self.lanes.iter_mut().flatten().filter(move |lane| lane.cut.place == place)
    }

    /// The lowest sequence at `place` that no lane uses.
    fn free_seq(&self, place: Place) -> i32 {
        let taken = |seq: &i32| self.lanes.iter().flatten().any(|lane| (lane.cut.place, lane.cut.seq) == (place, *seq));
        (first_seq(place)..).find(|seq| !taken(seq)).expect("there are fewer lanes than numbers")
    }
}

/// The first sequence of lanes at `place`.
pub(super) fn first_seq(place: Place) -> i32 {
    match place {
        Place::Shared => SHARED + 1,
        Place::Dense => 0,
    }
}

impl Reader {
    /// Puts a job on `prompt` into a free lane. A shared cache has room for one prompt besides the one being read. So
    /// if all lanes are taken, or lanes of another prompt still answer while this one has to be read, the lanes
    /// continue until there is room; `done` gets the jobs that finish.
    ///
    /// # Errors
    /// If decoding fails or `done` does. [`Lanes::take_all`] then returns the unfinished jobs, this one included.
    pub fn enter<Id>(
        &mut self,
        lanes: &mut Lanes<Id>,
        prompt: &Prompt,
        job: Job<Id>,
        mut done: impl FnMut(Job<Id>, Cut, Answer) -> Result<()>,
    ) -> Result<()> {
        let cached = &prompt.tokens[..prompt.read_together(job.forgetting.read_before)];
        lanes.entering = Some(job);
        let in_the_way = |reader: &Reader, lanes: &Lanes<Id>| {
            let shares = |lane: &&Lane<Id>| lane.cut.place == Place::Shared;
            let others = lanes.lanes.iter().flatten().filter(shares).any(|lane| lane.reading != reader.reading());
            lanes.is_full() || (others && !reader.context.has_streams() && !reader.has_read(cached, prompt.shared))
        };
        while in_the_way(self, lanes) {
            self.advance(lanes, &mut done)?;
        }
        let keep_cells = !lanes.is_empty();
        let index = lanes.lanes.iter().position(Option::is_none).expect("not all are taken");
        let forgetting = &lanes.entering.as_ref().expect("set above").forgetting;
        let place = self.place_of(forgetting);
        let seq = lanes.free_seq(place);
        let cut = self.cut_in(place, prompt, forgetting, seq, keep_cells)?;
        let job = lanes.entering.take().expect("set above");
        lanes.lanes[index] = Some(Lane {
            job,
            cut,
            reading: self.reading(),
            spent: Duration::ZERO,
            next: prompt.tokens[prompt.n_cached()],
            tokens: Vec::new(),
        });
        Ok(())
    }

    /// Continues until all lanes are empty; `done` gets each job when it finishes.
    ///
    /// # Errors
    /// If decoding fails or `done` does. [`Lanes::take_all`] then returns the unfinished jobs.
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
        for place in [Place::Shared, Place::Dense] {
            self.close_gaps(lanes, place)?;
            let mut batch: Vec<_> = lanes.at(place).collect();
            batch.sort_unstable_by_key(|lane| lane.cut.seq);
            if batch.is_empty() {
                continue;
            }
            let slots: Vec<_> = batch.iter().map(|lane| lane.slot()).collect();
            let start = Instant::now();
            let context = self.context_at(place);
            context.decode(&slots)?;
            for (row, lane) in batch.iter_mut().enumerate() {
                lane.next = lane.job.sampler.next(context.logits(row)?)?;
                lane.cut.next_pos += 1;
            }
            let share = start.elapsed() / batch.len() as u32;
            batch.iter_mut().for_each(|lane| lane.spent += share);
        }
        let n_predict = lanes.n_predict;
        for lane in &mut lanes.lanes {
            let Some(active) = lane else { continue };
            let next = active.next;
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
            let Lane { job, cut, spent, tokens, .. } = lane.take().expect("checked above");
            self.context_at(cut.place).forget_sequence(cut.seq);
            let text = self.context.model().text(&tokens);
            done(job, cut, Answer { tokens, text, stop, decode: spent })?;
        }
        Ok(())
    }

    /// In a context with streams, llama.cpp computes sequences together only if their numbers are adjacent. So the
    /// last lanes move to the numbers of those that have finished.
    fn close_gaps<Id>(&mut self, lanes: &mut Lanes<Id>, place: Place) -> Result<()> {
        if !self.context_at(place).has_streams() {
            return Ok(());
        }
        let end = first_seq(place) + lanes.at(place).count() as i32;
        while let Some(last) = lanes.at(place).map(|lane| lane.cut.seq).max().filter(|&last| last >= end) {
            let free = lanes.free_seq(place);
            self.context_at(place).rename(last, free)?;
            lanes.at(place).filter(|lane| lane.cut.seq == last).for_each(|lane| lane.cut.seq = free);
        }
        Ok(())
    }

    /// Where the cache of a condition will be.
    pub(super) fn place_of(&self, forgetting: &Forgetting) -> Place {
        if self.packs(forgetting) { Place::Dense } else { Place::Shared }
    }

    /// Reads the prompt, unless it was the last one read, and makes the cut cache of a condition at its place.
    pub(super) fn cut_in(
        &mut self,
        place: Place,
        prompt: &Prompt,
        forgetting: &Forgetting,
        seq: i32,
        keep_cells: bool,
    ) -> Result<Cut> {
        match place {
            Place::Shared => self.fork_cut(prompt, forgetting, seq, keep_cells),
            Place::Dense => self.pack(prompt, forgetting, seq, keep_cells),
        }
    }

    /// Reads the prompt, unless it was the last one read, and cuts it in the sequence `seq`. With `keep_cells`, other
    /// sequences keep their cells.
    pub(super) fn fork_cut(
        &mut self,
        prompt: &Prompt,
        forgetting: &Forgetting,
        seq: i32,
        keep_cells: bool,
    ) -> Result<Cut> {
        debug_assert!(self.takes(forgetting));
        if forgetting.memory == Memory::Text {
            return self.read_kept(prompt, forgetting, seq);
        }
        let cached = &prompt.tokens[..prompt.n_cached()];
        let together = prompt.read_together(forgetting.read_before);
        let prefill = self.read_shared(&cached[..together], prompt.shared, keep_cells)?;
        self.context.fork(SHARED, seq)?;
        if forgetting.read_before == cached.len() {
            return self.apply(seq, forgetting, prefill);
        }
        // The text after the scope is read after the eviction, into cells of the lane's own.
        self.context.truncate(seq, forgetting.read_before)?;
        let mut cut = self.apply(seq, forgetting, prefill)?;
        let start = Instant::now();
        let after = &cached[forgetting.read_before..];
        self.context.read(seq, after, cut.next_pos, false)?;
        cut.next_pos += after.len();
        cut.prefill += start.elapsed();
        Ok(cut)
    }
}

impl<Id> Lane<Id> {
    fn slot(&self) -> Slot {
        Slot { token: self.next, pos: self.cut.next_pos as i32, seq: self.cut.seq, logits: true }
    }
}
