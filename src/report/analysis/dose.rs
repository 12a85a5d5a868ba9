//! Dose response: how the score falls with the fraction evicted. There is one test per policy, while the comparisons
//! test every ratio.

use serde::Serialize;

use super::chance::Chance;
use super::compare::only_difference;
use super::{Comparison, Condition, Curve, Question, Resampling};
use crate::report::table::Column;
use crate::report::{Table, words};
use crate::stats::{self, Estimate, Shares};

const ALPHA: f64 = 0.05;

/// A curve with the full cache and at least two other fractions.
#[derive(Debug, Clone, Serialize)]
pub struct Dose {
    /// Index of the curve.
    pub curve: usize,
    /// The result in words.
    pub sentence: String,
    /// The fractions evicted, 0 for the full cache.
    pub ratios: Vec<f64>,
    /// The response of the score.
    pub score: Response,
    /// The response of the earned score, if it can be computed; it then decides.
    pub earned: Option<Response>,
}

/// How scores respond to the fraction evicted.
#[derive(Debug, Clone, Serialize)]
pub struct Response {
    /// Number of examples that have every fraction.
    pub n: usize,
    /// Change of the score from a fraction of 0 to 1, by the least-squares slope of each example.
    pub slope: Estimate,
    /// Two-sided permutation test of no slope.
    pub p_permutation: f64,
    /// The same after Holm's correction over all curves of the report.
    pub p_holm: f64,
    /// By fraction, the largest first: p of its cost against the full cache, corrected together with the slopes.
    pub p_ratios: Vec<(f64, f64)>,
    /// The same without correction; 1 where nothing was lost.
    #[serde(skip)]
    raw_ratios: Vec<(f64, f64)>,
    /// Whether the score differs from the full cache's at any fraction.
    pub any: AnyRatio,
    /// The smallest fraction from which on all costs are certain.
    pub certain_from: Option<f64>,
    /// Mean score over the fractions, as the area under the curve: a description.
    pub area: f64,
}

/// A test over all fractions of a curve at once. It also finds a curve that falls and rises again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AnyRatio {
    /// The fraction whose score differs most from the full cache's, measured in its own spread.
    pub ratio: f64,
    /// Two-sided max-T permutation test.
    pub p_permutation: f64,
    /// The same after Holm's correction over all curves: a family of its own.
    pub p_holm: f64,
}

impl Dose {
    /// The deciding response: of the earned score if it can be computed.
    pub fn decides(&self) -> &Response {
        self.earned.as_ref().unwrap_or(&self.score)
    }
}

impl Response {
    /// Whether its slope is certain after correction.
    pub fn is_significant(&self) -> bool {
        self.p_holm < ALPHA
    }
}

/// Two curves compared by the area between them, over their common fractions. A policy that keeps more at some fraction
/// and no less at any other has the larger area; yet if it keeps more at small fractions, its slope is steeper.
#[derive(Debug, Clone, Serialize)]
pub struct CurveComparison {
    /// The axis, or runs, in which they differ.
    pub question: Question,
    /// Index of the curve that is the reference.
    pub a: usize,
    /// Index of the other curve.
    pub b: usize,
    /// The result in words.
    pub sentence: String,
    /// The common fractions.
    pub ratios: Vec<f64>,
    /// Mean score of `b` over the fractions minus that of `a`.
    pub score: AreaDifference,
    /// The same for the earned score, if it can be computed; it then decides.
    pub earned: Option<AreaDifference>,
}

/// A paired difference of the mean score over the fractions, from 0 to the largest.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AreaDifference {
    /// Number of examples that have every fraction of both curves.
    pub n: usize,
    /// `b - a`, with its interval.
    pub difference: Estimate,
    /// Two-sided sign-flip permutation test.
    pub p_permutation: f64,
    /// The same after Holm's correction over all pairs of curves.
    pub p_holm: f64,
}

impl CurveComparison {
    /// The deciding difference: of the earned score if it can be computed.
    pub fn decides(&self) -> &AreaDifference {
        self.earned.as_ref().unwrap_or(&self.score)
    }

    /// Whether the difference is certain after correction.
    pub fn is_significant(&self) -> bool {
        self.decides().p_holm < ALPHA
    }
}

