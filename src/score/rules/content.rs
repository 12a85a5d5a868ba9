//! `detectable_content:*`

use super::super::text::regex;
use super::{Kwargs, Result, Rule, Test, Threshold, counted, expression, quoted};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "detectable_content:number_placeholders",
            about: "There are at least so many placeholders in square brackets: `[name]`.",
            kwargs: &["num_placeholders"],
            build: number_placeholders,
        },
        Rule {
            name: "detectable_content:postscript",
            about: "There is a postscript, which begins with the marker, in any case.",
            kwargs: &["postscript_marker"],
            build: postscript,
        },
    ]
}

fn number_placeholders(kwargs: &Kwargs) -> Result<Test> {
    let number = kwargs.number("num_placeholders")?;
    let named = |count| counted(count, "placeholder");
    Ok(Test::count(Threshold::AtLeast(number), named, |text| regex!(r"\[.*?\]").find_iter(text).count()))
}

fn postscript(kwargs: &Kwargs) -> Result<Test> {
    let marker = expression(kwargs, "postscript_marker", |marker| match marker {
        "P.S." => r"p\.[\s\x1c-\x1f]?s\.".to_owned(),
        "P.P.S" => r"p\.[\s\x1c-\x1f]?p\.[\s\x1c-\x1f]?s".to_owned(),
        // A quirk: any other marker is a regular expression, in which a full stop matches any character.
        other => other.to_lowercase(),
    })?;
    let shown = quoted(kwargs.text("postscript_marker")?);
    Ok(Test::whether(move |text| match marker.is_match(&text.to_lowercase()) {
        true => (true, format!("has the postscript marker {shown}")),
        false => (false, format!("no postscript: {shown} is not there")),
    }))
}
