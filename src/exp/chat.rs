//! Runs chats and rolling budgets: the cache is cut again and again.

use std::sync::Arc;

use super::forget::forgetful;
use super::questions;
use crate::condition::{Condition, Memory};
use crate::data::Example;
use crate::engine::{Answer, Chat, ChatTurn, Cut, Entries, Forgetting, Given, Reader, Rule, Speaker, check_compacting};
use crate::evict::{self, Budget, Granularity, Layers, OwnKind, Scores, TrialSeed, View};
use crate::llama::{KvLayer, Mark, Model, Prompt, Sampler, Token, Turn};
use crate::span::Label;
use crate::{Error, Result};

/// A chat under a condition.
pub struct Talk<'a> {
    condition: &'a Condition,
    seed: TrialSeed,
    sampler: Sampler,
    chat: Chat,
    /// All that was said, up to the last answer.
    said: Prompt,
    answer: Vec<Token>,
}

impl<'a> Talk<'a> {
    /// A chat in which nothing was said yet, in the sequence `seq` of its reader.
    pub fn new(condition: &'a Condition, seed: TrialSeed, sampler: Sampler, seq: i32) -> Self {
        let (chat, said, answer) = (Chat::in_sequence(seq), Prompt::default(), Vec::new());
        Talk { condition, seed, sampler, chat, said, answer }
    }

    /// All that was said before the last answer, as one prompt.
    pub fn said(&self) -> &Prompt {
        &self.said
    }

    /// Begins the next turn with `text`. If its answer was given before, it is given again.
    ///
    /// # Errors
    /// If the budget cannot be met.
    pub fn speaker<'s>(&'s mut self, text: &'s Prompt, given: Option<&'s Given>, model: &Model) -> Result<Speaker<'s>> {
        if !self.said.tokens.is_empty() {
            self.said.extend_with_answer(model, &self.answer);
        }
        self.said.extend(text);
        let Talk { condition, seed, sampler, chat, said, .. } = self;
        let (condition, seed, said) = (*condition, *seed, &*said);
        let policy = condition.policy.policy();
        let rolling = condition.budget.rolling();
        if let Some(rolling) = rolling {
            check_compacting(rolling.budget, condition.positions, model)?;
        }
        let window = rolling.map(|rolling| rolling.after_eviction(condition.sinks().unwrap_or(0))).transpose()?;
        let layers = forgetful(condition, model)?;
        let groups = groups(condition, &layers);
        let heads = groups.clone();
        let choose = move |entries: &Entries| {
            let len = entries.origins.len();
            let mask = condition.protect.mask(entries.read, &said.spans);
            let protected: Vec<bool> = entries.origins.iter().map(|&at| mask[at]).collect();
            // The heads of a group by themselves, unless there is one group for all.
            let group =
                entries.group.map(|group| &heads[group]).filter(|_| condition.granularity != Granularity::Token);
            let is_forgetful = |index| layers.iter().any(|layer| layer.index == index);
            let ranking = |scores: Option<&Scores>| -> Vec<f64> {
                let scores = match (scores, group) {
                    (None, _) => Vec::new(),
                    (Some(scores), None) => scores.aggregate(condition.aggregate, is_forgetful),
                    (Some(scores), Some(group)) => scores.mean_of(group),
                };
                if entries.group.is_none() || scores.is_empty() {
                    return scores;
                }
                entries.origins.iter().map(|&at| scores[at]).collect()
            };
            let second = ranking(entries.scores.map(Scores::seconds).as_ref());
            let scores = ranking(entries.scores);
            // The first cut of a chat is that of its first prompt alone.
            let seed = if entries.cuts == 0 && rolling.is_none() { seed } else { seed.of_eviction(entries.cuts) };
            let seed = group.map_or(seed, |group| seed.of_head(group[0].0, group[0].1));
            let view = View {
                block: condition.block.0.get(),
                scores: &scores,
                second: &second,
                survivors: group.map(|_| condition.budget.survivors(entries.read).min(len)),
                gone: entries.read - len,
                ..View::new(0..len, &protected, window.unwrap_or(condition.budget), seed)
            };
            evict::evict(policy, len, &view)
        };
        let rule = Rule {
            rolling,
            positions: condition.positions,
            memory: condition.memory,
            layers: if condition.frees() { condition.layers } else { Layers::All },
            groups,
            score: policy.score(),
            choose: Box::new(choose),
        };
        Ok(Speaker { chat, rule, text, sampler, given })
    }

    /// Ends the turn. The returned eviction is over all that was ever read.
    pub fn spoke(&mut self, turn: ChatTurn) -> (Forgetting, Cut, Answer) {
        self.answer.clone_from(&turn.answer.tokens);
        let modes = Forgetting::new(turn.keep);
        let Condition { positions, memory, layers, .. } = *self.condition;
        let layers = if self.condition.frees() { layers } else { Layers::All };
        (Forgetting { heads: turn.heads, positions, memory, layers, ..modes }, turn.cut, turn.answer)
    }

    /// Takes a turn alone.
    ///
    /// # Errors
    /// As [`Talk::speaker`] and [`Reader::turns`].
    pub fn turn(&mut self, text: &Prompt, reader: &mut Reader, n_predict: usize) -> Result<(Forgetting, Cut, Answer)> {
        let model = Arc::clone(reader.context().model());
        let mut turns = reader.turns(&mut [self.speaker(text, None, &model)?], n_predict)?;
        Ok(self.spoke(turns.remove(0)))
    }
}

