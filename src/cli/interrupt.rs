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
    .map_err(|error| match error {
        ctrlc::Error::System(source) => refused("Ctrl-C")(source),
        other => Error::failed(format!("cannot handle Ctrl-C: {other}")),
    })?;
    #[cfg(unix)]
    watch_usr1().map_err(refused("SIGUSR1"))?;
    Ok(())
}

fn refused(signal: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = format!("cannot handle {signal}");
    |source| Error::Io { what, source }
}

/// A write beyond the largest file that this process may make (`ulimit -f`) is an error from now on, and not its end.
#[cfg(unix)]
pub(super) fn outlive_large_files() {
    // Without the handler, the process ends as before.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

/// Schedulers of clusters send SIGUSR1 some time before they end a job.
#[cfg(unix)]
fn watch_usr1() -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1])?;
    let watch = move || signals.forever().for_each(|_| crate::interrupt::request());
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
}
