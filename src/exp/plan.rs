//! The plan of a run: the settings applied to a model and a data set.

use std::collections::HashMap;

use super::dense::DenseSizes;
use super::forget::{check, replay_cells, target};
use super::{
    Build, Demands, Generation, Key, PromptRow, Session, Settings, check_chat, most_cells, questions, read_before,
    texts_of,
};
use crate::condition::{Condition, KvTypes, Memory, Positions};
use crate::data::Example;
use crate::evict::TrialSeed;
use crate::llama::{ContextSettings, Model, Prompt};
use crate::{Error, Result};

/// The trials of a run, and their sizes.
#[derive(Debug)]
pub struct Plan {
    /// The settings.
    pub settings: Settings,
    /// The examples of this run, in order.
    pub examples: Vec<Example>,
    /// The index of each of them in the data set.
    places: Vec<usize>,
    /// Number of prompt tokens, by example; in a chat those of all its turns, without the answers; of several questions
    /// those of the longest prompt.
    pub prompt_tokens: Vec<usize>,
    /// Number of answers, by example: of turns or of questions.
    turns: Vec<u32>,
    /// The cells that chats take: the largest numbers of chats of one example, largest first.
    chat_cells: Vec<usize>,
    /// By example and condition: the repeats to run.
    repeats: Vec<Vec<Repeats>>,
    /// By condition: the largest number of tokens that one of its trials reads outside the shared prompt. Sorted,
    /// largest first.
    own_tokens: Vec<(usize, Memory)>,
    /// Cells that a policy's replay of a prompt needs beside the prompt's own, at most.
    replay_cells: usize,
    pub(super) dense: DenseSizes,
}

/// A text with more bytes than this for each position is refused before it is tokenized, which takes long for a text of
/// many megabytes. Tokens are shorter.
const MOST_BYTES_A_TOKEN: usize = 256;

/// A context has no more sequences than this.
const MOST_LANES: usize = 255;

