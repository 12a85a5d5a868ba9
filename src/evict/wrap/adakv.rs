//! `adakv+POLICY`: the KV heads of a layer share one budget (Feng et al. 2024, "Ada-KV", arXiv 2407.11550).
//!
//! The scores of all heads of a layer are ranked together, so that a head whose scores are high keeps more positions
//! than another. Each head keeps at least a part of the equal share: its own highest scores.

use std::sync::Arc;

use super::Wrapper;
use crate::evict::{Granularity, Parameter, Policy, View};

/// Shares a layer's budget among its heads.
struct AdaKv {
    /// Percentage of the equal share that each head keeps at least.
    safeguard: usize,
    inner: Arc<dyn Policy>,
}

/// The name, summary and parameters of `adakv+POLICY`.
pub(super) static ADAKV: Wrapper = Wrapper {
    name: "adakv",
    title: "AdaKV",
    summary: "a layer's budget goes to its heads by their pooled scores; needs --granularity head",
    paper: Some("2407.11550"),
    parameters: &[Parameter {
        name: "safeguard",
        default: 20,
        range: 0..=100,
        about: "percentage of the equal share that each head keeps at least",
    }],
    needs_scores: true,
    ranks: false,
    make: |values, inner| Arc::new(AdaKv { safeguard: values[0], inner }),
};

impl Policy for AdaKv {
    fn inner(&self) -> Option<&dyn Policy> {
        Some(&*self.inner)
    }

    fn coarsest(&self) -> Granularity {
        Granularity::Head
    }

    /// Evicts the lowest of all heads' scores, except each head's highest ones.
    fn share_among_heads(&self, heads: &[View], survivors: usize) -> Vec<usize> {
        let safe = match survivors * self.safeguard / 100 {
            0 if self.safeguard > 0 => survivors.min(1),
            safe => safe,
        };
        let candidates = heads.first().map_or(0, |head| head.candidates.len());
        let mut pooled: Vec<(f64, usize)> = Vec::new();
        for (index, head) in heads.iter().enumerate() {
            let mut scores: Vec<f64> = head.evictable().map(|position| head.scores[position]).collect();
            scores.sort_by(f64::total_cmp);
            // Positions that survive anyway count as the head's highest.
            let reserved = candidates - scores.len();
            scores.truncate(scores.len() - safe.saturating_sub(reserved).min(scores.len()));
            pooled.extend(scores.into_iter().map(|score| (score, index)));
        }
        pooled.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut shares = vec![candidates; heads.len()];
        for &(_, head) in pooled.iter().take(heads.len() * (candidates - survivors)) {
            shares[head] -= 1;
        }
        shares
    }
}
