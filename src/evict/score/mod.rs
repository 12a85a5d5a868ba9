//! Policies that rank positions by a score per layer and KV head.
//!
//! A policy is one file with an `impl Score` and a [`Family`], and one line in [`super::POLICIES`]. A score is a
//! function of a [`Layer`], the tensors read from the graph while the prompt was decoded. Higher scores are kept; of
//! equal scores the later position is kept. A program that uses this library can bring a score of its own:
//! [`PolicySpec::own`](super::PolicySpec::own).

mod aggregate;
mod expected_attention;
mod h2o;
mod keydiff;
mod knorm;
mod kvzip;
mod lagkv;
mod layer;
mod qfilters;
mod snapkv;
mod tova;

pub(super) use aggregate::mean;
pub use aggregate::{Aggregate, Scores};
pub(super) use expected_attention::EXPECTED_ATTENTION;
pub(super) use h2o::H2O;
pub(super) use keydiff::KEYDIFF;
pub(super) use knorm::KNORM;
pub(super) use kvzip::KVZIP;
pub(super) use lagkv::{LAGKV, softmax};
pub use layer::{Attention, Layer, Needs, Queries, Rope};
pub(super) use qfilters::QFILTERS;
pub use qfilters::QFilters;
pub(super) use snapkv::SNAPKV;
pub(super) use tova::TOVA;

use std::ops::Range;

use super::{Family, Parameter, Policy, View};
use crate::span::Span;
use crate::{Error, Result};

/// Scores of one layer, `[kv_heads][len]`.
pub type Heads = Vec<Vec<f64>>;

/// The prompt whose positions are scored, apart from its tensors.
#[derive(Debug, Clone, Default)]
pub struct Subject<'a> {
    /// The example's id; empty without one.
    pub example: &'a str,
    /// The tokens at the scored positions.
    pub tokens: &'a [i32],
    /// The text of each of these tokens.
    pub texts: &'a [Vec<u8>],
    /// Labelled ranges of the whole prompt.
    pub spans: &'a [Span],
    /// Cached positions of the whole prompt; more than are scored if `--scope` compresses a span alone.
    pub cached: usize,
    /// What must survive, for a score that [chooses](Score::chooses).
    pub quota: Option<Quota>,
    /// Parts that are scored each for itself (`--fair=scores`); empty if the prompt is scored as a whole.
    pub parts: &'a [Range<usize>],
}

impl Subject<'_> {
    /// The tensors that a score needs of this prompt.
    pub fn needs(&self, score: &dyn Score) -> Needs {
        let in_parts = if self.parts.is_empty() { None } else { score.needs_in_parts(self.parts) };
        in_parts.unwrap_or_else(|| score.needs(self.tokens.len()))
    }
}

/// How many positions survive, and which of them in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quota {
    /// How many of the scored positions survive.
    pub keep: usize,
    /// Positions that survive in any case, counted in `keep`.
    pub must: Vec<usize>,
}

/// Gives scores to cached positions.
pub trait Score: Send + Sync {
    /// The tensors it needs while `len` positions are read.
    fn needs(&self, len: usize) -> Needs;

    /// The score of each position, for each KV head of a layer.
    fn score(&self, layer: &Layer) -> Heads;

    /// The tensors it needs to score `parts` of the prompt each for itself (`--fair=scores`): attention between queries and
    /// keys of one part alone. `None` if that is not defined.
    fn needs_in_parts(&self, parts: &[Range<usize>]) -> Option<Needs> {
        let _ = parts;
        None
    }

    /// The scores if each of `parts` is scored for itself; other positions get 0.
    fn score_in_parts(&self, layer: &Layer, parts: &[Range<usize>]) -> Heads {
        let _ = parts;
        self.score(layer)
    }

    /// In parts of how many tokens the scored tokens are read once more behind the prompt; `None` without such a replay.
    fn replay(&self) -> Option<usize> {
        None
    }

    /// Whether it scores the layer of this number, which is `local` if it has a sliding window.
    fn scores_layer(&self, layer: u32, local: bool) -> bool {
        let _ = (layer, local);
        true
    }