impl Plan {
    /// Selects the examples and measures their prompts.
    ///
    /// # Errors
    /// If a prompt cannot be rendered, if nothing is selected, if the conditions cannot answer the primary comparison, or if prompt and answer exceed `n_ctx` (without `n_ctx`:
    /// the context length of the model's training).
    pub fn new(settings: Settings, examples: Vec<Example>, model: &Model, n_ctx: Option<u32>) -> Result<Self> {
        if let Some(primary) = &settings.primary {
            primary.check(&settings.conditions)?;
        }
        let (places, examples): (Vec<_>, Vec<_>) = examples
            .into_iter()
            .enumerate()
            .take(settings.limit.unwrap_or(usize::MAX))
            .filter(|(_, example)| settings.shard.is_none_or(|shard| shard.holds(&example.id)))
            .unzip();
        if examples.is_empty() {
            return Err(Error::input("no example is selected; check --limit and --shard"));
        }
        let limit = n_ctx.unwrap_or_else(|| model.n_ctx_train()) as usize;
        let n_predict = settings.generation.n_predict;
        let mut prompt_tokens = Vec::with_capacity(examples.len());
        let turns: Vec<u32> = examples.iter().map(|example| example.n_turns() as u32).collect();
        let mut chat_cells: Vec<usize> = Vec::new();
        let mut repeats = Vec::with_capacity(examples.len());
        let mut own: Vec<_> = settings.conditions.iter().map(|condition| (0, condition.memory)).collect();
        let mut dense = DenseSizes::new(&settings.conditions, model);
        let mut replay = 0;
        for example in &examples {
            let at = |error: Error| error.at(&format!("example `{}`", example.id));
            let said = example.messages.iter().map(|message| &message.content).chain(&example.questions);
            let bytes: usize = said.map(String::len).sum();
            if bytes / MOST_BYTES_A_TOKEN > limit {
                return Err(Error::input(format!(
                    "example `{}` has {bytes} bytes, which no context of {limit} positions can hold; shorten it",
                    example.id
                )));
            }
            let texts = texts_of(model, example).map_err(at)?;
            let prompt = &texts[0];
            let lengths = texts.iter().map(|text| text.tokens.len());
            prompt_tokens.push(if example.is_chat() { lengths.sum() } else { lengths.max().unwrap_or(0) });
            if example.is_chat() && settings.generation.fidelity {
                return Err(at(Error::input(
                    "--fidelity compares one answer with that of the full cache, and a chat has several; leave it out",
                )));
            }
            if !example.is_chat() {
                texts.iter().for_each(|prompt| dense.add(&settings.conditions, prompt, settings.generation.swa_full));
            }
            let of_example: Vec<Repeats> = settings
                .conditions
                .iter()
                .map(|condition| Repeats::of(&settings, condition, example, prompt))
                .collect();
            let mut of_chats: Vec<usize> = Vec::new();
            for (((own, _), condition), repeats) in own.iter_mut().zip(&settings.conditions).zip(&of_example) {
                let of_condition = |error: Error| error.at(&format!("`{condition}` on example `{}`", example.id));
                if example.is_chat() {
                    check_chat(condition, &texts, n_predict, model).map_err(at)?;
                    let cells = fitting_cells(condition, &texts, n_predict, limit).map_err(at)?;
                    of_chats.extend(std::iter::repeat_n(cells, repeats.len().min(MOST_LANES)));
                }
                if !example.questions.is_empty() {
                    questions::check(condition).map_err(at)?;
                }
                let Some(first) = repeats.iter().next() else { continue };
                let target = target(condition, example, prompt, first as usize).unwrap_or_default();
                let asked = if example.is_chat() { &texts[..1] } else { &texts };
                for prompt in asked {
                    check(condition, &example.id, prompt, &target, model).map_err(of_condition)?;
                }
                if example.is_chat() {
                    continue;
                }
                for prompt in asked {
                    *own = own_tokens(condition, prompt).max(*own);
                    replay = replay_cells(condition, prompt, model).map_err(at)?.max(replay);
                }
            }
            of_chats.sort_by_key(|&cells| std::cmp::Reverse(cells));
            chat_cells.resize(chat_cells.len().max(of_chats.len()).min(MOST_LANES), 0);
            chat_cells.iter_mut().zip(of_chats).for_each(|(most, cells)| *most = cells.max(*most));
            repeats.push(of_example);
        }
        for (index, condition) in settings.conditions.iter().enumerate() {
            let anywhere = repeats.iter().any(|of_example| of_example[index].len() > 0);
            if !anywhere && settings.shard.is_none() {
                return Err(Error::input(format!(
                    "`{condition}` has no trial: no example names the text of an instruction (`text`) with as many other \
                     tokens beside it; `kvllama data check` shows the spans of a data set"
                )));
            }
        }
        own.sort_by_key(|&(tokens, _)| std::cmp::Reverse(tokens));
        let plan = Plan {
            settings,
            examples,
            places,
            prompt_tokens,
            turns,
            chat_cells,
            repeats,
            own_tokens: own,
            replay_cells: replay,
            dense,
        };
        if let Some((index, tokens)) = plan.prompts_alone().max_by_key(|&(_, tokens)| tokens)
            && plan.positions(tokens, 1) > limit
        {
            let (context, mend) = match n_ctx {
                Some(_) => (format!("--ctx {limit}"), "raise --ctx"),
                None => {
                    (format!("the {limit} positions that the model was trained for"), "set --ctx to go beyond them")
                }
            };
            return Err(Error::input(format!(
                "example `{}` has {tokens} tokens; with --n-predict {} that exceeds {context}; lower --n-predict, or \
                 {mend}",
                plan.examples[index].id, plan.settings.generation.n_predict
            )));
        }
        Ok(plan)
    }

    /// Number of positions that the context must hold. If it [has streams](Plan::streams), this is per sequence: a
    /// prompt and an answer. Otherwise it is the longest prompt, shared; for each lane an answer and the tokens that it
    /// reads itself; a second prompt if examples overlap; and the longest replay of a prompt.
    pub fn n_ctx(&self) -> u32 {
        // Each chat has cells of its own; with streams, so has each sequence.
        let beside = if self.streams() { 1 } else { self.settings.generation.parallel as usize };
        let chats = self.chat_cells.iter().take(beside).fold(0, |sum: usize, &cells| sum.saturating_add(cells));
        let chats = u32::try_from(chats).unwrap_or(u32::MAX);
        if self.prompts_alone().next().is_none() { chats } else { self.n_ctx_alone().max(chats) }
    }