/// The parts of the analysis that are already computed.
pub(super) struct Known<'a> {
    pub table: &'a Table<'a>,
    pub conditions: &'a [Condition],
    pub curves: &'a [Curve],
    pub comparisons: &'a [Comparison],
    pub chance: &'a Chance,
    pub resampling: Resampling,
}

impl Known<'_> {
    fn ratios(&self, columns: &[usize]) -> Vec<f64> {
        columns.iter().map(|&column| self.conditions[column].ratio.unwrap_or(0.0)).collect()
    }

    /// The scores in some columns, for each example that has all of them.
    fn scores(&self, columns: &[usize]) -> Vec<Vec<f64>> {
        let scores: Vec<_> = columns.iter().map(|&column| Column::scores(&self.table.columns[column])).collect();
        (0..self.table.examples.len())
            .filter_map(|example| scores.iter().map(|scores| scores[example]).collect::<Option<Vec<f64>>>())
            .collect()
    }
}

/// The response of each curve of at least three points, including the full cache.
pub(super) fn responses(known: &Known) -> Vec<Dose> {
    let curves: Vec<usize> =
        (0..known.curves.len()).filter(|&curve| known.curves[curve].conditions.len() > 2).collect();
    let computed = crate::threads::map(&curves, |&curve| {
        let columns = &known.curves[curve].conditions;
        Some((curve, of_scores(known, columns)?, of_earned(known, columns)))
    });
    let mut doses: Vec<Dose> = computed
        .into_iter()
        .flatten()
        .map(|(curve, score, earned)| {
            let ratios = known.ratios(&known.curves[curve].conditions);
            Dose { curve, sentence: String::new(), ratios, score, earned }
        })
        .collect();
    correct(doses.iter_mut().map(|dose| &mut dose.score).collect());
    correct(doses.iter_mut().filter_map(|dose| dose.earned.as_mut()).collect());
    for dose in &mut doses {
        let response = dose.decides();
        let p = words::p_value("p(Holm)", response.p_holm);
        let then = certain_or_any(response);
        dose.sentence = sentence(dose, &known.curves[dose.curve].name, &p, &then);
    }
    doses
}

fn of_scores(known: &Known, columns: &[usize]) -> Option<Response> {
    let values = known.scores(columns);
    let means: Vec<f64> = (0..columns.len())
        .map(|at| values.iter().map(|values| values[at]).sum::<f64>() / values.len() as f64)
        .collect();
    let slopes = weighted(&values, &stats::slope_weights(&known.ratios(columns)));
    response(known, columns, &slopes, &values, &means, |comparison| {
        Some((comparison.difference.point, comparison.p_permutation))
    })
}

fn of_earned(known: &Known, columns: &[usize]) -> Option<Response> {
    let shares = known.chance.shares(columns)?;
    let contrast = stats::contrast(&shares, &stats::slope_weights(&known.ratios(columns)))?;
    let means: Option<Vec<f64>> = shares.iter().map(Shares::score).collect();
    response(known, columns, &contrast.by_example, &contrast.parts, &means?, |comparison| {
        comparison.earned.as_ref().map(|earned| (earned.difference.point, earned.p_permutation))
    })
}

/// `cost` is the difference and p of a comparison with the full cache.
fn response(
    known: &Known,
    columns: &[usize],
    slopes: &[f64],
    values: &[Vec<f64>],
    means: &[f64],
    cost: impl Fn(&Comparison) -> Option<(f64, f64)>,
) -> Option<Response> {
    let Resampling { level, seed } = known.resampling;
    let ratios = known.ratios(columns);
    let of_ratio = |(&column, &ratio): (&usize, &f64)| {
        let mut against = known.comparisons.iter().filter(|one| one.question == Question::Baseline && one.b == column);
        let (difference, p) = cost(against.next()?)?;
        // The chain of tests continues only after a loss.
        Some((ratio, if difference < 0.0 { p } else { 1.0 }))
    };
    let p_ratios: Vec<_> = columns.iter().zip(&ratios).rev().filter_map(of_ratio).collect();
    let any = stats::any_dose_test(values, seed);
    Some(Response {
        n: slopes.len(),
        slope: stats::mean_interval(slopes, level, seed)?,
        p_permutation: stats::slope_test(values, &ratios, seed),
        p_holm: 1.0,
        raw_ratios: p_ratios.clone(),
        p_ratios,
        any: AnyRatio { ratio: ratios[any.at], p_permutation: any.p, p_holm: 1.0 },
        certain_from: None,
        area: area_weights(&ratios).iter().zip(means).map(|(weight, mean)| weight * mean).sum(),
    })
}

