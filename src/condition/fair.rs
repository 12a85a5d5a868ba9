//! Whether each part of the prompt survives in proportion to its length.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Axis, AxisArgs, Condition};
use crate::evict::Budget;
use crate::{Error, Result};

/// Fair eviction ("The Pitfalls of KV Cache Compression", arXiv 2510.00231): each part of the prompt survives in
/// proportion to its length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fair(pub bool);

/// `--fair`.
#[derive(Debug, Clone, clap::Args)]
pub struct FairArgs {
    /// Evict the same fraction of each span of the prompt (such as the system text); the policy chooses within each
    /// span.
    #[arg(long, help_heading = "Eviction")]
    pub fair: bool,
}

impl fmt::Display for Fair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Axis for Fair {
    type Args = FairArgs;
    const NAME: &'static str = "fair";
    const QUESTION: &'static str = "fair shares";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(vec![Fair(args.fair.fair)])
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        match condition.budget {
            _ if self.0 && condition.policy.policy().moves() => Err(Error::input(format!(
                "--fair shares out a budget, and {} keeps the first and the most recent positions only; leave one of them out",
                condition.policy
            ))),
            Budget::Window { .. } if self.0 => {
                Err(Error::input("--fair shares out a --ratio; it does not go with --keep-last"))
            }
            _ => Ok(()),
        }
    }

    fn options(&self, _condition: &Condition) -> Vec<String> {
        self.0.then(|| "--fair".to_owned()).into_iter().collect()
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        self.0.then(|| "/fair".to_owned())
    }

    fn words(&self) -> Option<String> {
        self.0.then(|| "fair".to_owned())
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        self.0.then(|| {
            "In fair conditions each span of the prompt kept a share of the budget in proportion to its length."
                .to_owned()
        })
    }
}
