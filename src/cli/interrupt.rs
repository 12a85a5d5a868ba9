//! Ctrl-C: the first one stops the current trial cleanly, the second one ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Installs the handler for SIGINT, SIGTERM, SIGHUP and SIGUSR1.
pub(super) fn install() -> Result<()> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        crate::interrupt::request();
    })
    .map_err(|error| Error::failed(format!("cannot handle Ctrl-C: {error}")))?;
    #[cfg(unix)]
    watch_usr1().map_err(|error| Error::failed(format!("cannot handle SIGUSR1: {error}")))?;
    Ok(())
}

/// Schedulers of clusters send SIGUSR1 some time before they end a job.
#[cfg(unix)]
fn watch_usr1() -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1])?;
    let watch = move || signals.forever().for_each(|_| crate::interrupt::request());
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
}
