//! `kvzip`: keeps what the model needs to repeat the prompt (Kim et al. 2025, "KVzip", arXiv 2505.23416).
//!
//! The prompt is read once more behind the request to repeat it, part by part, in a fork of the cache that is dropped
//! afterwards. A position's score is the largest attention that any of these queries pays it.

use super::{Family, Heads, Layer, Lowest, Needs, Parameter, Score};

/// The largest attention while the prompt is repeated.
pub struct KvZip {
    /// Tokens that are repeated at once.
    pub chunk: usize,
    /// Number of first positions that are always kept.
    pub sinks: usize,
}

/// The name, summary and parameters of `kvzip`.
pub(in crate::evict) static KVZIP: Family = Family {
    name: "kvzip",
    title: "KVzip",
    summary: "what the model attends to when it repeats the prompt, which it reads twice for that; 4 sinks are kept",
    paper: Some("2505.23416"),
    parameters: &[
        Parameter { name: "chunk", default: 2_048, range: 16..=65_536, about: "tokens that are repeated at once" },
        Parameter { name: "sinks", default: 4, range: 0..=65_536, about: "first positions that are always kept" },
    ],
    make: |values| Box::new(Lowest(KvZip { chunk: values[0], sinks: values[1] })),
};

impl Score for KvZip {
    fn needs(&self, len: usize) -> Needs {
        Needs::replay(len)
    }

    fn replay(&self) -> Option<usize> {
        Some(self.chunk)
    }

    /// A local layer does not look back far enough to repeat a prompt.
    fn scores_layer(&self, _layer: u32, local: bool) -> bool {
        !local
    }

    fn score(&self, layer: &Layer) -> Heads {
        // The only sum: that of the replay.
        let replayed = layer.attention.first().map_or(&[][..], |attention| &attention.maxima);
        let mut heads: Heads = replayed.iter().map(|head| head.to_vec()).collect();
        let max = heads.iter().flatten().copied().fold(0.0, f64::max);
        let sinks = self.sinks.min(layer.len);
        heads.iter_mut().for_each(|head| head[..sinks].fill(max + 1.0));
        heads
    }
}
