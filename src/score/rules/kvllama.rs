//! `kvllama:*`: kvllama's own types, for demands that IFEval has no type for. Texts are literal, and case is ignored.

use super::super::text::python::strip;
use super::{Kwargs, Result, Rule, Test, begins, counted, list, quoted};

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
    Ok(begins(kwargs.text("text")?, |text| strip(strip(text).trim_matches('"'))))
}

fn contains(kwargs: &Kwargs) -> Result<Test> {
    let wanted = kwargs.text("text")?;
    let (shown, wanted) = (quoted(wanted), wanted.to_lowercase());
    Ok(Test::whether(move |text| match text.to_lowercase().contains(&wanted) {
        true => (true, format!("mentions {shown}")),
        false => (false, format!("does not mention {shown}")),
    }))
}

fn excludes(kwargs: &Kwargs) -> Result<Test> {
    let unwanted = kwargs.text("text")?;
    let (shown, unwanted) = (quoted(unwanted), unwanted.to_lowercase());
    let topic: Option<Vec<String>> = match kwargs.optional("on_topic") {
        Some(_) => Some(kwargs.texts("on_topic")?.into_iter().map(str::to_lowercase).collect()),
        None => None,
    };
    Ok(Test::whether(move |text| {
        let text = text.to_lowercase();
        if text.contains(&unwanted) {
            return (false, format!("mentions {shown}, which is forbidden"));
        }
        let Some(words) = &topic else { return (true, format!("does not mention {shown}")) };
        match words.iter().find(|word| text.contains(*word)) {
            Some(word) => (true, format!("does not mention {shown}, and is on the topic: mentions {}", quoted(word))),
            None => {
                let of = if words.len() == 1 { "" } else { "any of " };
                (false, format!("does not mention {shown}, but is off the topic: does not mention {of}{}", list(words)))
            }
        }
    }))
}

fn parts(kwargs: &Kwargs) -> Result<Test> {
    let separator = kwargs.verbatim("separator")?.to_owned();
    let count = kwargs.number("count")?;
    Ok(Test::whether(move |text| {
        let parts: Vec<&str> = text.split(&separator).map(strip).collect();
        let blank = parts.iter().filter(|part| part.is_empty()).count();
        let but = if blank == 0 { String::new() } else { format!(", {blank} of them blank") };
        (parts.len() == count && blank == 0, format!("{}{but}, {count} asked", counted(parts.len(), "part")))
    }))
}
