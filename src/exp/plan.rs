//! The settings met with a model and a data set.

use super::{Condition, Generation, Key, PromptRow, Settings, read_before};
use crate::data::Example;
use crate::evict::{Memory, Positions, TrialSeed};
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
    /// The most tokens that a condition's scope leaves to be read after the eviction.
    late_tokens: usize,
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
        let (mut prompt_tokens, mut late_tokens) = (Vec::with_capacity(examples.len()), 0);
        for example in &examples {
            let at = |error: Error| Error::input(format!("example `{}`: {error}", example.id));
            let prompt = prompt_of(model, example).map_err(at)?;
            prompt_tokens.push(prompt.tokens.len());
            // A scope that the prompt lacks is the trial's own failure.
            let read_before = settings.conditions.iter().filter_map(|condition| read_before(condition, &prompt).ok());
            late_tokens = late_tokens.max(read_before.map(|read| prompt.n_cached() - read).max().unwrap_or(0));
        }
        let plan = Plan { settings, examples, prompt_tokens, late_tokens };
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

    /// Positions the context must hold: the longest prompt, shared; for each lane an answer and what it reads after its
    /// eviction; a second prompt where examples overlap.
    pub fn n_ctx(&self) -> u32 {
        let longest = self.longest_prompt();
        let Generation { parallel, fidelity, .. } = self.settings.generation;
        let lanes = parallel as usize + usize::from(fidelity);
        let second = if self.overlaps() { longest } else { 0 };
        u32::try_from(self.positions(longest, lanes) + self.late_tokens * lanes + second).unwrap_or(u32::MAX)
    }

    /// Whether the next prompt is read while lanes of the one before still answer, so that the batch does not run dry.
    /// It is where every condition answers from the shared reading, and where a second prompt takes little memory
    /// beside the answers.
    pub fn overlaps(&self) -> bool {
        let Generation { parallel, fidelity, n_predict, .. } = self.settings.generation;
        let in_lanes = |condition: &Condition| {
            condition.positions == Positions::Keep
                && condition.memory == Memory::Kv
                && condition.rolling.is_none()
                && condition.score().is_none()
                && condition.frees()
        };
        parallel > 1
            && !fidelity
            && self.settings.conditions.iter().all(in_lanes)
            && self.longest_prompt() <= parallel as usize * n_predict / 4
    }

    fn longest_prompt(&self) -> usize {
        self.prompt_tokens.iter().max().copied().unwrap_or(0)
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
