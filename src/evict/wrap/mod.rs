//! Wrappers: `NAME+POLICY` changes how another policy's budget or ranking is used, as in `adakv+snapkv`.
//!
//! A wrapper is one file with a [`Wrapper`] and an `impl Policy` that asks the policy inside for everything it does not
//! change, and one line in [`WRAPPERS`]. Wrappers can be combined: `sinks+adakv+snapkv`.

mod adakv;
mod chunkkv;
mod criticalkv;
mod pyramidkv;
mod sinks;

use std::sync::Arc;

use super::{Parameter, Policy};

/// What all uses of a wrapper share: one `static` in its file.
pub struct Wrapper {
    /// The name before the `+`.
    pub name: &'static str,
    /// Its name in reports, as its paper writes it: `AdaKV`.
    pub title: &'static str,
    /// What it changes, in one line for lists.
    pub summary: &'static str,
    /// The paper that defines it, as an arXiv id.
    pub paper: Option<&'static str>,
    /// Its parameters, in the order in which [`Wrapper::make`] takes their values.
    pub parameters: &'static [Parameter],
    /// Whether the policy inside must rank positions by scores.
    pub needs_scores: bool,
    /// Whether it ranks positions in its own way, which only one wrapper can.
    pub ranks: bool,
    /// Wraps a policy, given one value per parameter.
    #[allow(clippy::type_complexity, reason = "named once, here")]
    pub make: fn(&[usize], Arc<dyn Policy>) -> Arc<dyn Policy>,
}

/// All wrappers.
pub static WRAPPERS: &[&Wrapper] =
    &[&sinks::SINKS_PLUS, &adakv::ADAKV, &pyramidkv::PYRAMIDKV, &chunkkv::CHUNKKV, &criticalkv::CRITICALKV];
