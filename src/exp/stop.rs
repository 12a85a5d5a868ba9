//! Early stopping without inflated errors: a rule on confidence sequences, and an order of the examples that is fixed
//! before the first answer.
//!
//! After each example whose trials all have a score, the paired differences between every condition and the full cache
//! enter one [`ConfidenceSequence`] per condition. They hold their level together, because each gets an equal share of
//! the error (Bonferroni). A data set may be sorted, for example by type of instruction; a run that may stop therefore
//! visits its examples in a shuffled order, and records that order.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Observer, Plan, Resumed, TrialRow};
use crate::condition::Condition;
use crate::data::{Example, RUBRIC};
use crate::stats::{ConfidenceSequence, Estimate};
use crate::{Error, Result};

/// The name of the file in the run directory.
pub const STOPPING: &str = "stopping.json";

/// The level at which all sequences of a run hold together.
const LEVEL: f64 = 0.95;

/// The rule that ends a run, for example `width<0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StopRule {
    /// Every interval is narrower than this.
    Width(f64),
    /// The sign of every difference is known: its interval excludes 0.
    Decided,
    /// Every interval excludes 0, or lies within this margin on both sides of 0.
    DecidedWithin(f64),
}

impl StopRule {
    fn holds(self, interval: &Estimate) -> bool {
        let signed = interval.low > 0.0 || interval.high < 0.0;
        match self {
            StopRule::Width(width) => interval.high - interval.low < width,
            StopRule::Decided => signed,
            StopRule::DecidedWithin(margin) => signed || (interval.low >= -margin && interval.high <= margin),
        }
    }
}

impl FromStr for StopRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let compact: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let number = |text: &str, most: f64| text.parse().ok().filter(|&value: &f64| value > 0.0 && value < most);
        let rule = match (compact.strip_prefix("width<"), compact.strip_prefix("decided:")) {
            (Some(width), _) => number(width, 2.0).map(StopRule::Width),
            (_, Some(margin)) => number(margin, 1.0).map(StopRule::DecidedWithin),
            _ => (compact == "decided").then_some(StopRule::Decided),
        };
        rule.ok_or_else(|| {
            Error::input(format!(
                "`{text}` is no stopping rule; write width<W with W between 0 and 2, decided, or decided:MARGIN with a \
                 margin between 0 and 1"
            ))
        })
    }
}

impl fmt::Display for StopRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopRule::Width(width) => write!(f, "width<{width}"),
            StopRule::Decided => f.write_str("decided"),
            StopRule::DecidedWithin(margin) => write!(f, "decided:{margin}"),
        }
    }
}

impl From<StopRule> for String {
    fn from(rule: StopRule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for StopRule {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// `stopping.json`: the rule of a run, the order of its examples, and whether it stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// The rule.
    pub rule: StopRule,
    /// The level at which all sequences hold together.
    pub level: f64,
    /// The conditions that are compared with the full cache.
    pub conditions: Vec<String>,
    /// The ids of all examples, in the order of the run.
    pub order: Vec<String>,
    /// Number of visited examples when the rule was met; `None` until then.
    pub stopped_after: Option<usize>,
}

impl Stopping {
    /// Reads the file of a run directory; `None` if there is none.
    ///
    /// # Errors
    /// If the file exists and is malformed.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(STOPPING);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|error| Error::input(format!("{} is not kvllama's: {error}", path.display())))
    }

    fn write(&self, directory: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        crate::files::write_atomically(&directory.join(STOPPING), text.as_bytes())
    }

    /// The state before the first example: one sequence per condition.
    pub fn sequences(&self) -> Sequences {
        let each = 1.0 - (1.0 - self.level) / self.conditions.len() as f64;
        Sequences(self.conditions.iter().map(|name| (name.clone(), ConfidenceSequence::new(each))).collect())
    }
}

/// One confidence sequence per condition, for its difference from the full cache.
#[derive(Debug, Clone)]
pub struct Sequences(Vec<(String, ConfidenceSequence)>);

impl Sequences {
    /// Adds one example: its score under the full cache, and under each condition by name. If one of the scores is
    /// missing, the example is left out and the result is `false`.
    pub fn push(&mut self, baseline: Option<f64>, score: impl Fn(&str) -> Option<f64>) -> bool {
        let Some(baseline) = baseline else { return false };
        let Some(scores) = self.0.iter().map(|(name, _)| score(name)).collect::<Option<Vec<_>>>() else { return false };
        for ((_, sequence), score) in self.0.iter_mut().zip(scores) {
            sequence.push(score - baseline);
        }
        true
    }

