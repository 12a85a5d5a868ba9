//! Keep sets that differ between layers and heads.

use std::ops::Range;

use super::{Granularity, KeepSet, Policy, Scores, View, evict, score};
use crate::Result;

/// Which positions each KV head of some layers keeps. No cell is freed: the other positions are hidden from that head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadKeeps {
    /// For each layer: its number in the model, and the keep set of each of its KV heads. All keep sets have the same
    /// size.
    pub layers: Vec<(u32, Vec<KeepSet>)>,
}

impl HeadKeeps {
    /// Lets each layer, or each KV head, choose its own positions. `layers` are the layers in which positions are
    /// evicted, with their number of KV heads.
    ///
    /// # Errors
    /// As [`evict`].
    pub fn new(
        policy: &dyn Policy,
        len: usize,
        view: &View,
        granularity: Granularity,
        layers: &[(u32, usize)],
        scores: Option<&Scores>,
    ) -> Result<Self> {
        let of_layer = |&(layer, n_heads): &(u32, usize)| {
            let heads = scores.and_then(|scores| scores.layers.iter().find(|(index, _)| *index == layer));
            let keep = |seed, scores: &[f64]| {
                evict(policy, len, &View { candidates: view.candidates.clone(), seed, scores, ..*view })
            };
            let keeps = match granularity {
                Granularity::Head => (0..n_heads)
                    .map(|head| keep(view.seed.of_head(layer, head), heads.map_or(&[][..], |(_, heads)| &heads[head])))
                    .collect::<Result<_>>()?,
                _ => {
                    let mean = heads.map_or_else(Vec::new, |(_, heads)| score::mean(heads));
                    vec![keep(view.seed.of_head(layer, 0), &mean)?; n_heads]
                }
            };
            Ok((layer, keeps))
        };
        Ok(HeadKeeps { layers: layers.iter().map(of_layer).collect::<Result<_>>()? })
    }

    /// How many positions each head keeps.
    pub fn n_kept(&self) -> usize {
        self.all().next().map_or(0, KeepSet::n_kept)
    }

    /// How many positions of `range` survive, as the mean over heads.
    pub fn kept_within(&self, range: &Range<usize>) -> f64 {
        let (sum, count) =
            self.all().fold((0, 0usize), |(sum, count), keep| (sum + keep.kept_within(range.clone()), count + 1));
        sum as f64 / count.max(1) as f64
    }

    fn all(&self) -> impl Iterator<Item = &KeepSet> {
        self.layers.iter().flat_map(|(_, heads)| heads)
    }
}
