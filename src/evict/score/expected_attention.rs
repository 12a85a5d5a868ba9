//! `expected-attention`: keeps what future queries are expected to attend to (Devoto et al. 2025, arXiv 2510.00636).
//!
//! Future queries are assumed to be normally distributed, with the mean and covariance of the queries seen so far
//! (before RoPE), rotated by the mean rotation of the next positions. The expected attention weight of a key k is then
//! proportional to exp(k·μ/√d + k·Σk/(2d)); the score is this weight times the norm of the value.

use super::knorm::norm;
use super::lagkv::softmax;
use super::{Family, Heads, Layer, Lowest, Needs, Parameter, Queries, Rope, Score};

/// Expected attention times the norm of the value.
pub struct ExpectedAttention {
    /// Number of next positions over which the rotation is averaged.
    pub future: usize,
}

/// Number of first positions: always kept, and their queries left out as outliers.
const SINKS: usize = 4;

/// The name, summary and parameters of `expected-attention`.
pub(in crate::evict) static EXPECTED_ATTENTION: Family = Family {
    name: "expected-attention",
    title: "Expected Attention",
    summary: "the attention expected of future queries, times the value's norm; 4 sinks are kept",
    paper: Some("2510.00636"),
    parameters: &[Parameter {
        name: "future",
        default: 512,
        range: 1..=65_536,
        about: "next positions over which the rotation is averaged",
    }],
    make: |values| Box::new(Lowest(ExpectedAttention { future: values[0] })),
};

impl Score for ExpectedAttention {
    fn needs(&self, _len: usize) -> Needs {
        Needs::keys().and_values().queries(SINKS)
    }

    fn score(&self, layer: &Layer) -> Heads {
        let (len, d) = (layer.len, layer.d_k);
        let Some(queries) = layer.queries.as_ref().filter(|_| len > SINKS) else {
            return vec![vec![0.0; len]; layer.kv_heads]; // nothing but sinks
        };
        let rotation = Rotation::mean(layer, layer.next_position(), self.future);
        let group = layer.heads / layer.kv_heads;
        let mut scores = layer.per_head(|head| {
            let mut weights = vec![0.0; len - SINKS];
            for query_head in head * group..(head + 1) * group {
                let (mean, covariance) = rotation.apply(queries, query_head, d);
                let logits: Vec<f64> = keys(layer, head).map(|key| logit(&key, &mean, &covariance)).collect();
                weights.iter_mut().zip(softmax(&logits)).for_each(|(sum, weight)| *sum += weight / group as f64);
            }
            let valued = weights.iter().zip(SINKS..).map(|(weight, at)| weight * norm(layer.value(head, at)));
            std::iter::repeat_n(0.0, SINKS).chain(valued).collect()
        });
        // The sinks get the largest score of the layer plus 1, as in kvpress.
        let max = scores.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter_mut().for_each(|head| head[..SINKS].fill(max + 1.0));
        scores
    }
}

/// The keys after the sinks.
fn keys<'a>(layer: &'a Layer, head: usize) -> impl Iterator<Item = Vec<f64>> + 'a {
    (SINKS..layer.len).map(move |at| layer.key(head, at).iter().copied().map(f64::from).collect())
}

/// k·μ/√d + k·Σk/(2d). Σ is symmetric, so the entries left of its diagonal count twice.
fn logit(key: &[f64], mean: &[f64], covariance: &[f64]) -> f64 {
    let d = key.len();
    let rows = covariance.chunks(d).zip(key).enumerate();
    let quadratic: f64 = rows.map(|(i, (row, &k))| k * (2.0 * dot(&row[..i], key) + row[i] * k)).sum();
    dot(mean, key) / (d as f64).sqrt() + quadratic / (2.0 * d as f64)
}

/// The dot product, in partial sums that vector units can compute in parallel. `b` is at least as long as `a`.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 16;
    let b = &b[..a.len()];
    let mut sums = [0.0; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    rest + sums.iter().sum::<f64>()
}

/// The mean rotation of future positions: it rotates and shrinks each pair of dimensions.
struct Rotation {
    /// `(i, j, cos, sin)`: x_i becomes cos x_i - sin x_j, and x_j becomes sin x_i + cos x_j.
    pairs: Vec<(usize, usize, f64, f64)>,
}

impl Rotation {
    fn mean(layer: &Layer, next: usize, future: usize) -> Self {
        let pair = |rope: &Rope, pair: usize| {
            let (i, j) = rope.pair(pair);
            let (mut cos, mut sin) = (0.0, 0.0);
            for position in next..next + future {
                let angle = rope.angle(position, pair);
                cos += angle.cos();
                sin += angle.sin();
            }
            let factor = rope.attn_factor / future as f64;
            (i, j, cos * factor, sin * factor)
        };
        let pairs = layer.rope.iter().flat_map(|rope| (0..rope.n_dims / 2).map(move |index| pair(rope, index)));
        Rotation { pairs: pairs.collect() }
    }

    /// Mean and covariance of one head's future queries.
    fn apply(&self, queries: &Queries, head: usize, d: usize) -> (Vec<f64>, Vec<f64>) {
        let mut mean = queries.mean[head * d..(head + 1) * d].to_vec();
        self.turn(&mut mean, 1, 0);
        // R Σ Rᵀ: first the columns, then the rows.
        let mut covariance = queries.covariance[head * d * d..(head + 1) * d * d].to_vec();
        for column in 0..d {
            self.turn(&mut covariance, d, column);
        }
        for row in covariance.chunks_mut(d) {
            self.turn(row, 1, 0);
        }
        (mean, covariance)
    }

    /// Rotates the vector of every `stride`-th value from `start` on.
    fn turn(&self, values: &mut [f64], stride: usize, start: usize) {
        for &(i, j, cos, sin) in &self.pairs {
            let (i, j) = (start + i * stride, start + j * stride);
            let (x, y) = (values[i], values[j]);
            (values[i], values[j]) = (cos * x - sin * y, sin * x + cos * y);
        }
    }
}
