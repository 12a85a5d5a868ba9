//! Reads one prompt, cuts its cache and answers.
//!
//! This file defines the exact meaning of an eviction: the model reads all prompt tokens but the last; the keep set is
//! applied; then the last token is decoded, so that every generated token, the first included, sees the cut cache.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::replays;
use crate::condition::{Memory, Positions};
use crate::evict::{HeadKeeps, KeepSet, Layer, Layers, Needs, Score, Scores, Subject, score_layers};
use crate::llama::{Cells, Context, ContextSettings, Model, Prompt, Sampler, Token};
use crate::{Error, Result};

/// The sequence that holds a prompt that several conditions share.
pub(super) const SHARED: i32 = 0;
/// The sequence of the current condition while a prompt is shared.
const FORK: i32 = 1;

/// One eviction: what happens to the cache between reading and answering.
#[derive(Debug, Clone)]
pub struct Forgetting {
    /// Which of the cached positions survive.
    pub keep: KeepSet,
    /// Time that scoring took to read the prompt once more; zero if the policy needs no replay.
    pub replay: Duration,
    /// The keep sets of layers or heads, if these differ: then `keep` holds every position, and no cell is freed.
    pub heads: Option<HeadKeeps>,
    /// The layers in whose cache positions are evicted.
    pub layers: Layers,
    /// The positions of the survivors afterwards.
    pub positions: Positions,
    /// Whether the model reads the evicted tokens first, or never.
    pub memory: Memory,
    /// How many positions are read before the eviction; the rest is read after it.
    pub read_before: usize,
}

impl Forgetting {
    /// The default: the model reads the whole prompt, then the cache is cut; survivors keep their positions.
    pub fn new(keep: KeepSet) -> Self {
        let read_before = keep.len();
        let (positions, memory) = (Positions::Keep, Memory::Kv);
        Forgetting { keep, replay: Duration::ZERO, heads: None, layers: Layers::All, positions, memory, read_before }
    }

    /// How many of the cached positions survive; in each head, if heads differ.
    pub fn n_kept(&self) -> usize {
        self.heads.as_ref().map_or(self.keep.n_kept(), HeadKeeps::n_kept)
    }

    /// How many positions of a range survive; the mean over heads, if heads differ.
    pub fn kept_within(&self, range: Range<usize>) -> f64 {
        match &self.heads {
            Some(heads) => heads.kept_within(&range),
            None => self.keep.kept_within(range) as f64,
        }
    }

    /// The fraction of a range that survives, such as 0.5 for 5 of 10 positions; the mean over heads, if heads differ.
    pub fn survival(&self, range: Range<usize>) -> f64 {
        self.kept_within(range.clone()) / range.len() as f64
    }

    /// The ranges of survivors among the positions that are read before the eviction.
    fn kept_before(&self) -> Vec<Range<usize>> {
        let before = |range: Range<usize>| range.start..range.end.min(self.read_before);
        self.keep.kept().into_iter().map(before).filter(|range| !range.is_empty()).collect()
    }

    /// Whether this leaves the full cache as it is.
    pub fn keeps_all(&self) -> bool {
        self.heads.is_none() && self.keep.n_evicted() == 0 && self.memory == Memory::Kv
    }

    /// Whether this condition can use the same reading of the prompt as others, apart from the question of cells.
    pub fn can_share(&self) -> bool {
        self.positions == Positions::Keep && self.memory == Memory::Kv
    }
}

/// Where a cut cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the context that read the prompt.
    Shared,
    /// In the context of dense lanes.
    Dense,
}

/// A cut cache, ready for the last prompt token.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub(super) place: Place,
    pub(super) seq: i32,
    /// The position of the next token to be decoded.
    pub next_pos: usize,
    /// Time spent reading the prompt; of the shared reading, if there is one.
    pub prefill: Duration,
    /// Time spent evicting.
    pub evict: Duration,
    /// Cells of the sequence before the eviction.
    pub cells_before: Option<Cells>,
    /// Cells of the sequence after it.
    pub cells_after: Option<Cells>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended its turn.
    EndOfTurn,
    /// The limit of tokens was reached.
    Length,
    /// The answer repeated the same words without end.
    Loop,
}