/// Weights of the trapezoidal rule, divided by the range: they sum to 1.
fn area_weights(ratios: &[f64]) -> Vec<f64> {
    let last = ratios.len() - 1;
    let width = |at: usize| ratios[(at + 1).min(last)] - ratios[at.saturating_sub(1)];
    (0..=last).map(|at| width(at) / 2.0 / (ratios[last] - ratios[0])).collect()
}

fn weighted(values: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    values.iter().map(|values| values.iter().zip(weights).map(|(value, weight)| value * weight).sum()).collect()
}

/// Corrects one family: the slopes, and after each slope its ratios from the largest down. The tests of any ratio are
/// another.
fn correct(mut responses: Vec<&mut Response>) {
    let chain = |response: &&mut Response| {
        std::iter::once(response.p_permutation).chain(response.p_ratios.iter().map(|(_, p)| *p)).collect()
    };
    let chains: Vec<Vec<f64>> = responses.iter().map(chain).collect();
    let any: Vec<f64> = responses.iter().map(|response| response.any.p_permutation).collect();
    responses.iter_mut().zip(stats::holm(&any)).for_each(|(response, p)| response.any.p_holm = p);
    for (response, corrected) in responses.iter_mut().zip(stats::holm_gated(&chains)) {
        response.p_holm = corrected[0];
        response.p_ratios.iter_mut().zip(&corrected[1..]).for_each(|((_, p), corrected)| *p = *corrected);
        let loses = response.is_significant() && response.slope.point < 0.0;
        let certain = response.p_ratios.iter().take_while(|(_, p)| loses && *p < ALPHA);
        response.certain_from = certain.last().map(|(ratio, _)| *ratio);
    }
}

/// The sentence of a curve that is the only one tested: its ratios are tested from the highest down at the whole level.
pub(super) fn alone(dose: &Dose, name: &str, p: &str, significant: bool) -> String {
    let response = dose.decides();
    let mut only = response.clone();
    only.p_ratios.clone_from(&response.raw_ratios);
    correct(vec![&mut only]);
    sentence(dose, name, p, &certain(only.certain_from.filter(|_| significant)))
}

/// `then` says what is certain besides the slope.
fn sentence(dose: &Dose, name: &str, p: &str, then: &str) -> String {
    let response = dose.decides();
    let (size, loss) = per_tenth(&response.slope);
    format!(
        "{name} {} {size} of the {} per tenth evicted ({p}, n = {}){then}",
        if loss { "costs" } else { "gains" },
        score(dose.earned.is_some()),
        response.n
    )
}

/// Where losses begin.
fn certain(from: Option<f64>) -> String {
    from.map_or(String::new(), |ratio| format!(", certain from {ratio} on"))
}

/// Where losses begin; without a certain slope, whether any fraction matters: a curve may fall and rise again.
fn certain_or_any(response: &Response) -> String {
    let AnyRatio { ratio, p_holm, .. } = response.any;
    if response.is_significant() || p_holm >= ALPHA {
        return certain(response.certain_from);
    }
    format!("; some fraction matters, most of all {ratio} ({})", words::p_value("p(Holm)", p_holm))
}

/// A slope as the change for another tenth evicted, and whether this is a loss.
fn per_tenth(slope: &Estimate) -> (String, bool) {
    let tenth = |value: f64| value / 10.0;
    let slope = Estimate { point: tenth(slope.point), low: tenth(slope.low), high: tenth(slope.high), ..*slope };
    let loss = slope.point <= 0.0;
    (words::fine_estimate(&if loss { words::negated(&slope) } else { slope }), loss)
}

fn score(earned: bool) -> &'static str {
    if earned { "earned score" } else { "score" }
}

