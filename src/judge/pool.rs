//! Sends many requests, some of them at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::{Reply, Report, Request, Verdict};
use crate::api::Trouble;
use crate::api::price::Usage;
use crate::{Error, Result, interrupt};

/// Sends requests on up to `workers` threads, one by one on each. Requests for the same response stay on one thread, so
/// that the later ones find it in the prompt cache. If one fails for good, the replies still under way are reported
/// too.
pub(super) fn each(
    requests: &[Request],
    workers: usize,
    ask: impl Fn(&Request, &mut Usage) -> std::result::Result<Verdict, Trouble> + Sync,
    report: &mut Report,
) -> Result<()> {
    let groups: Vec<&[Request]> = requests.chunk_by(|a, b| a.response == b.response).collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, replies) = mpsc::channel();
    let work = |sender: mpsc::Sender<Result<Reply>>| {
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            for request in *group {
                if stop.load(Ordering::Relaxed) || interrupt::requested() {
                    return;
                }
                let mut usage = Usage::default();
                let verdict = match ask(request, &mut usage).map_err(Trouble::reason) {
                    Ok(verdict) => Ok(verdict),
                    Err(Ok(reason)) => Err(reason),
                    Err(Err(fatal)) => {
                        let _ = sender.send(Err(fatal)); // the receiver lives until all workers are done
                        return;
                    }
                };
                let _ = sender.send(Ok(Reply { key: request.key.clone(), verdict, usage }));
            }
        }
    };
    let mut outcome = Ok(());
    std::thread::scope(|scope| {
        let mut spawned = 0;
        for _ in 0..workers.clamp(1, groups.len().max(1)) {
            let sender = sender.clone();
            spawned += usize::from(std::thread::Builder::new().spawn_scoped(scope, || work(sender)).is_ok());
        }
        if spawned == 0 {
            // The system has no thread left.
            work(sender);
        } else {
            drop(sender);
        }
        for reply in replies {
            if let Err(error) = reply.and_then(&mut *report) {
                stop.store(true, Ordering::Relaxed);
                outcome = std::mem::replace(&mut outcome, Ok(())).and(Err(error));
            }
        }
    });
    if outcome.is_ok() && interrupt::requested() { Err(Error::Interrupted) } else { outcome }
}
