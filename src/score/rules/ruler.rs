//! `ruler:*`: the metrics of RULER (Hsieh et al. 2024, arXiv 2404.06654; `scripts/eval/synthetic/constants.py`),
//! for one answer.

use super::{Kwargs, Result, Rule, Test, counted, list, quoted};

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

/// The references, each as it is and in lower case.
fn references(kwargs: &Kwargs) -> Result<Vec<(String, String)>> {
    Ok(kwargs.texts("references")?.into_iter().map(|text| (text.to_owned(), text.to_lowercase())).collect())
}

/// The references that are not in the text.
fn missing<'a>(references: &'a [(String, String)], text: &str) -> Vec<&'a str> {
    let text = text.to_lowercase();
    references.iter().filter(|(_, lower)| !text.contains(lower)).map(|(reference, _)| &**reference).collect()
}

fn string_match_all(kwargs: &Kwargs) -> Result<Test> {
    let references = references(kwargs)?;
    Ok(Test::share(move |text| {
        let missing = missing(&references, text);
        let (all, there) = (references.len(), references.len() - missing.len());
        let but = if missing.is_empty() { String::new() } else { format!("; does not mention {}", list(missing)) };
        (there as f64 / all as f64, format!("{there} of {} mentioned{but}", counted(all, "reference")))
    }))
}

fn string_match_part(kwargs: &Kwargs) -> Result<Test> {
    let references = references(kwargs)?;
    Ok(Test::whether(move |text| {
        let missing = missing(&references, text);
        match references.iter().find(|(reference, _)| !missing.contains(&&**reference)) {
            Some((there, _)) => (true, format!("mentions {}", quoted(there))),
            None => (false, format!("does not mention {}", list(missing))),
        }
    }))
}
