//! Paired comparisons: every condition with the full cache, and conditions that differ in one axis.

use serde::Serialize;

use super::breakdown::{self, Breakdown};
use super::chance::Chance;
use super::earned::{self, EarnedDifference};
use super::{Condition, Resampling, fidelity, stopping, survival};
use crate::condition::{AXES, Axis, AxisFacts};
use crate::report::table::{Column, Trial, mean};
use crate::report::{Table, words};
use crate::stats::{self, Estimate};

/// Two-sided level of a whole family of comparisons.
const ALPHA: f64 = 0.05;
/// Power behind [`Comparison::detectable`] and [`Comparison::examples_needed`].
const POWER: f64 = 0.8;
/// The difference assumed in [`Comparison::examples_needed`].
const TARGET: f64 = 0.1;

/// Largest share by which bytes of keys and values may differ and still count as equal: types have no round sizes.
const EQUAL_BYTES: f64 = 0.15;

/// The question of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What does this eviction cost, against the full cache?
    Baseline,
    /// Does the value on this axis matter, at the same budget?
    Axis(&'static AxisFacts),
    /// Is it better to keep fewer positions or fewer bits, at about equal bytes?
    Bytes,
    /// Do two runs differ under the same condition?
    Run,
}

impl Question {
    /// A short name: `baseline`, the axis's name, `bytes`, or `run`.
    pub fn id(self) -> &'static str {
        match self {
            Question::Baseline => "baseline",
            Question::Axis(axis) => axis.name,
            Question::Bytes => "bytes",
            Question::Run => "run",
        }
    }

    /// A heading for comparisons of this kind.
    pub fn title(self) -> &'static str {
        match self {
            Question::Baseline => "against the full cache",
            Question::Axis(axis) => axis.question,
            Question::Bytes => "fewer positions against fewer bits, at equal bytes",
            Question::Run => "runs under the same condition",
        }
    }

    /// Whether the question is about the given axis.
    pub fn is_of<A: Axis>(self) -> bool {
        matches!(self, Question::Axis(axis) if axis.name == A::NAME)
    }

    /// The order of questions in a report: the baseline first, then axis by axis, runs last.
    fn place(self) -> usize {
        match self {
            Question::Baseline => 0,
            Question::Axis(axis) => 1 + AXES.iter().position(|other| other == axis).unwrap_or(AXES.len()),
            Question::Bytes => AXES.len() + 2,
            Question::Run => usize::MAX,
        }
    }
}

impl Serialize for Question {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// Condition `b` compared with condition `a`, on their common examples.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What it asks.
    pub question: Question,
    /// Index of the condition that is the reference.
    pub a: usize,
    /// Index of the other condition.
    pub b: usize,
    /// The result in words.
    pub sentence: String,
    /// Number of pairs: common examples.
    pub n: usize,
    /// Mean score of `a` on them.
    pub mean_a: f64,
    /// Mean score of `b` on them.
    pub mean_b: f64,
    /// Mean of `b - a`, with its interval over examples.
    pub difference: Estimate,
    /// For comparisons with the full cache in a run with a stopping rule: an interval that holds at any stopping time,
    /// for all conditions together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anytime: Option<Estimate>,
    /// The same on earned scores, if they can be computed; it then decides.
    pub earned: Option<EarnedDifference>,
    /// Two-sided sign-flip permutation test.
    pub p_permutation: f64,
    /// The same after Holm's correction over all comparisons of the report.
    pub p_holm: f64,
    /// Wilcoxon's signed-rank test.
    pub p_wilcoxon: f64,
    /// Cohen's d of the paired differences.
    pub d_z: Option<f64>,
    /// Cliff's delta.
    pub cliffs_delta: f64,
    /// Standard deviation of the paired differences.
    pub sd_difference: f64,
    /// Skewness of the paired differences.
    pub skewness: f64,
    /// Instructions followed under only one of the two.
    pub changed: Option<Changed>,
    /// For comparisons with the full cache: the parts of the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<Breakdown>,
    /// KL divergence of `b` as a multiple of that of `a`: geometric mean over examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_ratio: Option<Estimate>,
    /// The smallest difference that such an experiment finds with a power of 80% at the strictest level of the
    /// correction: 0.05 divided by the number of comparisons. It is in units of the earned score if that decides.
    pub detectable: f64,
    /// Number of examples at which a difference of 0.1 is found with this power.
    pub examples_needed: Option<usize>,
}

impl Comparison {
    /// The deciding difference and its corrected p: of the earned score if there is one, else of the score.
    pub fn decides(&self) -> (&Estimate, f64) {
        match &self.earned {
            Some(earned) => (&earned.difference, earned.p_holm),
            None => (&self.difference, self.p_holm),
        }
    }

