//! The methods paragraph of a run, ready to paste.

mod rules;
mod setup;
mod statistics;

pub use rules::rule_papers;

use super::Run;
use super::analysis::Analysis;

/// One paragraph per run, and one on the statistics.
pub fn paragraphs(runs: &[Run], analysis: &Analysis) -> Vec<String> {
    let of_runs = runs.iter().enumerate().map(|(index, run)| setup::paragraph(index, run, analysis));
    of_runs.chain([statistics::paragraph(runs, analysis)]).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::condition::Condition;
    use crate::evict::{Budget, Granularity, RollingBudget};
    use crate::exp::Dense;
    use crate::report::{analyze, load};

    /// The paragraph of the small run after a change.
    fn paragraph(change: impl Fn(&mut Run)) -> String {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run");
        let mut runs = load(&[directory]).unwrap();
        change(&mut runs[0]);
        paragraphs(&runs, &analyze(&runs, 0.95, 1)).swap_remove(0)
    }

    /// The paragraph with every `random` or `streaming` condition changed.
    fn with(change: impl Fn(&mut Condition)) -> String {
        paragraph(|run| {
            let old = run.manifest.conditions();
            let sessions = run.manifest.sessions.iter_mut();
            sessions.flat_map(|session| &mut session.conditions).filter(|one| !one.is_full()).for_each(&change);
            let names = old.into_iter().map(|(name, _)| name).zip(run.manifest.conditions()).collect::<Vec<_>>();
            for row in &mut run.trials {
                row.condition.clone_from(&names.iter().find(|(name, _)| *name == row.condition).unwrap().1.0);
            }
        })
    }

    #[track_caller]
    fn says(text: &str, parts: &[&str]) {
        parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
    }

    #[track_caller]
    fn is_silent_on(text: &str, parts: &[&str]) {
        parts.iter().for_each(|part| assert!(!text.contains(part), "`{part}` is in: {text}"));
    }

    #[test]
    fn only_what_was_done_is_said() {
        let plain = paragraph(|_| {});
        says(
            &plain,
            &[
                "flash attention where llama.cpp has it",
                "evicted in all layers and heads, so that",
                "StreamingLLM (sinks 4): attention sinks",
                "floor(L(1 - r)) of L survive",
                "Text-only conditions",
                "KL divergence per token",
            ],
        );
        is_silent_on(&plain, &["By head", "Rolling", "dense lanes", "side by side", "no one", "At a+b"]);
    }

    #[test]
    fn settings_are_said_where_they_apply() {
        let heads = with(|condition| condition.granularity = Granularity::Head);
        says(&heads, &["and no flash attention", "were evicted, so that", "By head, each KV head of each layer"]);
        let some = with(|condition| {
            if condition.policy.name() == "streaming" {
                condition.granularity = Granularity::Layer;
            }
        });
        says(
            &some,
            &["in all layers and heads, except as said below", "By layer, each layer kept positions of its own"],
        );
        let rolling = with(|condition| condition.budget = Budget::Rolling(RollingBudget { budget: 64, every: 1 }));
        says(&rolling, &["and read whole.", "at rolling 64", "\"Rolling b\" limits the cache to b positions"]);
        is_silent_on(&rolling, &["floor(L(1 - r))", "saw the cut cache"]);
        let more = paragraph(|run| {
            run.manifest.generation.dense = Dense::On;
            run.manifest.generation.parallel = 8;
            run.trials.iter_mut().for_each(|row| row.kl_mean = None);
            run.judge = Some("anthropic some-model temperature=0".to_owned());
            run.instructions[0].judge_score = Some(0.5);
            (run.instructions[1].score, run.instructions[1].scored_by) = (None, None);
        });
        says(
            &more,
            &[
                "Up to 8 conditions of an example were answered side by side",
                "answered from a contiguous copy",
                "where one exists, else by a language model as judge (anthropic some-model temperature=0)",
                "instructions in the answers was scored by no one",
            ],
        );
        is_silent_on(&more, &["KL divergence"]);
    }
}
