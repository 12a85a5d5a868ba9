//! Rolling budgets: limits of the cache that apply while the model generates.

use serde::{Deserialize, Serialize};

use super::Budget;
use crate::{Error, Result};

/// The cache never holds more than `budget` positions once the prompt has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RollingBudget {
    /// Largest number of positions in the cache.
    pub budget: usize,
    /// How many positions are evicted when the cache is full.
    pub every: usize,
}

impl RollingBudget {
    /// The budget of each eviction; its first `sinks` survivors are the first positions.
    ///
    /// # Errors
    /// If only sinks would survive.
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
