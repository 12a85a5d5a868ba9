//! Chats: a cache that grows turn by turn and is cut again and again.
//!
//! In each turn the model reads what is new (the end of its last answer, the user's words, the beginning of the next
//! answer), the cache is cut, and the model answers. Positions that were evicted earlier stay evicted. Under a
//! *rolling* budget the cache is also cut while the model answers, whenever it is full: StreamingLLM's endless
//! generation (arXiv 2309.17453), which is a chat of one turn. Policies with scores rank the cached entries again each
//! time, from what was computed since they were read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Reader;
use crate::condition::{Memory, Positions};
use crate::evict::{HeadKeeps, KeepSet, Layer, Layers, Needs, RollingBudget, Score, Scores, Subject, score_layers};
use crate::llama::{Model, Token};
use crate::{Error, Result};

/// Chooses the entries of a cache that survive.
pub type Choose<'a> = dyn Fn(&Entries) -> Result<KeepSet> + 'a;

/// How the cache of a chat is cut.
pub struct Rule<'a> {
    /// The limit of the cache while the model answers; without it the cache is only cut before each answer.
    pub rolling: Option<RollingBudget>,
    /// Whether survivors keep their positions or are moved together each time.
    pub positions: Positions,
    /// Whether the survivors stay in the cache, or the cache is emptied and their tokens are read again.
    pub memory: Memory,
    /// The layers from whose cache positions are evicted.
    pub layers: Layers,
    /// Groups of KV heads, each as (layer, head), that choose for themselves which positions they see; the others are
    /// hidden from them, and no cell is freed. Empty if all evict the same positions.
    pub groups: Vec<Vec<(u32, usize)>>,
    /// The scores by which the policy ranks; `None` for a policy without scores.
    pub score: Option<&'a dyn Score>,
    /// Chooses the entries that survive.
    pub choose: Box<Choose<'a>>,
}

/// The entries of a cache that is about to be cut.
pub struct Entries<'a> {
    /// For each entry the number of its token among all that were read, ascending.
    pub origins: &'a [usize],
    /// How many tokens were read so far.
    pub read: usize,
    /// The scores of the entries.
    pub scores: Option<&'a Scores>,
    /// Number of earlier cuts.
    pub cuts: usize,
    /// Which of the rule's groups sees these entries, if there are groups. The scores are of all that was read.
    pub group: Option<usize>,
}

/// A chat in which nothing was said yet, at first. Its cache is a sequence of the reader.
#[derive(Default)]
pub struct Chat {
    pub(super) seq: i32,
    /// All tokens that were read so far.
    pub(super) read: Vec<Token>,
    /// Positions in the cache, ascending.
    pub(super) entries: Vec<usize>,
    /// For each entry the index of its token in `read`.
    origins: Vec<usize>,
    pub(super) next_pos: usize,
    /// The tensors that the tap reads, with positions as indices into `entries`.
    needs: Needs,
    cuts: usize,
    /// What each group of heads sees, as indices into `read`, of the first `shown` tokens.
    seen: Vec<Vec<usize>>,
    shown: usize,
    /// The end of the last answer that was drawn but not read.
    pub(super) unread: Vec<Token>,
}

/// Refuses a cache that grows and is compacted again and again beyond the sliding window: llama.cpp overwrites cells
/// outside the window, so that they cannot be moved back into it. `most` is the largest number of positions.
///
/// # Errors
/// If survivors are compacted and `most` exceeds the window.
pub fn check_compacting(most: usize, positions: Positions, model: &Model) -> Result<()> {
    let window = model.facts().sliding_window as usize;
    if positions != Positions::Compact || window == 0 || most <= window {
        return Ok(());
    }
    Err(Error::input(format!(
        "{most} positions with --positions compact: a cache beyond the sliding window of {window} positions cannot be \
         compacted again and again; use a smaller budget or --positions keep"
    )))
}

