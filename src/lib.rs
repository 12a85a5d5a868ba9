//! `kvllama`: what does a language model forget when its KV cache is cut?

#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod error;

pub use error::{Error, Result};
