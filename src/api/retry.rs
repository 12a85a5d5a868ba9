//! Asking again: what may pass is retried with growing, jittered pauses.

use std::time::{Duration, Instant};

use crate::{Error, Result, interrupt};

/// How patiently an API is asked.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Requests for one answer, the first included.
    pub attempts: u32,
    /// The pause after a first failure; doubled for every further one.
    pub backoff: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { attempts: 6, backoff: Duration::from_secs(1), timeout: Duration::from_secs(120) }
    }
}

/// Longest pause between two requests, unless the server asks for a longer one.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A server may ask for a pause, but not for ever.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// A model that answers out of form so often will not mend.
const MAX_MISFORMED: u32 = 3;

/// Why a request led to nothing.
pub(crate) enum Trouble {
    /// It may pass.
    Passing {
        reason: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is out of form; another may not be.
    Misformed(String),
    /// The server will not have this request, says its status.
    Refused { status: u16, reason: String },
    /// Patience has ended.
    Final(String),
    /// No request will succeed.
    Fatal(Error),
}

impl Trouble {
    /// Why this request led to nothing.
    ///
    /// # Errors
    /// If no other will lead to anything, either.
    pub fn reason(self) -> Result<String> {
        match self {
            Trouble::Passing { reason, .. } | Trouble::Misformed(reason) => Ok(reason),
            Trouble::Refused { reason, .. } | Trouble::Final(reason) => Ok(reason),
            Trouble::Fatal(error) => Err(error),
        }
    }

    pub fn passing(reason: String) -> Self {
        Trouble::Passing { reason, retry_after: None }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Fatal(error)
    }
}

/// Tries until it succeeds, until the trouble is there to stay, or until patience ends: then the
/// trouble is final.
pub(crate) fn persist<T>(
    patience: &Patience,
    mut attempt: impl FnMut() -> std::result::Result<T, Trouble>,
) -> std::result::Result<T, Trouble> {
    let mut misformed = 0;
    for n in 1.. {
        let (reason, retry_after) = match attempt() {
            Err(Trouble::Passing { reason, retry_after }) => (reason, retry_after),
            Err(Trouble::Misformed(reason)) => {
                misformed += 1;
                (reason, None)
            }
            other => return other,
        };
        if n >= patience.attempts || misformed == MAX_MISFORMED {
            return Err(Trouble::Final(format!("{reason} (asked {n} times)")));
        }
        let backoff = patience.backoff.saturating_mul(1 << (n - 1).min(16)).min(MAX_BACKOFF);
        let jittered = backoff.mul_f64(rand::random_range(0.5..1.0));
        let pause = jittered.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER));
        // A pause that is felt is explained.
        if pause >= Duration::from_secs(2) {
            tracing::warn!("{reason}; asked {n} times, again in {:.0} s", pause.as_secs_f64());
        } else {
            tracing::debug!("attempt {n}: {reason}");
        }
        sleep(pause)?;
    }
    unreachable!("the loop has no other end")
}

/// Sleeps, but wakes for Ctrl-C.
pub(crate) fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        if interrupt::requested() {
            return Err(Error::Interrupted);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}