    /// The intervals so far, by condition.
    pub fn intervals(&self) -> impl Iterator<Item = (&str, Estimate)> {
        self.0.iter().map(|(name, sequence)| (name.as_str(), sequence.estimate()))
    }
}

/// The observer that applies the stopping rule of a run.
pub struct Watch<'a> {
    observer: &'a mut dyn Observer,
    stopping: Stopping,
    sequences: Sequences,
    baseline: String,
    repeats: HashMap<(String, String), u32>,
    /// By example and condition: sum and number of scores. Entries of settled examples are removed.
    scores: HashMap<(String, String), (f64, u32)>,
    visited: usize,
    left_out: usize,
    trials: usize,
}

impl<'a> Watch<'a> {
    /// Fixes the order of the plan's examples (an earlier start may have done so), writes it to the run directory, and
    /// adds the scores of trials that finished earlier.
    ///
    /// # Errors
    /// If the plan has no condition to compare or no rule to score with, or if the file cannot be read or written.
    pub fn new(
        rule: StopRule,
        plan: &mut Plan,
        directory: &Path,
        resumed: &Resumed,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let earlier = Stopping::read(directory)?;
        let stopping = Stopping {
            rule,
            level: LEVEL,
            conditions: compared(plan)?.iter().map(ToString::to_string).collect(),
            order: order(plan, earlier.map_or_else(Vec::new, |earlier| earlier.order)),
            stopped_after: None,
        };
        arrange(plan, &stopping.order);
        stopping.write(directory)?;
        let mut watch = Watch {
            sequences: stopping.sequences(),
            stopping,
            observer,
            baseline: Condition::default().to_string(),
            repeats: planned_repeats(plan),
            scores: HashMap::new(),
            visited: 0,
            left_out: 0,
            trials: 0,
        };
        for (key, score) in plan.of_those(&resumed.done) {
            watch.score(&key.example, &key.condition, *score);
        }
        Ok(watch)
    }

    fn score(&mut self, example: &str, condition: &str, score: Option<f64>) {
        if let Some(score) = score {
            let (sum, count) = self.scores.entry((example.to_owned(), condition.to_owned())).or_default();
            (*sum, *count) = (*sum + score, *count + 1);
        }
    }

    /// Ends the watch: records whether the rule was met, and returns this as a sentence or two.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn conclude(self, directory: &Path) -> Result<String> {
        self.stopping.write(directory)?;
        let Stopping { rule, level, order, stopped_after, .. } = &self.stopping;
        let mut text = match stopped_after {
            Some(n) if self.trials == 0 => format!(
                "nothing to do: this run stopped after {n} of {} examples by its rule ({rule}); leave --stop-when out \
                 to go on",
                order.len()
            ),
            Some(n) => format!("stopped after {n} of {} examples: {rule} holds", order.len()),
            None => format!("all {} examples were visited, and {rule} does not hold", order.len()),
        };
        text.push_str(&format!("; difference from the full cache, all intervals at {:.0}%:", 100.0 * level));
        for (condition, interval) in self.sequences.intervals() {
            let Estimate { point, low, high, .. } = interval;
            text.push_str(&format!("\n  {condition} {point:+.3} [{low:+.3}, {high:+.3}]"));
        }
        if self.left_out > 0 {
            text.push_str(&format!(
                "\n{} of these examples entered no interval: a trial failed or has no score yet",
                self.left_out
            ));
        }
        Ok(text)
    }
}

