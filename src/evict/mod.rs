//! Eviction: which positions of a read prompt survive.
//!
//! Pure functions from a [`View`] of the cached prompt and a [`Budget`] to a [`KeepSet`]; no llama.cpp, no I/O. A
//! policy is one file with a [`Family`] and an `impl Policy`, and one line in [`POLICIES`]. A policy that ranks
//! positions by what the model computed while it read them has an `impl Score` under `evict/score` instead. A
//! [`PolicySpec`] is a policy with its parameters, such as `snapkv:window=32`. A [`Wrapper`] such as `sinks` changes
//! another policy, as in `sinks+snapkv`.
//!
//! The function [`evict`] enforces the rules that all policies share: if whole positions are evicted, the last cached one
//! always survives (llama.cpp demands that the next position be the highest cached one plus one); protected positions
//! survive and count inside the budget; a budget too small for them is an error, never silently another ratio.

mod budget;
mod context_shift;
mod duo;
mod fair;
mod forget;
mod heads;
mod keep;
mod layers;
mod mode;
mod none;
mod own;
mod protect;
mod random;
mod ratio;
mod rolling;
mod score;
mod seed;
mod spec;
mod streaming;
mod wrap;

pub use budget::{Budget, DEFAULT_SINKS};
pub use fair::{Part, Weights, parts};
pub use forget::Target;
pub use heads::{HeadKeeps, check_layers};
pub use keep::{KeepSet, parse_ranges, ranges_text};
pub use layers::{LayerSet, Layers};
pub use mode::Granularity;
pub use own::{Own, OwnKind, SourceFile, own_policies};
pub use protect::Protect;
pub use ratio::{Ratio, parse_ratios};
pub use rolling::RollingBudget;
pub(crate) use score::score_layers;
pub use score::{Aggregate, Attention, Heads, Layer, Needs, QFilters, Queries, Quota, Rope, Score, Scores, Subject};
pub use seed::TrialSeed;
pub use spec::{Family, Parameter, PolicySpec};
pub use wrap::{WRAPPERS, Wrapper};

pub(crate) use mode::words;
use spec::SINKS;

use std::ops::Range;

use crate::{Error, Result};

/// What a policy may look at.
#[derive(Debug)]
pub struct View<'a> {
    /// The positions it may choose from; all others survive.
    pub candidates: Range<usize>,
    /// For each position, whether it must survive whatever the policy says.
    pub protected: &'a [bool],
    /// How many survive.
    pub budget: Budget,
    /// The randomness of this trial.
    pub seed: TrialSeed,
    /// Length of the contiguous blocks that a random policy evicts.
    pub block: usize,
    /// How many survive in one layer or head, which may be another number than the budget's. `None` if whole positions
    /// are evicted; only then must the last one survive, because only then is its cell freed.
    pub survivors: Option<usize>,
    /// How many positions were evicted before the candidates were left: a ratio is one of all of them.
    pub gone: usize,
    /// For each position its score, if the policy has scores.
    pub scores: &'a [f64],
    /// For each position its [second](Scores::second) score, if there is one.
    pub second: &'a [f64],
    /// The positions that `forget:instruction` or `forget:filler` evicts.
    pub target: &'a [usize],
    /// Parts of the candidates that each get their share of the budget; empty if there is one budget for all.
    pub parts: &'a [Part],
}

impl<'a> View<'a> {
    /// A view with one budget for all candidates, no scores, no target, and blocks of one position.
    pub fn new(candidates: Range<usize>, protected: &'a [bool], budget: Budget, seed: TrialSeed) -> Self {
        Self {
            candidates,
            protected,
            budget,
            seed,
            block: 1,
            survivors: None,
            gone: 0,
            scores: &[],
            second: &[],
            target: &[],
            parts: &[],
        }
    }

    /// The candidates that may be evicted, in ascending order.
    pub fn evictable(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.candidates.clone().filter(|&position| !self.protected[position])
    }
}

/// Decides which positions of a prompt are evicted.
///
/// A wrapper does what its [inner](Policy::inner) policy does, except for the methods that it has itself.
pub trait Policy: Send + Sync {
    /// The policy that this one wraps.
    fn inner(&self) -> Option<&dyn Policy> {
        None
    }

    /// Whether it evicts nothing, which gives the full cache.
    fn keeps_all(&self) -> bool {
        false
    }

    /// Whether it is defined as keeping first and last positions. Its first parameter is then the number of first
    /// positions.
    fn is_sinks_and_window(&self) -> bool {
        self.inner().is_some_and(Policy::is_sinks_and_window)
    }

    /// Whether its parameters and the budget alone decide how much each head keeps and where, so that a wrapper has
    /// nothing to choose.
    fn is_fixed(&self) -> bool {
        self.keeps_all() || self.is_sinks_and_window() || self.target().is_some()
    }

    /// Whether survivors are always moved together.
    fn moves(&self) -> bool {
        self.inner().is_some_and(Policy::moves)
    }

    /// Whether it draws from [`View::seed`], so that repeats differ.
    fn is_random(&self) -> bool {
        self.inner().is_some_and(Policy::is_random)
    }

    /// What it evicts, given in [`View::target`], if that is a certain part of the prompt; it then takes no budget, and
    /// there is a trial for each instruction.
    fn target(&self) -> Option<Target> {
        None
    }

    /// The scores by which it ranks positions, given in [`View::scores`]; `None` for a policy without scores.
    fn score(&self) -> Option<&dyn Score> {
        self.inner().and_then(Policy::score)
    }

    /// The coarsest granularity at which it can run: `head` for a policy that gives each head its own budget.
    fn coarsest(&self) -> Granularity {
        self.inner().map_or(Granularity::Token, Policy::coarsest)
    }

