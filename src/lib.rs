//! `kvllama`: what does a language model forget when its KV cache is cut?

#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod cli;
pub mod data;
pub mod error;
pub mod evict;
pub mod exp;
mod files;
pub mod llama;
pub mod models;
pub mod report;
pub mod score;
pub mod span;
pub mod stats;

pub use error::{Error, Result};

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