    /// The same without the chats.
    fn n_ctx_alone(&self) -> u32 {
        let longest = self.longest_prompt();
        if self.streams() {
            let positions = self.positions(longest, 1).saturating_add(self.replay_cells);
            return u32::try_from(positions).unwrap_or(u32::MAX);
        }
        let Generation { parallel, fidelity, .. } = self.settings.generation;
        // Dense lanes hold their answers themselves.
        let n_dense = self.dense().map_or(0, |(_, conditions)| conditions);
        let questions = self.examples.iter().map(|example| example.questions.len().max(1)).max().unwrap_or(1);
        let most_repeats = self.repeats.iter().flatten().map(Repeats::len).max().unwrap_or(0).saturating_mul(questions);
        let shared = (self.settings.conditions.len() - n_dense).saturating_mul(most_repeats);
        let shared = shared.saturating_mul(if self.overlaps() { 2 } else { 1 });
        let lanes = shared.clamp(1, parallel as usize) + usize::from(fidelity);
        // If trials run one by one, a trial with `--memory text` reuses the cells of the prompt for the text that it
        // reads.
        let own = self.own_tokens.iter().filter(|(_, memory)| parallel > 1 || *memory == Memory::Kv);
        let mut own = own.map(|(tokens, _)| *tokens);
        let more = if self.overlaps() {
            longest + lanes * own.next().unwrap_or(0)
        } else {
            own.flat_map(|own| std::iter::repeat_n(own, most_repeats)).take(lanes).sum()
        };
        let more = more.saturating_add(self.replay_cells);
        u32::try_from(self.positions(longest, lanes).saturating_add(more)).unwrap_or(u32::MAX)
    }

    /// The context that this plan needs: sets streams, tap and flash attention, and raises the number of positions to
    /// what the plan needs.
    pub fn context(&self, demands: Demands, context: ContextSettings) -> ContextSettings {
        let Demands { tap, flash_attn } = demands;
        let n_ctx = self.n_ctx().max(context.n_ctx);
        ContextSettings { n_ctx, streams: self.streams(), tap, flash_attn, ..context }
    }

    /// Whether each lane needs its own cells: conditions with `--positions compact` move theirs.
    pub fn streams(&self) -> bool {
        let conditions = &self.settings.conditions;
        let moves =
            |condition: &Condition| condition.positions == Positions::Compact && condition.budget.rolling().is_none();
        // Hiding positions from single heads works only in a shared cache.
        self.settings.generation.parallel > 1
            && self.prompts_alone().next().is_some()
            && conditions.iter().any(moves)
            && conditions.iter().all(Condition::frees)
            && self.dense().is_none()
    }

    /// Number of trials that answer side by side; with fidelity the full cache needs one sequence more.
    pub(super) fn lanes(&self) -> u32 {
        let Generation { parallel, fidelity, .. } = self.settings.generation;
        parallel + u32::from(fidelity)
    }

    /// Whether the next prompt is read while lanes of the previous one still answer, so that batches stay full. This is
    /// so if every condition answers from the shared reading, and if a second prompt takes little memory compared with
    /// the answers.
    pub fn overlaps(&self) -> bool {
        let Generation { parallel, fidelity, n_predict, .. } = self.settings.generation;
        let streams = self.streams();
        let moves = streams || self.dense().is_some();
        let in_lanes = |condition: &Condition| {
            (condition.positions == Positions::Keep || moves)
                && condition.memory == Memory::Kv
                && condition.budget.rolling().is_none()
                && condition.score().is_none()
                && condition.frees()
        };
        parallel > 1
            && !fidelity
            && self.settings.conditions.iter().all(in_lanes)
            && (streams || self.longest_prompt() <= n_predict.saturating_mul(parallel as usize) / 4)
    }

    pub(super) fn longest_prompt(&self) -> usize {
        self.prompts_alone().map(|(_, tokens)| tokens).max().unwrap_or(0)
    }

    /// The examples that are no chats, by index, and the number of their prompt tokens.
    fn prompts_alone(&self) -> impl Iterator<Item = (usize, usize)> {
        self.prompt_tokens.iter().copied().enumerate().filter(|&(index, _)| !self.examples[index].is_chat())
    }

    /// The largest number of trials that could be answered side by side; the turns of a chat follow one another.
    pub(super) fn most_beside(&self) -> usize {
        let beside = |index: usize| self.n_trials_of(index) / self.turns_of(index).max(1);
        (0..self.examples.len()).map(beside).max().unwrap_or(1)
    }

    /// How many answers of an example follow one another.
    fn turns_of(&self, index: usize) -> usize {
        if self.examples[index].is_chat() { self.turns[index] as usize } else { 1 }
    }

    /// Number of positions for a prompt and `answers` side by side. A rolling budget limits the positions of its
    /// answers.
    fn positions(&self, prompt: usize, answers: usize) -> usize {
        let conditions = &self.settings.conditions;
        let rolling =
            conditions.iter().filter_map(|condition| condition.budget.rolling()).map(|rolling| rolling.budget).max();
        let growing = conditions.iter().any(|condition| condition.budget.rolling().is_none());
        let answers = if growing { self.settings.generation.n_predict.saturating_mul(answers) } else { 1 };
        prompt.saturating_add(answers).max(rolling.unwrap_or(0).saturating_add(1))
    }