    /// Number of examples and skewness of the deciding difference.
    pub fn symmetry(&self) -> (usize, f64) {
        self.earned.as_ref().map_or((self.n, self.skewness), |earned| (earned.n, earned.skewness))
    }

    /// Whether the deciding corrected test rejects "no difference" at 0.05.
    pub fn is_significant(&self) -> bool {
        self.decides().1 < ALPHA
    }
}

/// Single instructions whose verdict changed, in the first repeat. This only describes: instructions of a prompt are
/// not independent, so the test is the sign-flip test over examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Changed {
    /// Followed under `a`, not under `b`.
    pub lost: usize,
    /// Followed under `b`, not under `a`.
    pub gained: usize,
}

/// What describes a comparison besides its statistics.
struct Described {
    kl_ratio: Option<Estimate>,
    breakdown: Option<Breakdown>,
    changed: Option<Changed>,
}

pub(super) fn comparisons(
    table: &Table,
    conditions: &[Condition],
    chance: &Chance,
    resampling: Resampling,
) -> Vec<Comparison> {
    let scores: Vec<Vec<Option<f64>>> = table.columns.iter().map(Column::scores).collect();
    let pairs = pairs(table);
    let computed = crate::threads::map(&pairs, |&(question, a, b)| {
        let both = scores[a].iter().zip(&scores[b]).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
        let (left, right): (Vec<f64>, Vec<f64>) = both.unzip();
        let compared = stats::compare(&left, &right, resampling.level, resampling.seed)?;
        let columns = (&table.columns[a], &table.columns[b]);
        let described = Described {
            kl_ratio: fidelity::ratio(columns.0, columns.1, resampling),
            breakdown: (question == Question::Baseline).then(|| breakdown::of(columns.0, columns.1)).flatten(),
            changed: changed(columns.0, columns.1),
        };
        Some((question, a, b, compared, described))
    });
    let computed: Vec<_> = computed.into_iter().flatten().collect();
    let anytime = stopping::anytime(table, conditions);
    let compared: Vec<(usize, usize)> = computed.iter().map(|&(_, a, b, ..)| (a, b)).collect();
    let earned = earned::compare(chance, &compared, resampling);
    let level = ALPHA / computed.len().max(1) as f64;
    let corrected = stats::holm(&computed.iter().map(|(.., compared, _)| compared.p_permutation).collect::<Vec<_>>());
    computed
        .into_iter()
        .zip(corrected)
        .zip(earned)
        .map(|(((question, a, b, compared, described), p_holm), earned)| {
            let (sd, n) = match &earned {
                Some(earned) => (earned.sd_difference, earned.n),
                None => (compared.sd_difference, compared.n),
            };
            let measurable = sd.is_finite() && sd > 0.0;
            let difference = compared.difference;
            let mut comparison = Comparison {
                question,
                a,
                b,
                sentence: String::new(),
                n: compared.n,
                mean_a: compared.mean_a,
                mean_b: compared.mean_b,
                difference,
                anytime: anytime.get(&b).copied().filter(|_| question == Question::Baseline),
                earned,
                p_permutation: compared.p_permutation,
                p_holm,
                p_wilcoxon: compared.p_wilcoxon,
                d_z: compared.d_z,
                cliffs_delta: compared.cliffs_delta,
                sd_difference: compared.sd_difference,
                skewness: compared.skewness,
                kl_ratio: described.kl_ratio,
                breakdown: described.breakdown,
                changed: described.changed,
                detectable: if measurable { stats::minimum_detectable_difference(sd, n, level, POWER) } else { 0.0 },
                examples_needed: measurable.then(|| stats::examples_needed(TARGET, sd, level, POWER)).flatten(),
            };
            comparison.sentence = sentence(&comparison, conditions);
            comparison
        })
        .collect()
}

/// The pairs of conditions to compare, question by question.
fn pairs(table: &Table) -> Vec<(Question, usize, usize)> {
    let columns = &table.columns;
    let mut pairs = Vec::new();
    for b in (0..columns.len()).filter(|&b| !columns[b].condition.is_full()) {
        if let Some(a) = table.baseline_of(b) {
            pairs.push((Question::Baseline, a, b));
        }
    }
    let mut others = Vec::new();
    for (a, first) in columns.iter().enumerate() {
        for (b, second) in columns.iter().enumerate().skip(a + 1) {
            // Layers are compared with the full cache, not each with each.
            if first.condition.one_layer() != second.condition.one_layer() {
                continue;
            }
            let question = if first.run == second.run {
                only_difference(&first.condition, &second.condition)
                    .or_else(|| trade_bits(first, second).then_some(Question::Bytes))
            } else {
                (first.condition == second.condition).then_some(Question::Run)
            };
            others.extend(question.map(|question| (question, a, b)));
        }
    }
    others.sort_by_key(|(question, ..)| question.place());
    pairs.extend(others);
    pairs
}

