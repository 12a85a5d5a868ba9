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
    /// A file could not be read or written. Exit code 1.
    #[error("{what}: {source}")]
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

    /// The process exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Input(_) => 2,
            Error::Failed(_) | Error::Program(_) | Error::Io { .. } => 1,
            Error::Interrupted => 130,
        }
    }
}
