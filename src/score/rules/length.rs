//! `length_constraints:*`

use super::super::text::python::{split, strip};
use super::super::text::{punkt, regex, words};
use super::{Kwargs, Result, Rule, Test, counted, quoted};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "length_constraints:number_sentences",
            about: "There are so many sentences, as NLTK's English Punkt splits them.",
            kwargs: &["num_sentences", "relation"],
            build: number_sentences,
        },
        Rule {
            name: "length_constraints:number_paragraphs",
            about: "There are exactly so many paragraphs, with a line `***` between them.",
            kwargs: &["num_paragraphs"],
            build: number_paragraphs,
        },
        Rule {
            name: "length_constraints:number_words",
            about: "There are so many words: runs of letters, numbers and underscores.",
            kwargs: &["num_words", "relation"],
            build: number_words,
        },
        Rule {
            name: "length_constraints:nth_paragraph_first_word",
            about: "There are exactly so many paragraphs, with an empty line between them, and the nth begins with the word.",
            kwargs: &["num_paragraphs", "nth_paragraph", "first_word"],
            build: nth_paragraph_first_word,
        },
    ]
}

fn number_sentences(kwargs: &Kwargs) -> Result<Test> {
    let number = kwargs.threshold("num_sentences", "relation")?;
    Ok(Test::count(number, |count| counted(count, "sentence"), |text| punkt::sentences(text).len()))
}

fn number_words(kwargs: &Kwargs) -> Result<Test> {
    let number = kwargs.threshold("num_words", "relation")?;
    Ok(Test::count(number, |count| counted(count, "word"), words::count))
}

fn number_paragraphs(kwargs: &Kwargs) -> Result<Test> {
    let number = kwargs.number("num_paragraphs")?;
    Ok(Test::whether(move |text| {
        let paragraphs: Vec<&str> = regex!(r"[\s\x1c-\x1f]?\*\*\*[\s\x1c-\x1f]?").split(text).collect();
        // A divider may be at the start and at the end of the text, but an empty text between two dividers is not a
        // paragraph.
        let is_blank = |paragraph: &&str| strip(paragraph).is_empty();
        let blank_inside = matches!(paragraphs.as_slice(), [_, inner @ .., _] if inner.iter().any(is_blank));
        let filled = paragraphs.iter().filter(|paragraph| !is_blank(paragraph)).count();
        let blank = if blank_inside { ", and nothing between two dividers `***`" } else { "" };
        (filled == number && !blank_inside, format!("{}, {number} asked{blank}", counted(filled, "paragraph")))
    }))
}

fn nth_paragraph_first_word(kwargs: &Kwargs) -> Result<Test> {
    let number = kwargs.number("num_paragraphs")?;
    let nth = kwargs.number("nth_paragraph")?;
    let first_word = kwargs.text("first_word")?.to_lowercase();
    if !(1..=number).contains(&nth) {
        return Err(kwargs.wrong("nth_paragraph", "must lie between 1 and `num_paragraphs`"));
    }
    Ok(Test::whether(move |text| {
        // A quirk: blank paragraphs do not count for the number of paragraphs, but they count for the place of the nth.
        let paragraphs: Vec<&str> = text.split("\n\n").collect();
        let filled = paragraphs.iter().filter(|paragraph| !strip(paragraph).is_empty()).count();
        let word = split(paragraphs.get(nth - 1).unwrap_or(&"")).next();
        let word = word.map(bare);
        let fits = word.as_ref() == Some(&first_word);
        let begins = match &word {
            None => format!("paragraph {nth} is missing"),
            Some(word) => format!("paragraph {nth} begins with {}", quoted(word)),
        };
        let asked = if fits { String::new() } else { format!(", {} asked", quoted(&first_word)) };
        (filled == number && fits, format!("{}, {number} asked; {begins}{asked}", counted(filled, "paragraph")))
    }))
}

/// A word in lower case, without quotes before it, and only up to its first punctuation mark.
fn bare(word: &str) -> String {
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(word.len());
    word[..end].chars().flat_map(char::to_lowercase).collect()
}