/// The only axis in which two evictions of the same budget differ, or two full caches.
pub(super) fn only_difference(a: &crate::condition::Condition, b: &crate::condition::Condition) -> Option<Question> {
    if a.is_full() != b.is_full() { None } else { a.only_difference(b).map(Question::Axis) }
}

/// Whether two columns spend about equal bytes on other numbers of positions and bits.
fn trade_bits(a: &Column, b: &Column) -> bool {
    let bytes = |column: &Column| mean(column.finished().map(|trial| trial.row.kv_bytes_kept as f64)).unwrap_or(0.0);
    let (a_bytes, b_bytes) = (bytes(a), bytes(b));
    a.condition.trades_bits(&b.condition) && (a_bytes - b_bytes).abs() <= EQUAL_BYTES * a_bytes.max(b_bytes)
}

/// Counts single instructions of the first repeat, so that repeats do not count as new evidence.
fn changed(a: &Column, b: &Column) -> Option<Changed> {
    let (mut lost, mut gained, mut both) = (0, 0, 0);
    for (left, right) in a.trials.iter().zip(&b.trials) {
        let first = |trials: &[Trial]| -> Vec<((u32, usize), bool)> {
            let Some(first) = trials.iter().map(|trial| trial.row.repeat).min() else { return Vec::new() };
            let rows = trials.iter().filter(|trial| trial.row.repeat == first).flat_map(|trial| &trial.instructions);
            rows.filter_map(|row| Some(((row.turn, row.instruction), survival::followed(row)?))).collect()
        };
        let mut right = first(right);
        right.sort_unstable_by_key(|(instruction, _)| *instruction);
        for (instruction, followed) in first(left) {
            let Ok(at) = right.binary_search_by_key(&instruction, |(instruction, _)| *instruction) else { continue };
            let other = right[at].1;
            both += 1;
            lost += usize::from(followed && !other);
            gained += usize::from(!followed && other);
        }
    }
    (both > 0).then_some(Changed { lost, gained })
}

fn sentence(comparison: &Comparison, conditions: &[Condition]) -> String {
    let mut sentence = claim(comparison, conditions, false);
    sentence.push_str(&format!("; {}", words::p_value("p(Holm)", comparison.p_holm)));
    if let Some(earned) = &comparison.earned {
        sentence.push_str(&format!(
            "; of the earned score {}, {}",
            signed(&earned.difference, is_loss(&comparison.difference)),
            words::p_value("p(Holm)", earned.p_holm)
        ));
    }
    format!("{sentence}; n = {}", words::count(comparison.n, "example"))
}

/// Whether the difference is a loss or zero; sums of equal scores differ in their last bits.
fn is_loss(difference: &Estimate) -> bool {
    difference.point < 1e-9
}

/// A difference as text: a loss as a positive number.
fn signed(difference: &Estimate, loss: bool) -> String {
    words::estimate(&if loss { words::negated(difference) } else { *difference })
}

/// The sentence of a comparison, on the score or on the earned score.
pub(super) fn claim(comparison: &Comparison, conditions: &[Condition], earned: bool) -> String {
    let (a, b) = (&conditions[comparison.a], &conditions[comparison.b]);
    let (difference, score) = match &comparison.earned {
        Some(compared) if earned => (&compared.difference, "earned score"),
        _ => (&comparison.difference, "score"),
    };
    let loss = is_loss(difference);
    let mut size = signed(difference, loss);
    if let Some(anytime) = comparison.anytime.as_ref().filter(|_| score == "score") {
        let shown = if loss { words::negated(anytime) } else { *anytime };
        size.push_str(&format!(" (anytime {})", words::interval(&shown)));
    }
    // The one that scores more comes first. Both have the same budget and run, so these are named once.
    let (more, less) = if loss { (a, b) } else { (b, a) };
    let name = match comparison.question {
        Question::Bytes | Question::Run => more.words.clone(),
        _ => more.condition.series(),
    };
    match (comparison.question, score) {
        (Question::Baseline, _) if loss => format!("{} costs {size} of the {score}", b.words),
        (Question::Baseline, "score") => format!("{} gains {size} over the full cache", b.words),
        (Question::Baseline, _) => format!("{} gains {size} of the {score} over the full cache", b.words),
        (_, "score") => format!("{name} scores {size} above {}", less.words),
        _ => format!("{name} has an {score} {size} above that of {}", less.words),
    }
}
