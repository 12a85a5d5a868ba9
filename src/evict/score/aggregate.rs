//! Combines the scores of layers and heads into one score per position.

use std::time::Duration;

use super::Heads;
use crate::evict::mode::words;
use crate::{Error, Result};

words! {
    /// How the scores of layers and KV heads become one score per position.
    Aggregate ("way to aggregate scores") {
        /// Their mean.
        #[default]
        Mean = "mean",
        /// Their maximum.
        Max = "max",
        /// The mean of their ranks: layers whose scores are larger by nature do not outvote the others.
        RankMean = "rank-mean",
    }
}

/// The scores of a prompt under one policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// For each layer: its number in the model, and its scores by KV head and position.
    pub layers: Vec<(u32, Heads)>,
    /// In the same form the scores by which a wrapper ranks what the first ones leave; empty without such a wrapper.
    pub second: Vec<(u32, Heads)>,
    /// Time that a [replay](super::Score::replay) took; zero without one.
    pub replay: Duration,
}

impl Scores {
    /// The same scores, if none is NaN, because a NaN would be ranked like a number.
    ///
    /// # Errors
    /// If a score is NaN; names layer, KV head and position.
    pub fn checked(self) -> Result<Self> {
        for (layer, heads) in self.layers.iter().chain(&self.second) {
            for (head, scores) in heads.iter().enumerate() {
                if let Some(at) = scores.iter().position(|score| score.is_nan()) {
                    return Err(Error::failed(format!(
                        "the policy's score of position {at} in layer {layer}, KV head {head} is not a number, so \
                         positions cannot be ranked; the model's keys, values or attention there are not finite: try \
                         --kv-type f32, or another policy"
                    )));
                }
            }
        }
        Ok(self)
    }

    /// The [second](Scores::second) scores alone, as first ones.
    #[must_use]
    pub fn seconds(&self) -> Self {
        Scores { layers: self.second.clone(), ..Scores::default() }
    }

    /// One score per position, from the layers that `layers` selects.
    pub fn aggregate(&self, how: Aggregate, layers: impl Fn(u32) -> bool) -> Vec<f64> {
        let heads: Vec<_> =
            self.layers.iter().filter(|(layer, _)| layers(*layer)).flat_map(|(_, heads)| heads).collect();
        aggregate(how, &heads)
    }

    /// One score per position: the mean over these heads, each as (layer, head).
    pub fn mean_of(&self, heads: &[(u32, usize)]) -> Vec<f64> {
        let of = |&(layer, head): &(u32, usize)| {
            self.layers.iter().find(|(index, _)| *index == layer).and_then(|(_, heads)| heads.get(head))
        };
        aggregate(Aggregate::Mean, &heads.iter().filter_map(of).collect::<Vec<_>>())
    }
}

/// The mean over the heads of a layer.
pub(in crate::evict) fn mean(heads: &Heads) -> Vec<f64> {
    aggregate(Aggregate::Mean, &heads.iter().collect::<Vec<_>>())
}

/// One score per position, from these heads.
fn aggregate(how: Aggregate, heads: &[&Vec<f64>]) -> Vec<f64> {
    let len = heads.first().map_or(0, |head| head.len());
    match how {
        Aggregate::Mean => {
            (0..len).map(|at| heads.iter().map(|head| head[at]).sum::<f64>() / heads.len() as f64).collect()
        }
        Aggregate::Max => {
            (0..len).map(|at| heads.iter().map(|head| head[at]).fold(f64::NEG_INFINITY, f64::max)).collect()
        }
        Aggregate::RankMean => {
            let mut sums = vec![0.0; len];
            for head in heads {
                let mut order: Vec<usize> = (0..len).collect();
                order.sort_by(|&a, &b| head[a].total_cmp(&head[b])); // stable: of equals the later ranks higher
                order.into_iter().enumerate().for_each(|(rank, at)| sums[at] += rank as f64);
            }
            sums.iter().map(|sum| sum / heads.len() as f64).collect()
        }
    }
}
