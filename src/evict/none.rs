//! `none`: the full cache, the baseline of every comparison.

use super::{Family, Policy, View};

/// Evicts nothing.
pub struct None;

/// The name and summary of `none`.
pub(super) static NONE: Family = Family {
    name: "none",
    title: "Full cache",
    summary: "the full cache: the baseline",
    paper: Option::None,
    parameters: &[],
    make: |_| Box::new(None),
};

impl Policy for None {
    fn keeps_all(&self) -> bool {
        true
    }

    fn choose(&self, _view: &View, _n_evict: usize) -> Vec<usize> {
        Vec::new()
    }
}
