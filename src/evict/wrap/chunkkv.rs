//! `chunkkv+POLICY`: whole chunks of neighbouring positions survive (Liu et al. 2025, "ChunkKV", arXiv 2502.00299).

use std::sync::Arc;

use super::Wrapper;
use crate::evict::{Parameter, Policy, View};

/// Ranks chunks by their mean score.
struct ChunkKv {
    chunk: usize,
    inner: Arc<dyn Policy>,
}

/// The name, summary and parameters of `chunkkv+POLICY`.
pub(super) static CHUNKKV: Wrapper = Wrapper {
    name: "chunkkv",
    title: "ChunkKV",
    summary: "chunks of neighbouring positions survive or go together, by their mean score",
    paper: Some("2502.00299"),
    parameters: &[Parameter { name: "chunk", default: 20, range: 1..=65_536, about: "positions of a chunk" }],
    needs_scores: true,
    ranks: true,
    make: |values, inner| Arc::new(ChunkKv { chunk: values[0], inner }),
};

impl Policy for ChunkKv {
    fn inner(&self) -> Option<&dyn Policy> {
        Some(&*self.inner)
    }

    /// Evicts chunks from the lowest mean on. The budget cuts one chunk in two: its highest scores survive.
    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        let start = view.candidates.start;
        let means: Vec<f64> = view.scores[view.candidates.clone()]
            .chunks(self.chunk)
            .map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64)
            .collect();
        let chunk = |position: usize| (position - start) / self.chunk;
        let mut positions: Vec<_> = view.evictable().collect();
        // Stable: of equal means or scores the earlier is evicted first.
        positions.sort_by(|&a, &b| {
            let by_chunk = means[chunk(a)].total_cmp(&means[chunk(b)]).then(chunk(a).cmp(&chunk(b)));
            by_chunk.then(view.scores[a].total_cmp(&view.scores[b]))
        });
        positions.truncate(n_evict);
        positions
    }
}