impl Observer for Watch<'_> {
    fn started(&mut self, trials: usize, finished: usize) {
        self.observer.started(trials, finished);
    }

    fn trial(&mut self, row: &TrialRow, mean: Option<f64>) {
        self.trials += 1;
        if row.error.is_empty() {
            self.score(&row.example_id, &row.condition, row.mean_score);
        }
        self.observer.trial(row, mean);
    }

    fn may_break(&self) -> bool {
        true
    }

    fn settled(&mut self, example: &str) -> ControlFlow<()> {
        self.visited += 1;
        let (scores, repeats) = (&mut self.scores, &self.repeats);
        let mut names: Vec<String> = self.stopping.conditions.clone();
        names.push(self.baseline.clone());
        let mut settled: HashMap<String, f64> = HashMap::new();
        for name in names {
            let key = (example.to_owned(), name.clone());
            if let Some((sum, count)) = scores.remove(&key)
                && repeats.get(&key) == Some(&count)
            {
                settled.insert(name, sum / f64::from(count));
            }
        }
        let score = |name: &str| settled.get(name).copied();
        if !self.sequences.push(score(&self.baseline), score) {
            self.left_out += 1;
            return ControlFlow::Continue(());
        }
        if self.sequences.intervals().all(|(_, interval)| self.stopping.rule.holds(&interval)) {
            self.stopping.stopped_after = Some(self.visited);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// By example and condition: the number of planned trials.
fn planned_repeats(plan: &Plan) -> HashMap<(String, String), u32> {
    let mut planned = HashMap::new();
    for (_, key) in (0..plan.examples.len()).flat_map(|example| plan.trials(example)) {
        *planned.entry((key.example, key.condition)).or_default() += 1;
    }
    planned
}

/// The conditions to compare with the full cache.
///
/// # Errors
/// If there are none, or if no rule scores answers during the run.
pub fn compared(plan: &Plan) -> Result<Vec<&Condition>> {
    let settings = &plan.settings;
    if settings.shard.is_some() {
        return Err(Error::input(
            "--stop-when needs all examples, and a shard sees only its own; leave out one of the two",
        ));
    }
    let (baseline, others): (Vec<_>, Vec<_>) = settings.conditions.iter().partition(|condition| condition.is_full());
    if baseline.is_empty() || others.is_empty() {
        return Err(Error::input(
            "--stop-when watches differences from the full cache; leave --no-baseline out, and give a policy beside `none`",
        ));
    }
    if baseline.len() > 1 {
        return Err(Error::input("--stop-when watches one full cache, and several --kv-type make several; give one"));
    }
    let ruled = |example: &Example| example.instructions.iter().any(|one| one.kind != RUBRIC);
    if !plan.examples.iter().any(ruled) {
        return Err(Error::input(
            "--stop-when needs scores while the run goes on, and here only a judge can give them, later; leave it out",
        ));
    }
    Ok(others)
}

/// The recorded order; examples that it lacks follow, shuffled with the run's seed.
fn order(plan: &Plan, mut order: Vec<String>) -> Vec<String> {
    let place = |id: &str| {
        Sha256::new()
            .chain_update(b"kvllama order")
            .chain_update(plan.settings.generation.seed.to_le_bytes())
            .chain_update(id.as_bytes())
            .finalize()
    };
    let mut new: HashSet<&str> = plan.examples.iter().map(|example| example.id.as_str()).collect();
    order.retain(|id| new.remove(id.as_str()));
    let mut new: Vec<String> = new.into_iter().map(str::to_owned).collect();
    new.sort_by_cached_key(|id| place(id));
    order.extend(new);
    order
}

/// Sorts the examples of a plan by a list of their ids.
fn arrange(plan: &mut Plan, order: &[String]) {
    let place: HashMap<&str, usize> = order.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    plan.arrange(|example| place[example.id.as_str()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, high: f64) -> Estimate {
        Estimate { point: (low + high) / 2.0, low, high, level: 0.95, n: 9 }
    }

    #[test]
    fn rules_hold_when_they_say_so() {
        let rule = |text: &str| text.parse::<StopRule>().unwrap();
        assert_eq!(rule(" width < 0.05 ").to_string(), "width<0.05");
        assert!(rule("width<0.05").holds(&interval(-0.02, 0.029)));
        assert!(!rule("width<0.05").holds(&interval(0.1, 0.151)));
        for (low, high, sign, margin) in [
            (-0.4, -0.001, true, true),
            (0.001, 0.4, true, true),
            (-0.049, 0.049, false, true),
            (-0.051, 0.01, false, false),
            (-0.4, 0.0, false, false),
        ] {
            assert_eq!(rule("decided").holds(&interval(low, high)), sign, "{low} {high}");
            assert_eq!(rule("decided:0.05").holds(&interval(low, high)), margin, "{low} {high}");
        }
    }

    #[test]
    fn all_intervals_hold_together_and_incomplete_examples_are_left_out() {
        let conditions = vec!["a".to_owned(), "b".to_owned()];
        let stopping =
            Stopping { rule: StopRule::Decided, level: 0.95, conditions, order: Vec::new(), stopped_after: None };
        let mut both = stopping.sequences();
        let mut alone = ConfidenceSequence::new(0.975);
        for _ in 0..30 {
            assert!(both.push(Some(1.0), |name| Some(if name == "a" { 0.25 } else { 1.0 })));
            alone.push(-0.75);
            assert!(!both.push(Some(1.0), |name| (name == "a").then_some(0.0)), "no score under b");
            assert!(!both.push(None, |_| Some(0.0)), "no score under the full cache");
        }
        let intervals: Vec<_> = both.intervals().collect();
        assert_eq!(intervals[0], ("a", alone.estimate()));
        assert!(intervals[0].1.high < 0.0 && intervals[1].1.low < 0.0 && intervals[1].1.high > 0.0);
    }
}
