//! Retries: requests that may succeed later are repeated after growing, jittered pauses.

use std::time::{Duration, Instant};

use crate::{Error, Result, interrupt};

/// The retries and timeouts of an API.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Largest number of requests for one answer, including the first.
    pub attempts: u32,
    /// The pause after a first failure; it doubles with every further one.
    pub backoff: Duration,
    /// Time limit of one request.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { attempts: 6, backoff: Duration::from_secs(1), timeout: Duration::from_secs(120) }
    }
}

/// Longest pause between two requests, unless the server asks for a longer one.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Longest pause that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// Malformed answers to one request after which it is given up.
const MAX_MISFORMED: u32 = 3;

/// Why a request failed.
pub(crate) enum Trouble {
    /// It may succeed later.
    Passing {
        reason: String,
        /// The pause that the server asks for.
        retry_after: Option<Duration>,
    },
    /// The answer is malformed; the next one may be right.
    Misformed(String),
    /// The server refuses this request with this status.
    Refused { status: u16, reason: String },
    /// The retries are used up.
    Final(String),
    /// No request will succeed.
    Fatal(Error),
}

impl Trouble {
    /// Why this request failed.
    ///
    /// # Errors
    /// If no other request will succeed either.
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

/// Repeats a request until it succeeds, fails for good, or the retries are used up; the failure is then final.
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
        let pause = pause(patience.backoff, n, retry_after);
        let attempts = patience.attempts;
        tracing::warn!("{reason}; request {n} of {attempts}, the next in {:.1} s", pause.as_secs_f64());
        sleep(pause)?;
    }
    unreachable!("the loop has no other end")
}

/// The pause after the last of `failures` in a row: `first`, doubled with every further one, up to a minute. It is
/// jittered, so that two clients that failed together do not return together. A server may ask for a longer one.
pub(crate) fn pause(first: Duration, failures: u32, asked: Option<Duration>) -> Duration {
    let backoff = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF);
    backoff.mul_f64(rand::random_range(0.5..1.0)).max(asked.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// Sleeps, but wakes up on Ctrl-C.
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
