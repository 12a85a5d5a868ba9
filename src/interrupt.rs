//! The request to stop: set by a Ctrl-C handler, read by everything that takes long.
//!
//! A decode on the CPU stops at its next graph node, and a wait for an HTTP reply within a fraction of a second; both
//! then return [`Error::Interrupted`](crate::Error::Interrupted).
//!
//! ```
//! assert!(!kvllama::interrupt::requested());
//! kvllama::interrupt::request();
//! assert!(kvllama::interrupt::requested());
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Asks everything in this process that computes or waits to stop. Async-signal-safe.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Whether [`request`] was called.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