    /// Marks positions that this policy keeps by definition. If it returns `true`, only these and the protected ones
    /// survive, and the budget has no further effect.
    fn reserve(&self, view: &View, protected: &mut [bool]) -> bool {
        self.inner().is_some_and(|inner| inner.reserve(view, protected))
    }

    /// How many of the candidates survive in each layer, if `survivors` do on average.
    fn share_among_layers(&self, layers: usize, candidates: usize, survivors: usize) -> Vec<usize> {
        match self.inner() {
            Some(inner) => inner.share_among_layers(layers, candidates, survivors),
            None => vec![survivors; layers],
        }
    }

    /// How many positions survive in each KV head of each layer, if in each layer as many do on average as `survivors`
    /// says.
    fn share(&self, layers: &[Vec<View>], survivors: &[usize]) -> Vec<Vec<usize>> {
        layers.iter().zip(survivors).map(|(heads, &survivors)| self.share_among_heads(heads, survivors)).collect()
    }

    /// How many positions survive in each KV head of a layer, if `survivors` do on average.
    fn share_among_heads(&self, heads: &[View], survivors: usize) -> Vec<usize> {
        match self.inner() {
            Some(inner) => inner.share_among_heads(heads, survivors),
            None => vec![survivors; heads.len()],
        }
    }

    /// Chooses exactly `n_evict` of [`View::evictable`] (there are at least that many), in any order.
    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        self.inner().expect("a policy that wraps no other chooses itself").choose(view, n_evict)
    }
}

/// All policies.
pub static POLICIES: &[&Family] = &[
    &none::NONE,
    &streaming::STREAMING,
    &context_shift::CONTEXT_SHIFT,
    &random::RANDOM,
    &score::KNORM,
    &score::KEYDIFF,
    &score::TOVA,
    &score::SNAPKV,
    &score::H2O,
    &score::EXPECTED_ATTENTION,
    &score::LAGKV,
    &score::KVZIP,
    &duo::DUO,
    &score::QFILTERS,
    &forget::INSTRUCTION,
    &forget::FILLER,
];

/// Applies `policy` to `len` cached positions.
///
/// # Errors
/// If more positions must survive than the budget allows.
pub fn evict(policy: &dyn Policy, len: usize, view: &View) -> Result<KeepSet> {
    let Some((protected, survivors)) = survivors(policy, len, view)? else { return Ok(KeepSet::all(len)) };
    let candidates = view.candidates.clone();
    let n_protected = |range: Range<usize>| range.filter(|&position| protected[position]).count();
    let shares = if view.parts.is_empty() {
        vec![(candidates, survivors)]
    } else {
        let ranges = view.parts.iter().map(|part| part.range.clone());
        let least: Vec<_> = ranges.clone().map(n_protected).collect();
        std::iter::zip(ranges, fair::shares(view.parts, &least, survivors)).collect()
    };
    let mut evicted = Vec::new();
    for (candidates, survivors) in shares {
        let n_evict = candidates.len() - survivors;
        let view = View { protected: &protected, candidates, parts: &[], ..*view };
        let chosen = policy.choose(&view, n_evict);
        debug_assert_eq!(chosen.len(), n_evict);
        evicted.extend(chosen);
    }
    Ok(KeepSet::without(len, evicted))
}

/// How many positions survive, and which in any case: what a policy that chooses itself is asked for. `None` if all
/// survive.
///
/// # Errors
/// As [`evict`].
pub fn quota(policy: &dyn Policy, len: usize, view: &View) -> Result<Option<Quota>> {
    let quota = survivors(policy, len, view)?.map(|(protected, survivors)| {
        let fixed = len - view.candidates.len();
        let must = (0..len).filter(|position| protected[*position] || !view.candidates.contains(position));
        Quota { keep: fixed + survivors, must: must.collect() }
    });
    Ok(quota)
}

/// Whether [`evict`] can meet the budget, without knowing the scores.
///
/// # Errors
/// As [`evict`].
pub fn check(policy: &dyn Policy, len: usize, view: &View) -> Result<()> {
    survivors(policy, len, view).map(|_| ())
}

/// For each position whether it must survive, and the number of survivors; `None` if all positions survive.
fn survivors(policy: &dyn Policy, len: usize, view: &View) -> Result<Option<(Vec<bool>, usize)>> {
    let candidates = view.candidates.clone();
    if policy.keeps_all() || candidates.is_empty() {
        return Ok(None);
    }
    let (protected, reserved) = reserved(policy, len, view);
    let n_reserved = candidates.clone().filter(|&position| protected[position]).count();
    let allowed =
        view.survivors.unwrap_or_else(|| view.budget.survivors(candidates.len() + view.gone).min(candidates.len()));
    let survivors = if reserved { n_reserved } else { allowed };
    if n_reserved > survivors {
        let (share, why) = match view.survivors {
            Some(_) => (" in one layer or head", "they are protected"),
            None => ("", "the last one always does, others are protected"),
        };
        return Err(Error::input(format!(
            "{} leaves {survivors} of {} positions{share}, but {n_reserved} must survive ({why}); lower the ratio or \
             protect less",
            view.budget.described(),
            candidates.len() + view.gone
        )));
    }
    Ok(Some((protected, survivors)))
}

/// For each position whether it must survive; and whether these are the only ones that do.
fn reserved(policy: &dyn Policy, len: usize, view: &View) -> (Vec<bool>, bool) {
    let mut protected = view.protected[..len].to_vec();
    protected[view.candidates.end - 1] |= view.survivors.is_none();
    let only = policy.reserve(view, &mut protected);
    (protected, only)
}

#[cfg(test)]
mod tests;
