//! Threads, which the system may refuse to start.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Maps items on all processors and keeps their order. If no further thread can be started, this one does all the work.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match items.get(index) {
                Some(item) => done.push((index, work(item))),
                None => return done,
            }
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map_while(|_| Builder::new().spawn_scoped(scope, take).ok()).collect();
        let mut results = take();
        for worker in workers {
            results.extend(worker.join().expect("the work does not panic"));
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The results of two pieces of work that are done at the same time.
pub(crate) fn both<A: Send, B>(a: impl Fn() -> A + Sync, b: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let other = Builder::new().spawn_scoped(scope, &a);
        let b = b();
        (other.map_or_else(|_| a(), |other| other.join().expect("the work does not panic")), b)
    })
}
