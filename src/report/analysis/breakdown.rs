//! Losses told apart: answers that broke down, and sound answers that forgot.

use serde::Serialize;

use crate::report::table::{Column, Trial, mean};
use crate::score::{Decay, REPETITIVE};

/// How the loss of one condition against another divides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Breakdown {
    /// Mean loss of score, over all examples, that fell on answers which broke down.
    pub broken: f64,
    /// ... and on sound ones: what was forgotten, or not followed. The two add up to the loss.
    pub sound: f64,
}

/// Whether an answer is no language any more: it says nothing, or repeats itself ([`REPETITIVE`]).
pub fn is_broken(trial: &Trial) -> bool {
    match trial.row.repetition {
        Some(repetition) => repetition >= REPETITIVE || !trial.row.response.chars().any(char::is_alphanumeric),
        // Of a run that was made before this was measured.
        None => Decay::of(&trial.row.response).is_broken(),
    }
}

/// Divides the loss of `b` against `a`; nothing without a common example.
pub(super) fn of(a: &Column, b: &Column) -> Option<Breakdown> {
    let (mut broken, mut sound, mut n) = (0.0, 0.0, 0usize);
    for (left, right) in a.trials.iter().zip(&b.trials) {
        let Some(before) = mean(left.iter().filter_map(|trial| trial.row.mean_score)) else { continue };
        let scored: Vec<&Trial> = right.iter().filter(|trial| trial.row.mean_score.is_some()).collect();
        if scored.is_empty() {
            continue;
        }
        n += 1;
        for trial in &scored {
            let loss = (before - trial.row.mean_score.unwrap_or(before)) / scored.len() as f64;
            *(if is_broken(trial) { &mut broken } else { &mut sound }) += loss;
        }
    }
    (n > 0).then(|| Breakdown { broken: broken / n as f64, sound: sound / n as f64 })
}
