//! Rolling budgets: the cache stays small while the model generates without end.
//!
//! This is StreamingLLM's endless generation (arXiv 2309.17453): whenever the cache is full, some entries are evicted,
//! and the next tokens take the freed cells. Policies with scores rank the cached entries again each time, from what
//! was computed since the last eviction.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::reader::{Place, SHARED};
use super::{Answer, Cut, Reader, StopReason};
use crate::condition::Positions;
use crate::evict::{KeepSet, Needs, Score, Scores, Subject, score_layers};
use crate::llama::{Model, Prompt, Sampler, Token};
use crate::{Error, Result};

/// A rule that keeps the cache small.
pub struct Rolling<'a> {
    /// Largest number of positions in the cache once the prompt has been read.
    pub budget: usize,
    /// How many positions are evicted at once when the cache is full.
    pub every: usize,
    /// Whether survivors keep their positions or are moved together each time.
    pub positions: Positions,
    /// The scores by which the policy ranks; `None` for a policy without scores.
    pub score: Option<&'a dyn Score>,
    /// Chooses the entries that survive, given the positions at which they were read, their scores, and the number of
    /// earlier evictions.
    #[allow(clippy::type_complexity, reason = "named once, here")]
    pub choose: &'a dyn Fn(&[usize], Option<&Scores>, usize) -> Result<KeepSet>,
}

/// The state of the cache under a rolling budget.
struct Roll<'a> {
    rolling: &'a Rolling<'a>,
    /// Positions in the cache, ascending.
    entries: Vec<usize>,
    /// The positions of these entries before any compaction.
    origins: Vec<usize>,
    /// How many tokens were read so far.
    read: usize,
    next_pos: usize,
    /// The tensors that the tap reads, with positions as indices into `entries`.
    needs: Needs,
    /// Evictions so far.
    evictions: usize,
}

impl Reader {
    /// Reads the whole prompt, cuts the cache to the budget, and keeps it there while generating up to `n_predict`
    /// tokens. The returned keep set is that of the first cut, over the prompt.
    ///
    /// # Errors
    /// If `compact` is requested and the budget is larger than the sliding window, whose cache would lose positions
    /// that are still needed.
    pub fn roll(
        &mut self,
        prompt: &Prompt,
        rolling: &Rolling,
        sampler: &mut Sampler,
        n_predict: usize,
    ) -> Result<(Cut, KeepSet, Answer)> {
        check_rolling(rolling.budget, rolling.positions, self.context.model())?;
        let cached = &prompt.tokens[..prompt.n_cached()];
        let start = Instant::now();
        self.forget_reading();
        let needs = rolling.score.map(|score| score.needs(cached.len())).unwrap_or_default();
        if rolling.score.is_some() {
            self.context.observe(SHARED, &needs)?;
        }
        self.context.read(SHARED, cached, 0, false)?;
        let mut cut = Cut {
            place: Place::Shared,
            seq: SHARED,
            next_pos: cached.len(),
            prefill: start.elapsed(),
            evict: Duration::ZERO,
            cells_before: self.context.cells(SHARED),
            cells_after: None,
        };
        let (entries, next_pos): (Vec<_>, _) = ((0..cached.len()).collect(), cached.len());
        let mut roll =
            Roll { rolling, origins: entries.clone(), entries, read: next_pos, next_pos, needs, evictions: 0 };
        let evict = Instant::now();
        let keep = roll.shrink(self)?;
        cut.evict = evict.elapsed();
        cut.cells_after = self.context.cells(SHARED);
        cut.next_pos = roll.next_pos;
        let answer = roll.generate(self, prompt.tokens[prompt.n_cached()], sampler, n_predict);
        if rolling.score.is_some() {
            self.context.look_away();
        }
        Ok((cut, keep, answer?))
    }
}

