//! Requests to language models over HTTP: with retries, with keys that are never shown, and with known costs.
//!
//! - `http`: JSON over HTTP. [`Endpoint`] is the address, [`Patience`] the retries and timeouts, [`Secret`] the key.
//! - [`anthropic`]: the Messages API.
//! - [`price`]: tokens and their cost.

pub mod anthropic;
mod http;
pub mod price;
mod retry;
mod secret;

pub use http::Endpoint;
pub use retry::Patience;
pub use secret::Secret;

pub(crate) use http::{Auth, Client, retry_after, shorten};
pub(crate) use retry::{Trouble, pause, persist, sleep};
