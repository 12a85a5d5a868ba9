//! Keep sets that differ between layers and heads.

use std::ops::Range;

use super::{Granularity, Heads, KeepSet, Policy, Scores, View, check, evict, reserved, score};
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
        let shares = shares_of_layers(policy, view, layers.len())?;
        let first = |layer| of_layer(scores.map(|scores| &scores.layers), layer);
        let second = |layer| of_layer(scores.map(|scores| &scores.second), layer);
        let with = |survivors| View { candidates: view.candidates.clone(), survivors: Some(survivors), ..*view };
        if granularity == Granularity::Layer {
            let keep = |(&(layer, heads), &survivors): (&(u32, usize), &usize)| {
                let mean = |heads: Option<&Heads>| heads.map_or_else(Vec::new, score::mean);
                let (scores, second) = (mean(first(layer)), mean(second(layer)));
                let seed = view.seed.of_head(layer, 0);
                let keep = evict(policy, len, &View { seed, scores: &scores, second: &second, ..with(survivors) })?;
                Ok((layer, vec![keep; heads]))
            };
            return Ok(HeadKeeps { layers: layers.iter().zip(&shares).map(keep).collect::<Result<_>>()? });
        }
        let protected: Vec<_> = shares.iter().map(|&survivors| reserved(policy, len, &with(survivors)).0).collect();
        let views = |(at, &(layer, heads)): (usize, &(u32, usize))| -> Vec<View> {
            let of_head = |head: usize| View {
                seed: view.seed.of_head(layer, head),
                scores: first(layer).map_or(&[], |heads| &heads[head]),
                second: second(layer).map_or(&[], |heads| &heads[head]),
                protected: &protected[at],
                ..with(shares[at])
            };
            (0..heads).map(of_head).collect()
        };
        let views: Vec<_> = layers.iter().enumerate().map(views).collect();
        let of_heads = policy.share(&views, &shares);
        let mut keeps = Vec::with_capacity(layers.len());
        for ((&(layer, _), heads), shares) in layers.iter().zip(views).zip(of_heads) {
            let keep = |(head, share)| evict(policy, len, &View { survivors: Some(share), ..head });
            keeps.push((layer, heads.into_iter().zip(shares).map(keep).collect::<Result<_>>()?));
        }
        Ok(HeadKeeps { layers: keeps })
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

/// The scores of one layer.
fn of_layer(scores: Option<&Vec<(u32, Heads)>>, layer: u32) -> Option<&Heads> {
    scores?.iter().find(|(index, _)| *index == layer).map(|(_, heads)| heads)
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
