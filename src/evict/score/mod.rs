//! Policies that rank positions by a score per layer and KV head.
//!
//! A policy is one file with an `impl Score` and a [`Family`], and one line in [`super::POLICIES`]. A score is a
//! function of a [`Layer`], the tensors read from the graph while the prompt was decoded. Higher scores are kept; of
//! equal scores the later position is kept.

mod aggregate;
mod expected_attention;
mod h2o;
mod keydiff;
mod knorm;
mod kvzip;
mod lagkv;
mod layer;
mod snapkv;
mod tova;

pub(super) use aggregate::mean;
pub use aggregate::{Aggregate, Scores};
pub(super) use expected_attention::EXPECTED_ATTENTION;
pub(super) use h2o::H2O;
pub(super) use keydiff::KEYDIFF;
pub(super) use knorm::KNORM;
pub(super) use kvzip::KVZIP;
pub(super) use lagkv::LAGKV;
pub use layer::{Attention, Layer, Needs, Queries, Rope};
pub(super) use snapkv::SNAPKV;
pub(super) use tova::TOVA;

use super::{Family, Parameter, Policy, View};

/// Scores of one layer, `[kv_heads][len]`.
pub type Heads = Vec<Vec<f64>>;

/// Gives scores to cached positions.
pub trait Score: Send + Sync {
    /// The tensors it needs while `len` positions are read.
    fn needs(&self, len: usize) -> Needs;

    /// In parts of how many tokens the scored tokens are read once more behind the prompt; `None` without such a replay.
    fn replay(&self) -> Option<usize> {
        None
    }

    /// Whether it scores the layers without a sliding window alone.
    fn global_only(&self) -> bool {
        false
    }

    /// The score of each position, for each KV head.
    fn score(&self, layer: &Layer) -> Heads;

    /// The scores of all layers.
    fn layers(&self, layers: &[Layer]) -> Scores {
        let scored = layers.iter().filter(|layer| layer.window.is_none() || !self.global_only());
        Scores { layers: scored.map(|layer| (layer.index, self.score(layer))).collect(), ..Scores::default() }
    }
}

/// A policy that evicts the positions with the lowest scores.
pub struct Lowest<S>(pub S);

impl<S: Score + 'static> Policy for Lowest<S> {
    fn score(&self) -> Option<&dyn Score> {
        Some(&self.0)
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        let mut positions: Vec<_> = view.evictable().collect();
        // A stable sort of ascending positions: of equal scores the earlier position is evicted first.
        positions.sort_by(|&a, &b| view.scores[a].total_cmp(&view.scores[b]));
        positions.truncate(n_evict);
        positions
    }
}

/// Keeps the `count` last positions of each head: they get the maximum of the layer's other scores plus 1, as in
/// kvpress.
fn keep_last(heads: &mut [Vec<f64>], count: usize) {
    let first = heads[0].len() - count;
    let others = heads.iter().flat_map(|scores| &scores[..first]).copied();
    let max = others.reduce(f64::max).unwrap_or(0.0);
    heads.iter_mut().for_each(|scores| scores[first..].fill(max + 1.0));
}

#[cfg(test)]
mod tests;
