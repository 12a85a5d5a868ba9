//! `punctuation:*`

use super::{Kwargs, Result, Rule, Test, counted};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule { name: "punctuation:no_comma", about: "There is no comma.", kwargs: &[], build: no_comma }]
}

fn no_comma(_: &Kwargs) -> Result<Test> {
    Ok(Test::whether(|text| {
        let commas = text.matches(',').count();
        (commas == 0, format!("{}, 0 allowed", counted(commas, "comma")))
    }))
}
