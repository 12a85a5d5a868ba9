//! Finds the warnings that apply to a report.

use super::analysis::{Analysis, Comparison, Condition, Question};
use super::keep_sets;
use super::table::{Table, mean};
use super::warning::{FEW, Warning};
use super::words::count;
use crate::exp::{Difference, Mixed};
use crate::stats::ENOUGH;

/// Share of examples with score 0 or 1 from which a condition counts as being at the floor or ceiling.
const SATURATED: f64 = 0.8;
/// Share of truncated answers from which there is a warning.
const TRUNCATED: f64 = 0.05;
/// Skewness that distorts the test of a few differences.
const SKEWED: f64 = 1.0;
/// Kappa below which rules and judge are said to disagree (from 0.6 on agreement is "substantial", Landis & Koch 1977).
const KAPPA: f64 = 0.6;

/// All warnings that apply, the most serious first.
pub fn find(table: &Table, analysis: &Analysis) -> Vec<Warning> {
    let mut found = Vec::new();
    rows(table, analysis, &mut found);
    mixtures(table, analysis, &mut found);
    scores(table, analysis, &mut found);
    found
}

/// Rows that are missing, failed or unscored.
fn rows(table: &Table, analysis: &Analysis, found: &mut Vec<Warning>) {
    let failed = table.columns.iter().flat_map(|column| &column.failed).flatten().count();
    if let Some(first) = table.columns.iter().flat_map(|column| &column.failed).flatten().next() {
        let first = format!("{} {}: {}", first.example_id, first.condition, first.error);
        found.push(Warning::Failed { failed, first, as_zero: failures_as_zero(table, analysis) });
    }
    for stop in &analysis.stopping {
        let run = analysis.runs[stop.run].name.clone();
        let stopped = |after| Warning::Stopped { run, rule: stop.rule.to_string(), after, of: stop.of };
        found.extend(stop.stopped_after.map(stopped));
    }
    for (run, facts) in analysis.runs.iter().enumerate() {
        if let Some(planned) = facts.planned.filter(|&planned| facts.finished + facts.failed < planned) {
            found.push(Warning::Unfinished { run: facts.name.clone(), finished: facts.finished, planned });
        }
        if !table.runs[run].torn.is_empty() {
            found.push(Warning::Torn { run: facts.name.clone(), files: table.runs[run].torn.clone() });
        }
        if table.baseline(run).is_none() {
            found.push(Warning::NoBaseline { run: facts.name.clone() });
        }
    }
    let unscored = analysis.conditions.iter().map(|condition| condition.n_unscored).sum();
    if unscored > 0 {
        found.push(Warning::Unscored { trials: unscored });
    }
    let rows =
        || table.columns.iter().flat_map(|column| column.finished()).filter(|trial| trial.row.mean_score.is_some());
    let of: usize = rows().map(|trial| trial.instructions.len()).sum();
    let instructions = rows().flat_map(|trial| &trial.instructions).filter(|row| row.score.is_none()).count();
    if instructions > 0 {
        found.push(Warning::Unjudged { instructions, of });
    }
    let chance = &analysis.chance;
    if chance.examples_unknown > 0 {
        found.push(Warning::NoRules { examples: chance.examples_unknown, of: analysis.n_examples });
    }
    if chance.n_rules == 0 && chance.n_instructions > 0 {
        found.push(Warning::NoChance { left_out: chance.left_out() });
    }
    if table.left_out > 0 {
        found.push(Warning::LeftOut { examples: table.left_out });
    }
}

/// The condition that would change most if failed trials scored 0: its name, its score, and the score it would have.
fn failures_as_zero(table: &Table, analysis: &Analysis) -> Option<(String, f64, f64)> {
    let changed = table.columns.iter().zip(&analysis.conditions).filter_map(|(column, condition)| {
        let with_zeros = column.trials.iter().zip(&column.failed).filter_map(|(trials, failed)| {
            let scores = trials.iter().filter_map(|trial| trial.row.mean_score);
            mean(scores.chain(failed.iter().map(|_| 0.0)))
        });
        Some((condition.words.clone(), condition.score?.point, mean(with_zeros)?))
    });
    changed.max_by(|a, b| (a.1 - a.2).total_cmp(&(b.1 - b.2))).filter(|(_, without, with)| without > with)
}

