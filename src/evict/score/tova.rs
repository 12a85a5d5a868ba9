//! `tova`: keeps what the newest query attends to (Oren et al. 2024, "Transformers are multi-state RNNs", arXiv
//! 2401.06104).

use std::ops::Range;

use super::{Family, Heads, Layer, Lowest, Needs, Score, keep, keep_last};

/// Attention weights of the last cached query, averaged over all query heads of the layer.
pub struct Tova;

/// The name and summary of `tova`.
pub(in crate::evict) static TOVA: Family = Family {
    name: "tova",
    title: "TOVA",
    summary: "what the last query attends to, over all heads of a layer",
    paper: Some("2401.06104"),
    parameters: &[],
    make: |_| Box::new(Lowest(Tova)),
};

impl Score for Tova {
    fn needs(&self, len: usize) -> Needs {
        Needs::attention(len - 1)
    }

    fn score(&self, layer: &Layer) -> Heads {
        let heads = layer.attention_from(layer.len - 1);
        let mean = (0..layer.len).map(|at| heads.iter().map(|head| head[at]).sum::<f64>() / heads.len() as f64);
        let mut scores = vec![mean.collect(); layer.kv_heads];
        keep_last(&mut scores, 1);
        scores
    }

    fn needs_in_parts(&self, parts: &[Range<usize>]) -> Option<Needs> {
        Some(Needs::attention_at(parts.iter().flat_map(|part| [part.end - 1, part.end])))
    }

    /// The attention of the last query of a position's own part; that last position is kept.
    fn score_in_parts(&self, layer: &Layer, parts: &[Range<usize>]) -> Heads {
        let mut scores = vec![0.0; layer.len];
        for part in parts {
            let heads = layer.attention_within(&(part.end - 1..part.end));
            for at in part.clone() {
                scores[at] = heads.iter().map(|head| head[at]).sum::<f64>() / heads.len() as f64;
            }
        }
        let mut heads = vec![scores; layer.kv_heads];
        keep(&mut heads, parts.iter().map(|part| part.end - 1..part.end));
        heads
    }
}
