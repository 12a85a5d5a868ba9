//! One trial and its rows.

use std::sync::Arc;
use std::time::Duration;

use super::{InstructionRow, Key, Plan, Talk, TrialRow, forgetting, roll, target};
use crate::condition::Condition;
use crate::data::{Example, RUBRIC};
use crate::engine::{Answer, Cut, Fidelity, Forgetting, Reader};
use crate::evict::{Scores, ranges_text};
use crate::llama::{Model, Prompt, Sampler};
use crate::score::{self, Decay};
use crate::span::Label;
use crate::{Error, Result};

/// One (example, condition, repeat, turn).
pub(super) struct Trial<'a> {
    pub plan: &'a Plan,
    pub example: &'a Example,
    /// The prompt; in a chat all that was said before the answer.
    pub prompt: Arc<Prompt>,
    pub condition: &'a Condition,
    pub key: Key,
    pub model: &'a Model,
    pub run_id: &'a str,
    pub kv_bytes_per_position: u64,
    /// The comparison with the full cache, if it was asked for.
    pub fidelity: Option<Fidelity>,
}

impl Trial<'_> {
    pub fn forgetting(&self, scores: Option<&Scores>) -> Result<Forgetting> {
        let instruction = self.key.instruction(self.example.instructions.len());
        let target = target(self.condition, self.example, &self.prompt, instruction).unwrap_or_default();
        forgetting(self.condition, &self.prompt, self.plan.seed(&self.key), &target, self.model, scores)
    }

    /// Generates under the condition's rolling budget.
    pub fn roll(&self, reader: &mut Reader, n_predict: usize) -> Result<(Forgetting, Cut, Answer)> {
        let seed = self.plan.seed(&self.key);
        roll(self.condition, &self.prompt, seed, reader, self.sampler(), n_predict)
    }

    /// The chat that this trial is a turn of, before its first turn, in a sequence of its reader.
    pub fn talk(&self, seq: i32) -> Talk<'_> {
        Talk::new(self.condition, self.plan.seed(&self.key), self.sampler(), seq)
    }

    pub fn sampler(&self) -> Sampler {
        Sampler::new(&self.plan.settings.generation.sampling, self.plan.seed(&self.key).sampler())
    }

    pub fn rows(&self, forgetting: &Forgetting, cut: &Cut, answer: Answer) -> Result<(TrialRow, Vec<InstructionRow>)> {
        let instructions = self.score(forgetting, &answer.text)?;
        Ok((self.row(forgetting, cut, answer, &instructions), instructions))
    }

    fn row(&self, forgetting: &Forgetting, cut: &Cut, answer: Answer, instructions: &[InstructionRow]) -> TrialRow {
        let decode_s = answer.decode.as_secs_f64();
        let (len, n_kept) = (forgetting.keep.len(), forgetting.n_kept());
        let decay = Decay::of(&answer.text);
        let mut row = TrialRow {
            repetition: Some(thousandth(decay.repetition)),
            compression: Some(thousandth(decay.compression)),
            n_kept,
            n_evicted: len - n_kept,
            evicted_ranges: ranges_text(forgetting.keep.evicted()),
            kv_bytes_full: self.kv_bytes_per_position * len as u64,
            kv_bytes_kept: self.kv_bytes_kept(forgetting),
            n_generated: answer.tokens.len(),
            nll: self.fidelity.map(|fidelity| fidelity.nll),
            kl_mean: self.fidelity.map(|fidelity| fidelity.kl_mean),
            top1_agree: self.fidelity.map(|fidelity| fidelity.top1_agree),
            stop_reason: answer.stop.as_str().to_owned(),
            prefill_ms: thousandths(cut.prefill, 1e3),
            replay_ms: (!forgetting.replay.is_zero()).then(|| thousandths(forgetting.replay, 1e3)),
            evict_us: thousandths(cut.evict, 1e6),
            decode_ms: thousandths(answer.decode, 1e3),
            tokens_per_s: (decode_s > 0.0).then(|| (answer.tokens.len() as f64 / decode_s * 100.0).round() / 100.0),
            response: answer.text,
            ..self.identity()
        };
        row.settle(instructions);
        row
    }

    /// Bytes of the surviving positions. Layers that do not evict keep all positions, and cells that are not freed
    /// count as kept.
    fn kv_bytes_kept(&self, forgetting: &Forgetting) -> u64 {
        let layers = self.model.kv_layers();
        let forgetful =
            layers.iter().filter(|layer| forgetting.layers.include(layer.index, layer.local)).count() as u64;
        let keep = &forgetting.keep;
        let freed = self.kv_bytes_per_position * keep.n_evicted() as u64 * forgetful / layers.len().max(1) as u64;
        self.kv_bytes_per_position * keep.len() as u64 - freed
    }

    pub fn failed(&self, error: &Error) -> TrialRow {
        TrialRow { error: error.to_string(), ..self.identity() }
    }

    /// The cells that identify the trial.
    fn identity(&self) -> TrialRow {
        TrialRow {
            run_id: self.run_id.to_owned(),
            example_id: self.key.example.clone(),
            condition: self.key.condition.clone(),
            axes: self.condition.cells(),
            repeat: self.key.repeat,
            turn: self.key.turn,
            seed: self.plan.seed(&self.key).0,
            n_prompt: self.prompt.tokens.len(),
            ..TrialRow::default()
        }
    }

    fn score(&self, forgetting: &Forgetting, response: &str) -> Result<Vec<InstructionRow>> {
        let rows = self.example.checked_in(self.key.turn as usize).map(|(index, instruction)| {
            let verdict = match instruction.kind.as_str() {
                RUBRIC => None,
                kind => Some(score::check(kind, &instruction.kwargs, response)?),
            };
            let span = self.prompt.span(Label::Instruction(index));
            let mut row = InstructionRow {
                example_id: self.key.example.clone(),
                condition: self.key.condition.clone(),
                repeat: self.key.repeat,
                turn: self.key.turn,
                instruction: index,
                kind: instruction.kind.clone(),
                n_tokens: span.map(|span| span.range().len()),
                survival: span.map(|span| forgetting.survival(span.range())),
                ..InstructionRow::default()
            };
            row.take(verdict);
            row.settle();
            Ok(row)
        });
        rows.collect()
    }
}

fn thousandth(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn thousandths(duration: Duration, per_second: f64) -> f64 {
    (duration.as_secs_f64() * per_second * 1e3).round() / 1e3
}
