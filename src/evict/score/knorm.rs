//! `knorm`: keeps keys of small norm, which attract attention (Devoto et al. 2024, arXiv 2406.11430).

use super::{Family, Heads, Layer, Lowest, Needs, Score};

/// Minus the L2 norm of the key.
pub struct KNorm;

/// The name and summary of `knorm`.
pub(in crate::evict) static KNORM: Family = Family {
    name: "knorm",
    title: "Key norm",
    summary: "keys of small L2 norm are kept",
    paper: Some("2406.11430"),
    parameters: &[],
    make: |_| Box::new(Lowest(KNorm)),
};

impl Score for KNorm {
    fn needs(&self, _len: usize) -> Needs {
        Needs::keys()
    }

    fn score(&self, layer: &Layer) -> Heads {
        layer.per_head(|head| (0..layer.len).map(|at| -norm(layer.key(head, at))).collect())
    }
}

/// The L2 norm.
pub(super) fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}