    /// The prompts as the model reads them, for the run directory.
    pub fn prompts(&self, model: &Model) -> Result<Vec<PromptRow>> {
        let row = |example| Ok(PromptRow::new(example, &texts_of(model, example)?));
        self.examples.iter().map(row).collect()
    }

    /// Puts the examples into another order.
    pub(super) fn arrange(&mut self, place: impl Fn(&Example) -> usize) {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        order.sort_by_key(|&index| place(&self.examples[index]));
        self.places = order.iter().map(|&index| self.places[index]).collect();
        self.prompt_tokens = order.iter().map(|&index| self.prompt_tokens[index]).collect();
        self.turns = order.iter().map(|&index| self.turns[index]).collect();
        self.repeats = order.iter().map(|&index| self.repeats[index].clone()).collect();
        self.examples = order.iter().map(|&index| self.examples[index].clone()).collect();
    }

    /// A session of this plan that starts now.
    pub fn session(&self, build: Build) -> Session {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        order.sort_by_key(|&index| self.places[index]);
        let planned = order.iter().map(|&index| (self.places[index], self.examples[index].id.clone())).collect();
        let mut session = Session::new(build, &self.settings, planned);
        let policies = self.settings.conditions.iter().map(|condition| &condition.policy);
        let sources = policies.filter_map(|policy| policy.source_file().cloned());
        session.sources.extend(sources.map(|file| (file.path, file.sha256)));
        if self.turns.iter().any(|&turns| turns > 1) {
            session.turns = order.iter().map(|&index| self.turns[index]).collect();
        }
        for (at, condition) in self.settings.conditions.iter().enumerate() {
            let name = condition.to_string();
            if condition.target().is_some() {
                let repeats = order.iter().map(|&index| self.repeats[index][at].iter().collect()).collect();
                session.forgets.insert(name, repeats);
            } else if self.settings.repeats > 1 && self.settings.runs_once(condition) {
                session.once.push(name);
            }
        }
        session
    }

    /// How many trials there are.
    pub fn n_trials(&self) -> usize {
        (0..self.examples.len()).map(|example| self.n_trials_of(example)).sum()
    }

    /// Number of trials of one example, given by its index.
    pub(super) fn n_trials_of(&self, example: usize) -> usize {
        let chats = self.repeats[example].iter().map(Repeats::len).fold(0, usize::saturating_add);
        chats.saturating_mul(self.turns[example] as usize)
    }

    /// The distinct KV cache types of the conditions, in order of appearance; each needs its own cache.
    pub fn kv_types(&self) -> Vec<KvTypes> {
        let mut types: Vec<KvTypes> = Vec::new();
        for condition in &self.settings.conditions {
            if !types.contains(&condition.kv_type) {
                types.push(condition.kv_type);
            }
        }
        types
    }

    /// Number of instructions that are checked, by example and turn.
    pub fn instructions(&self) -> HashMap<&str, Vec<usize>> {
        let by_turn = |example: &Example| (0..example.n_turns()).map(|turn| example.checked_in(turn).count()).collect();
        self.examples.iter().map(|example| (example.id.as_str(), by_turn(example))).collect()
    }

