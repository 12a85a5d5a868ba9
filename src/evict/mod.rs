//! Eviction: which positions of a read prompt survive.
//!
//! Pure functions from a [`View`] of the cached prompt and a [`Budget`] to a [`KeepSet`]; no
//! llama.cpp, no I/O. A policy is one file with an `impl Policy` and one line in [`POLICIES`].
//!
//! The rules every policy shares are enforced here, in [`evict`]: the last cached position always
//! survives (llama.cpp demands that the next position be the highest cached one plus one),
//! protected positions survive and count inside the budget, and a budget too small for them is an
//! error, never a silent other ratio.

mod budget;
mod keep;
mod mode;
mod none;
mod protect;
mod random;
mod ratio;
mod seed;
mod streaming;

pub use budget::{Budget, DEFAULT_SINKS};
pub use keep::{KeepSet, parse_ranges, ranges_text};
pub use mode::{Memory, Positions, Scope};
pub use protect::Protect;
pub use ratio::{Ratio, parse_ratios};
pub use seed::TrialSeed;

use std::ops::Range;

use crate::{Error, Result};

/// What a policy may look at.
#[derive(Debug)]
pub struct View<'a> {
    /// The positions it may choose among; everything outside survives.
    pub candidates: Range<usize>,
    /// By position: must survive, whatever the policy would say.
    pub protected: &'a [bool],
    /// How many survive.
    pub budget: Budget,
    /// The randomness of this trial.
    pub seed: TrialSeed,
    /// Length of the contiguous blocks that a random policy evicts.
    pub block: usize,
}

impl View<'_> {
    /// The candidates that may be evicted, in ascending order.
    pub fn evictable(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.candidates.clone().filter(|&position| !self.protected[position])
    }
}

/// Decides which positions of a prompt are evicted.
pub trait Policy: Sync {
    /// The name used in the CLI, in condition names and in the CSV.
    fn name(&self) -> &'static str;

    /// One line for listings.
    fn summary(&self) -> &'static str;

    /// Whether it draws from [`View::seed`]: then repeats differ.
    fn is_random(&self) -> bool {
        false
    }

    /// Marks positions that this policy keeps by its very definition. Where it returns `true` these
    /// and the protected ones are all that survives, and the budget is not consulted further.
    fn reserve(&self, _budget: &Budget, _candidates: Range<usize>, _protected: &mut [bool]) -> bool {
        false
    }

    /// Chooses exactly `n_evict` of [`View::evictable`] (there are at least that many), in any order.
    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize>;
}

/// Every policy there is.
pub static POLICIES: &[&dyn Policy] = &[&none::None, &streaming::Streaming, &random::Random];

/// The policy of that name.
pub fn policy(name: &str) -> Result<&'static dyn Policy> {
    POLICIES.iter().copied().find(|policy| policy.name() == name).ok_or_else(|| {
        let known: Vec<_> = POLICIES.iter().map(|policy| policy.name()).collect();
        Error::input(format!("there is no policy `{name}`; known are {}", known.join(", ")))
    })
}

/// Applies `policy` to `len` cached positions.
///
/// # Errors
/// If more positions must survive than the budget allows.
pub fn evict(policy: &dyn Policy, len: usize, view: &View) -> Result<KeepSet> {
    let candidates = view.candidates.clone();
    if policy.name() == none::NAME || candidates.is_empty() {
        return Ok(KeepSet::all(len));
    }
    let mut protected = view.protected[..len].to_vec();
    protected[candidates.end - 1] = true;
    let reserved = policy.reserve(&view.budget, candidates.clone(), &mut protected);

    let n_protected = candidates.clone().filter(|&position| protected[position]).count();
    let survivors = if reserved { n_protected } else { view.budget.survivors(candidates.len()) };
    if n_protected > survivors {
        return Err(Error::input(format!(
            "{} leaves {survivors} of {} positions, but {n_protected} must survive (the last one always does, others \
             are protected); lower the ratio or protect less",
            view.budget,
            candidates.len()
        )));
    }
    let view = View { protected: &protected, candidates: candidates.clone(), ..*view };
    let evicted = policy.choose(&view, candidates.len() - survivors);
    debug_assert_eq!(evicted.len(), candidates.len() - survivors);
    Ok(KeepSet::without(len, evicted))
}

#[cfg(test)]
mod tests;
