//! The grid: lists of policies, budgets and modes become conditions.

use super::Condition;
use crate::evict::{
    self, Aggregate, Budget, DEFAULT_SINKS, Granularity, Layers, Memory, Policy, Positions, Protect, Ratio,
    RollingBudget, Scope,
};
use crate::{Error, Result};

/// Evictions at once under a rolling budget whose policy has scores: ranking costs more than evicting.
const SCORED_EVERY: usize = 16;

/// The dimensions of the experiment, as asked for.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Names of policies.
    pub policies: Vec<String>,
    /// Ratios; empty for a budget of counts.
    pub ratios: Vec<Ratio>,
    /// Sinks of `streaming` under a ratio, or the first number of a window.
    pub keep_first: Option<usize>,
    /// The second number of a window.
    pub keep_last: Option<usize>,
    /// Position modes.
    pub positions: Vec<Positions>,
    /// Scopes.
    pub scopes: Vec<Scope>,
    /// Memory modes.
    pub memories: Vec<Memory>,
    /// What is protected.
    pub protect: Protect,
    /// Length of the blocks that `random` evicts.
    pub block: usize,
    /// What keeps a set of positions of its own.
    pub granularities: Vec<Granularity>,
    /// Which layers forget.
    pub layers: Vec<Layers>,
    /// How scores of layers and heads become one.
    pub aggregate: Aggregate,
    /// Whether each part of the prompt survives in proportion to its length.
    pub fair: bool,
    /// Most positions in the cache while the model generates, instead of another budget.
    pub rolling: Option<usize>,
    /// How many a rolling budget evicts at once; by default 1, and 16 where scores have to be computed.
    pub every: Option<usize>,
    /// Whether the full cache is added.
    pub baseline: bool,
}

impl Grid {
    /// All conditions, the baseline first, none twice.
    ///
    /// # Errors
    /// If a policy is unknown, if the budgets exclude each other, or if nothing is left.
    pub fn conditions(&self) -> Result<Vec<Condition>> {
        for name in &self.policies {
            evict::policy(name)?;
        }
        let budgets = self.budgets()?;
        if self.block == 0 {
            return Err(Error::input("--block is 0; a block holds at least one position"));
        }
        let mut conditions = Vec::new();
        if self.baseline {
            conditions.push(Condition::baseline());
        }
        for name in &self.policies {
            let policy = evict::policy(name)?;
            if name == "none" {
                conditions.push(Condition::baseline());
                continue;
            }
            for &budget in &budgets {
                for &scope in &self.scopes {
                    for &granularity in &self.granularities {
                        for &layers in &self.layers {
                            for &positions in &self.positions {
                                for &memory in &self.memories {
                                    let modes = Modes { scope, granularity, layers, positions, memory };
                                    conditions.push(self.condition(name, policy, budget, modes)?);
                                }
                            }
                        }
                    }
                }
            }
        }
        let mut distinct: Vec<Condition> = Vec::with_capacity(conditions.len());
        for condition in conditions {
            if !distinct.contains(&condition) {
                distinct.push(condition);
            }
        }
        if distinct.is_empty() {
            return Err(Error::input(
                "there is nothing to run: name at least one --policy, or leave --no-baseline out",
            ));
        }
        Ok(distinct)
    }

    fn condition(&self, name: &str, policy: &dyn Policy, budget: Budget, modes: Modes) -> Result<Condition> {
        let Modes { scope, granularity, layers, positions, memory } = modes;
        let everywhere = granularity == Granularity::Token && layers == Layers::All;
        if !everywhere && (positions != Positions::Keep || memory != Memory::Kv) {
            let (option, value) = match granularity {
                Granularity::Token => ("layers", layers.as_str()),
                other => ("granularity", other.as_str()),
            };
            return Err(Error::input(format!(
                "--{option} {value} lets layers or heads keep different positions; that goes with --positions keep and \
                 --memory kv alone, not with {positions} and {memory}"
            )));
        }
        let rolling = self.rolling.map(|budget| {
            let every = self.every.unwrap_or(if policy.score().is_some() { SCORED_EVERY } else { 1 });
            RollingBudget { budget, every }
        });
        if rolling.is_some() && !(everywhere && memory == Memory::Kv && scope == Scope::Prompt && !self.fair) {
            return Err(Error::input(
                "--rolling goes with --granularity token, --layers all, --memory kv and --scope prompt alone, without --fair",
            ));
        }
        if self.fair && matches!(budget, Budget::Window { .. }) {
            return Err(Error::input("--fair shares out a --ratio; it does not go with --keep-last"));
        }
        let mut condition = Condition {
            policy: name.to_owned(),
            budget,
            positions,
            scope,
            protect: self.protect.clone(),
            memory,
            block: if policy.is_random() { self.block } else { 1 },
            granularity,
            layers,
            // Head by head there is nothing to aggregate.
            aggregate: match (policy.score(), granularity) {
                (Some(_), Granularity::Token) => self.aggregate,
                _ => Aggregate::default(),
            },
            fair: self.fair,
            rolling,
        };
        if condition.sinks().is_none() {
            condition.budget = without_sinks(budget);
        }
        if let Some(rolling) = rolling {
            condition.budget = rolling.after_eviction(condition.sinks().unwrap_or(0))?;
        }
        Ok(condition)
    }