/// Differences between runs or rows that should be equal.
fn mixtures(table: &Table, analysis: &Analysis, found: &mut Vec<Warning>) {
    let runs = &analysis.runs;
    if distinct(runs.iter().map(|run| run.model_sha256.clone())).len() > 1 {
        let models = distinct(runs.iter().map(|run| format!("{} {}", run.model, run.quantization).trim().to_owned()));
        found.push(Warning::MixedModels { models });
    }
    if distinct(runs.iter().map(|run| run.data_sha256.clone())).len() > 1 {
        found.push(Warning::MixedData { data: distinct(runs.iter().map(|run| run.data.clone())) });
    }
    let settings = different_settings(table);
    if !settings.is_empty() {
        found.push(Warning::MixedSettings { settings });
    }
    let machines = distinct(
        runs.iter()
            .map(|run| format!("{}, kvllama {}, llama.cpp {}", run.devices.join(" + "), run.kvllama, run.llama_cpp)),
    );
    if machines.len() > 1 {
        found.push(Warning::MixedHardware { machines });
    }
    for run in runs.iter().filter(|run| !run.mixed.is_empty()) {
        let facts = run.mixed.iter().map(Mixed::to_string).collect();
        found.push(Warning::MixedSessions { run: run.name.clone(), facts });
    }
    for run in table.runs {
        let fingerprints = distinct(run.trials.iter().map(|row| row.run_id.as_str())).len();
        if fingerprints > 1 {
            found.push(Warning::MixedRows { run: run.name.clone(), fingerprints });
        }
    }
}

/// The settings in which runs differ, with their values: `n-predict (64; 512)`. Models and data have warnings of their
/// own, and shards are meant to differ.
fn different_settings(table: &Table) -> Vec<String> {
    const ELSEWHERE: [&str; 3] = ["model", "data", "shard"];
    let Some((first, others)) = table.runs.split_first() else { return Vec::new() };
    let mut settings: Vec<Mixed> = Vec::new();
    for other in others {
        for Difference { name, then, now } in other.manifest.differences(&first.manifest) {
            if ELSEWHERE.contains(&name) {
                continue;
            }
            match settings.iter_mut().find(|known| known.name == name) {
                Some(known) if !known.values.contains(&now) => known.values.push(now),
                Some(_) => {}
                None => settings.push(Mixed { name, values: vec![then, now] }),
            }
        }
    }
    settings.iter().map(Mixed::to_string).collect()
}

