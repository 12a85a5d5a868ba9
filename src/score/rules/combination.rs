//! `combination:*`

use super::super::text::python::strip;
use super::{Kwargs, Result, Rule, Test, begins, counted};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "combination:two_responses",
            about: "There are two different responses, with `******` between them.",
            kwargs: &[],
            build: two_responses,
        },
        Rule {
            name: "combination:repeat_prompt",
            about: "It begins with the prompt, word for word, in any case.",
            kwargs: &["prompt_to_repeat"],
            build: repeat_prompt,
        },
    ]
}

fn two_responses(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| {
        let mut responses: Vec<&str> = text.split("******").map(strip).collect();
        // A divider may be at the start and at the end of the text.
        if responses.last() == Some(&"") {
            responses.pop();
        }
        if responses.first() == Some(&"") {
            responses.remove(0);
        }
        match responses[..] {
            [first, second] if first == second => (false, "both responses are the same".to_owned()),
            [first, second] if first.is_empty() || second.is_empty() => {
                (false, "one of two responses is empty".to_owned())
            }
            [_, _] => (true, "2 different responses".to_owned()),
            _ => (false, format!("{}, 2 with `******` between them asked", counted(responses.len(), "response"))),
        }
    }))
}

fn repeat_prompt(kwargs: &Kwargs) -> Result<Test> {
    Ok(begins(kwargs.text("prompt_to_repeat")?, strip))
}
