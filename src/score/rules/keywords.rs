//! `keywords:*`

use super::super::text::pattern::{Keyword, WholeWord};
use super::{Kwargs, Result, Rule, Test, counted, list, not_an_expression, quoted};

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
    let keywords = kwargs.texts("keywords")?.into_iter();
    let keywords: std::result::Result<Vec<_>, _> =
        keywords.map(|keyword| Ok((keyword.to_owned(), Keyword::new(keyword)?))).collect();
    let keywords = keywords.map_err(|error| not_an_expression(kwargs, "keywords", &error))?;
    Ok(Test::whether(move |text| {
        let missing: Vec<&String> =
            keywords.iter().filter(|(_, keyword)| !keyword.is_in(text)).map(|(name, _)| name).collect();
        match missing.is_empty() {
            true => (true, format!("mentions {}", list(keywords.iter().map(|(name, _)| name)))),
            false => (false, format!("does not mention {}", list(missing))),
        }
    }))
}

fn frequency(kwargs: &Kwargs) -> Result<Test> {
    let named = mentions(kwargs.text("keyword")?);
    let keyword = Keyword::new(kwargs.text("keyword")?);
    let keyword = keyword.map_err(|error| not_an_expression(kwargs, "keyword", &error))?;
    let frequency = kwargs.threshold("frequency", "relation")?;
    Ok(Test::count(frequency, named, move |text| keyword.count_in(text)))
}

fn forbidden_words(kwargs: &Kwargs) -> Result<Test> {
    let words = kwargs.texts("forbidden_words")?.into_iter();
    let words: std::result::Result<Vec<_>, _> =
        words.map(|word| Ok((word.to_owned(), WholeWord::new(word)?))).collect();
    let words = words.map_err(|error| not_an_expression(kwargs, "forbidden_words", &error))?;
    Ok(Test::whether(move |text| match words.iter().find(|(_, word)| word.is_in(text)) {
        Some((name, _)) => (false, format!("mentions {}, which is forbidden", quoted(name))),
        None => (true, format!("does not mention {}", list(words.iter().map(|(name, _)| name)))),
    }))
}

fn letter_frequency(kwargs: &Kwargs) -> Result<Test> {
    // The official code of 2023 replaces a letter outside a to z by a random one.
    let named = mentions(kwargs.text("letter")?);
    let mut letter = kwargs.text("letter")?.chars();
    let (Some(letter), None) = (letter.next(), letter.next()) else {
        return Err(kwargs.wrong("letter", "must be a single character"));
    };
    let letter: Vec<char> = letter.to_lowercase().collect();
    let frequency = kwargs.threshold("let_frequency", "let_relation")?;
    Ok(Test::count(frequency, named, move |text| text.to_lowercase().chars().filter(|c| letter == [*c]).count()))
}

/// Puts a number before the name of what is counted: `"tea" 2 times`.
fn mentions(what: &str) -> impl Fn(usize) -> String + use<> {
    let what = quoted(what);
    move |count| format!("{what} {}", counted(count, "time"))
}
