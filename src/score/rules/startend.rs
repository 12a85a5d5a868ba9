//! `startend:*`

use super::super::text::python::strip;
use super::{Kwargs, Result, Rule, Test, quoted_end};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "startend:end_checker",
            about: "It ends with the phrase, in any case; double quotes around the response are allowed.",
            kwargs: &["end_phrase"],
            build: end_checker,
        },
        Rule { name: "startend:quotation", about: "All of it stands in double quotes.", kwargs: &[], build: quotation },
    ]
}

fn end_checker(kwargs: &Kwargs) -> Result<Test> {
    let phrase = kwargs.text("end_phrase")?;
    let (shown, phrase) = (quoted_end(phrase), phrase.to_lowercase());
    Ok(Test::whether(move |text| {
        let text = strip(text).trim_matches('"');
        match text.to_lowercase().ends_with(&phrase) {
            true => (true, format!("ends with {shown}")),
            false => (false, format!("ends with {}, {shown} asked", quoted_end(text))),
        }
    }))
}

fn quotation(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| {
        let text = strip(text);
        let reason = match (text.starts_with('"'), text.ends_with('"')) {
            (true, true) if text.len() > 1 => return (true, "in double quotes".to_owned()),
            (true, true) => "a single double quote",
            (true, false) => "does not end with a double quote",
            (false, true) => "does not begin with a double quote",
            (false, false) => "neither begins nor ends with a double quote",
        };
        (false, reason.to_owned())
    }))
}
