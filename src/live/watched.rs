//! The sums of a run that goes on, over one or more directories.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::growing::{Growing, Landed};
use crate::condition::Condition;
use crate::evict::Ratio;
use crate::exp::stop::Stopping;
use crate::exp::{Generation, Key, MANIFEST, Manifest, TRIALS, TrialRow};
use crate::report::load;
use crate::stats::t_interval;
use crate::{Error, Result};

/// Confidence level of the intervals.
const LEVEL: f64 = 0.95;

/// Number of last answers that are shown.
const LAST: usize = 8;

/// Longest answer that is sent, in characters.
const LONGEST: usize = 600;

/// Directories that are watched together: shards of one run, or runs side by side.
#[derive(Debug)]
pub struct Watched {
    places: Vec<Place>,
    start: Instant,
    /// Rows that have landed since the start, without those that were there.
    landed: usize,
    last: Vec<Answer>,
    version: u64,
}

#[derive(Debug)]
struct Place {
    directory: PathBuf,
    trials: Growing,
    manifest: Option<(Manifest, SystemTime)>,
    /// The score of each trial; an error if it failed.
    found: HashMap<Key, std::result::Result<Option<f64>, ()>>,
    stopped: bool,
    read: bool,
}

/// An answer as the page shows it.
#[derive(Debug, Clone, Serialize)]
struct Answer {
    example: String,
    condition: String,
    score: Option<f64>,
    text: String,
    failed: bool,
}

/// A condition of the sums.
#[derive(Debug, Serialize)]
struct Sum {
    condition: String,
    series: String,
    ratio: Option<f64>,
    trials: usize,
    examples: usize,
    mean: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

/// What the page gets.
#[derive(Debug, Serialize)]
pub struct Sums {
    version: u64,
    title: String,
    planned: usize,
    finished: usize,
    failed: usize,
    /// Seconds to go at the rate since the watch began; `None` before the first row.
    seconds_left: Option<f64>,
    per_minute: Option<f64>,
    state: State,
    conditions: Vec<Sum>,
    last: Vec<Answer>,
}

/// Where the run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No row has landed yet.
    Waiting,
    /// Rows land.
    Running,
    /// Every planned trial has a row, or the run has met its stopping rule.
    Done,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Waiting => "no row yet",
            State::Running => "stopped watching",
            State::Done => "done",
        })
    }
}

impl Sums {
    /// The sums in a line: `40 of 120 trials, 1 failed`.
    pub fn line(&self) -> String {
        let failed = if self.failed == 0 { String::new() } else { format!(", {} failed", self.failed) };
        format!("{} of {} trials{failed}", self.finished + self.failed, self.planned)
    }
}

impl Watched {
    /// Watches directories, which need not hold a row yet.
    ///
    /// # Errors
    /// If one of them does not exist.
    pub fn new(directories: &[PathBuf]) -> Result<Self> {
        let place = |directory: &PathBuf| {
            if !directory.is_dir() {
                return Err(Error::input(format!(
                    "{} is no directory; start the run first, then watch the directory it names",
                    directory.display()
                )));
            }
            Ok(Place {
                trials: Growing::new(&directory.join(TRIALS)),
                directory: directory.clone(),
                manifest: None,
                found: HashMap::new(),
                stopped: false,
                read: false,
            })
        };
        let places = directories.iter().map(place).collect::<Result<_>>()?;
        Ok(Watched { places, start: Instant::now(), landed: 0, last: Vec::new(), version: 0 })
    }