/// Comparisons of curves that differ in one axis, over their common fractions; they are a family of their own.
pub(super) fn comparisons(known: &Known) -> Vec<CurveComparison> {
    let mut pairs = Vec::new();
    for (a, first) in known.curves.iter().enumerate() {
        for (b, second) in known.curves.iter().enumerate().skip(a + 1) {
            let shared = shared(known, first, second);
            // Curves with a single common fraction are left to the comparisons of conditions.
            let Some(&(left, right)) = shared.first().filter(|_| shared.len() > 1 && first.run == second.run) else {
                continue;
            };
            let (left, right) = (&known.conditions[left].condition, &known.conditions[right].condition);
            pairs.extend(only_difference(left, right).map(|question| (question, a, b, shared)));
        }
    }
    let mut compared: Vec<CurveComparison> =
        crate::threads::map(&pairs, |(question, a, b, shared)| compare(known, *question, *a, *b, shared))
            .into_iter()
            .flatten()
            .collect();
    correct_pairs(compared.iter_mut().map(|one| &mut one.score).collect());
    correct_pairs(compared.iter_mut().filter_map(|one| one.earned.as_mut()).collect());
    for one in &mut compared {
        one.sentence = claim(one, known.curves, &words::p_value("p(Holm)", one.decides().p_holm));
    }
    compared
}

/// The sentence of a comparison of curves.
pub(super) fn claim(one: &CurveComparison, curves: &[Curve], p: &str) -> String {
    let difference = one.decides().difference;
    // The one that keeps more comes first.
    let (more, less, difference) = match difference.point < 0.0 {
        true => (one.a, one.b, words::negated(&difference)),
        false => (one.b, one.a, difference),
    };
    format!(
        "{} keeps {} more of the {} than {}, averaged up to {} ({p}, n = {})",
        curves[more].name,
        words::estimate(&difference),
        score(one.earned.is_some()),
        curves[less].name,
        one.ratios[one.ratios.len() - 1],
        one.decides().n
    )
}

/// Columns of two curves at the same fraction, without the full cache.
fn shared(known: &Known, a: &Curve, b: &Curve) -> Vec<(usize, usize)> {
    let cut = |curve: &Curve| -> Vec<usize> {
        curve.conditions.iter().copied().filter(|&column| !known.conditions[column].is_baseline()).collect()
    };
    let others = cut(b);
    cut(a)
        .into_iter()
        .filter_map(|left| {
            let same = |&&right: &&usize| known.conditions[right].ratio == known.conditions[left].ratio;
            Some((left, *others.iter().find(same)?))
        })
        .collect()
}

fn compare(
    known: &Known,
    question: Question,
    a: usize,
    b: usize,
    shared: &[(usize, usize)],
) -> Option<CurveComparison> {
    let (left, right): (Vec<usize>, Vec<usize>) = shared.iter().copied().unzip();
    let columns = [left.as_slice(), &right].concat();
    let ratios = known.ratios(&left);
    // The area begins at the full cache, which is the same for both and cancels.
    let from_zero: Vec<f64> = std::iter::once(0.0).chain(ratios.iter().copied()).collect();
    let area = &area_weights(&from_zero)[1..];
    let weights: Vec<f64> = area.iter().map(|weight| -weight).chain(area.iter().copied()).collect();
    let Resampling { level, seed } = known.resampling;
    let difference = |by_example: &[f64], tested: &[f64]| {
        Some(AreaDifference {
            n: by_example.len(),
            difference: stats::mean_interval(by_example, level, seed)?,
            p_permutation: stats::sign_flip(tested, seed),
            p_holm: 1.0,
        })
    };
    let scores: Vec<f64> =
        weighted(&known.scores(&columns), &weights).into_iter().map(|area| (area * 1e12).round() / 1e12).collect();
    let earned = || {
        let contrast = stats::contrast(&known.chance.shares(&columns)?, &weights)?;
        difference(&contrast.by_example, &contrast.tested)
    };
    Some(CurveComparison {
        question,
        a,
        b,
        sentence: String::new(),
        score: difference(&scores, &scores)?,
        earned: earned(),
        ratios,
    })
}

fn correct_pairs(mut pairs: Vec<&mut AreaDifference>) {
    let p: Vec<f64> = pairs.iter().map(|pair| pair.p_permutation).collect();
    pairs.iter_mut().zip(stats::holm(&p)).for_each(|(pair, p)| pair.p_holm = p);
}
