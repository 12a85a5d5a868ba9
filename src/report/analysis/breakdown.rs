//! Separates losses on answers that broke down from losses on sound answers.

use serde::Serialize;

use crate::report::table::{Column, Trial, mean};
use crate::score::{Decay, REPETITIVE};

/// The two parts of the loss of one condition against another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Breakdown {
    /// Mean loss of score over all examples, as far as it is on answers that broke down.
    pub broken: f64,
    /// The same on sound answers, which forgot an instruction or did not follow it. The two parts sum to the loss.
    pub sound: f64,
}

/// Whether an answer broke down: it is empty, or repeats itself ([`REPETITIVE`]).
pub fn is_broken(trial: &Trial) -> bool {
    match trial.row.repetition {
        Some(repetition) => repetition >= REPETITIVE || !trial.row.response.chars().any(char::is_alphanumeric),
        // A run of an older version has no such column.
        None => Decay::of(&trial.row.response).is_broken(),
    }
}

/// The parts of the loss of `b` against `a`; `None` without a common example.
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
