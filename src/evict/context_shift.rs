//! `context-shift`: what the servers of llama.cpp and Ollama do when a context is full.
//!
//! They keep the first positions, discard the following half of the rest, and move the others down (`n_discard` in
//! llama.cpp's `tools/server/server-context.cpp`; `ShiftDiscard` in Ollama's `runner/ollamarunner/cache.go`).

use super::{Budget, DEFAULT_SINKS, Family, Parameter, Policy, View};

/// Discards the positions after the first ones, many at once.
struct ContextShift {
    /// First positions that survive. A budget of counts gives its own number.
    keep: usize,
    /// How many of the others are discarded at once; 0 for half of them.
    discard: usize,
}

/// The name, summary and parameters of `context-shift`.
pub(super) static CONTEXT_SHIFT: Family = Family {
    name: "context-shift",
    title: "Context shift",
    summary: "what llama.cpp's and Ollama's servers leave in a context of the budget's size: the first positions and recent ones",
    paper: None,
    parameters: &[
        Parameter { name: "keep", default: DEFAULT_SINKS, range: 0..=65_536, about: "first positions that survive" },
        Parameter {
            name: "discard",
            default: 0,
            range: 0..=65_536,
            about: "how many of the others go at once; 0: half of them",
        },
    ],
    make: |values| Box::new(ContextShift { keep: values[0], discard: values[1] }),
};

impl ContextShift {
    /// How many of `len` positions are discarded when they arrive one by one in a context of `size`.
    fn discarded(&self, len: usize, size: usize, keep: usize) -> usize {
        let mut held = len.min(size);
        let mut discarded = 0;
        for _ in size..len {
            if held == size {
                // llama.cpp and Ollama always make room for one more.
                let others = size.saturating_sub(keep);
                let discard = if self.discard == 0 { others / 2 } else { self.discard.min(others) }.max(1).min(held);
                discarded += discard;
                held -= discard;
            }
            held += 1;
        }
        discarded
    }
}

impl Policy for ContextShift {
    fn is_sinks_and_window(&self) -> bool {
        true
    }

    fn moves(&self) -> bool {
        true
    }

    /// The budget is the size of the context. What is left after the last shift may be about half of that.
    fn reserve(&self, view: &View, protected: &mut [bool]) -> bool {
        let candidates = view.candidates.clone();
        let keep = match view.budget {
            Budget::Window { keep_first, .. } => keep_first,
            _ => self.keep,
        };
        let size = view.budget.survivors(candidates.len() + view.gone).max(1);
        // A context keeps room for at least one token that is not kept.
        let keep = keep.min(size - 1);
        let discarded = self.discarded(candidates.len(), size, keep);
        protected[candidates.start..candidates.start + keep.min(candidates.len())].fill(true);
        protected[candidates.start + (keep + discarded).min(candidates.len())..candidates.end].fill(true);
        true
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        view.evictable().take(n_evict).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evict::{PolicySpec, TrialSeed, evict};

    fn kept(policy: &str, len: usize, budget: &str) -> Vec<std::ops::Range<usize>> {
        let policy: PolicySpec = policy.parse().unwrap();
        let protected = vec![false; len];
        let view = View::new(0..len, &protected, budget.parse().unwrap(), TrialSeed(0));
        evict(policy.policy(), len, &view).unwrap().kept()
    }

    /// The tokens in a server's cache after `len` tokens, by llama.cpp's own arithmetic on a list.
    fn server(len: usize, size: usize, keep: usize) -> Vec<usize> {
        let mut cache: Vec<usize> = Vec::new();
        for token in 0..len {
            if cache.len() == size {
                let n_left = cache.len() - keep;
                cache.drain(keep..keep + n_left / 2);
            }
            cache.push(token);
        }
        cache
    }

    #[test]
    fn what_is_left_is_what_a_server_holds() {
        for (len, size, keep) in
            [(10, 10, 4), (11, 10, 4), (13, 10, 4), (14, 10, 4), (100, 24, 0), (100, 31, 7), (500, 16, 4)]
        {
            let left: Vec<usize> =
                kept(&format!("context-shift:keep={keep}"), len, &format!("0+{size}")).into_iter().flatten().collect();
            let by_counts: Vec<usize> =
                kept("context-shift", len, &format!("{keep}+{}", size - keep)).into_iter().flatten().collect();
            assert_eq!(by_counts, server(len, size, keep), "{len} {size} {keep}");
            if keep == 0 {
                assert_eq!(left, by_counts);
            }
        }
    }

    #[test]
    fn a_ratio_is_the_size_of_the_context_and_the_whole_prompt_fits_at_0() {
        // A context of 50: 46 after the first 4, of which 23 go when it is full, at 50, 73 and 96 tokens.
        assert_eq!(kept("context-shift", 100, "0.5"), [0..4, 73..100]);
        assert_eq!(kept("context-shift:discard=10", 100, "0.5"), [0..4, 54..100]);
        assert_eq!(kept("context-shift", 100, "0"), vec![0..100]);
        assert_eq!(kept("context-shift:keep=90", 100, "0.5"), [0..49, 99..100], "one position is left to move");
    }
}
