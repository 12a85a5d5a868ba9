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
    /// By example of which trials may follow: sum and number of scores.
    open: BTreeMap<String, (f64, usize)>,
    /// Number of the other examples that have a score.
    settled: usize,
    /// Sum over all examples of their means.
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
        let (sum, count) = mean.open.entry(example.to_owned()).or_default();
        if *count > 0 {
            mean.sum -= *sum / *count as f64;
        }
        *sum += score;
        *count += 1;
        mean.sum += *sum / *count as f64;
    }

    pub fn of(&self, condition: &str) -> Option<f64> {
        let mean = self.by_condition.get(condition)?;
        let examples = mean.settled + mean.open.len();
        (examples > 0).then(|| mean.sum / examples as f64)
    }

    /// Forgets the single scores of an example of which no trial will follow, so that a long run takes no more memory
    /// than a short one.
    pub fn settle(&mut self, example: &str) {
        for mean in self.by_condition.values_mut() {
            mean.settled += usize::from(mean.open.remove(example).is_some());
        }
    }

    pub fn condition(&self, name: &str) -> ConditionMean {
        let trials = self.by_condition.get(name).map_or(0, |mean| mean.trials);
        ConditionMean { condition: name.to_owned(), mean_score: self.of(name), trials }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_over_examples_is_the_same_after_they_settle() {
        let mut means = Means { by_condition: BTreeMap::new(), finished: 0 };
        for (example, score) in [("a", 1.0), ("a", 0.0), ("b", 1.0)] {
            means.add("none", example, Some(score));
        }
        means.add("none", "c", None);
        means.settle("a");
        means.settle("c");
        assert_eq!(
            means.condition("none"),
            ConditionMean { condition: "none".to_owned(), mean_score: Some((0.5 + 1.0) / 2.0), trials: 4 }
        );
        means.add("none", "b", Some(0.0));
        assert_eq!(means.of("none"), Some((0.5 + 0.5) / 2.0));
    }
}
