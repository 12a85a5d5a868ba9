//! Shards: a run split over machines.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// One part of a run that is split over machines, written `I/N`: part `I` of `N`, counted from 1.
///
/// ```
/// let (first, second): (kvllama::exp::Shard, kvllama::exp::Shard) = ("1/2".parse()?, "2/2".parse()?);
/// assert!(first.holds("owl") != second.holds("owl"));
/// # Ok::<(), kvllama::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Whether an example belongs to this shard. All conditions of an example are in one shard, and adding examples or
    /// conditions moves no example to another shard.
    pub fn holds(self, example: &str) -> bool {
        let digest = Sha256::digest(example.as_bytes());
        let first = u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"));
        first % u64::from(self.count) == u64::from(self.index) - 1
    }

    /// The place of this process in Slurm's array; `None` outside one.
    fn of_slurm() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let index = variable("SLURM_ARRAY_TASK_ID")?.checked_sub(variable("SLURM_ARRAY_TASK_MIN")?)?.checked_add(1)?;
        Some(Shard { index, count: variable("SLURM_ARRAY_TASK_COUNT")? })
    }
}

impl From<(u32, u32)> for Shard {
    fn from((index, count): (u32, u32)) -> Self {
        Shard { index, count }
    }
}

impl From<Shard> for (u32, u32) {
    fn from(Shard { index, count }: Shard) -> Self {
        (index, count)
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// Parses `I/N`, or reads Slurm's array variables for `auto`.
    fn from_str(text: &str) -> Result<Self> {
        let shard = match text.split_once('/') {
            _ if text == "auto" => Shard::of_slurm(),
            Some((index, count)) => {
                index.parse().ok().zip(count.parse().ok()).map(|(index, count)| Shard { index, count })
            }
            None => None,
        };
        shard.filter(|shard| (1..=shard.count).contains(&shard.index)).ok_or_else(|| {
            Error::input(format!(
                "`{text}` is not a shard; write I/N with I from 1 to N, such as 2/4, or auto in a Slurm array"
            ))
        })
    }
}
