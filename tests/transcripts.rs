//! What a person types, and what kvllama answers: the transcripts in `tests/transcripts` and in the documentation.
//!
//! `TRYCMD=overwrite cargo test --release --test transcripts` writes today's answers into them.

#[test]
fn kvllama_answers_as_written() {
    trycmd::TestCases::new().case("tests/transcripts/*.md").case("README.md").case("docs/eviction.md");
}

/// Minutes with a real model: only if `KVLLAMA_TUTORIAL` is set.
#[test]
fn the_tutorial_answers_as_written() {
    if std::env::var_os("KVLLAMA_TUTORIAL").is_some() {
        let hour = std::time::Duration::from_secs(3600);
        trycmd::TestCases::new().timeout(hour).case("docs/tutorial.md");
    }
}

#[test]
fn every_page_of_the_documentation_is_in_the_book() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let summary = std::fs::read_to_string(format!("{docs}/SUMMARY.md")).unwrap();
    for entry in std::fs::read_dir(docs).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let listed = name == "SUMMARY.md" || !name.ends_with(".md") || summary.contains(&format!("]({name})"));
        assert!(listed, "docs/{name} has no line in docs/SUMMARY.md");
    }
}
