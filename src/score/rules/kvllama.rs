//! `kvllama:*`: kvllama's own types, for demands that IFEval has no type for. Texts are literal, and case is ignored.

use super::super::text::python::strip;
use super::{Kwargs, Result, Rule, Test};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "kvllama:starts_with",
            about: "It begins with the text, in any case; double quotes around the response are allowed.",
            kwargs: &["text"],
            build: starts_with,
        },
        Rule { name: "kvllama:contains", about: "The text is there, in any case.", kwargs: &["text"], build: contains },
        Rule {
            name: "kvllama:excludes",
            about: "The text is not there, in any case, and, if `on_topic` is given, one of its words is: \
                    a broken answer does not pass by accident.",
            kwargs: &["text", "on_topic"],
            build: excludes,
        },
        Rule {
            name: "kvllama:parts",
            about: "There are exactly so many parts, none of them blank, with the separator between them.",
            kwargs: &["separator", "count"],
            build: parts,
        },
    ]
}

fn starts_with(kwargs: &Kwargs) -> Result<Test> {
    let wanted = kwargs.text("text")?.to_lowercase();
    Ok(Test::whether(move |text| strip(strip(text).trim_matches('"')).to_lowercase().starts_with(&wanted)))
}

fn contains(kwargs: &Kwargs) -> Result<Test> {
    let wanted = kwargs.text("text")?.to_lowercase();
    Ok(Test::whether(move |text| text.to_lowercase().contains(&wanted)))
}

fn excludes(kwargs: &Kwargs) -> Result<Test> {
    let unwanted = kwargs.text("text")?.to_lowercase();
    let topic: Option<Vec<String>> = match kwargs.optional("on_topic") {
        Some(_) => Some(kwargs.texts("on_topic")?.into_iter().map(str::to_lowercase).collect()),
        None => None,
    };
    Ok(Test::whether(move |text| {
        let text = text.to_lowercase();
        let is_on_topic = topic.as_ref().is_none_or(|words| words.iter().any(|word| text.contains(word)));
        is_on_topic && !text.contains(&unwanted)
    }))
}

fn parts(kwargs: &Kwargs) -> Result<Test> {
    let separator = kwargs.verbatim("separator")?.to_owned();
    let count = kwargs.number("count")?;
    Ok(Test::whether(move |text| {
        let parts: Vec<&str> = text.split(&separator).map(strip).collect();
        parts.len() == count && !parts.contains(&"")
    }))
}
