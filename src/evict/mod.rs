//! Eviction: which positions of a read prompt survive.
//!
//! Pure functions from a [`View`] of the cached prompt and a [`Budget`] to a [`KeepSet`]; no
//! llama.cpp, no I/O. A policy is one file with a [`Family`] and an `impl Policy` (or, if it ranks
//! positions by what the model computed while it read them, an `impl Score` under `evict/score`), and one line in
//! [`POLICIES`]. A [`PolicySpec`] is a policy as it is named, with its parameters.
//!
//! The rules every policy shares are enforced here, in [`evict`]: the last cached position always
//! survives (llama.cpp demands that the next position be the highest cached one plus one),
//! protected positions survive and count inside the budget, and a budget too small for them is an
//! error, never a silent other ratio.

mod budget;
mod fair;
mod heads;
mod keep;
mod mode;
mod none;
mod protect;
mod random;
mod ratio;
mod rolling;
mod score;
mod seed;
mod spec;
mod streaming;

pub use budget::{Budget, DEFAULT_SINKS};
pub use fair::segments;
pub use heads::HeadKeeps;
pub use keep::{KeepSet, parse_ranges, ranges_text};
pub use mode::{Granularity, Layers};
pub use protect::Protect;
pub use ratio::{Ratio, parse_ratios};
pub use rolling::RollingBudget;
pub use score::{Aggregate, Attention, Heads, Layer, Needs, Queries, Rope, Score, Scores};
pub use seed::TrialSeed;
pub use spec::{Family, Parameter, PolicySpec};

pub(crate) use mode::words;
use spec::SINKS;

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
    /// First candidates that survive whatever the policy would say: the sinks of `sinks+POLICY`.
    pub sinks: usize,
    /// By position: its score, where the policy has scores.
    pub scores: &'a [f64],
    /// Parts of the candidates that each get their share of the budget; none: the whole has one budget.
    pub segments: &'a [Range<usize>],
}

impl<'a> View<'a> {
    /// A view with one budget for all candidates, no sinks of its own, no scores, and blocks of one position.
    pub fn new(candidates: Range<usize>, protected: &'a [bool], budget: Budget, seed: TrialSeed) -> Self {
        Self { candidates, protected, budget, seed, block: 1, sinks: 0, scores: &[], segments: &[] }
    }

    /// The candidates that may be evicted, in ascending order.
    pub fn evictable(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.candidates.clone().filter(|&position| !self.protected[position])
    }
}

/// Decides which positions of a prompt are evicted.
pub trait Policy: Send + Sync {
    /// Whether it evicts nothing: the full cache.
    fn keeps_all(&self) -> bool {
        false
    }

    /// Whether it keeps first positions and last positions by its very definition. The number of the first is then its
    /// one parameter.
    fn is_sinks_and_window(&self) -> bool {
        false
    }

    /// Whether it draws from [`View::seed`]: then repeats differ.
    fn is_random(&self) -> bool {
        false
    }

    /// What scores it ranks positions by, if it does: they are in [`View::scores`].
    fn score(&self) -> Option<&dyn Score> {
        None
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
pub static POLICIES: &[&Family] = &[
    &none::NONE,
    &streaming::STREAMING,
    &random::RANDOM,
    &score::KNORM,
    &score::KEYDIFF,
    &score::TOVA,
    &score::SNAPKV,
    &score::H2O,
    &score::EXPECTED_ATTENTION,
    &score::LAGKV,
];

/// Applies `policy` to `len` cached positions.
///
/// # Errors
/// If more positions must survive than the budget allows.
pub fn evict(policy: &dyn Policy, len: usize, view: &View) -> Result<KeepSet> {
    let Some((protected, survivors)) = survivors(policy, len, view)? else { return Ok(KeepSet::all(len)) };
    let candidates = view.candidates.clone();
    let n_protected = |range: Range<usize>| range.filter(|&position| protected[position]).count();
    let shares = if view.segments.is_empty() {
        vec![(candidates, survivors)]
    } else {
        let least: Vec<_> = view.segments.iter().map(|segment| n_protected(segment.clone())).collect();
        std::iter::zip(view.segments.iter().cloned(), fair::shares(view.segments, &least, survivors)).collect()
    };
    let mut evicted = Vec::new();
    for (candidates, survivors) in shares {
        let n_evict = candidates.len() - survivors;
        let view = View { protected: &protected, candidates, segments: &[], ..*view };
        let chosen = policy.choose(&view, n_evict);
        debug_assert_eq!(chosen.len(), n_evict);
        evicted.extend(chosen);
    }
    Ok(KeepSet::without(len, evicted))
}

/// Whether [`evict`] can meet the budget; it needs no scores to tell.
///
/// # Errors
/// As [`evict`].
pub fn check(policy: &dyn Policy, len: usize, view: &View) -> Result<()> {
    survivors(policy, len, view).map(|_| ())
}

/// By position, what must survive, and how many positions do; nothing where all of them do.
fn survivors(policy: &dyn Policy, len: usize, view: &View) -> Result<Option<(Vec<bool>, usize)>> {
    let candidates = view.candidates.clone();
    if policy.keeps_all() || candidates.is_empty() {
        return Ok(None);
    }
    let mut protected = view.protected[..len].to_vec();
    protected[candidates.end - 1] = true;
    protected[candidates.start..candidates.end.min(candidates.start + view.sinks)].fill(true);
    let reserved = policy.reserve(&view.budget, candidates.clone(), &mut protected);

    let n_reserved = candidates.clone().filter(|&position| protected[position]).count();
    let survivors = if reserved { n_reserved } else { view.budget.survivors(candidates.len()) };
    if n_reserved > survivors {
        return Err(Error::input(format!(
            "{} leaves {survivors} of {} positions, but {n_reserved} must survive (the last one always does, others \
             are protected); lower the ratio or protect less",
            view.budget.described(),
            candidates.len()
        )));
    }
    Ok(Some((protected, survivors)))
}

#[cfg(test)]
mod tests;
