//! The replies of one judge: stored, paid for, counted.

use std::collections::HashMap;
use std::path::Path;

use super::cache::{self, Cache, Spent};
use super::{Reply, Verdict};
use crate::api::price::Price;
use crate::{Error, Result};

/// Failures in a row after which the judge stops: the next request would very probably fail too.
const GIVE_UP_AFTER: usize = 10;

/// The replies of one judge, stored on disk and counted.
pub(super) struct Ledger {
    pub cache: Cache,
    /// The judge's fingerprint.
    pub judge: String,
    pub price: Option<Price>,
    /// What this process has spent.
    pub now: Spent,
    /// For each key, why there is no verdict.
    pub failures: HashMap<String, String>,
    failures_in_a_row: usize,
}

impl Ledger {
    pub fn open(directory: &Path, judge: String, price: Option<Price>) -> Result<Self> {
        let cache = cache::of(directory)?;
        Ok(Ledger { cache, judge, price, now: Spent::default(), failures: HashMap::new(), failures_in_a_row: 0 })
    }

    /// Stores and counts a reply; when this returns, the reply is on disk.
    ///
    /// # Errors
    /// If it cannot be written, or if the judge has failed too often in a row.
    pub fn take(&mut self, reply: Reply) -> Result<()> {
        if self.cache.get(&reply.key).is_some() {
            return Ok(()); // a batch that was collected, but not to its end
        }
        self.now.requests += 1;
        self.now.usage += reply.usage;
        self.now.cost_usd += self.price.map_or(0.0, |price| price.cost(&reply.usage));
        let failure = reply.verdict.as_ref().err().cloned();
        let key = reply.key.clone();
        self.cache.append(&self.judge, self.price, reply)?;
        let Some(reason) = failure else {
            self.failures_in_a_row = 0;
            return Ok(());
        };
        self.failures.insert(key, reason.clone());
        self.failures_in_a_row += 1;
        if self.failures_in_a_row >= GIVE_UP_AFTER {
            return Err(Error::failed(format!(
                "the judge gave no verdict {} times in a row, at last because {reason}; verdicts so far are safe, run \
                 the same command to go on",
                self.failures_in_a_row
            )));
        }
        Ok(())
    }

    /// The verdict under a key, or why there is none.
    pub fn verdict(&self, key: &str) -> std::result::Result<&Verdict, &str> {
        self.cache.get(key).ok_or_else(|| self.failures.get(key).map_or("not asked yet", String::as_str))
    }
}
