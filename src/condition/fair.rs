//! Whether each part of the prompt survives in proportion to its length, and is scored for itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Axis, AxisArgs, Condition};
use crate::evict::{Budget, Weights, words};
use crate::{Error, Result};

words! {
    /// What is shared out fairly.
    FairMode ("fairness") {
        /// Nothing: the policy ranks the whole prompt at once.
        #[default]
        No = "no",
        /// The budget: each part of the prompt survives in proportion to its length.
        Budget = "budget",
        /// The budget, and the scores: each part is scored as if it were the whole prompt.
        Scores = "scores",
    }
}

/// Fair eviction ("The Pitfalls of KV Cache Compression", arXiv 2510.00231), in the text forms `no`, `budget` and
/// `scores:system=2+user=1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Written", into = "String")]
pub struct Fair {
    /// What is shared out.
    pub mode: FairMode,
    /// How much a position of each span counts.
    pub weights: Weights,
}

impl Fair {
    /// Whether parts have budgets of their own.
    pub fn is_on(&self) -> bool {
        self.mode != FairMode::No
    }

    /// Whether parts are scored each for itself.
    pub fn scores(&self) -> bool {
        self.mode == FairMode::Scores
    }
}

/// The forms in manifests: earlier versions wrote `true` for `budget`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Flag(bool),
    Text(String),
}

impl From<Written> for Fair {
    fn from(written: Written) -> Self {
        match written {
            Written::Flag(true) => Fair { mode: FairMode::Budget, ..Fair::default() },
            Written::Flag(false) => Fair::default(),
            Written::Text(text) => text.parse().unwrap_or_default(),
        }
    }
}

impl From<Fair> for String {
    fn from(fair: Fair) -> Self {
        fair.to_string()
    }
}

impl FromStr for Fair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (mode, weights) = text.split_once(':').unwrap_or((text, ""));
        Ok(Fair { mode: mode.parse()?, weights: weights.parse()? })
    }
}

impl fmt::Display for Fair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.weights.is_even() { "" } else { ":" };
        write!(f, "{}{colon}{}", self.mode, self.weights)
    }
}

/// `--fair` and `--fair-weight`.
#[derive(Debug, Clone, clap::Args)]
pub struct FairArgs {
    /// Evict the same fraction of each part of the prompt (such as the system text): `budget` (the default of a bare
    /// --fair), where the policy ranks within each part; or `scores`, where it also scores each part as if it were the
    /// whole prompt (snapkv, h2o, tova). `no,budget,scores` runs all.
    #[arg(
        long,
        help_heading = "Eviction",
        value_name = "WHAT,..",
        value_delimiter = ',',
        default_value = "no",
        default_missing_value = "budget",
        num_args = 0..=1,
        require_equals = true
    )]
    pub fair: Vec<FairMode>,

    /// How much a position counts when --fair shares out the budget, by span, such as system=2,user=1. Spans that are
    /// not named count 1; of several the innermost counts, such as instruction in system.
    #[arg(long, help_heading = "Eviction", value_name = "SPAN=N,..")]
    pub fair_weight: Option<String>,
}

impl Axis for Fair {
    type Args = FairArgs;
    const NAME: &'static str = "fair";
    const QUESTION: &'static str = "fair shares";

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        let FairArgs { fair, fair_weight } = &args.fair;
        let weights: Weights = fair_weight.as_deref().unwrap_or_default().replace(',', "+").parse()?;
        if fair_weight.is_some() && fair.iter().all(|mode| *mode == FairMode::No) {
            return Err(Error::input("--fair-weight says how --fair shares out the budget; give --fair too"));
        }
        let value = |&mode: &FairMode| match mode {
            FairMode::No => Fair::default(),
            mode => Fair { mode, weights: weights.clone() },
        };
        Ok(fair.iter().map(value).collect())
    }

    /// A policy without scores has none to share out.
    fn settle(condition: &mut Condition, _args: &AxisArgs) {
        if condition.fair.scores() && condition.score().is_none() {
            condition.fair.mode = FairMode::Budget;
        }
    }

    fn check(&self, condition: &Condition) -> Result<()> {
        let scored = condition.score().is_none_or(|score| score.needs_in_parts(&[]).is_some());
        match condition.budget {
            _ if !self.is_on() => Ok(()),
            _ if condition.policy.policy().moves() => Err(Error::input(format!(
                "--fair shares out a budget, and {} keeps the first and the most recent positions only; leave one of them \
                 out",
                condition.policy
            ))),
            Budget::Window { .. } => Err(Error::input("--fair shares out a --ratio; it does not go with --keep-last")),
            _ if self.scores() && !scored => Err(Error::input(format!(
                "--fair=scores: how {} scores a part of a prompt for itself is not defined; it is for snapkv, h2o and tova, \
                 and --fair=budget for all",
                condition.policy
            ))),
            _ => Ok(()),
        }
    }

    fn options(&self, _condition: &Condition) -> Vec<String> {
        let mode = self.is_on().then(|| format!("--fair={}", self.mode));
        let weights = (!self.weights.is_even()).then(|| format!("--fair-weight={}", self.weights));
        mode.into_iter().chain(weights).collect()
    }

    fn suffix(&self, _condition: &Condition) -> Option<String> {
        let mode = if self.scores() { "=scores" } else { "" };
        let weights = if self.weights.is_even() { String::new() } else { format!(":{}", self.weights) };
        self.is_on().then(|| format!("/fair{mode}{weights}"))
    }

    fn words(&self) -> Option<String> {
        let mode = if self.scores() { "fair scores" } else { "fair" };
        let weights = if self.weights.is_even() { String::new() } else { format!(", weights {}", self.weights) };
        self.is_on().then(|| format!("{mode}{weights}"))
    }

    fn methods(&self, _condition: &Condition) -> Option<String> {
        let weighted = if self.weights.is_even() {
            String::new()
        } else {
            format!(" times its weight ({}, others 1)", self.weights.to_string().replace('+', ", "))
        };
        let scored = match self.mode {
            FairMode::Scores => {
                ", and was scored as if it were the whole prompt: by its own last queries, without attention \
                                 from outside"
            }
            _ => "",
        };
        let name = if self.scores() { "fair scores" } else { "fair" };
        self.is_on().then(|| {
            format!(
                "In conditions named \"{name}\" each span of the prompt kept a share of the budget in proportion to its \
                 length{weighted}{scored}."
            )
        })
    }
}
