//! How many positions survive.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Ratio, RollingBudget};
use crate::{Error, Result};

/// Number of attention sinks that `streaming` keeps under a ratio (StreamingLLM, arXiv 2309.17453).
pub const DEFAULT_SINKS: usize = 4;

/// How many positions survive, in the text forms `all`, `0.5`, `100+100` and `rolling=64/every=16`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Budget {
    /// All survive: the full cache.
    #[default]
    All,
    /// This fraction is evicted; `streaming` keeps its sinks and, with the rest of the budget, the most recent
    /// positions.
    Ratio(Ratio),
    /// Counts: `streaming` keeps exactly the first and the last positions; any other policy chooses the same number
    /// itself.
    Window {
        /// Number of first positions.
        keep_first: usize,
        /// Number of last positions.
        keep_last: usize,
    },
    /// The cache is limited to a number of positions while the model generates.
    Rolling(RollingBudget),
}

impl Budget {
    /// How many of `len` candidates survive one eviction.
    pub fn survivors(&self, len: usize) -> usize {
        match *self {
            Budget::All => len,
            Budget::Ratio(ratio) => ratio.survivors(len),
            Budget::Window { keep_first, keep_last } => keep_first.saturating_add(keep_last).min(len),
            Budget::Rolling(RollingBudget { budget, every }) => budget.saturating_sub(every).min(len),
        }
    }

    /// The fraction evicted; `None` for other budgets.
    pub fn ratio(&self) -> Option<Ratio> {
        match *self {
            Budget::Ratio(ratio) => Some(ratio),
            _ => None,
        }
    }

    /// The rolling budget; `None` for other budgets.
    pub fn rolling(&self) -> Option<RollingBudget> {
        match *self {
            Budget::Rolling(rolling) => Some(rolling),
            _ => None,
        }
    }

    /// The form in messages: `ratio 0.5`, `window 100+100`.
    pub(super) fn described(&self) -> String {
        match self {
            Budget::Ratio(_) => format!("ratio {self}"),
            Budget::Window { .. } => format!("window {self}"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::All => f.write_str("all"),
            Budget::Ratio(ratio) => write!(f, "{ratio}"),
            Budget::Window { keep_first, keep_last } => write!(f, "{keep_first}+{keep_last}"),
            Budget::Rolling(RollingBudget { budget, every }) => write!(f, "rolling={budget}/every={every}"),
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::input(format!("`{text}` is not a budget; write all, 0.5, 100+100 or rolling=64/every=16"));
        let number = |text: &str| text.parse().map_err(|_| bad());
        if text == "all" {
            return Ok(Budget::All);
        }
        if let Some((budget, every)) = text.strip_prefix("rolling=").and_then(|rest| rest.split_once("/every=")) {
            return Ok(Budget::Rolling(RollingBudget { budget: number(budget)?, every: number(every)? }));
        }
        match text.split_once('+') {
            Some((first, last)) => Ok(Budget::Window { keep_first: number(first)?, keep_last: number(last)? }),
            None => text.parse().map(Budget::Ratio).map_err(|_| bad()),
        }
    }
}

impl TryFrom<String> for Budget {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}
