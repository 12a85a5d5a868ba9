//! Everything that identifies a run.

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::llama::{FlashAttn, Sampling};

/// A validated run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The columns of the experiment, the baseline first if there is one.
    pub conditions: Vec<Condition>,
    /// Trials of each (example, condition).
    pub repeats: u32,
    /// Only the first so many examples.
    pub limit: Option<usize>,
    /// `(i, n)`: only the examples of shard `i` of `n`, counted from 1.
    pub shard: Option<(u32, u32)>,
    /// What one trial does.
    pub generation: Generation,
}

/// What changes the outcome of a trial, besides its condition, the model and the example.
///
/// A run directory is resumed only with the same values; conditions, repeats and
/// examples may be added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Seed of the run.
    pub seed: u64,
    /// Most tokens an answer may have.
    pub n_predict: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Flash attention.
    pub flash_attn: FlashAttn,
    /// Full-size cache for sliding-window layers.
    pub swa_full: bool,
    /// Tokens read at once.
    pub n_batch: u32,
    /// Conditions answered side by side; what a batch is made of changes low bits.
    pub parallel: u32,
    /// Whether predictions are compared with those of the full cache.
    #[serde(default)]
    pub fidelity: bool,
    /// Layers on the GPU; `None` for all.
    pub gpu_layers: Option<u32>,
    /// Name or file of a chat template that replaces the model's own.
    #[serde(default)]
    pub chat_template: Option<String>,
    /// SHA-256 of that template.
    pub chat_template_sha256: Option<String>,
}