    /// Reads what has landed; returns whether anything changed.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn look(&mut self) -> Result<bool> {
        let mut changed = false;
        for place in &mut self.places {
            let path = place.directory.join(MANIFEST);
            let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
            if let Some(modified) = modified.filter(|now| place.manifest.as_ref().is_none_or(|(_, then)| then != now)) {
                place.manifest = Some((Manifest::read(&path)?, modified));
                changed = true;
            }
            let rows = match place.trials.landed::<TrialRow>()? {
                Landed::More(rows) => rows,
                Landed::Anew(rows) => {
                    place.found.clear();
                    changed = true;
                    rows
                }
            };
            changed |= !rows.is_empty();
            if place.read {
                self.landed += rows.len();
            }
            place.read = true;
            let first = rows.len().saturating_sub(LAST);
            self.last.extend(rows[first..].iter().map(Answer::of));
            for row in rows {
                let outcome = if row.error.is_empty() { Ok(row.mean_score) } else { Err(()) };
                place.found.insert(row.key(), outcome);
            }
            let stopped = Stopping::read(&place.directory)?.is_some_and(|stopping| stopping.stopped_after.is_some());
            changed |= stopped != place.stopped;
            place.stopped = stopped;
        }
        self.last.drain(..self.last.len().saturating_sub(LAST));
        self.version += u64::from(changed);
        Ok(changed)
    }

    /// A number that grows when something changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The directories that hold a finished trial.
    pub fn directories(&self) -> Vec<PathBuf> {
        let begun = self.places.iter().filter(|place| place.found.values().any(std::result::Result::is_ok));
        begun.map(|place| place.directory.clone()).collect()
    }

    /// Where the run stands.
    pub fn state(&self) -> State {
        let done = |place: &Place| place.stopped || place.planned().is_some_and(|planned| place.found.len() >= planned);
        if self.places.iter().all(done) {
            State::Done
        } else if self.places.iter().all(|place| place.found.is_empty()) {
            State::Waiting
        } else {
            State::Running
        }
    }

    /// The sums of now.
    pub fn sums(&self) -> Sums {
        let planned: usize = self.places.iter().filter_map(Place::planned).sum();
        let (finished, failed) = self.places.iter().fold((0, 0), |(finished, failed), place| {
            let wrong = place.found.values().filter(|outcome| outcome.is_err()).count();
            (finished + place.found.len() - wrong, failed + wrong)
        });
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = (self.landed > 0).then(|| self.landed as f64 / seconds);
        let left = planned.saturating_sub(finished + failed);
        let state = self.state();
        Sums {
            version: self.version,
            title: self.title(),
            planned,
            finished,
            failed,
            seconds_left: rate.filter(|_| state != State::Done).map(|rate| left as f64 / rate),
            per_minute: rate.map(|rate| 60.0 * rate),
            state,
            conditions: self.conditions(),
            last: self.last.iter().rev().cloned().collect(),
        }
    }

    fn title(&self) -> String {
        let names = self.places.iter().map(|place| load::name(&place.directory));
        names.collect::<Vec<_>>().join(" + ")
    }

    /// The conditions, shards of one run together; runs that differ in more are told apart by their directory.
    fn conditions(&self) -> Vec<Sum> {
        let mut groups: Vec<(String, Vec<&Place>)> = Vec::new();
        for place in &self.places {
            let Some(experiment) = place.experiment() else { continue };
            match groups.iter_mut().find(|(known, _)| *known == experiment) {
                Some((_, places)) => places.push(place),
                None => groups.push((experiment, vec![place])),
            }
        }
        let several = groups.len() > 1;
        let mut sums = Vec::new();
        for (_, places) in &groups {
            let mut conditions: Vec<(String, Condition)> = Vec::new();
            for one in
                places.iter().filter_map(|place| place.manifest.as_ref()).flat_map(|(found, _)| found.conditions())
            {
                if !conditions.contains(&one) {
                    conditions.push(one);
                }
            }
            let prefix =
                if several { format!("{}: ", load::last_component(&places[0].directory)) } else { String::new() };
            let mut scores: HashMap<&str, HashMap<&str, (f64, usize)>> = HashMap::new();
            let mut trials: HashMap<&str, usize> = HashMap::new();
            for (key, outcome) in places.iter().flat_map(|place| &place.found) {
                let Ok(score) = outcome else { continue };
                *trials.entry(&key.condition).or_default() += 1;
                let Some(score) = score else { continue };
                let (sum, n) = scores.entry(&key.condition).or_default().entry(&key.example).or_default();
                (*sum, *n) = (*sum + score, *n + 1);
            }
            sums.extend(conditions.into_iter().map(|(name, condition)| {
                let means: Vec<f64> = scores
                    .get(name.as_str())
                    .into_iter()
                    .flat_map(|all| all.values())
                    .map(|(sum, n)| sum / *n as f64)
                    .collect();
                let interval = (!means.is_empty()).then(|| t_interval(&means, LEVEL));
                let ratio = match condition.is_full() {
                    true => Some(0.0),
                    false => condition.budget.ratio().map(Ratio::as_f64),
                };
                Sum {
                    condition: format!("{prefix}{name}"),
                    series: format!("{prefix}{}", condition.series()),
                    ratio,
                    trials: trials.get(name.as_str()).copied().unwrap_or(0),
                    examples: means.len(),
                    mean: interval.map(|interval| interval.point),
                    low: interval.filter(|_| means.len() > 1).map(|interval| interval.low.max(0.0)),
                    high: interval.filter(|_| means.len() > 1).map(|interval| interval.high.min(1.0)),
                }
            }));
        }
        sums
    }
}

impl Place {
    fn planned(&self) -> Option<usize> {
        self.manifest.as_ref().map(|(manifest, _)| manifest.n_planned(|_| true))
    }

    fn experiment(&self) -> Option<String> {
        self.manifest.as_ref().map(|(manifest, _)| experiment(manifest))
    }
}

/// What all shards of a run share. Each of them chose for itself how many conditions it answers side by side.
pub(super) fn experiment(manifest: &Manifest) -> String {
    let generation = Generation { parallel: 1, ..manifest.generation.clone() };
    let generation = serde_json::to_string(&generation).expect("plain data");
    format!("{} {} {generation}", manifest.model.sha256, manifest.data.sha256)
}

impl Answer {
    fn of(row: &TrialRow) -> Self {
        let failed = !row.error.is_empty();
        let text = if failed { &row.error } else { &row.response };
        let mut shown: String = text.chars().take(LONGEST).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Answer {
            example: row.example_id.clone(),
            condition: row.condition.clone(),
            score: row.mean_score,
            text: shown,
            failed,
        }
    }
}
