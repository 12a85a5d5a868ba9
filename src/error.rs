//! The error type of the crate, and the exit code of each kind of failure.

use std::path::Path;

/// The result of every function in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: one sentence for the person who typed the command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user can correct it: a bad argument, file, model or setting. Exit code 2.
    #[error("{0}")]
    Input(String),
    /// The work itself failed: a decode, a download, a lost file. Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// A program that a policy asks (`exec:PROGRAM`) failed; the run ends, because every further trial would fail too.
    /// Exit code 1.
    #[error("{0}")]
    Program(String),
    /// The system refused: a file, a thread, memory. Exit code 1.
    #[error("{what}: {source}{}", mend(source))]
    Io {
        /// The attempted action, with the path.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Stopped by the user; everything finished so far is on disk. Exit code 130.
    #[error("interrupted; finished rows are safe, rerun the same command to go on")]
    Interrupted,
}

impl Error {
    /// An error that the user can correct. The message says what is wrong, where, and how to correct it.
    pub fn input(message: impl Into<String>) -> Self {
        Error::Input(message.into())
    }

    /// A failure of the work itself.
    pub fn failed(message: impl Into<String>) -> Self {
        Error::Failed(message.into())
    }

    /// Wraps an I/O error: `.map_err(Error::io("cannot read", path))`.
    pub fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{what} {}", path.display());
        move |source| Error::Io { what, source }
    }

    /// The same error with its place before the sentence: ``example `a`: ...``.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        match self {
            Error::Input(text) => Error::Input(format!("{place}: {text}")),
            Error::Failed(text) => Error::Failed(format!("{place}: {text}")),
            Error::Program(text) => Error::Program(format!("{place}: {text}")),
            Error::Io { what, source } => Error::Io { what: format!("{place}: {what}"), source },
            Error::Interrupted => Error::Interrupted,
        }
    }

    /// The message on one line and of bounded length, whatever a file put into it: control characters are escaped, so that
    /// none reaches a terminal.
    pub fn sentence(&self) -> String {
        /// Characters that are shown at the start and at the end of a very long message.
        const SHOWN: usize = 1000;
        let mut characters: Vec<char> = self.to_string().chars().collect();
        if characters.len() > 2 * SHOWN {
            let end = characters.len() - SHOWN;
            characters.splice(SHOWN..end, " ... ".chars());
        }
        let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        characters.into_iter().map(escaped).collect()
    }

    /// The process exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Input(_) => 2,
            Error::Failed(_) | Error::Program(_) | Error::Io { .. } => 1,
            Error::Interrupted => 130,
        }
    }
}

/// What to do about the system's refusal, as the end of the sentence.
fn mend(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull, WouldBlock};
    // EMFILE: this process has as many files open as it may. Rust has no name for it, and `tempfile` keeps the text alone.
    let too_many_files = || cfg!(unix) && source.to_string().contains("(os error 24)");
    match source.kind() {
        StorageFull | QuotaExceeded => "; free some space, then run the same command again",
        FileTooLarge => "; the largest file that a process may write is limited here: raise the limit (ulimit -f)",
        OutOfMemory => "; close other programs, or raise the limit (ulimit -v)",
        WouldBlock => "; end other programs, or raise the limits on processes and memory (ulimit -u, ulimit -v)",
        _ if too_many_files() => "; raise the number of files that a process may have open (ulimit -n)",
        _ => "",
    }
}
