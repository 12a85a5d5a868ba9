//! `longbench:*`: the metrics of LongBench's English question answering and summaries (Bai et al. 2023, arXiv
//! 2308.14508; `metrics.py`) for one answer: the best score over the references.

use std::collections::{HashMap, HashSet};

use super::super::text::python::{is_word, split};
use super::{Kwargs, Result, Rule, Test, quoted};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "longbench:qa_f1_score",
            about: "F1 of its words with those of the reference it is nearest to, as SQuAD counts: without case, \
                    punctuation and articles. With `first_line`, of its first line alone.",
            kwargs: KWARGS,
            build: |kwargs| best(kwargs, "F1", qa_f1_score),
        },
        Rule {
            name: "longbench:rouge_score",
            about: "ROUGE-L (F) with the reference it is nearest to, as Python's `rouge` 1.0.1 counts. With \
                    `first_line`, of its first line alone.",
            kwargs: KWARGS,
            build: |kwargs| best(kwargs, "ROUGE-L", rouge_score),
        },
    ]
}

const KWARGS: &[&str] = &["references", "first_line"];

fn best(kwargs: &Kwargs, name: &'static str, metric: fn(&str, &str) -> f64) -> Result<Test> {
    let references: Vec<String> = kwargs.texts("references")?.into_iter().map(str::to_owned).collect();
    let first_line = kwargs.flag("first_line")?;
    Ok(Test::share(move |text| {
        let text = match first_line {
            true => text.trim_start_matches('\n').split('\n').next().unwrap_or_default(),
            false => text,
        };
        let scores = references.iter().map(|reference| (metric(text, reference), reference));
        let (score, nearest) = scores.max_by(|(a, _), (b, _)| a.total_cmp(b)).expect("at least one reference");
        (score, format!("{name} {score:.2} with the nearest reference, {}", quoted(nearest)))
    }))
}

/// `qa_f1_score`: F1 of the two bags of words.
fn qa_f1_score(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (normalized(answer), normalized(reference));
    let (answer, reference): (Vec<&str>, Vec<&str>) = (split(&answer).collect(), split(&reference).collect());
    let mut left: HashMap<&str, usize> = HashMap::new();
    reference.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let common = answer.iter().filter(|word| match left.get_mut(*word) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    let common = common.count() as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / answer.len() as f64, common / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

/// The text in lower case, without ASCII punctuation and then without articles.
fn normalized(text: &str) -> String {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(text.len());
    for run in text.chars().collect::<Vec<_>>().chunk_by(|a, b| is_word(*a) == is_word(*b)) {
        let run: String = run.iter().collect();
        kept.push_str(if matches!(run.as_str(), "a" | "an" | "the") { " " } else { &run });
    }
    kept
}

/// `rouge_score`: the F of `rouge_l_summary_level`. Sentences end at full stops. The words of the longest common
/// subsequences of all pairs of sentences form one set, and the words of each text form another.
fn rouge_score(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (sentences(answer), sentences(reference));
    if answer.is_empty() || reference.is_empty() {
        return 0.0;
    }
    let words = |sentences: &[Vec<&str>]| sentences.iter().flatten().collect::<HashSet<_>>().len() as f64;
    let mut common: HashSet<&str> = HashSet::new();
    for reference in &reference {
        answer.iter().for_each(|answer| common.extend(subsequence(reference, answer)));
    }
    let precision = common.len() as f64 / words(&answer);
    let recall = common.len() as f64 / words(&reference);
    2.0 * (precision * recall / (precision + recall + 1e-8))
}

/// The words of each sentence. A quirk: a sentence of white space alone has one word, the empty one.
fn sentences(text: &str) -> Vec<Vec<&str>> {
    let sentences = text.split('.').filter(|sentence| !sentence.is_empty());
    let words = sentences.map(|sentence| split(sentence).collect::<Vec<_>>());
    words.map(|words| if words.is_empty() { vec![""] } else { words }).collect()
}

/// A longest common subsequence; of several, the one that leaves out words of `b` first, from the end.
fn subsequence<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    let width = b.len() + 1;
    let mut length = vec![0u32; (a.len() + 1) * width];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            length[i * width + j] = match a[i - 1] == b[j - 1] {
                true => length[(i - 1) * width + j - 1] + 1,
                false => length[(i - 1) * width + j].max(length[i * width + j - 1]),
            };
        }
    }
    let (mut i, mut j, mut words) = (a.len(), b.len(), Vec::new());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            words.push(a[i - 1]);
            (i, j) = (i - 1, j - 1);
        } else if length[(i - 1) * width + j] > length[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    words
}
