//! Running means by condition.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Plan, Resumed, TrialRow};

/// The mean score of one condition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConditionMean {
    /// The condition's name.
    pub condition: String,
    /// Mean over examples of the mean over repeats, in [0, 1]; `None` if no trial has a score.
    pub mean_score: Option<f64>,
    /// Number of finished trials.
    pub trials: usize,
}

/// The mean scores by condition, in the order of the rows.
pub fn means(trials: &[TrialRow]) -> Vec<ConditionMean> {
    let mut means = Means { by_condition: BTreeMap::new(), finished: 0 };
    let mut order: Vec<&str> = Vec::new();
    for row in trials.iter().filter(|row| row.error.is_empty()) {
        means.add(&row.condition, &row.example_id, row.mean_score);
        if !order.contains(&row.condition.as_str()) {
            order.push(&row.condition);
        }
    }
    order.into_iter().map(|name| means.condition(name)).collect()
}

/// Running means by condition: the mean over examples of the mean over repeats, so that repeats
/// never count as independent examples.
pub(super) struct Means {
    by_condition: BTreeMap<String, Mean>,
    pub finished: usize,
}

#[derive(Default)]
struct Mean {
    trials: usize,
    /// By example: sum and number of scores.
    examples: BTreeMap<String, (f64, usize)>,
    /// Sum over examples of their means.
    sum: f64,
}

impl Means {
    pub fn new(plan: &Plan, resumed: &Resumed) -> Self {
        let mut means = Means { by_condition: BTreeMap::new(), finished: 0 };
        for (key, score) in plan.of_those(&resumed.done) {
            means.add(&key.condition, &key.example, *score);
        }
        means
    }

    pub fn add(&mut self, condition: &str, example: &str, score: Option<f64>) {
        self.finished += 1;
        let mean = self.by_condition.entry(condition.to_owned()).or_default();
        mean.trials += 1;
        let Some(score) = score else { return };
        let (sum, count) = mean.examples.entry(example.to_owned()).or_default();
        if *count > 0 {
            mean.sum -= *sum / *count as f64;
        }
        *sum += score;
        *count += 1;
        mean.sum += *sum / *count as f64;
    }

    pub fn of(&self, condition: &str) -> Option<f64> {
        let mean = self.by_condition.get(condition)?;
        (!mean.examples.is_empty()).then(|| mean.sum / mean.examples.len() as f64)
    }

    pub fn condition(&self, name: &str) -> ConditionMean {
        let trials = self.by_condition.get(name).map_or(0, |mean| mean.trials);
        ConditionMean { condition: name.to_owned(), mean_score: self.of(name), trials }
    }
}
