//! `detectable_format:*`

use super::super::text::python::strip;
use super::super::text::{json, regex};
use super::{Kwargs, Result, Rule, Test, Threshold, counted, expression, list, quoted};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "detectable_format:number_bullet_lists",
            about: "There are exactly so many bullet points: lines that begin with `*` or `-`.",
            kwargs: &["num_bullets"],
            build: number_bullet_lists,
        },
        Rule {
            name: "detectable_format:constrained_response",
            about: "It says `My answer is yes.`, `My answer is no.` or `My answer is maybe.`",
            kwargs: &[],
            build: constrained_response,
        },
        Rule {
            name: "detectable_format:number_highlighted_sections",
            about: "There are at least so many `*highlighted*` or `**highlighted**` pieces.",
            kwargs: &["num_highlights"],
            build: number_highlighted_sections,
        },
        Rule {
            name: "detectable_format:multiple_sections",
            about: "There are at least so many sections, each headed by the splitter and a number: `Section 1`.",
            kwargs: &["section_spliter", "num_sections"],
            build: multiple_sections,
        },
        Rule {
            name: "detectable_format:json_format",
            about: "All of it is JSON, as Python reads it; a code fence around it is allowed.",
            kwargs: &[],
            build: json_format,
        },
        Rule {
            name: "detectable_format:title",
            about: "There is a title in double angular brackets: `<<title>>`.",
            kwargs: &[],
            build: title,
        },
    ]
}

fn number_bullet_lists(kwargs: &Kwargs) -> Result<Test> {
    let number = kwargs.number("num_bullets")?;
    let named = |count| counted(count, "bullet point");
    Ok(Test::count(Threshold::Exactly(number), named, |text| {
        let stars = regex!(r"(?m)^[\s\x1c-\x1f]*\*[^*].*$").find_iter(text).count();
        let dashes = regex!(r"(?m)^[\s\x1c-\x1f]*-.*$").find_iter(text).count();
        stars + dashes
    }))
}

fn constrained_response(_: &Kwargs) -> Result<Test> {
    let answers = ["My answer is yes.", "My answer is no.", "My answer is maybe."];
    Ok(Test::whether(move |text| match answers.iter().find(|answer| text.contains(*answer)) {
        Some(answer) => (true, format!("says {}", quoted(answer))),
        None => (false, format!("says none of {}", list(answers))),
    }))
}

fn number_highlighted_sections(kwargs: &Kwargs) -> Result<Test> {
    let number = kwargs.number("num_highlights")?;
    let named = |count| counted(count, "highlighted piece");
    Ok(Test::count(Threshold::AtLeast(number), named, |text| {
        let single = regex!(r"\*[^\n*]*\*").find_iter(text).map(|found| found.as_str().trim_matches('*'));
        let double = regex!(r"\*\*[^\n*]*\*\*").find_iter(text).map(|found| found.as_str().trim_matches('*'));
        single.chain(double).filter(|highlight| !strip(highlight).is_empty()).count()
    }))
}

fn multiple_sections(kwargs: &Kwargs) -> Result<Test> {
    let heading = expression(kwargs, "section_spliter", |splitter| {
        format!(r"[\s\x1c-\x1f]?{splitter}[\s\x1c-\x1f]?\d+[\s\x1c-\x1f]?")
    })?;
    let number = kwargs.number("num_sections")?;
    let splitter = quoted(kwargs.text("section_spliter")?);
    let named = move |count| format!("{} of {splitter} and a number", counted(count, "heading"));
    Ok(Test::count(Threshold::AtLeast(number), named, move |text| heading.find_iter(text).count()))
}

fn json_format(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| {
        let mut text = strip(text);
        for fence in ["```json", "```Json", "```JSON", "```"] {
            text = text.strip_prefix(fence).unwrap_or(text);
        }
        match json::loads(strip(text.strip_suffix("```").unwrap_or(text))) {
            Ok(()) => (true, "is JSON".to_owned()),
            Err(error) => (false, format!("is not JSON: {error}")),
        }
    }))
}

fn title(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| {
        let mut titles = regex!(r"<<[^\n]+>>").find_iter(text).map(|found| found.as_str());
        match titles.find(|title| !strip(title.trim_start_matches('<').trim_end_matches('>')).is_empty()) {
            Some(title) => (true, format!("has the title {}", quoted(title))),
            None => (false, "no title in `<<` and `>>`".to_owned()),
        }
    }))
}
