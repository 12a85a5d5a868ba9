//! `summary.csv`: one row per condition, for a spreadsheet or another plotting program.

use serde::Serialize;

use super::analysis::{Analysis, Comparison, Condition, Question};
use crate::stats::Estimate;

/// One condition. Costs are `condition - full cache` of the same run: a loss is negative.
#[derive(Serialize)]
struct Row<'a> {
    run: &'a str,
    condition: &'a str,
    policy: String,
    ratio: Option<f64>,
    n_examples: usize,
    n_trials: usize,
    n_failed: usize,
    /// Share of answers that broke down; next, share that the token limit cut off.
    broken: f64,
    truncated: f64,
    score: Option<f64>,
    score_low: Option<f64>,
    score_high: Option<f64>,
    passed: Option<f64>,
    passed_low: Option<f64>,
    passed_high: Option<f64>,
    chance: Option<f64>,
    chance_low: Option<f64>,
    chance_high: Option<f64>,
    chance_sampling_error: Option<f64>,
    earned: Option<f64>,
    earned_low: Option<f64>,
    earned_high: Option<f64>,
    score_difference: Option<f64>,
    score_difference_low: Option<f64>,
    score_difference_high: Option<f64>,
    score_p_holm: Option<f64>,
    /// Loss of score on answers that broke down; next, on sound answers.
    loss_broken: Option<f64>,
    loss_sound: Option<f64>,
    earned_difference: Option<f64>,
    earned_difference_low: Option<f64>,
    earned_difference_high: Option<f64>,
    earned_p_holm: Option<f64>,
}

/// The conditions of a report as CSV (RFC 4180), with a header.
pub fn of_conditions(analysis: &Analysis) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    for (index, condition) in analysis.conditions.iter().enumerate() {
        let cost = analysis.comparisons.iter().find(|one| one.question == Question::Baseline && one.b == index);
        writer.serialize(row(analysis, condition, cost)).expect("rows are flat");
    }
    String::from_utf8(writer.into_inner().expect("memory does not fail")).expect("names are text")
}

fn row<'a>(analysis: &'a Analysis, condition: &'a Condition, cost: Option<&Comparison>) -> Row<'a> {
    let ends =
        |estimate: Option<Estimate>| [estimate.map(|e| e.point), estimate.map(|e| e.low), estimate.map(|e| e.high)];
    let [score, score_low, score_high] = ends(condition.score);
    let [passed, passed_low, passed_high] = ends(condition.earned.map(|earned| earned.passed));
    let [chance, chance_low, chance_high] = ends(condition.earned.map(|earned| earned.chance));
    let [earned, earned_low, earned_high] = ends(condition.earned.map(|earned| earned.earned));
    let of_earned = cost.and_then(|cost| cost.earned.as_ref());
    let [score_difference, score_difference_low, score_difference_high] = ends(cost.map(|cost| cost.difference));
    let [earned_difference, earned_difference_low, earned_difference_high] =
        ends(of_earned.map(|earned| earned.difference));
    Row {
        run: &analysis.runs[condition.run].name,
        condition: &condition.name,
        policy: condition.condition.policy.to_string(),
        ratio: condition.ratio,
        n_examples: condition.score.map_or(0, |score| score.n),
        n_trials: condition.n_trials,
        n_failed: condition.n_failed,
        broken: condition.broken,
        truncated: condition.truncated,
        score,
        score_low,
        score_high,
        passed,
        passed_low,
        passed_high,
        chance,
        chance_low,
        chance_high,
        chance_sampling_error: condition.earned.map(|earned| earned.sampling_error),
        earned,
        earned_low,
        earned_high,
        score_difference,
        score_difference_low,
        score_difference_high,
        score_p_holm: cost.map(|cost| cost.p_holm),
        loss_broken: cost.and_then(|cost| cost.breakdown).map(|loss| loss.broken),
        loss_sound: cost.and_then(|cost| cost.breakdown).map(|loss| loss.sound),
        earned_difference,
        earned_difference_low,
        earned_difference_high,
        earned_p_holm: of_earned.map(|earned| earned.p_holm),
    }
}
