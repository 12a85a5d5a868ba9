//! `snapkv`: keeps what an observation window at the end of the prompt attends to (Li et al. 2024, arXiv 2404.14469).

use std::ops::Range;

use super::{Family, Heads, Layer, Lowest, Needs, Parameter, Score, keep, keep_last};

/// Attention of the last queries to the positions before them, smoothed.
pub struct SnapKv {
    /// Queries of the observation window. For a prompt shorter than twice this number, the window is half the prompt.
    pub window: usize,
    /// Width of the pooling.
    pub kernel: usize,
    /// Whether a position gets the largest value of its neighbours instead of their mean.
    pub maxpool: bool,
}

impl SnapKv {
    fn window(&self, len: usize) -> usize {
        self.window.min(len / 2)
    }

    /// Pooling over neighbours. The mean has zero padding and always divides by the full kernel width.
    fn pooled(&self, values: &[f64], at: usize) -> f64 {
        let start = at.saturating_sub(self.kernel / 2);
        let end = (at + self.kernel.div_ceil(2)).min(values.len());
        let neighbours = values[start..end].iter();
        if self.maxpool {
            neighbours.copied().fold(0.0, f64::max)
        } else {
            neighbours.sum::<f64>() / self.kernel as f64
        }
    }
}

/// The name, summary and parameters of `snapkv`.
pub(in crate::evict) static SNAPKV: Family = Family {
    name: "snapkv",
    title: "SnapKV",
    summary: "what the last queries of the prompt attend to, pooled over neighbouring positions",
    paper: Some("2404.14469"),
    parameters: &[
        Parameter {
            name: "window",
            default: 64,
            range: 1..=65_536,
            about: "queries of the observation window; at most half the prompt",
        },
        Parameter { name: "kernel", default: 5, range: 1..=1_023, about: "width of the pooling" },
        Parameter {
            name: "maxpool",
            default: 0,
            range: 0..=1,
            about: "1: the largest of the neighbours, as in the paper's runs; 0: their mean",
        },
    ],
    make: |values| Box::new(Lowest(SnapKv { window: values[0], kernel: values[1], maxpool: values[2] == 1 })),
};

impl Score for SnapKv {
    fn needs(&self, len: usize) -> Needs {
        Needs::attention(len - self.window(len))
    }

    fn score(&self, layer: &Layer) -> Heads {
        let window = self.window(layer.len);
        let before = layer.len - window;
        let head = |sums: &&[f64]| {
            let mean: Vec<f64> = sums[..before].iter().map(|sum| sum / window.max(1) as f64).collect();
            let mut scores: Vec<f64> = (0..before).map(|at| self.pooled(&mean, at)).collect();
            scores.resize(layer.len, 0.0);
            scores
        };
        let mut heads: Heads = layer.attention_from(before).iter().map(head).collect();
        keep_last(&mut heads, window);
        heads
    }

    fn needs_in_parts(&self, parts: &[Range<usize>]) -> Option<Needs> {
        let ends = parts.iter().flat_map(|part| [part.end - self.window(part.len()), part.end]);
        Some(Needs::attention_at(ends))
    }

    /// Each part has a window of its own at its end, which votes on the positions of this part alone.
    fn score_in_parts(&self, layer: &Layer, parts: &[Range<usize>]) -> Heads {
        let window = |part: &Range<usize>| part.end - self.window(part.len())..part.end;
        let mut heads = layer.per_head(|_| vec![0.0; layer.len]);
        for part in parts.iter().filter(|part| !window(part).is_empty()) {
            let window = window(part);
            let voted = part.start..window.start;
            for (scores, sums) in heads.iter_mut().zip(layer.attention_within(&window)) {
                let mean: Vec<f64> = sums[voted.clone()].iter().map(|sum| sum / window.len() as f64).collect();
                (0..mean.len()).for_each(|at| scores[part.start + at] = self.pooled(&mean, at));
            }
        }
        keep(&mut heads, parts.iter().map(window));
        heads
    }
}
