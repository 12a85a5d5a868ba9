//! `sinks+POLICY`: the first positions survive whatever the policy says (StreamingLLM's attention sinks, Xiao et al.
//! 2023, arXiv 2309.17453).

use std::sync::Arc;

use super::Wrapper;
use crate::evict::{Budget, DEFAULT_SINKS, Parameter, Policy, SINKS, View};

/// Reserves the first positions.
struct Sinks {
    /// First positions kept under a ratio. A budget of counts gives its own number.
    sinks: usize,
    inner: Arc<dyn Policy>,
}

/// The name, summary and parameters of `sinks+POLICY`.
pub(super) static SINKS_PLUS: Wrapper = Wrapper {
    name: SINKS,
    title: "Sinks",
    summary: "the first positions survive too; the policy chooses the rest",
    paper: Some("2309.17453"),
    parameters: &[Parameter {
        name: SINKS,
        default: DEFAULT_SINKS,
        range: 0..=65_536,
        about: "first positions that survive",
    }],
    needs_scores: false,
    ranks: false,
    make: |values, inner| Arc::new(Sinks { sinks: values[0], inner }),
};

impl Policy for Sinks {
    fn inner(&self) -> Option<&dyn Policy> {
        Some(&*self.inner)
    }

    fn reserve(&self, view: &View, protected: &mut [bool]) -> bool {
        let candidates = view.candidates.clone();
        let sinks = match view.budget {
            Budget::Window { keep_first, .. } => keep_first,
            _ => self.sinks,
        };
        protected[candidates.start..candidates.end.min(candidates.start + sinks)].fill(true);
        self.inner.reserve(view, protected)
    }
}
