//! How the scores of layers and heads are combined into one.

use super::{Axis, AxisArgs, Condition};
use crate::evict::{Aggregate, Granularity};
use crate::{Error, Result};

/// `--aggregate`.
#[derive(Debug, Clone, clap::Args)]
pub struct AggregateArgs {
    /// How a position's scores in all layers and heads become one number.
    #[arg(long, help_heading = "Eviction", value_name = "HOW,..", value_delimiter = ',', default_value = "mean")]
    pub aggregate: Vec<Aggregate>,
}

impl Axis for Aggregate {
    type Args = AggregateArgs;
    const NAME: &'static str = "aggregate";
    const QUESTION: &'static str = "ways to aggregate scores";
    const OF_POLICY: bool = true;

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        Ok(args.aggregate.aggregate.clone())
    }

    /// Without scores, or with a keep set per head, there is nothing to aggregate.
    fn settle(condition: &mut Condition, _args: &AxisArgs) {
        if condition.score().is_none() || condition.granularity != Granularity::Token {
            condition.aggregate = Aggregate::default();
        }
    }

    fn check_all(conditions: &[Condition], args: &AxisArgs) -> Result<()> {
        let ignored = |asked: &&Aggregate| conditions.iter().all(|condition| condition.aggregate != **asked);
        match args.aggregate.aggregate.iter().find(ignored) {
            Some(asked) if *asked != Aggregate::default() => Err(Error::input(format!(
                "--aggregate {asked} changes nothing here: it is for policies with scores (such as snapkv) at --granularity \
                 token; leave it out"
            ))),
            _ => Ok(()),
        }
    }

    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| format!("{self} of heads"))
    }
}
