//! Scores a finished run again by its rules, without generating.

use std::collections::HashMap;
use std::path::Path;

use super::{ConditionMean, PROMPTS, Rows, instructions_of, means};
use crate::data::{Instruction, RUBRIC};
use crate::score::Checker;
use crate::{Error, Result};

/// The result of scoring a run again.
#[derive(Debug, Clone, PartialEq)]
pub struct Rescored {
    /// Instructions checked by a rule.
    pub checked: usize,
    /// Instructions whose verdict has changed.
    pub changed: usize,
    /// The mean scores by condition.
    pub means: Vec<ConditionMean>,
}

/// Checks every response by its rules, then computes all scores and means again. A judge's verdicts stay.
///
/// # Errors
/// If the directory holds no run, or if a row names an example or an instruction that `prompts.jsonl` lacks.
pub fn rescore(directory: &Path) -> Result<Rescored> {
    let mut rows = Rows::open(directory)?;
    let instructions = instructions_of(directory)?;
    let checkers = checkers(&instructions)?;
    let (mut checked, mut changed) = (0, 0);
    let mut scored = std::mem::take(&mut rows.instructions);
    let finished = rows.finished();
    for row in &mut scored {
        let Some(trial) = finished.get(&row.key()) else { continue };
        let checker = checkers.get(&(row.example_id.as_str(), row.instruction)).ok_or_else(|| {
            Error::failed(format!(
                "{}/{PROMPTS} lacks instruction {} of the example `{}`",
                directory.display(),
                row.instruction,
                row.example_id
            ))
        })?;
        let verdict = checker.as_ref().map(|checker| checker.check(&trial.response));
        let before = (row.by_rule(), row.pass_strict, row.pass_loose);
        row.take(verdict);
        checked += usize::from(verdict.is_some());
        changed += usize::from((row.by_rule(), row.pass_strict, row.pass_loose) != before);
    }
    rows.instructions = scored;
    rows.settle()?;
    Ok(Rescored { checked, changed, means: means(&rows.trials) })
}

/// By example and instruction index: the rule, if the instruction has one.
fn checkers(instructions: &HashMap<String, Vec<Instruction>>) -> Result<HashMap<(&str, usize), Option<Checker>>> {
    let checker = |instruction: &Instruction| match instruction.kind.as_str() {
        RUBRIC => Ok(None),
        kind => Checker::new(kind, &instruction.kwargs).map(Some),
    };
    let all = instructions.iter().flat_map(|(example, instructions)| {
        instructions.iter().enumerate().map(move |(index, instruction)| ((example.as_str(), index), instruction))
    });
    all.map(|(key, instruction)| Ok((key, checker(instruction)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::exp::manifest::tests::manifest;
    use crate::exp::{InstructionRow, PromptRow, Scorer, Store, TrialRow, write_prompts};

    #[test]
    fn scores_come_back_from_the_responses_alone() {
        let text = r#"{"id":"a","messages":[{"role":"user","content":"Hi"}],"instructions":[{"type":"punctuation:no_comma"},{"rubric":"Polite."},{"type":"change_case:english_lowercase"}]}"#;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut store, _) = Store::open(path, &manifest(), |_, _| None).unwrap();
        let instructions = data::parse(text, "x").unwrap().remove(0).instructions;
        let prompt = PromptRow {
            example_id: "a".into(),
            pieces: Vec::new(),
            spans: Vec::new(),
            turns: Vec::new(),
            questions: Vec::new(),
            instructions,
        };
        write_prompts(path, &[prompt]).unwrap();
        let trial = |condition: &str, response: &str, error: &str| TrialRow {
            example_id: "a".into(),
            condition: condition.into(),
            response: response.into(),
            error: error.into(),
            ..TrialRow::default()
        };
        let rows: Vec<_> = (0..3)
            .map(|instruction| InstructionRow {
                example_id: "a".into(),
                condition: "none".into(),
                instruction,
                pass_strict: (instruction != 1).then_some(0),
                pass_loose: (instruction != 1).then_some(0),
                judge_score: (instruction != 2).then_some(0.25),
                ..InstructionRow::default()
            })
            .collect();
        store.append(&trial("none", "no, thanks", ""), &rows).unwrap();
        store.append(&trial("random@0.5", "", "broken"), &[]).unwrap();
        drop(store);

        let rescored = rescore(path).unwrap();
        assert_eq!((rescored.checked, rescored.changed), (2, 1));
        let mean =
            ConditionMean { condition: "none".to_owned(), mean_score: Some((0.0 + 0.25 + 1.0) / 3.0), trials: 1 };
        assert_eq!(rescored.means, [mean]);
        let rows = Rows::open(path).unwrap();
        let scores: Vec<_> = rows.instructions.iter().map(|row| (row.score, row.scored_by)).collect();
        let rule = Some(Scorer::Rule);
        assert_eq!(scores, [(Some(0.0), rule), (Some(0.25), Some(Scorer::Judge)), (Some(1.0), rule)]);
        assert_eq!((rows.trials[0].rule_score, rows.trials[0].judge_score), (Some(0.5), Some(0.25)));
        assert_eq!((rows.trials[1].error.as_str(), rows.trials[1].mean_score), ("broken", None), "failed rows stay");
        drop(rows);
        assert_eq!(rescore(path).unwrap().changed, 0);
    }
}
