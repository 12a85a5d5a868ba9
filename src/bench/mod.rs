//! How fast the engine is, compared with other programs.
//!
//! Every section measures the engine that `exp` uses. If there are [`Peers`], each of their runs follows one of ours,
//! so that other load on the machine affects both; results are medians.

mod batch;
mod check;
mod dense;
mod eviction;
mod grid;
mod memory;
mod peers;
mod single;
mod table;
mod tap;

pub use check::regressions;
pub use eviction::eviction;
pub use peers::Peers;
pub use table::{Beside, Goal, Row, Table};

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{Forgetting, Job};
use crate::evict::{Budget, KeepSet, PolicySpec, TrialSeed, View, evict};
use crate::llama::{ContextSettings, Model, Sampler, Sampling, Token};
use crate::{Error, Result};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Predicted and measured memory of many conditions side by side.
    Memory,
    /// Reading and generating, one sequence.
    Single,
    /// Generating many sequences from one prompt.
    Batch,
    /// A grid of conditions, compared with as many separate runs.
    Grid,
    /// The cost of the tap while a prompt is read.
    Tap,
    /// Choosing the positions to evict, and evicting them.
    Eviction,
    /// Answers after a long prompt of which little is kept.
    Dense,
}

impl Section {
    /// All sections in the order in which they run: memory first, because a peak never falls.
    pub const ALL: [Section; 7] = [
        Section::Memory,
        Section::Single,
        Section::Batch,
        Section::Grid,
        Section::Tap,
        Section::Eviction,
        Section::Dense,
    ];

    /// The name used in the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Section::Memory => "memory",
            Section::Single => "single",
            Section::Batch => "batch",
            Section::Grid => "grid",
            Section::Tap => "tap",
            Section::Eviction => "eviction",
            Section::Dense => "dense",
        }
    }
}

impl FromStr for Section {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|section| section.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|section| section.as_str()).collect();
            Error::input(format!("`{text}` is no section of the benchmark; known are {}", known.join(", ")))
        })
    }
}

/// The settings of a measurement.
pub struct Bench {
    /// The model.
    pub model: Arc<Model>,
    /// The same model, loaded [dry](crate::llama::LoadSettings::dry), to predict memory.
    pub dry: Arc<Model>,
    /// Time that loading the model took.
    pub load: Duration,
    /// Threads, cache type and the like; each section sets its own sizes.
    pub context: ContextSettings,
    /// Number of runs of which the median is taken.
    pub runs: usize,
    /// Tokens that the section `tap` reads.
    pub tokens: u32,
    /// The programs to compare with.
    pub peers: Option<Peers>,
}

impl Bench {
    /// Measures one section.
    ///
    /// # Errors
    /// If the engine or a peer fails.
    pub fn section(&self, section: Section) -> Result<Table> {
        let (note, rows) = match section {
            Section::Memory => memory::measure(self)?,
            Section::Single => single::measure(self)?,
            Section::Batch => batch::measure(self)?,
            Section::Grid => grid::measure(self)?,
            Section::Tap => tap::measure(self)?,
            Section::Eviction => eviction(&self.model, self.runs)?,
            Section::Dense => dense::measure(self)?,
        };
        Ok(Table { section: section.as_str().to_owned(), note, rows })
    }

    fn context(&self, n_ctx: usize) -> ContextSettings {
        ContextSettings { n_ctx: u32::try_from(n_ctx).unwrap_or(u32::MAX), ..self.context.clone() }
    }

    /// A text of `len` tokens for this model, without BOS.
    fn text(&self, len: usize) -> Vec<Token> {
        tokens(&self.model, len)
    }
}

fn tokens(model: &Model, len: usize) -> Vec<Token> {
    let mut text = String::new();
    for item in 1.. {
        text.push_str(&format!("Rule {item}: answer question {item} in one short sentence, then go on. "));
        let mut tokens = model.tokenize(&text).expect("a text of len tokens is short");
        if tokens.len() >= len {
            tokens.truncate(len);
            return tokens;
        }
    }
    unreachable!("the text grows without end")
}

/// The conditions of a small study: `count` jobs, each with a random share of `len` positions evicted; the first one
/// keeps all.
fn jobs(count: usize, len: usize) -> Result<Vec<Job<usize>>> {
    let jobs = (0..count).map(|id| {
        let ratio = format!("{:.4}", 0.9 * id as f64 / count as f64);
        let keep = keep_set("random", &ratio, len)?;
        Ok(Job { id, forgetting: Forgetting::new(keep), sampler: greedy() })
    });
    jobs.collect()
}

/// The keep set of a policy; a policy with scores gets artificial ones.
fn keep_set(name: &str, ratio: &str, len: usize) -> Result<KeepSet> {
    let budget = Budget::Ratio(ratio.parse()?);
    let protected = vec![false; len];
    // Steps of the golden ratio: no two are equal, and they have no order.
    let scores: Vec<_> = (0..len).map(|at| (at as f64 * 0.618_033_988_749_895).fract()).collect();
    let view = View { scores: &scores, ..View::new(0..len, &protected, budget, TrialSeed(1)) };
    evict(name.parse::<PolicySpec>()?.policy(), len, &view)
}

/// Makes answers of full length, even if the model would end its turn.
fn greedy() -> Sampler {
    Sampler::new(&Sampling { ignore_eos: true, ..Sampling::default() }, 0)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed().as_secs_f64()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
