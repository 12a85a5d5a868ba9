//! `streaming`: keeps StreamingLLM's attention sinks and the most recent positions (Xiao et al. 2023, arXiv
//! 2309.17453).

use std::ops::Range;

use super::{Budget, DEFAULT_SINKS, Family, Parameter, Policy, SINKS, View};

/// Keeps the first and the last positions.
pub struct Streaming {
    /// First positions kept under a ratio. A budget of counts gives its own number.
    pub sinks: usize,
}

/// The name, summary and parameters of `streaming`.
pub(super) static STREAMING: Family = Family {
    name: "streaming",
    title: "StreamingLLM",
    summary: "attention sinks and the most recent positions (StreamingLLM)",
    paper: Some("2309.17453"),
    parameters: &[Parameter {
        name: SINKS,
        default: DEFAULT_SINKS,
        range: 0..=65_536,
        about: "first positions kept under a ratio or a rolling budget",
    }],
    make: |values| Box::new(Streaming { sinks: values[0] }),
};

impl Policy for Streaming {
    fn is_sinks_and_window(&self) -> bool {
        true
    }

    /// A budget of counts says exactly which positions survive.
    fn reserve(&self, view: &View, protected: &mut [bool]) -> bool {
        let Budget::Window { keep_first, keep_last } = view.budget else { return false };
        let Range { start, end } = view.candidates.clone();
        let len = end - start;
        protected[start..start + keep_first.min(len)].fill(true);
        protected[end - keep_last.min(len)..end].fill(true);
        true
    }

    /// Under a ratio, the oldest positions after the sinks are evicted first, and the sinks last.
    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        let sinks = match view.budget {
            Budget::Window { keep_first, .. } => keep_first,
            _ => self.sinks,
        };
        let first_recent = view.candidates.start + sinks;
        let old = view.evictable().filter(|&position| position >= first_recent);
        let sinks = view.evictable().rev().filter(|&position| position < first_recent);
        old.chain(sinks).take(n_evict).collect()
    }
}