impl Chat {
    /// A chat in the sequence `seq` of its reader. Chats that take turns side by side are in different sequences.
    pub fn in_sequence(seq: i32) -> Self {
        Chat { seq, ..Chat::default() }
    }

    /// Which of all that was read is in the cache.
    pub(super) fn keep(&self) -> KeepSet {
        keep_set(self.read.len(), &self.origins)
    }

    /// Which of all that was read each head sees, if heads differ.
    pub(super) fn heads(&self, rule: &Rule) -> Option<HeadKeeps> {
        let mut layers: BTreeMap<u32, Vec<(usize, KeepSet)>> = BTreeMap::new();
        for (group, seen) in rule.groups.iter().zip(&self.seen) {
            let keep = keep_set(self.shown, seen);
            group.iter().for_each(|&(layer, head)| layers.entry(layer).or_default().push((head, keep.clone())));
        }
        let of_layer = |(layer, mut heads): (u32, Vec<(usize, KeepSet)>)| {
            heads.sort_by_key(|&(head, _)| head);
            (layer, heads.into_iter().map(|(_, keep)| keep).collect())
        };
        let layers: Vec<_> = layers.into_iter().map(of_layer).collect();
        (!layers.is_empty()).then_some(HeadKeeps { layers })
    }

    pub(super) fn read(&mut self, reader: &mut Reader, tokens: &[Token]) -> Result<()> {
        reader.context.read(self.seq, tokens, self.next_pos, false)?;
        self.has_read(tokens);
        Ok(())
    }

    /// Notes that these tokens are in the cache now.
    pub(super) fn has_read(&mut self, tokens: &[Token]) {
        self.entries.extend(self.next_pos..self.next_pos + tokens.len());
        self.origins.extend(self.read.len()..self.read.len() + tokens.len());
        self.read.extend(tokens);
        self.next_pos += tokens.len();
    }

    /// Cuts the cache, under a rolling budget only if fewer than `every` positions are left in it. Returns the time that
    /// it took to read the survivors again.
    pub(super) fn cut(&mut self, reader: &mut Reader, rule: &Rule) -> Result<Duration> {
        let full = rule.rolling.is_none_or(|rolling| self.entries.len() > rolling.budget - rolling.every);
        let mut again = Duration::ZERO;
        if full {
            let scores = match rule.score {
                None => None,
                Some(score) => Some(self.scores(reader, score, rule)?),
            };
            let (read, scores, cuts) = (self.read.len(), scores.as_ref(), self.cuts);
            self.cuts += 1;
            if !rule.groups.is_empty() {
                self.seen.resize(rule.groups.len(), Vec::new());
                for (group, seen) in self.seen.iter_mut().enumerate() {
                    seen.extend(self.shown..read);
                    let keep =
                        (rule.choose)(&Entries { origins: seen, read, scores, cuts, group: Some(group) })?.kept();
                    *seen = keep.into_iter().flatten().map(|index| seen[index]).collect();
                }
                self.shown = read;
                let heads = self.heads(rule).expect("there are groups");
                reader.context.hide(self.seq, &heads)?;
                return Ok(again);
            }
            let keep = (rule.choose)(&Entries { origins: &self.origins, read, scores, cuts, group: None })?;
            if keep.n_evicted() > 0 {
                again = self.evict(reader, rule, &keep)?;
            }
        }
        if let Some(rolling) = rule.rolling {
            // The policy looks again when the cache is full.
            self.expect(reader, rule, rolling.budget)?;
        }
        Ok(again)
    }

    /// The scores of the entries. Where they were moved, positions do not tell how many queries saw an entry.
    fn scores(&self, reader: &mut Reader, score: &dyn Score, rule: &Rule) -> Result<Scores> {
        let moved = rule.positions == Positions::Compact && rule.memory == Memory::Kv;
        let since = |&origin: &usize| self.read.len() - origin;
        let queries_since: Vec<usize> = if moved { self.origins.iter().map(since).collect() } else { Vec::new() };
        reader.context.seen(self.seq, &self.needs, |layers| {
            let counted = layers.iter().map(|layer| Layer { queries_since: &queries_since, ..layer.clone() });
            score_layers(score, &counted.collect::<Vec<_>>(), &Subject::default())
        })?
    }

