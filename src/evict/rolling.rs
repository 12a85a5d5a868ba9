//! Budgets that hold while the model generates.

use serde::{Deserialize, Serialize};

use super::Budget;
use crate::{Error, Result};

/// The cache never holds more than `budget` positions once the prompt has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RollingBudget {
    /// Most positions in the cache.
    pub budget: usize,
    /// How many are evicted whenever it is full.
    pub every: usize,
}

impl RollingBudget {
    /// What each eviction leaves, `sinks` of it the first positions.
    ///
    /// # Errors
    /// If nothing but sinks would be left.
    pub fn after_eviction(self, sinks: usize) -> Result<Budget> {
        match self.budget.checked_sub(self.every.saturating_add(sinks)) {
            Some(keep_last) if keep_last > 0 && self.every > 0 => Ok(Budget::Window { keep_first: sinks, keep_last }),
            _ => Err(Error::input(format!(
                "--rolling {} leaves no recent positions beside {sinks} sinks when {} are evicted at once; raise it, or \
                 lower --every or --keep-first",
                self.budget, self.every
            ))),
        }
    }
}
