//! `keydiff`: keeps keys unlike the others (Park et al. 2025, arXiv 2504.15364).

use super::knorm::norm;
use super::{Family, Heads, Layer, Lowest, Needs, Score};

/// Minus the cosine between the key (after RoPE) and the mean of the unit-length keys.
pub struct KeyDiff;

/// The name and summary of `keydiff`.
pub(in crate::evict) static KEYDIFF: Family = Family {
    name: "keydiff",
    title: "KeyDiff",
    summary: "keys that point away from the mean key are kept",
    paper: Some("2504.15364"),
    parameters: &[],
    make: |_| Box::new(Lowest(KeyDiff)),
};

impl Score for KeyDiff {
    fn needs(&self, _len: usize) -> Needs {
        Needs::keys()
    }

    fn score(&self, layer: &Layer) -> Heads {
        layer.per_head(|head| {
            let mut anchor = vec![0.0; layer.d_k];
            for at in 0..layer.len {
                let key = layer.key(head, at);
                let length = norm(key).max(f64::MIN_POSITIVE);
                anchor.iter_mut().zip(key).for_each(|(sum, &x)| *sum += f64::from(x) / length);
            }
            let anchor_length = anchor.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            let cosine = |key: &[f32]| {
                let dot: f64 = anchor.iter().zip(key).map(|(a, &k)| a * f64::from(k)).sum();
                dot / (anchor_length * norm(key).max(f64::MIN_POSITIVE))
            };
            (0..layer.len).map(|at| -cosine(layer.key(head, at))).collect()
        })
    }
}
