//! `pyramidkv+POLICY`: budgets fall linearly from the first layer to the last (Cai et al. 2024, "PyramidKV", arXiv
//! 2406.02069).

use std::sync::Arc;

use super::Wrapper;
use crate::evict::{Granularity, Parameter, Policy};

/// Gives the first layers more than the last.
struct PyramidKv {
    /// The last layer keeps this part of the mean budget, as in 1/20.
    beta: usize,
    /// Fewest positions that a layer keeps.
    least: usize,
    inner: Arc<dyn Policy>,
}

/// The name, summary and parameters of `pyramidkv+POLICY`.
pub(super) static PYRAMIDKV: Wrapper = Wrapper {
    name: "pyramidkv",
    title: "PyramidKV",
    summary: "budgets fall linearly over the layers; needs --granularity layer or head",
    paper: Some("2406.02069"),
    parameters: &[
        Parameter { name: "beta", default: 20, range: 1..=1_000, about: "the last layer keeps 1/beta of the mean" },
        Parameter {
            name: "least",
            default: 64,
            range: 0..=65_536,
            about: "fewest positions of a layer, and fewest that the first layer evicts",
        },
    ],
    needs_scores: false,
    ranks: false,
    make: |values, inner| Arc::new(PyramidKv { beta: values[0], least: values[1], inner }),
};

impl Policy for PyramidKv {
    fn inner(&self) -> Option<&dyn Policy> {
        Some(&*self.inner)
    }

    fn coarsest(&self) -> Granularity {
        match self.inner.coarsest() {
            Granularity::Head => Granularity::Head,
            _ => Granularity::Layer,
        }
    }

    fn share_among_layers(&self, layers: usize, candidates: usize, survivors: usize) -> Vec<usize> {
        let (len, mean) = (candidates as f64, survivors as f64);
        let mut last = (mean / self.beta as f64).max(self.least as f64);
        // The first and the last layer are as far from the mean, so a first layer at its limit lifts the last.
        let first_at_most = len - self.least as f64;
        if 2.0 * mean - last > first_at_most {
            last = 2.0 * mean - first_at_most;
        }
        let last = last.min(mean);
        let first = 2.0 * mean - last;
        if layers < 2 {
            return vec![survivors; layers];
        }
        let step = (first - last) / (layers - 1) as f64;
        // Halves go to the even number, so that the rounded budgets still have the mean.
        (0..layers).map(|layer| (first - layer as f64 * step).round_ties_even() as usize).collect()
    }
}
