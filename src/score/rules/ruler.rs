//! `ruler:*`: the metrics of RULER (Hsieh et al. 2024, arXiv 2404.06654; `scripts/eval/synthetic/constants.py`),
//! for one answer.

use super::{Kwargs, Result, Rule, Test};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "ruler:string_match_all",
            about: "The share of the references that are there, in any case, also as parts of words.",
            kwargs: &["references"],
            build: string_match_all,
        },
        Rule {
            name: "ruler:string_match_part",
            about: "One of the references is there, in any case, also as part of a word.",
            kwargs: &["references"],
            build: string_match_part,
        },
    ]
}

fn references(kwargs: &Kwargs) -> Result<Vec<String>> {
    Ok(kwargs.texts("references")?.into_iter().map(str::to_lowercase).collect())
}

fn string_match_all(kwargs: &Kwargs) -> Result<Test> {
    let references = references(kwargs)?;
    Ok(Test::share(move |text| {
        let text = text.to_lowercase();
        references.iter().filter(|reference| text.contains(*reference)).count() as f64 / references.len() as f64
    }))
}

fn string_match_part(kwargs: &Kwargs) -> Result<Test> {
    let references = references(kwargs)?;
    Ok(Test::whether(move |text| {
        let text = text.to_lowercase();
        references.iter().any(|reference| text.contains(reference))
    }))
}
