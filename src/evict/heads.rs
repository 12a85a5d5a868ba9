//! Keep sets that differ between layers and heads.

use std::ops::Range;

use super::{Granularity, KeepSet, Policy, Scores, View, check, evict, reserved, score};
use crate::{Error, Result};

/// Which positions each KV head of some layers keeps. No cell is freed: the other positions are hidden from that head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadKeeps {
    /// For each layer: its number in the model, and the keep set of each of its KV heads. Their sizes differ
    /// only under policies that share the budget unequally.
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
        let of_layer = |(&(layer, n_heads), survivors): (&(u32, usize), usize)| {
            let heads = scores.and_then(|scores| scores.layers.iter().find(|(index, _)| *index == layer));
            let view = View { candidates: view.candidates.clone(), survivors: Some(survivors), ..*view };
            if granularity == Granularity::Layer {
                let mean = heads.map_or_else(Vec::new, |(_, heads)| score::mean(heads));
                let seed = view.seed.of_head(layer, 0);
                let keep = evict(policy, len, &View { seed, scores: &mean, ..view })?;
                return Ok((layer, vec![keep; n_heads]));
            }
            let (protected, _) = reserved(policy, len, &view);
            let of_head = |head: usize| View {
                candidates: view.candidates.clone(),
                seed: view.seed.of_head(layer, head),
                scores: heads.map_or(&[], |(_, heads)| &heads[head]),
                protected: &protected,
                ..view
            };
            let heads: Vec<View> = (0..n_heads).map(of_head).collect();
            let shares = policy.share_among_heads(&heads, survivors);
            let keep = |(head, share)| evict(policy, len, &View { survivors: Some(share), ..head });
            let keeps: Result<_> = heads.into_iter().zip(shares).map(keep).collect();
            Ok((layer, keeps?))
        };
        let shares = shares_of_layers(policy, view, layers.len())?;
        Ok(HeadKeeps { layers: layers.iter().zip(shares).map(of_layer).collect::<Result<_>>()? })
    }

    /// How many positions each head keeps, on average.
    pub fn n_kept(&self) -> usize {
        let (sum, count) = self.all().fold((0, 0), |(sum, count), keep| (sum + keep.n_kept(), count + 1));
        (sum + count / 2).checked_div(count).unwrap_or(0)
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

/// Whether [`HeadKeeps::new`] can meet the budget in each of `layers` layers, without knowing the scores.
///
/// # Errors
/// As [`evict`].
pub fn check_layers(policy: &dyn Policy, len: usize, view: &View, layers: usize) -> Result<()> {
    let least = shares_of_layers(policy, view, layers)?.into_iter().min();
    check(policy, len, &View { survivors: least, candidates: view.candidates.clone(), ..*view })
}

/// How many candidates survive in each layer.
///
/// # Errors
/// If the budget leaves none at all.
fn shares_of_layers(policy: &dyn Policy, view: &View, layers: usize) -> Result<Vec<usize>> {
    let candidates = view.candidates.len();
    let survivors = view.budget.survivors(candidates);
    if survivors == 0 && candidates > 0 {
        let budget = view.budget.described();
        return Err(Error::input(format!("{budget} leaves 0 of {candidates} positions; lower the ratio")));
    }
    Ok(policy.share_among_layers(layers, candidates, survivors))
}
