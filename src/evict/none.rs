//! `none`: the full cache, the baseline of every comparison.

use super::{Policy, View};

pub(super) const NAME: &str = "none";

/// Evicts nothing.
pub struct None;

impl Policy for None {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "the full cache: the baseline"
    }

    fn choose(&self, _view: &View, _n_evict: usize) -> Vec<usize> {
        Vec::new()
    }
}