impl StopReason {
    /// All of them.
    pub const ALL: [StopReason; 3] = [StopReason::EndOfTurn, StopReason::Length, StopReason::Loop];

    /// The word used in the CSV.
    pub fn as_str(self) -> &'static str {
        match self {
            StopReason::EndOfTurn => "end_of_turn",
            StopReason::Length => "length",
            StopReason::Loop => "loop",
        }
    }
}

/// An answer of the model.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Generated tokens, without the token that ended the turn.
    pub tokens: Vec<Token>,
    /// Their text.
    pub text: String,
    /// Why the answer ended.
    pub stop: StopReason,
    /// Time from the last prompt token to the end of the answer.
    pub decode: Duration,
}

/// Contexts for conditions whose survivors are copied together, so that an answer costs what was kept.
///
/// In the shared context an evicted position still occupies its cell, and attention walks over all cells.
struct Dense {
    /// With streams: each sequence has its own cells.
    context: Context,
    /// Cells that an answer needs besides the survivors.
    answer: usize,
}

/// Tokens that were read, for all conditions and questions that share them.
struct Reading {
    tokens: Vec<Token>,
    /// How long the model took to read them.
    prefill: Duration,
    /// The part of this time for what several questions share.
    of_shared: Duration,
}

/// Reads prompts, evicts, answers. With one condition at a time it is the plain reference.
pub struct Reader {
    pub(super) context: Context,
    dense: Option<Dense>,
    /// What [`SHARED`] holds.
    shared: Option<Reading>,
    /// How many prompts were read into [`SHARED`].
    readings: u64,
    /// Sequences that can fork from [`SHARED`]; 0 for a private reader.
    lanes: u32,
}

impl Reader {
    /// A reader that reads a prompt once for all conditions that only evict from it. It can answer `lanes` of them side
    /// by side; each needs cells of its own for its answer and for the text that only it reads.
    pub fn sharing(model: &Arc<Model>, settings: ContextSettings, lanes: u32) -> Result<Self> {
        let context = Context::new(model, ContextSettings { n_seq: 1 + lanes, ..settings })?;
        Ok(Reader { context, dense: None, shared: None, readings: 0, lanes })
    }

