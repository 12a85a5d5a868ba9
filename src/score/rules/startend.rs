//! `startend:*`

use super::super::text::python::strip;
use super::{Kwargs, Result, Rule, Test};

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
    let phrase = kwargs.text("end_phrase")?.to_lowercase();
    Ok(Test::whether(move |text| strip(text).trim_matches('"').to_lowercase().ends_with(&phrase)))
}

fn quotation(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| {
        let text = strip(text);
        text.len() > 1 && text.starts_with('"') && text.ends_with('"')
    }))
}