    /// Whether it is asked for each budget which positions survive ([`Subject::quota`]). Its scores are then 1 and 0.
    fn chooses(&self) -> bool {
        false
    }

    /// Whether it can score the cache again and again while the model generates.
    fn rolls(&self) -> bool {
        self.replay().is_none()
    }

    /// Whether it can score any prompt, so that it is tried on a few tokens before the first trial.
    fn rehearses(&self) -> bool {
        true
    }

    /// Whether it can score a prompt, as far as this is known before the prompt is read. `layers` are the model's, with
    /// their number of KV heads.
    ///
    /// # Errors
    /// If it cannot.
    fn check(&self, subject: &Subject, layers: &[(u32, usize)]) -> Result<()> {
        let _ = (subject, layers);
        Ok(())
    }

    /// The scores of `layers`, those that it [scores](Score::scores_layer): by default what [`Score::score`] gives each
    /// of them.
    ///
    /// # Errors
    /// If there are none: a program that computes them fails.
    fn scores(&self, layers: &[Layer], subject: &Subject) -> Result<Scores> {
        let score = |layer: &Layer| match subject.parts {
            [] => self.score(layer),
            parts => self.score_in_parts(layer, parts),
        };
        let scored = layers.iter().map(|layer| (layer.index, score(layer)));
        Ok(Scores { layers: scored.collect(), ..Scores::default() })
    }
}

/// A policy that evicts the positions with the lowest scores.
pub struct Lowest<S>(pub S);

impl<S: Score + 'static> Policy for Lowest<S> {
    fn score(&self) -> Option<&dyn Score> {
        Some(&self.0)
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        lowest(view, n_evict)
    }
}

/// The `n_evict` positions with the lowest scores; of equal ones the earlier position.
pub(super) fn lowest(view: &View, n_evict: usize) -> Vec<usize> {
    let mut positions: Vec<_> = view.evictable().collect();
    // A stable sort of ascending positions.
    positions.sort_by(|&a, &b| view.scores[a].total_cmp(&view.scores[b]));
    positions.truncate(n_evict);
    positions
}

/// The scores of `layers` under one policy, none of them NaN and as many as there are heads and positions.
///
/// # Errors
/// As [`Score::scores`], or if a score is missing or NaN.
pub(crate) fn score_layers(score: &dyn Score, layers: &[Layer], subject: &Subject) -> Result<Scores> {
    let of_policy = |layer: &&Layer| score.scores_layer(layer.index, layer.window.is_some());
    let scored: Vec<Layer> = layers.iter().filter(of_policy).cloned().collect();
    let scores = score.scores(&scored, subject)?;
    let shape = |(layer, (index, heads)): (&Layer, &(u32, Heads))| {
        layer.index == *index && heads.len() == layer.kv_heads && heads.iter().all(|head| head.len() == layer.len)
    };
    if scores.layers.len() != scored.len() || !scored.iter().zip(&scores.layers).all(shape) {
        return Err(Error::failed(
            "the policy's scores have the wrong shape: they must be, for each layer, a score of each position for each KV head",
        ));
    }
    scores.checked()
}

/// Keeps the `count` last positions of each head: they get the maximum of the layer's other scores plus 1, as in
/// kvpress.
fn keep_last(heads: &mut [Vec<f64>], count: usize) {
    let len = heads[0].len();
    keep(heads, std::iter::once(len - count..len));
}

/// Keeps these positions of each head in the same way.
fn keep(heads: &mut [Vec<f64>], kept: impl IntoIterator<Item = Range<usize>>) {
    let kept: Vec<usize> = kept.into_iter().flatten().collect();
    // Kept positions have no score yet.
    heads.iter_mut().for_each(|scores| kept.iter().for_each(|&at| scores[at] = f64::NEG_INFINITY));
    let max = heads.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let max = if max.is_finite() { max } else { 0.0 };
    heads.iter_mut().for_each(|scores| kept.iter().for_each(|&at| scores[at] = max + 1.0));
}

#[cfg(test)]
mod tests;