    /// Adds a context with `settings` for dense lanes: conditions whose survivors fit it, beside an answer of up to
    /// `answer` tokens, are copied there. `settings.n_ctx` is the number of cells of each lane.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn with_dense(self, settings: ContextSettings, answer: usize) -> Result<Self> {
        let settings = ContextSettings { n_seq: self.lanes.max(1), streams: true, tap: false, ..settings };
        let context = Context::new(self.context.model(), settings)?;
        Ok(Reader { dense: Some(Dense { context, answer }), ..self })
    }

    /// A reader that reads the prompt again each time: evicted cells are really freed.
    pub fn private(model: &Arc<Model>, settings: ContextSettings) -> Result<Self> {
        let context = Context::new(model, ContextSettings { n_seq: 1, ..settings })?;
        Ok(Reader { context, dense: None, shared: None, readings: 0, lanes: 0 })
    }

    /// How many conditions can be answered side by side.
    pub fn lanes(&self) -> usize {
        self.lanes as usize
    }

    /// Whether a condition can be answered beside others. Compaction moves cells, so it needs cells of its own.
    pub fn takes(&self, forgetting: &Forgetting) -> bool {
        forgetting.positions == Positions::Keep || self.context.has_streams() || self.packs(forgetting)
    }

    /// Whether the survivors of a condition are copied together into a dense lane.
    pub fn packs(&self, forgetting: &Forgetting) -> bool {
        let fits = |dense: &Dense| forgetting.n_kept() + dense.answer <= dense.context.n_ctx();
        let gathers = !self.context.model().rope_depends_on_size() && !self.context.has_streams();
        let frees = gathers
            && forgetting.heads.is_none()
            && forgetting.layers == Layers::All
            && forgetting.keep.n_evicted() > 0;
        frees && forgetting.memory == Memory::Kv && self.dense.as_ref().is_some_and(fits)
    }

    /// The context in which a cut cache is.
    pub(super) fn context_at(&mut self, place: Place) -> &mut Context {
        match &mut self.dense {
            Some(dense) if place == Place::Dense => &mut dense.context,
            _ => &mut self.context,
        }
    }

    /// Time that llama.cpp has spent decoding so far.
    pub fn time_computing(&self) -> Duration {
        let dense = self.dense.as_ref().map_or(Duration::ZERO, |dense| dense.context.time_computing());
        self.context.time_computing() + dense
    }

    /// The context that reads the prompts.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Reads `tokens` and scores them by each policy, from what the model computes while it reads. The subjects are all
    /// about these tokens, of which the first `common` are those of other questions, too.
    ///
    /// # Errors
    /// If the context has no tap, if the model's graph lacks the tensors that a policy needs, or if a policy has no
    /// scores.
    pub fn scores(&mut self, tokens: &[Token], common: usize, asked: &[(&dyn Score, Subject)]) -> Result<Vec<Scores>> {
        let mut groups: Vec<(Needs, Vec<usize>)> = Vec::new();
        for (index, (score, subject)) in asked.iter().enumerate() {
            let needs = subject.needs(*score);
            match groups.iter_mut().find(|(group, _)| group.go_with(&needs)) {
                Some((group, members)) => {
                    *group = std::mem::take(group).union(&needs);
                    members.push(index);
                }
                None => groups.push((needs, vec![index])),
            }
        }
        let mut scores = vec![Scores::default(); asked.len()];
        for (needs, members) in groups {
            let of_group: Vec<_> = members.iter().map(|&index| asked[index].clone()).collect();
            let given = self.scores_at_once(tokens, common, &needs, &of_group)?;
            members.into_iter().zip(given).for_each(|(index, given)| scores[index] = given);
        }
        Ok(scores)
    }

    /// As [`Reader::scores`], in one reading that serves the `needs` of all.
    fn scores_at_once(
        &mut self,
        tokens: &[Token],
        common: usize,
        needs: &Needs,
        asked: &[(&dyn Score, Subject)],
    ) -> Result<Vec<Scores>> {
        self.forget_reading();
        self.context.observe(SHARED, needs)?;
        let prefill = self.read_shared(tokens, common, false);
        let chunk = asked.iter().find_map(|(score, _)| score.replay());
        let replay = prefill.and_then(|_| chunk.map_or(Ok(Duration::ZERO), |chunk| self.replay(tokens, chunk)));
        let scores = replay.and_then(|replay| {
            let of_each = |layers: &[Layer]| -> Result<Vec<Scores>> {
                let score = |(score, subject): &(&dyn Score, Subject)| {
                    Ok(Scores { replay, ..score_layers(*score, layers, subject)? })
                };
                asked.iter().map(score).collect()
            };
            self.context.seen(SHARED, needs, of_each)?
        });
        self.context.look_away();
        scores
    }

    /// Makes the model repeat what [`SHARED`] holds, in parts of `chunk` tokens, and takes that back.
    fn replay(&mut self, tokens: &[Token], chunk: usize) -> Result<Duration> {
        let start = Instant::now();
        if !self.context.keeps_all_positions() {
            return Err(Error::input(
                "this policy reads the prompt twice, and then the cache of the layers with a sliding window must still \
                 hold every position; leave --swa-full on",
            ));
        }
        for replay in replays(self.context.model(), tokens, chunk)? {
            self.context.read(SHARED, &replay, tokens.len(), false)?;
            if self.context.truncate(SHARED, tokens.len())? != tokens.len() {
                return Err(Error::failed("the replay of the prompt cannot be taken back out of the cache"));
            }
        }
        Ok(start.elapsed())
    }

    /// Reads all of the prompt but its last token and applies the keep set.
    pub fn cut(&mut self, prompt: &Prompt, forgetting: &Forgetting) -> Result<Cut> {
        let cached = &prompt.tokens[..prompt.n_cached()];
        if self.packs(forgetting) {
            return self.pack(prompt, forgetting, 0, false);
        }
        if self.lanes > 0 && forgetting.can_share() {
            return self.fork_cut(prompt, forgetting, FORK, false);
        }
        self.forget_reading();
        if forgetting.memory == Memory::Text {
            return self.read_kept(prompt, forgetting, SHARED);
        }
        let start = Instant::now();
        self.context.read(SHARED, &cached[..forgetting.read_before], 0, false)?;
        let mut cut = self.apply(SHARED, forgetting, start.elapsed())?;
        let rest = Instant::now();
        let after = &cached[forgetting.read_before..];
        self.context.read(SHARED, after, cut.next_pos, false)?;
        cut.next_pos += after.len();
        cut.prefill += rest.elapsed();
        Ok(cut)
    }

    /// Empties the sequence and reads only the surviving tokens into it, as a prompt of their own.
    pub(super) fn read_kept(&mut self, prompt: &Prompt, forgetting: &Forgetting, seq: i32) -> Result<Cut> {
        let start = Instant::now();
        let kept: Vec<Token> = forgetting.keep.kept().into_iter().flatten().map(|at| prompt.tokens[at]).collect();
        self.context.forget_sequence(seq);
        self.context.read(seq, &kept, 0, false)?;
        let (cells, prefill) = (self.context.cells(seq), start.elapsed());
        let (next_pos, evict) = (kept.len(), Duration::ZERO);
        let place = Place::Shared;
        Ok(Cut { place, seq, next_pos, prefill, evict, cells_before: cells, cells_after: cells })
    }

    /// Empties the cache, so that the next prompt is read again.
    pub fn forget_reading(&mut self) {
        self.shared = None;
        self.context.clear();
    }

    /// Whether [`SHARED`] holds these tokens, of which the first `common` are those of other questions, too; what all of
    /// them share is also there while a question is.
    pub(super) fn has_read(&self, cached: &[Token], common: usize) -> bool {
        let whole = |reading: &Reading| reading.tokens == cached;
        let within = |reading: &Reading| common > 0 && reading.tokens.starts_with(cached);
        self.shared.as_ref().is_some_and(|reading| whole(reading) || within(reading))
    }

    /// The number of the current reading in [`SHARED`], counted from 1.
    pub(super) fn reading(&self) -> u64 {
        self.readings
    }

    /// Makes sure that [`SHARED`] holds these tokens, of which the first `common` are those of other questions, too:
    /// they are read first and stay for the next question. Unless other sequences must keep their cells, the cells of
    /// the prompt start at the first one, so that a condition computes the same bits whatever ran before it.
    pub(super) fn read_shared(&mut self, cached: &[Token], common: usize, keep_cells: bool) -> Result<Duration> {
        let common = common.min(cached.len());
        if let Some(reading) = self.shared.as_ref().filter(|_| self.has_read(cached, common)) {
            return Ok(if cached.len() > common { reading.prefill } else { reading.of_shared });
        }
        let there = match self.shared.take() {
            Some(reading) if common > 0 && reading.tokens.starts_with(&cached[..common]) => {
                if !keep_cells {
                    (SHARED + 1..=self.lanes as i32).for_each(|seq| self.context.forget_sequence(seq));
                }
                (self.context.truncate(SHARED, common)? == common).then_some(reading.of_shared)
            }
            _ => None,
        };
        let of_shared = match there {
            Some(of_shared) => of_shared,
            None => {
                if keep_cells {
                    self.context.forget_sequence(SHARED);
                } else {
                    self.forget_reading();
                }
                let start = Instant::now();
                self.context.read(SHARED, &cached[..common], 0, false)?;
                start.elapsed()
            }
        };
        let start = Instant::now();
        self.context.read(SHARED, &cached[common..], common, false)?;
        let prefill = of_shared + start.elapsed();
        self.shared = Some(Reading { tokens: cached.to_vec(), prefill, of_shared });
        self.readings += 1;
        Ok(prefill)
    }

    pub(super) fn apply(&mut self, seq: i32, forgetting: &Forgetting, prefill: Duration) -> Result<Cut> {
        let cells_before = self.context.cells(seq);
        let start = Instant::now();
        let keep = &forgetting.keep;
        self.context.evict(seq, keep.evicted(), forgetting.layers)?;
        if let Some(heads) = &forgetting.heads {
            self.context.hide(seq, heads)?;
        }
        if forgetting.positions == Positions::Compact {
            self.context.compact(seq, &forgetting.kept_before())?;
        }
        let evict = start.elapsed();
        let (cells_after, next_pos) = (self.context.cells(seq), self.context.next_pos(seq));
        Ok(Cut { place: Place::Shared, seq, next_pos, prefill, evict, cells_before, cells_after })
    }

    /// Reads the prompt, unless it was the last one read, and copies the survivors of a condition that the reader
    /// [packs](Reader::packs) into the dense lane `seq`. With `keep_cells`, other sequences keep their cells.
    pub(super) fn pack(&mut self, prompt: &Prompt, forgetting: &Forgetting, seq: i32, keep_cells: bool) -> Result<Cut> {
        let cached = &prompt.tokens[..prompt.n_cached()];
        let together = prompt.read_together(forgetting.read_before);
        let prefill = self.read_shared(&cached[..together], prompt.shared, keep_cells)?;
        let cells_before = self.context.cells(SHARED);
        let Some(Dense { context: dense, .. }) = &mut self.dense else {
            return Err(Error::failed("the reader has no dense lanes"));
        };
        let start = Instant::now();
        let kept = forgetting.kept_before();
        let compact = forgetting.positions == Positions::Compact;
        self.context.gather(SHARED, &kept, compact, dense, seq)?;
        if compact {
            dense.compact(seq, &kept)?;
        }
        let evict = start.elapsed();
        let (cells_after, next_pos) = (dense.cells(seq), dense.next_pos(seq));
        let mut cut = Cut { place: Place::Dense, seq, next_pos, prefill, evict, cells_before, cells_after };
        if forgetting.read_before < cached.len() {
            let start = Instant::now();
            let after = &cached[forgetting.read_before..];
            dense.read(seq, after, cut.next_pos, false)?;
            cut.next_pos += after.len();
            cut.prefill += start.elapsed();
        }
        Ok(cut)
    }

    /// Decodes one token after the cut and returns the logits for the next one.
    pub fn step(&mut self, cut: &mut Cut, token: Token) -> Result<&[f32]> {
        let context = self.context_at(cut.place);
        context.read(cut.seq, &[token], cut.next_pos, true)?;
        cut.next_pos += 1;
        context.logits(0)
    }

    /// Decodes the last prompt token and generates an answer of up to `n_predict` tokens.
    pub fn answer(
        &mut self,
        prompt: &Prompt,
        cut: &mut Cut,
        sampler: &mut Sampler,
        n_predict: usize,
    ) -> Result<Answer> {
        let start = Instant::now();
        let first = sampler.next(self.step(cut, prompt.tokens[prompt.n_cached()])?)?;
        let answer = self.go_on(cut, first, sampler, n_predict)?;
        Ok(Answer { decode: start.elapsed(), ..answer })
    }

    /// Continues an answer from `first`, a token that was drawn but not yet decoded.
    pub fn go_on(&mut self, cut: &mut Cut, first: Token, sampler: &mut Sampler, n_predict: usize) -> Result<Answer> {
        let start = Instant::now();
        let (mut tokens, mut next) = (Vec::new(), first);
        let stop = loop {
            if sampler.stops_at(self.context.model(), next) {
                break StopReason::EndOfTurn;
            }
            if tokens.len() == n_predict {
                break StopReason::Length;
            }
            tokens.push(next);
            if sampler.stops_loop(&tokens) {
                break StopReason::Loop;
            }
            if tokens.len() < n_predict {
                next = sampler.next(self.step(cut, next)?)?;
            }
        };
        let text = self.context.model().text(&tokens);
        Ok(Answer { tokens, text, stop, decode: start.elapsed() })
    }
}
