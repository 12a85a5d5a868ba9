//! The settings of a run.

use serde::{Deserialize, Serialize};

use super::{Dense, Primary, Shard};
use crate::condition::Condition;
use crate::data::Example;
use crate::llama::{FlashAttn, Sampling};

/// The validated settings of a run: everything that identifies it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The conditions, the baseline first if there is one.
    pub conditions: Vec<Condition>,
    /// Number of trials of each (example, condition), except where it [runs once](Settings::runs_once).
    pub repeats: u32,
    /// Takes only the first `limit` examples.
    pub limit: Option<usize>,
    /// Takes only the examples of this shard.
    pub shard: Option<Shard>,
    /// The settings of each trial.
    pub generation: Generation,
    /// The comparison that the study is about, if it names one.
    pub primary: Option<Primary>,
}

impl Settings {
    /// Settings for one trial of each condition on every example, with the defaults of `kvllama exp`.
    pub fn new(conditions: Vec<Condition>) -> Self {
        Settings { conditions, repeats: 1, limit: None, shard: None, generation: Generation::default(), primary: None }
    }

    /// Whether a trial of the condition is run once, whatever the number of repeats: nothing is drawn, neither positions
    /// nor tokens, so that the answer is the same each time, and its speed is not measured.
    pub fn runs_once(&self, condition: &Condition) -> bool {
        let Generation { sampling, measure_speed, .. } = &self.generation;
        sampling.is_greedy() && !condition.policy.policy().is_random() && !measure_speed
    }
}

impl Default for Generation {
    fn default() -> Self {
        Generation {
            seed: 1,
            n_predict: 512,
            sampling: Sampling::default(),
            flash_attn: FlashAttn::Auto,
            swa_full: true,
            n_batch: 512,
            parallel: 1,
            dense: Dense::Auto,
            fidelity: false,
            measure_speed: false,
            gpu_layers: None,
            chat_template: None,
            chat_template_sha256: None,
        }
    }
}

/// The settings that change the outcome of a trial, besides its condition, the model and the example.
///
/// A run directory is resumed only with the same values; conditions, repeats and examples may be added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Seed of the run.
    pub seed: u64,
    /// Largest number of tokens of an answer.
    pub n_predict: usize,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Flash attention.
    pub flash_attn: FlashAttn,
    /// Whether sliding-window layers have a full-size cache.
    pub swa_full: bool,
    /// Tokens read in one batch.
    pub n_batch: u32,
    /// Number of conditions that answer side by side; the composition of a batch changes low bits.
    pub parallel: u32,
    /// Which of them answer in dense lanes; this changes low bits, too.
    #[serde(default)]
    pub dense: Dense,
    /// Whether predictions are compared with those of the full cache.
    #[serde(default)]
    pub fidelity: bool,
    /// Whether the speed of the conditions is measured: each answers alone, one after the other, and all of them before
    /// the next repeat.
    #[serde(default)]
    pub measure_speed: bool,
    /// Layers on the GPU; `None` for all.
    pub gpu_layers: Option<u32>,
    /// Name or file of a chat template that replaces the model's own.
    #[serde(default)]
    pub chat_template: Option<String>,
    /// SHA-256 of that template.
    pub chat_template_sha256: Option<String>,
}

/// The default limit for the tokens of an answer: an answer that is compared with a few facts (rules of RULER) is short;
/// what a small model says after it only costs time. In a chat every answer takes room for the later ones.
pub fn default_n_predict(examples: &[Example]) -> usize {
    let recall = examples.iter().flat_map(|example| &example.instructions).all(|one| one.kind.starts_with("ruler:"));
    let chats = examples.iter().any(Example::is_chat);
    match (recall, chats) {
        (true, _) => 64,
        (false, true) => 128,
        (false, false) => 512,
    }
}
