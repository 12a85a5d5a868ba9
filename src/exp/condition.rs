//! Conditions: the columns of the experiment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evict::{Budget, DEFAULT_SINKS, Memory, Positions, Protect, Ratio, Scope};

/// Everything that identifies a column of the experiment except the example and the repeat.
///
/// Its [`Display`](fmt::Display) form is its name in files and reports: policy, budget, and
/// whatever differs from the defaults, such as `random@0.5/block=8/compact`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// Name of the policy.
    pub policy: String,
    /// How many positions survive.
    pub budget: Budget,
    /// What becomes of the survivors' positions.
    pub positions: Positions,
    /// Which part of the prompt is compressed.
    pub scope: Scope,
    /// What is protected.
    pub protect: Protect,
    /// Heard and forgotten, or never heard.
    pub memory: Memory,
    /// Length of the blocks that `random` evicts.
    pub block: usize,
}

impl Condition {
    /// The full cache.
    pub fn baseline() -> Self {
        Condition {
            policy: "none".to_owned(),
            budget: Budget::Ratio { ratio: Ratio::ZERO, sinks: DEFAULT_SINKS },
            positions: Positions::Keep,
            scope: Scope::Prompt,
            protect: Protect::default(),
            memory: Memory::Kv,
            block: 1,
        }
    }

    /// Whether this is the full cache.
    pub fn is_baseline(&self) -> bool {
        self.policy == "none"
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.policy)?;
        if self.is_baseline() {
            return Ok(());
        }
        match self.budget {
            Budget::Ratio { ratio, sinks } => {
                write!(f, "@{ratio}")?;
                if self.policy == "streaming" && sinks != DEFAULT_SINKS {
                    write!(f, "/sinks={sinks}")?;
                }
            }
            Budget::Window { keep_first, keep_last } => write!(f, "@{keep_first}+{keep_last}")?,
        }
        if self.block > 1 {
            write!(f, "/block={}", self.block)?;
        }
        if self.positions != Positions::default() {
            write!(f, "/{}", self.positions)?;
        }
        if self.memory != Memory::default() {
            write!(f, "/{}", self.memory)?;
        }
        if self.scope != Scope::default() {
            write!(f, "/scope={}", self.scope)?;
        }
        if !self.protect.is_none() {
            write!(f, "/protect={}", self.protect)?;
        }
        Ok(())
    }
}
