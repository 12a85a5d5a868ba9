//! The result in a few sentences.

use super::{Analysis, Comparison, CurveComparison, Dose, Forgotten, Question, compare, primary};
use crate::condition::Memory;
use crate::evict::PolicySpec;
use crate::report::words::{self, capitalized};

/// Largest number of curves in a summary.
const DOSES: usize = 6;

pub(super) fn sentences(analysis: &Analysis) -> Vec<String> {
    let mut sentences: Vec<String> = analysis.primaries.iter().map(|primary| primary.sentence.clone()).collect();
    sentences.extend(primary::others(&analysis.primaries));
    // The finding comes first; what the full cache reaches follows it.
    let finding = sentences.len();
    if analysis.doses.is_empty() {
        sentences.extend(largest_cost(analysis));
    } else {
        sentences.extend(doses(analysis));
    }
    sentences.extend(analysis.forgotten.iter().filter_map(Forgotten::sentence));
    let mut baselines = Vec::new();
    for (run, facts) in analysis.runs.iter().enumerate() {
        let baseline = analysis.conditions.iter().find(|condition| condition.run == run && condition.is_baseline());
        let Some(score) = baseline.and_then(|condition| condition.score) else { continue };
        baselines.push(format!(
            "With its whole cache {} scores {} on {}.",
            who(analysis, run, facts),
            words::estimate(&score),
            words::count(score.n, "example")
        ));
    }
    let full = analysis.conditions.iter().filter(|condition| condition.is_baseline());
    baselines.extend(full.filter_map(|condition| condition.leakage.as_ref()).next().map(|leakage| {
        let leaked = words::estimate(&leakage.leaked);
        format!("With its whole cache it leaks {leaked}; the scores mix this with the tasks: read the leakage apart.")
    }));
    let after = sentences.len().min(finding + 1);
    sentences.splice(after..after, baselines);
    for (asked, none) in [
        (Question::is_of::<PolicySpec> as fn(Question) -> bool, "No two policies differ detectably at equal budget."),
        (Question::is_of::<Memory>, "Having heard and forgotten does not differ detectably from never having heard."),
        (
            |question| question == Question::Bytes,
            "Fewer positions and fewer bits do not differ detectably at equal bytes.",
        ),
        (|question| question == Question::Run, "The runs do not differ detectably under the same condition."),
    ] {
        let compared: Vec<_> = analysis.comparisons.iter().filter(|comparison| asked(comparison.question)).collect();
        let curves: Vec<_> = analysis.curve_comparisons.iter().filter(|one| asked(one.question)).collect();
        match (strongest_curve(&curves), strongest(&compared)) {
            (Some(curve), _) => sentences.push(format!("{}.", capitalized(&curve.sentence))),
            (None, Some(strongest)) => sentences.push(format!("{}.", capitalized(&short(analysis, strongest)))),
            (None, None) if !compared.is_empty() => sentences.push(none.to_owned()),
            (None, None) => {}
        }
    }
    if sentences.is_empty() {
        sentences.push("No answer is scored yet.".to_owned());
    }
    sentences
}

/// The responses of the curves: the certain ones first, then the largest losses.
fn doses(analysis: &Analysis) -> Vec<String> {
    // A primary comparison has been told already.
    let is_primary = |dose: &&Dose| analysis.primaries.iter().any(|primary| primary.curve == Some(dose.curve));
    let mut doses: Vec<&Dose> = analysis.doses.iter().filter(|dose| !is_primary(dose)).collect();
    doses.sort_by(|a, b| {
        let (a, b) = (a.decides(), b.decides());
        b.is_significant().cmp(&a.is_significant()).then(a.slope.point.total_cmp(&b.slope.point))
    });
    let mut sentences: Vec<String> =
        doses.iter().take(DOSES).map(|dose| format!("{}.", capitalized(&dose.sentence))).collect();
    if doses.len() > DOSES {
        sentences.push(format!("The other {} are in the table of slopes.", words::count(doses.len() - DOSES, "curve")));
    }
    sentences
}

/// The largest cost of a single condition, and where losses begin.
fn largest_cost(analysis: &Analysis) -> Vec<String> {
    let worst = of(analysis, Question::Baseline).min_by(|a, b| a.decides().0.point.total_cmp(&b.decides().0.point));
    match worst {
        Some(worst) if worst.is_significant() => {
            std::iter::once(format!("{}.", capitalized(&short(analysis, worst)))).chain(onsets(analysis)).collect()
        }
        Some(worst) => vec![format!(
            "No loss is certain after correction; the largest is {}{} ({}, {}).",
            words::estimate(&words::negated(worst.decides().0)),
            if worst.earned.is_some() { " of the earned score" } else { "" },
            analysis.conditions[worst.b].words,
            words::p_value("p(Holm)", worst.decides().1)
        )],
        None => range(analysis).into_iter().collect(),
    }
}

/// Among the certain comparisons: the winner of the largest difference, against its strongest rival.
fn strongest<'a>(compared: &[&'a Comparison]) -> Option<&'a Comparison> {
    let certain: Vec<_> = compared.iter().copied().filter(|comparison| comparison.is_significant()).collect();
    let gap = |comparison: &Comparison| comparison.decides().0.point.abs();
    let winner = |comparison: &Comparison| {
        if comparison.decides().0.point > 0.0 { comparison.b } else { comparison.a }
    };
    let best = winner(certain.iter().max_by(|a, b| gap(a).total_cmp(&gap(b)))?);
    certain.into_iter().filter(|comparison| winner(comparison) == best).min_by(|a, b| gap(a).total_cmp(&gap(b)))
}

/// The same for curves: the best one, against the one that comes closest.
fn strongest_curve<'a>(compared: &[&'a CurveComparison]) -> Option<&'a CurveComparison> {
    let certain: Vec<_> = compared.iter().copied().filter(|one| one.is_significant()).collect();
    let gap = |one: &CurveComparison| one.decides().difference.point.abs();
    let winner = |one: &CurveComparison| if one.decides().difference.point > 0.0 { one.b } else { one.a };
    let best = winner(certain.iter().max_by(|a, b| gap(a).total_cmp(&gap(b)))?);
    certain.into_iter().filter(|one| winner(one) == best).min_by(|a, b| gap(a).total_cmp(&gap(b)))
}

/// The result without a full cache: the best and the worst condition.
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

/// A comparison's sentence without the words that the first sentence already contains.
fn short(analysis: &Analysis, comparison: &Comparison) -> String {
    let claim = compare::claim(comparison, &analysis.conditions, true);
    let p = words::p_value("p(Holm)", comparison.decides().1);
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
                    comparison.b == index && comparison.is_significant() && comparison.decides().0.point < 0.0
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
