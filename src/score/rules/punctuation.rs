//! `punctuation:*`

use super::{Kwargs, Result, Rule, Test};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule { name: "punctuation:no_comma", about: "There is no comma.", kwargs: &[], build: no_comma }]
}

fn no_comma(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| !text.contains(',')))
}
