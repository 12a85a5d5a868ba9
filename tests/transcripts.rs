//! What a person types, and what kvllama answers: the transcripts in `tests/transcripts` and in the documentation.
//!
//! `TRYCMD=overwrite cargo test --release --test transcripts` writes today's answers into them.

#[test]
fn kvllama_answers_as_written() {
    trycmd::TestCases::new().case("tests/transcripts/*.md").case("README.md").case("docs/eviction.md");
}