    fn budgets(&self) -> Result<Vec<Budget>> {
        let sinks = self.keep_first.unwrap_or(DEFAULT_SINKS);
        if self.rolling.is_some() {
            return match (self.ratios.is_empty(), self.keep_last) {
                (true, None) => Ok(vec![Budget::Window { keep_first: sinks, keep_last: 0 }]),
                _ => Err(Error::input("--rolling is a budget; it goes with neither --ratio nor --keep-last")),
            };
        }
        if self.every.is_some() {
            return Err(Error::input("--every belongs to --rolling"));
        }
        match (self.ratios.is_empty(), self.keep_last) {
            (false, Some(_)) => {
                Err(Error::input("--ratio and --keep-last both say how many positions survive; give one of them"))
            }
            (false, None) => Ok(self.ratios.iter().map(|&ratio| Budget::Ratio { ratio, sinks }).collect()),
            (true, Some(keep_last)) => Ok(vec![Budget::Window { keep_first: sinks, keep_last }]),
            (true, None) if self.policies.iter().all(|name| name == "none") => Ok(Vec::new()),
            (true, None) => {
                Err(Error::input("say how much to evict: --ratio 0.5, or --keep-first 100 --keep-last 100"))
            }
        }
    }
}

/// What is crossed with policies and budgets.
#[derive(Clone, Copy)]
struct Modes {
    scope: Scope,
    granularity: Granularity,
    layers: Layers,
    positions: Positions,
    memory: Memory,
}

/// Only `streaming` and `sinks+POLICY` have sinks; elsewhere they must not make two conditions of one.
fn without_sinks(budget: Budget) -> Budget {
    match budget {
        Budget::Ratio { ratio, .. } => Budget::Ratio { ratio, sinks: DEFAULT_SINKS },
        window @ Budget::Window { .. } => window,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid {
            policies: vec!["random".into(), "streaming".into()],
            ratios: vec!["0.5".parse().unwrap(), "0.50".parse().unwrap()],
            keep_first: None,
            keep_last: None,
            positions: vec![Positions::Keep],
            scopes: vec![Scope::Prompt],
            memories: vec![Memory::Kv],
            protect: Protect::default(),
            block: 8,
            granularities: vec![Granularity::Token],
            layers: vec![Layers::All],
            aggregate: Aggregate::Mean,
            fair: false,
            rolling: None,
            every: None,
            baseline: true,
        }
    }

    fn names(grid: &Grid) -> Vec<String> {
        grid.conditions().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_condition_is_named_by_what_differs_from_the_defaults() {
        assert_eq!(names(&grid()), ["none", "random@0.5/block=8", "streaming@0.5"]);
        let all = Grid {
            positions: vec![Positions::Keep, Positions::Compact],
            memories: vec![Memory::Kv, Memory::Text],
            scopes: vec![Scope::System],
            protect: "bos,sink:4".parse().unwrap(),
            policies: vec!["streaming".into(), "none".into()],
            ratios: Vec::new(),
            keep_first: Some(100),
            keep_last: Some(50),
            ..grid()
        };
        assert_eq!(
            names(&all),
            [
                "none",
                "streaming@100+50/scope=system/protect=bos+sink:4",
                "streaming@100+50/text/scope=system/protect=bos+sink:4",
                "streaming@100+50/compact/scope=system/protect=bos+sink:4",
                "streaming@100+50/compact/text/scope=system/protect=bos+sink:4",
            ]
        );
    }

    #[test]
    fn modes_of_policies_with_scores_are_named_and_checked() {
        let heads = Grid {
            policies: vec!["snapkv".into(), "sinks+random".into()],
            granularities: vec![Granularity::Token, Granularity::Head],
            layers: vec![Layers::Global],
            aggregate: Aggregate::RankMean,
            keep_first: Some(2),
            fair: true,
            baseline: false,
            block: 1,
            ..grid()
        };
        assert_eq!(
            names(&heads),
            [
                "snapkv@0.5/layers=global/aggregate=rank-mean/fair",
                "snapkv@0.5/head/layers=global/fair",
                "sinks+random@0.5/sinks=2/layers=global/fair",
                "sinks+random@0.5/sinks=2/head/layers=global/fair",
            ]
        );
        assert!(Grid { positions: vec![Positions::Compact], ..heads.clone() }.conditions().is_err());
        assert!(
            Grid { memories: vec![Memory::Text], layers: vec![Layers::All], ..heads.clone() }.conditions().is_err()
        );
        assert!(Grid { policies: vec!["sinks+streaming".into()], ..heads }.conditions().is_err());
    }

    #[test]
    fn a_rolling_budget_is_a_budget() {
        let rolling = Grid { ratios: Vec::new(), rolling: Some(64), block: 1, baseline: false, ..grid() };
        assert_eq!(names(&rolling), ["random@rolling=64/every=1", "streaming@rolling=64/every=1"]);
        let conditions = Grid { policies: vec!["h2o".into()], ..rolling.clone() }.conditions().unwrap();
        assert_eq!(conditions[0].to_string(), "h2o@rolling=64/every=16");
        assert_eq!(conditions[0].budget, Budget::Window { keep_first: 0, keep_last: 48 });
        for bad in [
            Grid { ratios: vec!["0.5".parse().unwrap()], ..rolling.clone() },
            Grid { every: Some(60), ..rolling.clone() },
            Grid { every: Some(0), ..rolling.clone() },
            Grid { rolling: Some(5), ..rolling.clone() },
            Grid { fair: true, ..rolling },
            Grid { every: Some(2), ..grid() },
        ] {
            assert!(bad.conditions().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn budgets_that_exclude_each_other_are_refused() {
        assert!(Grid { keep_last: Some(3), ..grid() }.conditions().is_err());
        assert!(Grid { ratios: Vec::new(), ..grid() }.conditions().is_err());
        assert!(Grid { policies: vec!["nope".into()], ..grid() }.conditions().is_err());
        assert!(Grid { policies: Vec::new(), baseline: false, ..grid() }.conditions().is_err());
        assert_eq!(names(&Grid { policies: vec!["none".into()], ratios: Vec::new(), ..grid() }), ["none"]);
    }
}
