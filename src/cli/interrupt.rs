//! Ctrl-C: the first one stops the current trial cleanly, the second one ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Installs the handler for SIGINT and SIGTERM.
pub(super) fn install() -> Result<()> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        crate::interrupt::request();
    })
    .map_err(|error| Error::failed(format!("cannot handle Ctrl-C: {error}")))
}
