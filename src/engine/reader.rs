//! Reads one prompt, cuts its cache and answers.
//!
//! This file defines the exact meaning of an eviction: the model reads all prompt tokens but the last; the keep set is
//! applied; then the last token is decoded, so that every generated token, the first included, sees the cut cache.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::condition::{Memory, Positions};
use crate::evict::{HeadKeeps, KeepSet, Layers, Needs, Score, Scores};
use crate::llama::{Cells, Context, ContextSettings, Model, Prompt, Sampler, Token};

/// The sequence that holds a prompt that several conditions share.
pub(super) const SHARED: i32 = 0;
/// The sequence of the current condition while a prompt is shared.
const FORK: i32 = 1;

/// One eviction: what happens to the cache between reading and answering.
#[derive(Debug, Clone)]
pub struct Forgetting {
    /// Which of the cached positions survive.
    pub keep: KeepSet,
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
        Forgetting { keep, heads: None, layers: Layers::All, positions, memory, read_before }
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

    /// Whether this condition can use the same reading of the prompt as others, apart from the question of cells.
    pub fn can_share(&self) -> bool {
        self.positions == Positions::Keep && self.memory == Memory::Kv
    }
}

/// A cut cache, ready for the last prompt token.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
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

/// Reads prompts, evicts, answers. With one condition at a time it is the plain reference.
pub struct Reader {
    pub(super) context: Context,
    /// The tokens in [`SHARED`], and how long the model took to read them.
    shared: Option<(Vec<Token>, Duration)>,
    /// How many prompts were read into [`SHARED`], and the total time of that.
    readings: (u64, Duration),
    /// Sequences that can fork from [`SHARED`]; 0 for a private reader.
    lanes: u32,
}

impl Reader {
    /// A reader that reads a prompt once for all conditions that only evict from it. It can answer `lanes` of them side
    /// by side; each needs cells of its own for its answer and for the text that only it reads.
    pub fn sharing(model: &Arc<Model>, settings: ContextSettings, lanes: u32) -> Result<Self> {
        let context = Context::new(model, ContextSettings { n_seq: 1 + lanes, ..settings })?;
        Ok(Reader { context, shared: None, readings: Default::default(), lanes })
    }

    /// A reader that reads the prompt again each time: evicted cells are really freed.
    pub fn private(model: &Arc<Model>, settings: ContextSettings) -> Result<Self> {
        let context = Context::new(model, ContextSettings { n_seq: 1, ..settings })?;
        Ok(Reader { context, shared: None, readings: Default::default(), lanes: 0 })
    }

    /// How many conditions can be answered side by side.
    pub fn lanes(&self) -> usize {
        self.lanes as usize
    }

    /// Whether a condition can be answered beside others. Compaction moves cells, so it needs cells of its own.
    pub fn takes(&self, forgetting: &Forgetting) -> bool {
        forgetting.positions == Positions::Keep || self.context.has_streams()
    }

    /// The context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Reads `tokens` and scores them by each policy, from what the model computes while it reads.
    ///
    /// # Errors
    /// If the context has no tap, or if the model's graph lacks the tensors that a policy needs.
    pub fn scores(&mut self, tokens: &[Token], policies: &[&dyn Score]) -> Result<Vec<Scores>> {
        let needs = policies.iter().fold(Needs::default(), |needs, policy| needs.union(&policy.needs(tokens.len())));
        self.forget_reading();
        self.context.observe(SHARED, &needs)?;
        let prefill = self.read_shared(tokens, false);
        let mut scores = vec![Scores { layers: Vec::new() }; policies.len()];
        let seen = prefill.and_then(|_| {
            self.context.seen(&needs, |layer| {
                for (policy, scores) in policies.iter().zip(&mut scores) {
                    scores.layers.push((layer.index, policy.score(layer)));
                }
            })
        });
        self.context.look_away();
        seen?;
        scores.into_iter().map(Scores::checked).collect()
    }

    /// Reads all of the prompt but its last token and applies the keep set.
    pub fn cut(&mut self, prompt: &Prompt, forgetting: &Forgetting) -> Result<Cut> {
        let cached = &prompt.tokens[..prompt.n_cached()];
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
        Ok(Cut { seq, next_pos, prefill, evict, cells_before: cells, cells_after: cells })
    }

    /// Empties the cache, so that the next prompt is read again.
    pub fn forget_reading(&mut self) {
        self.shared = None;
        self.context.clear();
    }

    /// Whether [`SHARED`] holds these tokens.
    pub(super) fn has_read(&self, cached: &[Token]) -> bool {
        self.shared.as_ref().is_some_and(|(tokens, _)| tokens == cached)
    }

    /// The number of the current reading in [`SHARED`], counted from 1.
    pub(super) fn reading(&self) -> u64 {
        self.readings.0
    }

    /// Time spent on reading prompts so far.
    pub(super) fn time_reading(&self) -> Duration {
        self.readings.1
    }

    /// Adds time that was spent on reading for one condition alone.
    pub(super) fn add_time_reading(&mut self, spent: Duration) {
        self.readings.1 += spent;
    }

    /// Makes sure that [`SHARED`] holds these tokens. Unless other sequences must keep their cells, the cells of the
    /// prompt start at the first one, so that a condition computes the same bits whatever ran before it.
    pub(super) fn read_shared(&mut self, cached: &[Token], keep_cells: bool) -> Result<Duration> {
        if let Some((tokens, prefill)) = &self.shared
            && tokens == cached
        {
            return Ok(*prefill);
        }
        if keep_cells {
            self.shared = None;
            self.context.forget_sequence(SHARED);
        } else {
            self.forget_reading();
        }
        let start = Instant::now();
        self.context.read(SHARED, cached, 0, false)?;
        let prefill = start.elapsed();
        self.shared = Some((cached.to_vec(), prefill));
        self.readings = (self.readings.0 + 1, self.readings.1 + prefill);
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
            let kept: Vec<_> = keep
                .kept()
                .into_iter()
                .map(|range| range.start..range.end.min(forgetting.read_before))
                .filter(|range| !range.is_empty())
                .collect();
            self.context.compact(seq, &kept)?;
        }
        let evict = start.elapsed();
        let cells_after = self.context.cells(seq);
        Ok(Cut { seq, next_pos: self.context.next_pos(seq), prefill, evict, cells_before, cells_after })
    }

    /// Decodes one token after the cut and returns the logits for the next one.
    pub fn step(&mut self, cut: &mut Cut, token: Token) -> Result<&[f32]> {
        self.context.read(cut.seq, &[token], cut.next_pos, true)?;
        cut.next_pos += 1;
        self.context.logits(0)
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