/// The groups of KV heads that choose for themselves what they see in a chat; none if cells are freed.
fn groups(condition: &Condition, layers: &[KvLayer]) -> Vec<Vec<(u32, usize)>> {
    let of_layer =
        |layer: &KvLayer| -> Vec<(u32, usize)> { (0..layer.heads).map(|head| (layer.index, head)).collect() };
    match condition.granularity {
        _ if condition.frees() => Vec::new(),
        Granularity::Token => vec![layers.iter().flat_map(of_layer).collect()],
        Granularity::Layer => layers.iter().map(of_layer).collect(),
        Granularity::Head => layers.iter().flat_map(of_layer).map(|head| vec![head]).collect(),
    }
}

/// Reads the prompt, cuts the cache down to the condition's rolling budget and generates under it. The returned
/// eviction is the first cut, over the prompt.
///
/// # Errors
/// As [`Talk::turn`].
pub fn roll(
    condition: &Condition,
    prompt: &Prompt,
    seed: TrialSeed,
    reader: &mut Reader,
    sampler: Sampler,
    n_predict: usize,
) -> Result<(Forgetting, Cut, Answer)> {
    let turn = Talk::new(condition, seed, sampler, 0).turn(prompt, reader, n_predict);
    reader.end_chats();
    turn
}

/// What the model reads for each answer of an example, with spans for its instructions, context and question. In a chat:
/// the first prompt, then what is new in each later turn, from the end of the model's own answer on. With several
/// questions: the prompt of each.
///
/// # Errors
/// As [`Prompt::chat`] and [`Prompt::after`].
pub fn texts_of(model: &Model, example: &Example) -> Result<Vec<Prompt>> {
    if !example.questions.is_empty() {
        return questions::prompts(model, example);
    }
    let answered: Vec<usize> = example.answered().collect();
    // The conversation with a stand-in for each answer of the model but the last.
    let mut turns = Vec::new();
    let mut places = Vec::new();
    for (index, message) in example.messages.iter().enumerate() {
        places.push(turns.len());
        turns.push(Turn { role: message.role.as_str().to_owned(), content: message.content.clone() });
        if answered.contains(&index) && index + 1 < example.messages.len() {
            turns.push(Turn { role: "assistant".to_owned(), content: "answer".to_owned() });
        }
    }
    let mut marks = Vec::new();
    let mut mark = |label, text: Option<&String>| {
        if let Some((message, range)) = text.and_then(|text| example.locate(text)) {
            marks.push(Mark { label, turn: places[message], range });
        }
    };
    for (index, instruction) in example.instructions.iter().enumerate() {
        mark(Label::Instruction(index), instruction.text.as_ref());
    }
    mark(Label::Context, example.context.as_ref());
    mark(Label::Question, example.question.as_ref());
    let mut earlier: Option<usize> = None;
    let mut texts = Vec::with_capacity(answered.len());
    for user in answered.into_iter().map(|index| places[index]) {
        let turns = &turns[..=user];
        let marks: Vec<Mark> = marks.iter().filter(|mark| mark.turn <= user).cloned().collect();
        texts.push(match earlier {
            None => Prompt::chat(model, turns, &marks)?,
            Some(user) => Prompt::after(model, turns, &marks, user + 1)?,
        });
        earlier = Some(user);
    }
    Ok(texts)
}

/// Checks whether a condition can be met in a chat, as far as this is known before.
///
/// # Errors
/// Names what chats exclude.
pub(super) fn check_chat(condition: &Condition, texts: &[Prompt], n_predict: usize, model: &Model) -> Result<()> {
    condition.check_cut_again("a chat, whose cache is cut before each answer,", true)?;
    if condition.policy.policy().coarsest() != Granularity::Token {
        return Err(Error::input(format!(
            "`{condition}`: this policy shares its budget anew each time, and what a head of a chat has forgotten stays \
             forgotten; choose another policy"
        )));
    }
    if condition.policy.own_source().is_some_and(|own| own.kind != OwnKind::Filters) {
        return Err(Error::input(format!(
            "`{condition}`: a program or a file gives the scores of a prompt, and a chat has none that is known before; choose \
             another policy"
        )));
    }
    if condition.memory == Memory::Kv && !condition.is_full() {
        check_compacting(most_cells(condition, texts, n_predict), condition.positions, model)?;
    }
    Ok(())
}

/// The largest number of cells that a chat takes under a condition, if every answer is as long as it may be.
pub(super) fn most_cells(condition: &Condition, texts: &[Prompt], n_predict: usize) -> usize {
    let (mut read, mut in_cache, mut most) = (0usize, 0usize, 0usize);
    for text in texts {
        let new = text.tokens.len();
        (read, in_cache) = (read.saturating_add(new), in_cache.saturating_add(new));
        most = most.max(in_cache);
        // The last position survives in addition to the budget; protection may keep more than counts allow.
        let kept = match condition.budget {
            _ if condition.is_full() || !condition.everywhere() => in_cache,
            Budget::Window { .. } if !condition.protect.is_none() => in_cache,
            budget => budget.survivors(read).saturating_add(1).min(in_cache),
        };
        in_cache = kept.saturating_add(n_predict);
        if let Some(rolling) = condition.budget.rolling() {
            in_cache = in_cache.min(rolling.budget.saturating_add(1));
        }
        (read, most) = (read.saturating_add(n_predict), most.max(in_cache));
    }
    most
}
