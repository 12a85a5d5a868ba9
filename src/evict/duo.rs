//! `duo`: some heads keep everything, the others only the first and the last positions (Xiao et al. 2024, "DuoAttention",
//! arXiv 2410.10819), with heads told apart on the fly, as in kvpress.
//!
//! A *retrieval* head looks far back, a *streaming* head at what is near. Which one a head is shows in the attention of its
//! mean query to copies of its mean key, which then depends on the distance alone.

use super::score::softmax;
use super::{Family, Granularity, Heads, Layer, Needs, Parameter, Policy, Score, View};

/// Number of copies of the mean key.
const COPIES: usize = 500;

/// Lets whole heads forget what is neither first nor recent.
struct Duo {
    /// First positions that a streaming head keeps.
    sinks: usize,
    /// Last positions that a streaming head keeps.
    recent: usize,
    score: LooksBack,
}

/// How far back each head looks.
struct LooksBack;

/// The name, summary and parameters of `duo`.
pub(super) static DUO: Family = Family {
    name: "duo",
    title: "DuoAttention",
    summary: "heads that look far back keep everything, the others sinks and recent positions; needs --granularity head",
    paper: Some("2410.10819"),
    parameters: &[
        Parameter {
            name: "sinks",
            default: 128,
            range: 0..=65_536,
            about: "first positions that a streaming head keeps",
        },
        Parameter { name: "recent", default: 256, range: 1..=65_536, about: "last positions that it keeps" },
    ],
    make: |values| Box::new(Duo { sinks: values[0], recent: values[1], score: LooksBack }),
};

impl Duo {
    /// How many first and last positions a streaming head keeps: together at most half the budget, so that some heads can
    /// keep everything.
    fn windows(&self, budget: usize) -> (usize, usize) {
        let both = self.sinks + self.recent;
        if budget / 2 >= both {
            return (self.sinks, self.recent);
        }
        let sinks = budget / 2 * self.sinks / both;
        (sinks, budget / 2 - sinks)
    }
}

impl Policy for Duo {
    fn is_fixed(&self) -> bool {
        true
    }

    fn score(&self) -> Option<&dyn Score> {
        Some(&self.score)
    }

    fn coarsest(&self) -> Granularity {
        Granularity::Head
    }

    /// What every head keeps. What is protected counts inside the budget.
    fn reserve(&self, view: &View, protected: &mut [bool]) -> bool {
        let candidates = view.candidates.clone();
        let budget = view.budget.survivors(candidates.len() + view.gone).min(candidates.len());
        let (sinks, recent) = self.windows(budget);
        let n_protected = candidates.clone().filter(|&position| protected[position]).count();
        let mut left = budget.saturating_sub(n_protected);
        let first = candidates.start..candidates.start + sinks;
        for position in first.chain((candidates.end - recent..candidates.end).rev()) {
            if !protected[position] && left > 0 {
                protected[position] = true;
                left -= 1;
            }
        }
        false
    }

    /// The heads that look back least evict all they may, one after the other, until enough is evicted.
    fn share(&self, layers: &[Vec<View>], survivors: &[usize]) -> Vec<Vec<usize>> {
        let candidates = layers.iter().flatten().next().map_or(0, |head| head.candidates.len());
        let mut shares: Vec<Vec<usize>> = layers.iter().map(|heads| vec![candidates; heads.len()]).collect();
        let of_layer = |(heads, survivors): (&Vec<View>, &usize)| heads.len() * (candidates - survivors);
        let mut to_evict: usize = layers.iter().zip(survivors).map(of_layer).sum();
        let mut heads: Vec<(f64, usize, usize, usize)> = Vec::new();
        for (layer, views) in layers.iter().enumerate() {
            for (head, view) in views.iter().enumerate() {
                heads.push((view.scores[view.candidates.start], layer, head, view.evictable().count()));
            }
        }
        heads.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: of equal heads the earlier
        for (_, layer, head, evictable) in heads {
            let evicted = evictable.min(to_evict);
            shares[layer][head] -= evicted;
            to_evict -= evicted;
        }
        shares
    }

    /// The oldest: all positions of a head have the same score.
    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        view.evictable().take(n_evict).collect()
    }
}

impl Score for LooksBack {
    fn needs(&self, _len: usize) -> Needs {
        Needs { raw_keys: true, ..Needs::default().queries(0) }
    }

    fn score(&self, layer: &Layer) -> Heads {
        let group = layer.heads / layer.kv_heads;
        layer.per_head(|head| {
            let key = mean_key(layer, head);
            let of_query = |query: usize| looks_back(layer, &mean_query(layer, query), &key);
            let mean = (head * group..(head + 1) * group).map(of_query).sum::<f64>() / group as f64;
            vec![mean; layer.len]
        })
    }
}

fn mean_query(layer: &Layer, head: usize) -> Vec<f64> {
    let of_head = head * layer.d_k..(head + 1) * layer.d_k;
    layer.queries.as_ref().map_or_else(|| vec![0.0; layer.d_k], |queries| queries.mean[of_head].to_vec())
}

/// The mean of the keys before RoPE.
fn mean_key(layer: &Layer, head: usize) -> Vec<f64> {
    let mut mean = vec![0.0; layer.d_k];
    for at in 0..layer.len {
        let start = (at * layer.kv_heads + head) * layer.d_k;
        let key = &layer.raw_keys[start..start + layer.d_k];
        mean.iter_mut().zip(key).for_each(|(sum, &x)| *sum += f64::from(x) / layer.len as f64);
    }
    mean
}

/// The area under the cumulated attention of the last of [`COPIES`] equal queries to as many equal keys: near 1 if it looks
/// at the first of them, near 0 if it looks at itself.
fn looks_back(layer: &Layer, query: &[f64], key: &[f64]) -> f64 {
    let rotated = layer.rope.map_or(0, |rope| rope.n_dims);
    let fixed: f64 = (0..layer.d_k)
        .filter(|dimension| layer.rope.is_none_or(|rope| !is_rotated(&rope, *dimension)))
        .map(|dimension| query[dimension] * key[dimension])
        .sum();
    // Of each pair: its part along the rotation, and across it.
    let pairs: Vec<(f64, f64)> = (0..rotated / 2)
        .filter_map(|pair| {
            let (i, j) = layer.rope?.pair(pair);
            Some((query[i] * key[i] + query[j] * key[j], query[j] * key[i] - query[i] * key[j]))
        })
        .collect();
    let seen = layer.window.unwrap_or(COPIES).min(COPIES);
    let logit = |distance: usize| {
        let turned = pairs.iter().enumerate().map(|(pair, (along, across))| {
            let (sin, cos) = layer.rope.map_or(0.0, |rope| rope.angle(distance, pair)).sin_cos();
            cos * along - sin * across
        });
        let factor = layer.rope.map_or(1.0, |rope| rope.attn_factor.powi(2));
        (fixed + factor * turned.sum::<f64>()) / (layer.d_k as f64).sqrt()
    };
    let weights = softmax(&(0..seen).map(logit).collect::<Vec<_>>());
    // A weight at this distance is in the cumulated sums of the key itself and of all later ones.
    weights.iter().enumerate().map(|(distance, weight)| weight * (distance + 1) as f64 / COPIES as f64).sum()
}

fn is_rotated(rope: &super::Rope, dimension: usize) -> bool {
    dimension < rope.n_dims
}
