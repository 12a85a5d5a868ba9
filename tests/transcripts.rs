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
