//! How many positions survive.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Ratio;

/// Attention sinks that `streaming` keeps under a ratio (StreamingLLM, arXiv 2309.17453).
pub const DEFAULT_SINKS: usize = 4;

/// How many positions survive: by ratio, or by counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// This fraction is evicted; `streaming` spends the survivors on `sinks` first positions and the most recent ones.
    Ratio {
        /// The fraction evicted.
        ratio: Ratio,
        /// First positions that `streaming` keeps.
        sinks: usize,
    },
    /// So many survive: `streaming` keeps just the first and the last ones, any other policy as many of its own choice.
    Window {
        /// How many of the first positions.
        keep_first: usize,
        /// How many of the last positions.
        keep_last: usize,
    },
}

impl Budget {
    /// How many of `len` candidates survive.
    pub fn survivors(&self, len: usize) -> usize {
        match *self {
            Budget::Ratio { ratio, .. } => ratio.survivors(len),
            Budget::Window { keep_first, keep_last } => keep_first.saturating_add(keep_last).min(len),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Ratio { ratio, .. } => write!(f, "ratio {ratio}"),
            Budget::Window { keep_first, keep_last } => write!(f, "window {keep_first}+{keep_last}"),
        }
    }
}
