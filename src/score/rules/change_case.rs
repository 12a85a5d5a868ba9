//! `change_case:*`

use super::super::text::python::{is_lower, is_upper};
use super::super::text::{language, words};
use super::{Kwargs, Result, Rule, Test};

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
    Ok(Test::whether(move |text| frequency.holds(words::tokenize(text).iter().filter(|word| is_upper(word)).count())))
}

fn english_capital(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| is_upper(text) && is_english(text)))
}

fn english_lowercase(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| is_lower(text) && is_english(text)))
}

fn is_english(text: &str) -> bool {
    language::detect(text).is_none_or(|language| language == "en")
}
