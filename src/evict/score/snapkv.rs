//! `snapkv`: what an observation window at the end of the prompt attends to (Li et al. 2024, arXiv 2404.14469).

use super::{Heads, Layer, Needs, Score, keep_last};

/// Attention of the last queries to the positions before them, smoothed.
pub struct SnapKv;

/// Queries of the observation window. Prompts shorter than twice that have a window of half their length.
const WINDOW: usize = 64;
/// Width of the average pooling.
const KERNEL: usize = 5;

fn window(len: usize) -> usize {
    WINDOW.min(len / 2)
}

impl Score for SnapKv {
    fn name(&self) -> &'static str {
        "snapkv"
    }

    fn summary(&self) -> &'static str {
        "what the last 64 queries attend to, pooled over 5 positions"
    }

    fn paper(&self) -> &'static str {
        "2404.14469"
    }

    fn needs(&self, len: usize) -> Needs {
        Needs::attention(len - window(len))
    }

    fn score(&self, layer: &Layer) -> Heads {
        let window = window(layer.len);
        let before = layer.len - window;
        let head = |sums: &&[f64]| {
            let mean: Vec<f64> = sums[..before].iter().map(|sum| sum / window.max(1) as f64).collect();
            let mut scores: Vec<f64> = (0..before).map(|at| pooled(&mean, at)).collect();
            scores.resize(layer.len, 0.0);
            scores
        };
        let mut heads: Heads = layer.attention_from(before).iter().map(head).collect();
        keep_last(&mut heads, window);
        heads
    }
}

/// Average pooling with zero padding: always divided by the whole kernel.
fn pooled(values: &[f64], at: usize) -> f64 {
    let half = KERNEL / 2;
    values[at.saturating_sub(half)..(at + half + 1).min(values.len())].iter().sum::<f64>() / KERNEL as f64
}
