//! Asking language models over HTTP: patiently, without showing a key, and knowing what it costs.
//!
//! - `http`: JSON over HTTP. [`Endpoint`] says where, [`Patience`] how long, [`Secret`] with which key.
//! - [`anthropic`]: the Messages API.
//! - [`price`]: tokens and what they cost.

pub mod anthropic;
mod http;
pub mod price;
mod retry;
mod secret;

pub use http::Endpoint;
pub use retry::Patience;
pub use secret::Secret;

pub(crate) use http::{Auth, Client, shorten};
pub(crate) use retry::{Trouble, persist, sleep};
