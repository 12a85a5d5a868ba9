//! The families of rules that scored a run, with their papers.

use crate::report::{Run, bibtex};

/// Families of rules: prefix of their names, words, and paper. The last holds for all others.
const RULES: [(&str, &str, &str); 4] = [
    ("ruler:", "RULER's string match", "2404.06654"),
    ("longbench:", "LongBench's metrics", "2308.14508"),
    ("leakage:", "recall of the confidential text, as in a study of leakage", "2510.00231"),
    ("", "IFEval's strict rules", "2311.07911"),
];

/// The families of rules that scored a run.
fn families(run: &Run) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for row in run.instructions.iter().filter(|row| row.pass_strict.is_some()) {
        let family = RULES.iter().find(|(prefix, ..)| row.kind.starts_with(prefix));
        let (_, words, paper) = *family.expect("the last holds for all");
        if !found.contains(&(words, paper)) {
            found.push((words, paper));
        }
    }
    found
}

/// The rules that scored a run, by their makers, with citations.
pub(super) fn rules(run: &Run) -> Vec<String> {
    families(run).into_iter().map(|(words, paper)| format!("{words}{}", bibtex::cite([paper]))).collect()
}

/// The arXiv ids of the rules that scored a run.
pub fn rule_papers(run: &Run) -> Vec<&'static str> {
    families(run).into_iter().map(|(_, paper)| paper).collect()
}