    /// The trials in `trials` that belong to this plan.
    pub(super) fn of_those<'a, T>(&'a self, trials: &'a HashMap<Key, T>) -> impl Iterator<Item = (&'a Key, &'a T)> {
        let places = |ids: Vec<String>| -> HashMap<String, usize> {
            ids.into_iter().enumerate().map(|(place, id)| (id, place)).collect()
        };
        let examples = places(self.examples.iter().map(|example| example.id.clone()).collect());
        let conditions = places(self.settings.conditions.iter().map(Condition::to_string).collect());
        trials.iter().filter(move |(key, _)| {
            let place = examples.get(&key.example).zip(conditions.get(&key.condition));
            place.is_some_and(|(&example, &condition)| {
                key.turn < self.turns[example] && self.repeats[example][condition].contains(key.repeat)
            })
        })
    }

    /// The trials of one example, given by its index, in the order in which they run: condition by condition, the turns of
    /// a chat one after another. Where speed is measured, repeat by repeat, so that what else the machine does meets all
    /// conditions alike.
    pub fn trials(&self, example: usize) -> Box<dyn Iterator<Item = (&Condition, Key)> + '_> {
        let (id, turns) = (&self.examples[example].id, self.turns[example]);
        let conditions = self.settings.conditions.iter().zip(&self.repeats[example]);
        let answers = move |condition, name: String, repeat| {
            let key = move |turn| Key { example: id.clone(), condition: name.clone(), repeat, turn };
            (0..turns).map(move |turn| (condition, key(turn)))
        };
        if self.settings.generation.measure_speed {
            let repeats = conditions.clone().filter_map(|(_, repeats)| repeats.iter().last()).max();
            return Box::new((0..=repeats.unwrap_or(0)).flat_map(move |repeat| {
                let having = conditions.clone().filter(move |(_, repeats)| repeats.contains(repeat));
                having.flat_map(move |(condition, _)| answers(condition, condition.to_string(), repeat))
            }));
        }
        Box::new(conditions.flat_map(move |(condition, repeats)| {
            let name = condition.to_string();
            repeats.iter().flat_map(move |repeat| answers(condition, name.clone(), repeat))
        }))
    }

    /// The seed of a trial: conditions of one (example, repeat) share it.
    pub fn seed(&self, key: &Key) -> TrialSeed {
        TrialSeed::derive(self.settings.generation.seed, &key.example, key.repeat)
    }
}

/// The repeats to run of a condition on an example, by rule: there may be billions.
#[derive(Debug, Clone)]
struct Repeats {
    /// Number of repeats, or, with `targets`, of visits of all of them.
    rounds: u32,
    /// Under a policy that forgets a single instruction: the instructions of the example that it can forget, and the
    /// number of all its instructions. Repeat `r` then forgets instruction `r` modulo that number.
    targets: Option<(Vec<u32>, u32)>,
}

impl Repeats {
    fn of(settings: &Settings, condition: &Condition, example: &Example, prompt: &Prompt) -> Self {
        let rounds = if settings.runs_once(condition) { 1 } else { settings.repeats };
        let targets = condition.target().map(|_| {
            let n = u32::try_from(example.instructions.len()).unwrap_or(u32::MAX);
            let known = |&instruction: &u32| target(condition, example, prompt, instruction as usize).is_some();
            ((0..n).filter(known).collect(), n)
        });
        Repeats { rounds, targets }
    }

    fn len(&self) -> usize {
        (self.rounds as usize).saturating_mul(self.targets.as_ref().map_or(1, |(known, _)| known.len()))
    }

    fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match &self.targets {
            None => Box::new(0..self.rounds),
            Some((known, n)) => Box::new((0..self.rounds).flat_map(move |round| {
                known.iter().map(move |instruction| round.saturating_mul(*n).saturating_add(*instruction))
            })),
        }
    }

    fn contains(&self, repeat: u32) -> bool {
        match &self.targets {
            None => repeat < self.rounds,
            Some((known, n)) => repeat / n.max(&1) < self.rounds && known.contains(&(repeat % n.max(&1))),
        }
    }
}

/// The largest number of tokens that a trial reads itself: with `--memory kv` the part after its scope, with `text` the
/// kept text.
fn own_tokens(condition: &Condition, prompt: &Prompt) -> usize {
    let cached = prompt.n_cached();
    // If the prompt lacks the scope, the trial itself fails.
    let late = read_before(condition, prompt).map_or(0, |read| cached - read);
    match condition.memory {
        Memory::Kv => late,
        // The last position survives in addition to the budget; a scope or protection may keep more.
        Memory::Text if late == 0 && condition.protect.is_none() => {
            condition.budget.survivors(cached).saturating_add(1).min(cached)
        }
        Memory::Text => cached,
    }
}

/// The cells that a chat takes, if they do not exceed the limit.
fn fitting_cells(condition: &Condition, texts: &[Prompt], n_predict: usize, limit: usize) -> Result<usize> {
    let cells = most_cells(condition, texts, n_predict);
    if cells <= limit {
        return Ok(cells);
    }
    let read: usize = texts.iter().map(|text| text.tokens.len()).sum();
    Err(Error::input(format!(
        "its {} turns have {read} tokens, and with --n-predict {n_predict} for each answer `{condition}` may need {cells} \
         positions of {limit}; lower --n-predict, raise --ctx, or choose budgets that fit and --no-baseline",
        texts.len()
    )))
}

/// The prompt of an example, with spans for its instructions, context and question; of a chat its first prompt.
pub fn prompt_of(model: &Model, example: &Example) -> Result<Prompt> {
    Ok(texts_of(model, example)?.swap_remove(0))
}
