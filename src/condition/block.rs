//! How many contiguous positions `random` evicts together.

use std::fmt;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::{Axis, AxisArgs, Condition};
use crate::{Error, Result};

/// Length of the blocks that `random` evicts; 1 for single positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Block(pub NonZeroUsize);

impl Default for Block {
    fn default() -> Self {
        Block(NonZeroUsize::MIN)
    }
}

/// `--block`.
#[derive(Debug, Clone, clap::Args)]
pub struct BlockArgs {
    /// Number of neighbouring positions that `random` evicts together.
    #[arg(long, help_heading = "Eviction", value_name = "B,..", value_delimiter = ',', default_value = "1")]
    pub block: Vec<usize>,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Axis for Block {
    type Args = BlockArgs;
    const NAME: &'static str = "block";
    const QUESTION: &'static str = "block lengths";
    const OF_POLICY: bool = true;

    fn values(args: &AxisArgs) -> Result<Vec<Self>> {
        let block = |&length: &usize| {
            NonZeroUsize::new(length)
                .map(Block)
                .ok_or_else(|| Error::input("--block is 0; a block holds at least one position"))
        };
        args.block.block.iter().map(block).collect()
    }

    fn settle(condition: &mut Condition, _args: &AxisArgs) {
        if !condition.policy.policy().is_random() {
            condition.block = Block::default();
        }
    }

    fn check_all(conditions: &[Condition], args: &AxisArgs) -> Result<()> {
        let asked = args.block.block.iter().any(|&block| block > 1);
        if asked && conditions.iter().all(|condition| condition.block == Block::default()) {
            return Err(Error::input("--block is for --policy random, and none is among the policies; leave it out"));
        }
        Ok(())
    }

    fn words(&self) -> Option<String> {
        (*self != Self::default()).then(|| format!("blocks of {self}"))
    }
}
