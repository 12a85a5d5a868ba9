//! `lagkv`: keeps positions whose keys and values vary much relative to the next chunk (Liang et al. 2025, arXiv
//! 2504.04704).

use super::{Family, Heads, Layer, Lowest, Needs, Parameter, Score};

/// Spread of keys and values, normalized by the range of the next chunk; ranked within each chunk.
pub struct LagKv {
    /// Number of first positions that are always kept.
    pub sinks: usize,
    /// Length of a chunk.
    pub lag: usize,
}

/// The name, summary and parameters of `lagkv`.
pub(in crate::evict) static LAGKV: Family = Family {
    name: "lagkv",
    title: "LagKV",
    summary: "keys and values that vary more than the chunk after them; sinks and the last chunk are kept",
    paper: Some("2504.04704"),
    parameters: &[
        Parameter { name: "sinks", default: 4, range: 0..=65_536, about: "first positions that are always kept" },
        Parameter { name: "lag", default: 128, range: 1..=65_536, about: "length of a chunk" },
    ],
    make: |values| Box::new(Lowest(LagKv { sinks: values[0], lag: values[1] })),
};

impl Score for LagKv {
    fn needs(&self, _len: usize) -> Needs {
        Needs::keys().and_values()
    }

    fn score(&self, layer: &Layer) -> Heads {
        let (len, sinks, lag) = (layer.len, self.sinks, self.lag);
        layer.per_head(|head| {
            if len < sinks + 2 * lag {
                // No chunk has a next one: positions are scored by recency, as in kvpress.
                let recency = |at: usize| (at - sinks) as f64 / (len - sinks) as f64;
                return (0..len).map(|at| if at < sinks { 1.0 } else { recency(at) }).collect();
            }
            let mut scores = vec![1.0; len];
            let chunks = (len - sinks) / lag;
            for start in (0..chunks - 1).map(|chunk| sinks + chunk * lag) {
                let keys = spread(lag, layer.d_k, |at| layer.key(head, start + at));
                let values = spread(lag, layer.d_v, |at| layer.value(head, start + at));
                let sums: Vec<f64> = keys.iter().zip(&values).map(|(key, value)| key + value).collect();
                let mut order: Vec<usize> = (0..lag).collect();
                order.sort_by(|&a, &b| sums[a].total_cmp(&sums[b]));
                for (rank, at) in order.into_iter().enumerate() {
                    scores[start + at] = if sums[at].is_nan() { f64::NAN } else { rank as f64 / lag as f64 };
                }
            }
            scores
        })
    }
}

/// Softmax over a chunk of the standard deviation of each vector, with its dimensions scaled by their range in the next
/// chunk. A dimension without range there counts 0. Real models have such dimensions (Gemma 3 270M, where weights of
/// its query and key norms are 0), and kvpress's 0/0 would make every score of the head a NaN.
fn spread<'a>(lag: usize, d: usize, vector: impl Fn(usize) -> &'a [f32]) -> Vec<f64> {
    let (mut low, mut high) = (vec![f64::INFINITY; d], vec![f64::NEG_INFINITY; d]);
    for at in lag..2 * lag {
        for (i, &x) in vector(at).iter().enumerate() {
            low[i] = low[i].min(f64::from(x));
            high[i] = high[i].max(f64::from(x));
        }
    }
    let deviations: Vec<f64> = (0..lag)
        .map(|at| {
            let scale = |(i, &x): (usize, &f32)| match high[i] - low[i] {
                0.0 => 0.0,
                range => (f64::from(x) - low[i]) / range,
            };
            let scaled: Vec<f64> = vector(at).iter().enumerate().map(scale).collect();
            let mean = scaled.iter().sum::<f64>() / d as f64;
            (scaled.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (d as f64 - 1.0)).sqrt()
        })
        .collect();
    softmax(&deviations)
}

/// exp(x) divided by the sum of all exp(x).
pub(in crate::evict) fn softmax(values: &[f64]) -> Vec<f64> {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|value| (value - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}
