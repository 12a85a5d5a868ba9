//! The seed of a trial. It depends on the run seed, the example and the repeat, not on when or where the trial runs.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::random::below;

/// Bits of a seed: few enough for a float64, so that a spreadsheet or JSON reader does not round it.
const BITS: u32 = 53;

/// The seed of one trial: the `seed` column of `trials.csv`, and the value of `probe --seed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrialSeed(pub u64);

impl TrialSeed {
    /// Derives the seed of (example, repeat) in a run: the first 53 bits of a SHA-256.
    ///
    /// All conditions share it, so that they are paired: the order of eviction is the same at every ratio.
    pub fn derive(run_seed: u64, example: &str, repeat: u32) -> Self {
        let digest = Sha256::new()
            .chain_update(b"kvllama trial")
            .chain_update(run_seed.to_le_bytes())
            .chain_update(repeat.to_le_bytes())
            .chain_update(example.as_bytes())
            .finalize();
        let first = u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"));
        TrialSeed(first >> (u64::BITS - BITS))
    }

    /// The seed for the sampler of the trial, independent of the one for the eviction.
    pub fn sampler(self) -> u32 {
        let digest = Sha256::new().chain_update(b"kvllama sampler").chain_update(self.0.to_le_bytes()).finalize();
        u32::from_le_bytes(digest[..4].try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// The seed of one layer and head, if each draws its own positions.
    pub fn of_head(self, layer: u32, head: usize) -> Self {
        TrialSeed::derive(self.0, &format!("layer {layer} head {head}"), 0)
    }

    /// The seed of the eviction number `index` under a rolling budget.
    pub fn of_eviction(self, index: usize) -> Self {
        TrialSeed::derive(self.0, &format!("eviction {index}"), 0)
    }

    /// Shuffles in place (Fisher-Yates on a ChaCha8 stream: the same on every machine and in every version).
    pub(super) fn shuffle<T>(self, items: &mut [T]) {
        let key = Sha256::new().chain_update(b"kvllama eviction").chain_update(self.0.to_le_bytes()).finalize();
        let mut rng = ChaCha8Rng::from_seed(key.into());
        for last in (1..items.len()).rev() {
            items.swap(last, below(&mut rng, last as u64 + 1));
        }
    }
}

impl fmt::Display for TrialSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
