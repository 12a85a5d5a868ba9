//! Threads, which the system may refuse to start.

use std::io;
use std::sync::Mutex;
use std::thread::Builder;

use crate::{Error, Result};

/// The error where the system starts no thread: `.map_err(threads::refused)`.
pub(crate) fn refused(source: io::Error) -> Error {
    Error::Io { what: "cannot start a thread".to_owned(), source }
}

/// Starts a thread that nobody waits for.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) -> Result<()> {
    Builder::new().spawn(work).map(drop).map_err(refused)
}

/// Tries whether `n` threads can run at once, this one among them.
pub(crate) fn can_start(n: u32) -> Result<()> {
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let _closed = gate.lock();
        for _ in 1..n {
            Builder::new().spawn_scoped(scope, || drop(gate.lock())).map_err(refused)?;
        }
        Ok(())
    })
}
