//! Conditions: the columns of the experiment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evict::{
    self, Aggregate, Budget, DEFAULT_SINKS, Granularity, Layers, Memory, Positions, Protect, Ratio, RollingBudget,
    Scope, Score,
};

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
    /// What keeps a set of positions of its own.
    #[serde(default)]
    pub granularity: Granularity,
    /// Which layers forget.
    #[serde(default)]
    pub layers: Layers,
    /// How scores of layers and heads become one.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// Whether each part of the prompt survives in proportion to its length.
    #[serde(default)]
    pub fair: bool,
    /// Whether the cache is held to a budget while the model generates.
    #[serde(default)]
    pub rolling: Option<RollingBudget>,
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
            granularity: Granularity::Token,
            layers: Layers::All,
            aggregate: Aggregate::Mean,
            fair: false,
            rolling: None,
        }
    }

    /// The scores its policy ranks positions by, if it does.
    pub fn score(&self) -> Option<&'static dyn Score> {
        evict::policy(&self.policy).ok().and_then(|policy| policy.score())
    }

    /// First positions kept whatever the policy says: the sinks of `streaming` and of `sinks+POLICY`.
    pub fn sinks(&self) -> Option<usize> {
        let has_sinks = self.policy == "streaming" || evict::with_sinks(&self.policy);
        has_sinks.then_some(match self.budget {
            Budget::Ratio { sinks, .. } => sinks,
            Budget::Window { keep_first, .. } => keep_first,
        })
    }

    /// Whether cells of the KV cache are given back.
    pub fn frees(&self) -> bool {
        self.granularity == Granularity::Token
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
        match (self.budget, self.rolling) {
            (_, Some(RollingBudget { budget, every })) => {
                write!(f, "@rolling={budget}/every={every}")?;
                if let Some(sinks) = self.sinks().filter(|&sinks| sinks != DEFAULT_SINKS) {
                    write!(f, "/sinks={sinks}")?;
                }
            }
            (Budget::Ratio { ratio, sinks }, None) => {
                write!(f, "@{ratio}")?;
                if self.sinks().is_some() && sinks != DEFAULT_SINKS {
                    write!(f, "/sinks={sinks}")?;
                }
            }
            (Budget::Window { keep_first, keep_last }, None) => write!(f, "@{keep_first}+{keep_last}")?,
        }
        if self.block > 1 {
            write!(f, "/block={}", self.block)?;
        }
        if self.granularity != Granularity::default() {
            write!(f, "/{}", self.granularity)?;
        }
        if self.layers != Layers::default() {
            write!(f, "/layers={}", self.layers)?;
        }
        if self.aggregate != Aggregate::default() {
            write!(f, "/aggregate={}", self.aggregate)?;
        }
        if self.fair {
            write!(f, "/fair")?;
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