    fn evict(&mut self, reader: &mut Reader, rule: &Rule, keep: &KeepSet) -> Result<Duration> {
        let kept = keep.kept();
        let at = |ranges: &[Range<usize>], of: &[usize]| -> Vec<usize> {
            ranges.iter().cloned().flatten().map(|index| of[index]).collect()
        };
        let evicted = at(keep.evicted(), &self.entries);
        (self.entries, self.origins) = (at(&kept, &self.entries), at(&kept, &self.origins));
        if rule.memory == Memory::Text {
            return self.read_again(reader, rule);
        }
        let context = &mut reader.context;
        context.evict(self.seq, &ranges(&evicted), rule.layers)?;
        let before: Vec<i32> = self.entries.iter().copied().map(pos).collect();
        if rule.positions == Positions::Compact {
            context.compact(self.seq, &ranges(&self.entries))?;
            self.entries = (0..self.entries.len()).collect();
            self.next_pos = self.entries.len();
        }
        if rule.score.is_some() {
            let now: Vec<i32> = self.entries.iter().copied().map(pos).collect();
            let from = self.positions(&self.needs.attention_from);
            context.retain_seen(self.seq, &before, &now, &from)?;
        }
        Ok(Duration::ZERO)
    }

    /// Empties the cache and reads the surviving tokens as a text of their own.
    fn read_again(&mut self, reader: &mut Reader, rule: &Rule) -> Result<Duration> {
        let start = Instant::now();
        let tokens: Vec<Token> = self.origins.iter().map(|&at| self.read[at]).collect();
        reader.context.forget_sequence(self.seq);
        (self.entries, self.next_pos) = (Vec::new(), 0);
        self.expect(reader, rule, tokens.len())?;
        reader.context.read(self.seq, &tokens, 0, false)?;
        (self.entries, self.next_pos) = ((0..tokens.len()).collect(), tokens.len());
        Ok(start.elapsed())
    }

    /// Tells the tap which tensors the policy needs when the cache has `len` entries. Sums of attention over a window of
    /// last queries begin anew: those queries count that are read from now on.
    pub(super) fn expect(&mut self, reader: &mut Reader, rule: &Rule, len: usize) -> Result<()> {
        let Some(score) = rule.score else { return Ok(()) };
        self.needs = score.needs(len);
        let from = self.positions(&self.needs.attention_from);
        if self.entries.is_empty() {
            return reader.context.observe(self.seq, &Needs { attention_from: from, ..self.needs.clone() });
        }
        let kept: Vec<i32> = self.entries.iter().copied().map(pos).collect();
        reader.context.retain_seen(self.seq, &kept, &kept, &from)
    }

    /// The positions of entries given by their indices; the first stands for the beginning of everything, and entries
    /// beyond the last one are those to come.
    fn positions(&self, indices: &[i32]) -> Vec<i32> {
        let position = |&index: &i32| {
            let index = index.unsigned_abs() as usize;
            let beyond = || self.next_pos + index.saturating_sub(self.entries.len());
            if index == 0 { 0 } else { pos(self.entries.get(index).copied().unwrap_or_else(beyond)) }
        };
        indices.iter().map(position).collect()
    }
}

/// The keep set of `kept`, which ascend, among `len` positions.
fn keep_set(len: usize, kept: &[usize]) -> KeepSet {
    let mut kept = kept.iter().copied().peekable();
    KeepSet::without(len, (0..len).filter(|&at| kept.next_if_eq(&at).is_none()).collect())
}

/// Ascending positions as maximal ranges.
fn ranges(positions: &[usize]) -> Vec<Range<usize>> {
    positions.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1).collect()
}

fn pos(position: usize) -> i32 {
    i32::try_from(position).expect("contexts are smaller than 2^31 positions")
}
