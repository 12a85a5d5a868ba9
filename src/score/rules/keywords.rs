//! `keywords:*`

use super::super::text::pattern::{Keyword, WholeWord};
use super::{Kwargs, Result, Rule, Test, not_an_expression};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "keywords:existence",
            about: "All the keywords are there, in any case, also as parts of words.",
            kwargs: &["keywords"],
            build: existence,
        },
        Rule {
            name: "keywords:frequency",
            about: "The keyword is there so many times, in any case, also as part of a word.",
            kwargs: &["keyword", "frequency", "relation"],
            build: frequency,
        },
        Rule {
            name: "keywords:forbidden_words",
            about: "None of the words is there as a whole word, in any case.",
            kwargs: &["forbidden_words"],
            build: forbidden_words,
        },
        Rule {
            name: "keywords:letter_frequency",
            about: "The letter, or any other character, is there so many times, in any case.",
            kwargs: &["letter", "let_frequency", "let_relation"],
            build: letter_frequency,
        },
    ]
}

fn existence(kwargs: &Kwargs) -> Result<Test> {
    let keywords: std::result::Result<Vec<_>, _> = kwargs.texts("keywords")?.into_iter().map(Keyword::new).collect();
    let keywords = keywords.map_err(|error| not_an_expression(kwargs, "keywords", &error))?;
    Ok(Test::whether(move |text| keywords.iter().all(|keyword| keyword.is_in(text))))
}

fn frequency(kwargs: &Kwargs) -> Result<Test> {
    let keyword = Keyword::new(kwargs.text("keyword")?);
    let keyword = keyword.map_err(|error| not_an_expression(kwargs, "keyword", &error))?;
    let frequency = kwargs.threshold("frequency", "relation")?;
    Ok(Test::whether(move |text| frequency.holds(keyword.count_in(text))))
}

fn forbidden_words(kwargs: &Kwargs) -> Result<Test> {
    let words = kwargs.texts("forbidden_words")?.into_iter();
    let words: std::result::Result<Vec<_>, _> = words.map(WholeWord::new).collect();
    let words = words.map_err(|error| not_an_expression(kwargs, "forbidden_words", &error))?;
    Ok(Test::whether(move |text| !words.iter().any(|word| word.is_in(text))))
}

fn letter_frequency(kwargs: &Kwargs) -> Result<Test> {
    // The official code of 2023 replaces a letter outside a to z by a random one.
    let mut letter = kwargs.text("letter")?.chars();
    let (Some(letter), None) = (letter.next(), letter.next()) else {
        return Err(kwargs.wrong("letter", "must be a single character"));
    };
    let letter: Vec<char> = letter.to_lowercase().collect();
    let frequency = kwargs.threshold("let_frequency", "let_relation")?;
    Ok(Test::whether(move |text| frequency.holds(text.to_lowercase().chars().filter(|c| letter == [*c]).count())))
}
