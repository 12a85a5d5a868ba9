//! `h2o`: keeps heavy hitters, the positions with the most attention (Zhang et al. 2023, arXiv 2306.14048).

use super::{Family, Heads, Layer, Lowest, Needs, Score};

/// Attention weights summed over all queries, divided by the number of queries that can see the position.
pub struct H2o;

/// The name and summary of `h2o`.
pub(in crate::evict) static H2O: Family = Family {
    name: "h2o",
    title: "H2O",
    summary: "heavy hitters: the mean attention of all queries that saw the position",
    paper: Some("2306.14048"),
    parameters: &[],
    make: |_| Box::new(Lowest(H2o)),
};

impl Score for H2o {
    fn needs(&self, _len: usize) -> Needs {
        Needs::attention(0)
    }

    fn score(&self, layer: &Layer) -> Heads {
        let head = |sums: &&[f64]| sums.iter().enumerate().map(|(at, sum)| sum / layer.seen_by(at) as f64).collect();
        layer.attention_from(0).iter().map(head).collect()
    }
}
