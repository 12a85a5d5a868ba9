//! The result in a few sentences.

use super::{Analysis, Comparison, Question};
use crate::condition::Memory;
use crate::evict::PolicySpec;
use crate::report::words::{self, capitalized};

pub(super) fn sentences(analysis: &Analysis) -> Vec<String> {
    let mut sentences = Vec::new();
    for (run, facts) in analysis.runs.iter().enumerate() {
        let baseline = analysis.conditions.iter().find(|condition| condition.run == run && condition.is_baseline());
        let Some(score) = baseline.and_then(|condition| condition.score) else { continue };
        sentences.push(format!(
            "With its whole cache {} scores {} on {}.",
            who(analysis, run, facts),
            words::estimate(&score),
            words::count(score.n, "example")
        ));
    }
    let against: Vec<_> = of(analysis, Question::Baseline).collect();
    let worst = against.iter().min_by(|a, b| a.difference.point.total_cmp(&b.difference.point));
    match worst {
        Some(worst) if worst.is_significant() => {
            sentences.push(format!("{}.", capitalized(&short(analysis, worst))));
            sentences.extend(onsets(analysis));
        }
        Some(worst) => sentences.push(format!(
            "No loss is certain after correction; the largest is {} ({}, {}).",
            words::estimate(&words::negated(&worst.difference)),
            analysis.conditions[worst.b].words,
            words::p_value("p(Holm)", worst.p_holm)
        )),
        None => sentences.extend(range(analysis)),
    }
    for (asked, none) in [
        (Question::is_of::<PolicySpec> as fn(Question) -> bool, "No two policies differ detectably at equal budget."),
        (Question::is_of::<Memory>, "Having heard and forgotten does not differ detectably from never having heard."),
        (|question| question == Question::Run, "The runs do not differ detectably under the same condition."),
    ] {
        let compared: Vec<_> = analysis.comparisons.iter().filter(|comparison| asked(comparison.question)).collect();
        let strongest = compared
            .iter()
            .filter(|comparison| comparison.is_significant())
            .max_by(|a, b| a.difference.point.abs().total_cmp(&b.difference.point.abs()));
        match strongest {
            Some(strongest) => sentences.push(format!("{}.", capitalized(&short(analysis, strongest)))),
            None if !compared.is_empty() => sentences.push(none.to_owned()),
            None => {}
        }
    }
    sentences
}

/// What can be said without a full cache: the best and the worst condition.
fn range(analysis: &Analysis) -> Option<String> {
    let scored = analysis.conditions.iter().filter(|condition| !condition.is_baseline());
    let mut scored: Vec<_> = scored.filter_map(|condition| Some((condition.score?, &condition.words))).collect();
    scored.sort_by(|a, b| b.0.point.total_cmp(&a.0.point));
    let says =
        |(score, words): &(crate::stats::Estimate, &String)| format!("{words} scores {}", words::estimate(score));
    match scored.as_slice() {
        [] => None,
        [only] => Some(format!("{} on {}.", capitalized(&says(only)), words::count(only.0.n, "example"))),
        [best, .., worst] => Some(format!("{}, {}.", capitalized(&says(best)), says(worst))),
    }
}

fn of(analysis: &Analysis, question: Question) -> impl Iterator<Item = &Comparison> {
    analysis.comparisons.iter().filter(move |comparison| comparison.question == question)
}

fn who(analysis: &Analysis, run: usize, facts: &super::RunFacts) -> String {
    if analysis.runs.iter().filter(|other| other.model == facts.model).count() > 1 {
        format!("{} ({})", facts.model, analysis.runs[run].name)
    } else {
        facts.model.clone()
    }
}

/// A comparison's sentence without what the first sentence has said.
fn short(analysis: &Analysis, comparison: &Comparison) -> String {
    let (claim, _) = comparison.sentence.split_once(';').unwrap_or((&comparison.sentence, ""));
    let p = words::p_value("p(Holm)", comparison.p_holm);
    if comparison.n == analysis.n_examples {
        format!("{claim} ({p})")
    } else {
        format!("{claim} ({p}, n = {})", comparison.n)
    }
}

/// Where the losses begin: the smallest fraction with a detectable one, curve by curve.
fn onsets(analysis: &Analysis) -> Option<String> {
    let starts: Vec<String> = analysis
        .curves
        .iter()
        .filter(|curve| curve.conditions.len() > 2)
        .map(|curve| {
            let onset = curve.conditions.iter().copied().find(|&index| {
                of(analysis, Question::Baseline).any(|comparison| {
                    comparison.b == index && comparison.is_significant() && comparison.difference.point < 0.0
                })
            });
            match onset.and_then(|index| analysis.conditions[index].ratio) {
                Some(ratio) => format!("at {ratio} for {}", curve.name),
                None => format!("nowhere for {}", curve.name),
            }
        })
        .collect();
    (!starts.is_empty()).then(|| format!("A loss is first detectable {}.", words::short_list(&starts, 5)))
}