/// Refuses a rolling budget that cannot be held on this model: llama.cpp overwrites cells beyond the sliding window, so
/// that they cannot be moved together again and again.
///
/// # Errors
/// If survivors are compacted and the budget exceeds the window.
pub fn check_rolling(budget: usize, positions: Positions, model: &Model) -> Result<()> {
    let window = model.facts().sliding_window as usize;
    if positions != Positions::Compact || window == 0 || budget <= window {
        return Ok(());
    }
    Err(Error::input(format!(
        "--rolling {budget} with --positions compact: budgets beyond the sliding window of {window} positions cannot be \
         compacted again and again; lower --rolling or use --positions keep"
    )))
}

impl Roll<'_> {
    fn generate(&mut self, reader: &mut Reader, last: Token, sampler: &mut Sampler, n: usize) -> Result<Answer> {
        let start = Instant::now();
        let (mut tokens, mut next) = (Vec::new(), last);
        let stop = loop {
            if self.entries.len() >= self.rolling.budget {
                self.shrink(reader)?;
            }
            reader.context.read(SHARED, &[next], self.next_pos, true)?;
            self.entries.push(self.next_pos);
            self.origins.push(self.read);
            self.next_pos += 1;
            self.read += 1;
            next = sampler.next(reader.context.logits(0)?)?;
            if sampler.stops_at(reader.context.model(), next) {
                break StopReason::EndOfTurn;
            }
            if tokens.len() < n {
                tokens.push(next);
            }
            if sampler.stops_loop(&tokens) {
                break StopReason::Loop;
            }
            if tokens.len() == n {
                break StopReason::Length;
            }
        };
        let text = reader.context.model().text(&tokens);
        Ok(Answer { tokens, text, stop, decode: start.elapsed() })
    }

    /// Cuts the cache so that `every` more positions fit, and returns which entries survived.
    fn shrink(&mut self, reader: &mut Reader) -> Result<KeepSet> {
        let context = &mut reader.context;
        let mut keep = KeepSet::all(self.entries.len());
        if self.entries.len() > self.rolling.budget - self.rolling.every {
            let scores = match self.rolling.score {
                None => None,
                Some(score) => {
                    Some(context.seen(&self.needs, |layers| score_layers(score, layers, &Subject::default()))??)
                }
            };
            keep = (self.rolling.choose)(&self.origins, scores.as_ref(), self.evictions)?;
            self.evictions += 1;
            let kept = keep.kept();
            let at = |ranges: &[Range<usize>], of: &[usize]| -> Vec<usize> {
                ranges.iter().cloned().flatten().map(|index| of[index]).collect()
            };
            context.evict(SHARED, &ranges(&at(keep.evicted(), &self.entries)), crate::evict::Layers::All)?;
            (self.entries, self.origins) = (at(&kept, &self.entries), at(&kept, &self.origins));
            if self.rolling.positions == Positions::Compact {
                context.compact(SHARED, &ranges(&self.entries))?;
                self.entries = (0..self.entries.len()).collect();
                self.next_pos = self.entries.len();
            }
        }
        if let Some(score) = self.rolling.score {
            // The tensors that the policy needs when the cache is full again; it numbers the entries 0..budget.
            self.needs = score.needs(self.rolling.budget);
            let position = |&index: &i32| {
                let index = index.unsigned_abs() as usize;
                let beyond = || self.next_pos + index - self.entries.len();
                pos(self.entries.get(index).copied().unwrap_or_else(beyond))
            };
            let from: Vec<i32> = self.needs.attention_from.iter().map(position).collect();
            let kept: Vec<i32> = self.entries.iter().copied().map(pos).collect();
            context.retain_seen(&kept, &from)?;
        }
        Ok(keep)
    }
}

/// Ascending positions as maximal ranges.
fn ranges(positions: &[usize]) -> Vec<Range<usize>> {
    positions.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1).collect()
}

fn pos(position: usize) -> i32 {
    i32::try_from(position).expect("contexts are smaller than 2^31 positions")
}
