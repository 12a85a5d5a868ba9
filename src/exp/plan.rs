//! The settings met with a model and a data set.

use super::{Condition, Generation, Key, PromptRow, Settings};
use crate::data::Example;
use crate::evict::TrialSeed;
use crate::llama::{Mark, Model, Prompt, Turn};
use crate::span::Label;
use crate::{Error, Result};

/// What a run will do.
#[derive(Debug)]
pub struct Plan {
    /// The settings.
    pub settings: Settings,
    /// The examples of this run, in order.
    pub examples: Vec<Example>,
    /// Prompt tokens, by example.
    pub prompt_tokens: Vec<usize>,
}

impl Plan {
    /// Selects the examples and measures their prompts.
    ///
    /// # Errors
    /// If a prompt cannot be rendered, if nothing is selected, or if prompt and answer exceed `n_ctx`
    /// (or, without one, what the model was trained for).
    pub fn new(settings: Settings, examples: Vec<Example>, model: &Model, n_ctx: Option<u32>) -> Result<Self> {
        let mut examples: Vec<_> = examples
            .into_iter()
            .take(settings.limit.unwrap_or(usize::MAX))
            .filter(|example| settings.shard.is_none_or(|shard| in_shard(&example.id, shard)))
            .collect();
        examples.shrink_to_fit();
        if examples.is_empty() {
            return Err(Error::input("no example is selected; check --limit and --shard"));
        }
        let mut prompt_tokens = Vec::with_capacity(examples.len());
        for example in &examples {
            let at = |error: Error| Error::input(format!("example `{}`: {error}", example.id));
            prompt_tokens.push(prompt_of(model, example).map_err(at)?.tokens.len());
        }
        let plan = Plan { settings, examples, prompt_tokens };
        let limit = n_ctx.unwrap_or_else(|| model.n_ctx_train()) as usize;
        let longest = plan.prompt_tokens.iter().enumerate().max_by_key(|&(_, tokens)| tokens);
        if let Some((index, &tokens)) = longest
            && plan.positions(tokens, 1) > limit
        {
            return Err(Error::input(format!(
                "example `{}` has {tokens} tokens; with --n-predict {} that exceeds the context of {limit}; lower \
                 --n-predict, or set --ctx to go beyond what the model was trained for",
                plan.examples[index].id, plan.settings.generation.n_predict
            )));
        }
        Ok(plan)
    }

    /// Positions the context must hold: the longest prompt, shared, and an answer for each lane.
    pub fn n_ctx(&self) -> u32 {
        let longest = self.prompt_tokens.iter().max().copied().unwrap_or(0);
        let Generation { parallel, fidelity, .. } = self.settings.generation;
        u32::try_from(self.positions(longest, parallel as usize + usize::from(fidelity))).unwrap_or(u32::MAX)
    }

    /// Positions for a prompt and `answers` side by side. A rolling budget bounds what it needs.
    fn positions(&self, prompt: usize, answers: usize) -> usize {
        let conditions = &self.settings.conditions;
        let rolling = conditions.iter().filter_map(|condition| condition.rolling).map(|rolling| rolling.budget).max();
        let growing = conditions.iter().any(|condition| condition.rolling.is_none());
        let answers = if growing { self.settings.generation.n_predict * answers } else { 1 };
        (prompt + answers).max(rolling.unwrap_or(0) + 1)
    }

    /// The prompts as the model reads them, for the run directory.
    pub fn prompts(&self, model: &Model) -> Result<Vec<PromptRow>> {
        let row = |example| Ok(PromptRow::new(example, &prompt_of(model, example)?));
        self.examples.iter().map(row).collect()
    }

    /// How many trials there are.
    pub fn n_trials(&self) -> usize {
        self.examples.len() * self.settings.conditions.len() * self.settings.repeats as usize
    }

    /// The trials of one example, in the order in which they run.
    pub fn trials<'a>(&'a self, example: &'a Example) -> impl Iterator<Item = (&'a Condition, Key)> {
        self.settings.conditions.iter().flat_map(move |condition| {
            let name = condition.to_string();
            (0..self.settings.repeats)
                .map(move |repeat| (condition, Key { example: example.id.clone(), condition: name.clone(), repeat }))
        })
    }

    /// The seed of a trial: conditions of one (example, repeat) share it.
    pub fn seed(&self, key: &Key) -> TrialSeed {
        TrialSeed::derive(self.settings.generation.seed, &key.example, key.repeat)
    }
}

/// Whether an example belongs to shard `i` of `n` (from 1): all its conditions stay together, and
/// more examples or conditions reshuffle nothing.
fn in_shard(id: &str, (index, count): (u32, u32)) -> bool {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(id.as_bytes());
    let first = u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"));
    first % u64::from(count) == u64::from(index) - 1
}

/// The prompt of an example, with spans for its instructions, context and question.
pub fn prompt_of(model: &Model, example: &Example) -> Result<Prompt> {
    let turns: Vec<_> = example
        .messages
        .iter()
        .map(|message| Turn { role: message.role.as_str().to_owned(), content: message.content.clone() })
        .collect();
    let mut marks = Vec::new();
    let mut mark = |label, text: Option<&String>| {
        if let Some((turn, range)) = text.and_then(|text| example.locate(text)) {
            marks.push(Mark { label, turn, range });
        }
    };
    for (index, instruction) in example.instructions.iter().enumerate() {
        mark(Label::Instruction(index), instruction.text.as_ref());
    }
    mark(Label::Context, example.context.as_ref());
    mark(Label::Question, example.question.as_ref());
    Prompt::chat(model, &turns, &marks)
}
