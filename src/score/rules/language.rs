//! `language:*`

use super::super::text::language;
use super::{Kwargs, Result, Rule, Test};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule {
        name: "language:response_language",
        about: "The response is in the language of this code (`de`, `zh-cn`); one in no language at all passes.",
        kwargs: &["language"],
        build: response_language,
    }]
}

fn response_language(kwargs: &Kwargs) -> Result<Test> {
    let wanted = kwargs.text("language")?.to_owned();
    if !language::is_known(&wanted) {
        return Err(kwargs.wrong("language", "must be a code that langdetect knows, such as `en`, `de` or `zh-cn`"));
    }
    Ok(Test::whether(move |text| match language::detect(text) {
        None => (true, format!("in no language that can be told; {wanted} asked")),
        Some(found) => (found == wanted, format!("in the language {found}, {wanted} asked")),
    }))
}