/// Scores that mean less than they seem to.
fn scores(table: &Table, analysis: &Analysis, found: &mut Vec<Warning>) {
    let conditions = &analysis.conditions;
    let named = |test: &dyn Fn(&Condition) -> bool| -> Vec<String> {
        conditions.iter().filter(|condition| test(condition)).map(|condition| condition.words.clone()).collect()
    };
    if analysis.n_examples < FEW {
        let mut spreads: Vec<_> =
            analysis.comparisons.iter().filter(|comparison| comparison.detectable > 0.0).collect();
        spreads.sort_by(|a, b| a.detectable.total_cmp(&b.detectable));
        let middle = spreads.get(spreads.len() / 2);
        let needed = middle.and_then(|middle| middle.examples_needed);
        found.push(Warning::FewExamples {
            n: analysis.n_examples,
            detectable: middle.map(|comparison| comparison.detectable),
            needed: needed.filter(|&needed| needed > analysis.n_examples),
            hopeless: Some(analysis.comparisons.len())
                .filter(|&family| smallest_p(analysis.n_examples) * family as f64 > 0.05),
        });
    }
    for condition in conditions.iter().filter(|condition| condition.is_baseline()) {
        if let Some(score) = condition.score.filter(|score| score.point < 0.5) {
            found.push(Warning::BaselineFails { score: score.point });
        }
    }
    // Under `forget:filler` nothing is expected to be lost.
    let evicts = |condition: &Condition| !condition.is_baseline() && condition.condition.target().is_none();
    let ceiling = named(&|condition| evicts(condition) && condition.at_ceiling >= SATURATED);
    if !ceiling.is_empty() {
        found.push(Warning::Ceiling { conditions: ceiling });
    }
    let floor = named(&|condition| condition.at_floor >= SATURATED);
    if !floor.is_empty() {
        found.push(Warning::Floor { conditions: floor });
    }
    let worst = conditions.iter().max_by(|a, b| a.truncated.total_cmp(&b.truncated));
    if let Some(worst) = worst.filter(|worst| worst.truncated > TRUNCATED) {
        let limit = table.runs[worst.run].manifest.generation.n_predict;
        found.push(Warning::Truncated { share: worst.truncated, worst: worst.words.clone(), limit });
    }
    repeats(table, conditions, found);
    let untouched: Vec<String> = conditions
        .iter()
        .filter(|condition| condition.n_untouched > 0 && !condition.is_baseline() && condition.ratio != Some(0.0))
        .map(|condition| {
            format!("{} of {} under {}", condition.n_untouched, count(condition.n_trials, "trial"), condition.words)
        })
        .collect();
    if !untouched.is_empty() {
        found.push(Warning::Untouched { conditions: untouched });
    }
    let names: Vec<String> = conditions.iter().map(|condition| condition.words.clone()).collect();
    found.extend(keep_sets::find(table, &names));
    let lopsided = |comparison: &&Comparison| {
        let (n, skewness) = comparison.symmetry();
        comparison.is_significant() && n < ENOUGH && skewness.abs() > SKEWED
    };
    let mut skewed: Vec<String> =
        analysis.comparisons.iter().filter(lopsided).map(|comparison| conditions[comparison.b].words.clone()).collect();
    skewed.dedup();
    if !skewed.is_empty() {
        found.push(Warning::Skewed { conditions: skewed });
    }
    if let Some(agreement) = analysis.agreement.filter(|agreement| agreement.kappa < KAPPA) {
        found.push(Warning::JudgeDisagrees { kappa: agreement.kappa, n: agreement.n });
    }
    if let Some(floor) = analysis.noise_floor.filter(|floor| floor.difference > 0.0) {
        let within: Vec<String> = analysis
            .comparisons
            .iter()
            .filter(|comparison| comparison.question == Question::Baseline)
            .filter(|comparison| comparison.difference.point.abs() <= floor.difference)
            .map(|comparison| conditions[comparison.b].words.clone())
            .collect();
        if !within.is_empty() {
            found.push(Warning::NoiseFloor { floor: floor.difference, conditions: within });
        }
    }
}

/// Repeats of conditions that draw nothing.
fn repeats(table: &Table, conditions: &[Condition], found: &mut Vec<Warning>) {
    let (mut once, mut same, mut asked) = (Vec::new(), Vec::new(), 1);
    for (column, condition) in table.columns.iter().zip(conditions) {
        let manifest = &table.runs[column.run].manifest;
        let draws = !manifest.generation.sampling.is_greedy() || column.condition.policy.policy().is_random();
        // Under `forget` a repeat is another instruction, and where speed is measured it is another measurement.
        if draws || column.condition.target().is_some() || manifest.generation.measure_speed {
            continue;
        }
        if manifest.sessions.iter().any(|session| session.once.contains(&column.name)) {
            asked = asked.max(manifest.repeats());
            once.push(condition.words.clone());
        } else if column.finished().any(|trial| trial.row.repeat > 0) {
            same.push(condition.words.clone());
        }
    }
    if !once.is_empty() {
        found.push(Warning::RunOnce { repeats: asked, conditions: once });
    }
    if !same.is_empty() {
        found.push(Warning::SameRepeats { conditions: same });
    }
}

/// The smallest p that a two-sided sign-flip test of `n` pairs can give.
fn smallest_p(n: usize) -> f64 {
    0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX) - 1)
}

/// Distinct values in the order in which they first appear.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}
