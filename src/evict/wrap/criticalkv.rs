//! `criticalkv+POLICY`: the second half of the budget goes to positions whose values matter to the layer's output (Feng et
//! al. 2025, "CriticalKV", arXiv 2502.03805).
//!
//! The first half survives by the policy's scores `s`. The rest is ranked by `(s + 0.0001) |W v|`: the score times the L1
//! norm of what the attention output's weights make of the value.

use std::ops::Range;
use std::sync::Arc;

use super::Wrapper;
use crate::evict::{Heads, Layer, Needs, Parameter, Policy, Score, Scores, Subject, View};
use crate::{Error, Result};

/// Added to each score, as in kvpress, so that a score of 0 still lets the value count.
const EPSILON: f64 = 1e-4;

/// Ranks in two stages.
struct CriticalKv {
    /// Percentage of the budget that survives by the policy's scores alone.
    first: usize,
    inner: Arc<dyn Policy>,
    score: Valued,
}

/// The scores of a policy, and second ones by what values weigh.
struct Valued(Arc<dyn Policy>);

/// The name, summary and parameters of `criticalkv+POLICY`.
pub(super) static CRITICALKV: Wrapper = Wrapper {
    name: "criticalkv",
    title: "CriticalKV",
    summary: "half of the budget by score, the rest by score times the size of the value behind the output weights",
    paper: Some("2502.03805"),
    parameters: &[Parameter {
        name: "first",
        default: 50,
        range: 0..=100,
        about: "percentage of the budget that survives by the scores alone",
    }],
    needs_scores: true,
    ranks: true,
    make: |values, inner| Arc::new(CriticalKv { first: values[0], score: Valued(Arc::clone(&inner)), inner }),
};

impl Policy for CriticalKv {
    fn inner(&self) -> Option<&dyn Policy> {
        Some(&*self.inner)
    }

    fn score(&self) -> Option<&dyn Score> {
        Some(&self.score)
    }

    /// Protected positions count in the first stage.
    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        let survivors = view.candidates.len() - n_evict;
        let first = match survivors * self.first / 100 {
            0 if self.first > 0 => survivors.min(1),
            first => first,
        };
        let mut positions: Vec<_> = view.evictable().collect();
        let first = first.saturating_sub(view.candidates.len() - positions.len());
        // Stable sorts of ascending positions: of equal scores the later is kept.
        positions.sort_by(|&a, &b| view.scores[a].total_cmp(&view.scores[b]));
        positions.truncate(positions.len() - first);
        positions.sort_unstable();
        positions.sort_by(|&a, &b| view.second[a].total_cmp(&view.second[b]));
        positions.truncate(n_evict);
        positions
    }
}

impl Valued {
    fn inner(&self) -> &dyn Score {
        self.0.score().expect("only policies with scores are wrapped")
    }
}

impl Score for Valued {
    fn needs(&self, len: usize) -> Needs {
        Needs { values: true, projected: true, ..self.inner().needs(len) }
    }

    fn score(&self, layer: &Layer) -> Heads {
        self.inner().score(layer)
    }

    fn needs_in_parts(&self, parts: &[Range<usize>]) -> Option<Needs> {
        let needs = self.inner().needs_in_parts(parts)?;
        Some(Needs { values: true, projected: true, ..needs })
    }

    fn score_in_parts(&self, layer: &Layer, parts: &[Range<usize>]) -> Heads {
        self.inner().score_in_parts(layer, parts)
    }

    fn replay(&self) -> Option<usize> {
        self.inner().replay()
    }

    fn scores_layer(&self, layer: u32, local: bool) -> bool {
        self.inner().scores_layer(layer, local)
    }

    fn chooses(&self) -> bool {
        self.inner().chooses()
    }

    fn rolls(&self) -> bool {
        self.inner().rolls()
    }

    fn rehearses(&self) -> bool {
        self.inner().rehearses()
    }

    fn check(&self, subject: &Subject, layers: &[(u32, usize)]) -> Result<()> {
        self.inner().check(subject, layers)
    }

    fn scores(&self, layers: &[Layer], subject: &Subject) -> Result<Scores> {
        let scores = self.inner().scores(layers, subject)?;
        let negative = |score: &f64| *score < -EPSILON;
        if scores.layers.iter().flat_map(|(_, heads)| heads).flatten().any(negative) {
            return Err(Error::input(
                "criticalkv multiplies scores, and those of the policy in it can be negative, so that a larger value would \
                 lower them; wrap a policy that scores by attention, such as criticalkv+snapkv",
            ));
        }
        let valued = |((index, heads), layer): (&(u32, Heads), &Layer)| {
            let head = |(scores, norms): (&Vec<f64>, &Vec<f64>)| {
                scores.iter().zip(norms).map(|(score, norm)| (score + EPSILON) * norm).collect()
            };
            (*index, heads.iter().zip(&layer.projected).map(head).collect())
        };
        let second = scores.layers.iter().zip(layers).map(valued).collect();
        Ok(Scores { second, ..scores })
    }
}
