//! `change_case:*`

use super::super::text::python::{is_lower, is_title, is_upper, split};
use super::super::text::{language, words};
use super::{Kwargs, Result, Rule, Test, counted, quoted};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "change_case:capital_word_frequency",
            about: "There are so many words in capital letters, as NLTK's `word_tokenize` splits words.",
            kwargs: &["capital_frequency", "capital_relation"],
            build: capital_word_frequency,
        },
        Rule {
            name: "change_case:english_capital",
            about: "It is English, or no language at all, and has no lower-case letter.",
            kwargs: &[],
            build: english_capital,
        },
        Rule {
            name: "change_case:english_lowercase",
            about: "It is English, or no language at all, and has no capital letter.",
            kwargs: &[],
            build: english_lowercase,
        },
    ]
}

fn capital_word_frequency(kwargs: &Kwargs) -> Result<Test> {
    let frequency = kwargs.threshold("capital_frequency", "capital_relation")?;
    let named = |count| counted(count, "word") + " in capitals";
    Ok(Test::count(frequency, named, |text| words::tokenize(text).iter().filter(|word| is_upper(word)).count()))
}

fn english_capital(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| match is_upper(text) {
        true => english(text, "no lower-case letter"),
        false => (false, why_not(text, char::is_lowercase, "lower-case", "no capital letter")),
    }))
}

fn english_lowercase(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| match is_lower(text) {
        true => english(text, "no capital letter"),
        false => (false, why_not(text, char::is_uppercase, "capital", "no lower-case letter")),
    }))
}

/// The verdict on a text whose letters are as asked.
fn english(text: &str, letters: &str) -> (bool, String) {
    match language::detect(text) {
        None => (true, format!("{letters}, and in no language that can be told")),
        Some(found) if found == "en" => (true, format!("{letters}, and in English")),
        Some(found) => (false, format!("{letters}, but in the language {found}, English asked")),
    }
}

/// The words of a text that have letters of the wrong case; if there are none, it has no letters of the right case.
fn why_not(text: &str, is_wrong: fn(char) -> bool, case: &str, no_letter: &str) -> String {
    let mut wrong = split(text).filter(|word| word.contains(|c: char| is_wrong(c) || is_title(c)));
    match wrong.next() {
        Some(first) => format!("{} with {case} letters, first {}", counted(1 + wrong.count(), "word"), quoted(first)),
        None => no_letter.to_owned(),
    }
}
