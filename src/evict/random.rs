//! `random`: evicts random positions, the control for every other policy.

use super::{Family, Policy, View};

/// Evicts positions uniformly without replacement, one by one or in contiguous blocks.
///
/// The order of eviction depends only on seed, candidates and block, and a larger ratio takes a longer prefix of it. So
/// the sets evicted at growing ratios are nested.
pub struct Random;

/// The name and summary of `random`.
pub(super) static RANDOM: Family = Family {
    name: "random",
    title: "Random",
    summary: "uniformly at random, seeded per example and repeat, nested over ratios: the control",
    paper: None,
    parameters: &[],
    make: |_| Box::new(Random),
};

impl Policy for Random {
    fn is_random(&self) -> bool {
        true
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        let block = view.block.max(1);
        let mut starts: Vec<_> = view.candidates.clone().step_by(block).collect();
        view.seed.shuffle(&mut starts);
        starts
            .into_iter()
            .flat_map(|start| start..(start + block).min(view.candidates.end))
            .filter(|&position| !view.protected[position])
            .take(n_evict)
            .collect()
    }
}
