//! Chats take their turns, several of them side by side.
//!
//! Each chat is a sequence with cells of its own, so that compaction can move them. Each reads its own text; then one
//! batch holds the next token of every chat that is still answering, so the weights are read once for all. A chat alone
//! is the reference: the composition of a batch changes low bits of the logits (ggml-org/llama.cpp#7052).

use std::time::{Duration, Instant};

use super::given::Given;
use super::reader::Place;
use super::{Answer, Chat, Cut, Reader, Rule, StopReason};
use crate::evict::{HeadKeeps, KeepSet};
use crate::llama::{Model, Prompt, Sampler, Slot, Token};
use crate::{Error, Result};

/// A chat that takes its next turn.
pub struct Speaker<'a> {
    /// The chat so far.
    pub chat: &'a mut Chat,
    /// How its cache is cut.
    pub rule: Rule<'a>,
    /// What is new in this turn; in the first one the prompt.
    pub text: &'a Prompt,
    /// Draws the tokens of its answers.
    pub sampler: &'a mut Sampler,
    /// The answer, if this turn was answered before: it is given again.
    pub given: Option<&'a Given>,
}

/// A turn of a chat.
pub struct ChatTurn {
    /// The cut before the answer.
    pub cut: Cut,
    /// Which of all positions that were ever read are in the cache after it.
    pub keep: KeepSet,
    /// Which of them each head sees, if heads differ.
    pub heads: Option<HeadKeeps>,
    /// The answer.
    pub answer: Answer,
}

/// An answer on its way.
struct Answering {
    cut: Cut,
    keep: KeepSet,
    heads: Option<HeadKeeps>,
    /// The next token to be decoded.
    next: Token,
    tokens: Vec<Token>,
    stop: Option<StopReason>,
    /// Its share of the time of all batches so far.
    spent: Duration,
}

impl Reader {
    /// Takes the next turn of each of these chats, which are in different sequences: each reads its text but the last
    /// token and cuts its cache; then all read the last token and generate up to `n_predict` tokens side by side. The
    /// first turn of all of them empties the cache.
    ///
    /// # Errors
    /// If the cache is too small, if a budget cannot be met, if decoding fails, or as [`Given`]. The chats are then over.
    pub fn turns(&mut self, speakers: &mut [Speaker], n_predict: usize) -> Result<Vec<ChatTurn>> {
        if speakers.iter().all(|speaker| speaker.chat.read.is_empty()) {
            self.end_chats();
        }
        let heard: Result<Vec<_>> = speakers.iter_mut().map(|speaker| self.hear(speaker)).collect();
        let mut answers = heard?;
        loop {
            let at_work = speakers.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.stop.is_none());
            let mut batch: Vec<_> = at_work.collect();
            if batch.is_empty() {
                break;
            }
            let start = Instant::now();
            for (speaker, _) in &mut batch {
                let Speaker { chat, rule, .. } = speaker;
                if rule.rolling.is_some_and(|rolling| chat.entries.len() >= rolling.budget) {
                    chat.cut(self, rule)?;
                }
            }
            let slot = |(speaker, answer): &(&mut Speaker, &mut Answering)| {
                let Chat { seq, next_pos, .. } = *speaker.chat;
                Slot { token: answer.next, pos: next_pos as i32, seq, logits: true }
            };
            self.context.decode(&batch.iter().map(slot).collect::<Vec<_>>())?;
            for (row, (speaker, answer)) in batch.iter_mut().enumerate() {
                speaker.chat.has_read(&[answer.next]);
                answer.go_on(speaker, self.context.model(), self.context.logits(row)?, n_predict)?;
            }
            let share = start.elapsed() / batch.len() as u32;
            batch.iter_mut().for_each(|(_, answer)| answer.spent += share);
        }
        let model = self.context.model();
        let turn = |Answering { cut, keep, heads, tokens, stop, spent, .. }| {
            let stop = stop.expect("the loop ends when all have stopped");
            ChatTurn { cut, keep, heads, answer: Answer { text: model.text(&tokens), tokens, stop, decode: spent } }
        };
        Ok(answers.into_iter().map(turn).collect())
    }

    /// Ends all chats: empties the cache and stops the tap.
    pub fn end_chats(&mut self) {
        self.context.look_away();
        self.forget_reading();
    }

    /// Reads the text of a turn but its last token, and cuts the cache.
    fn hear(&mut self, speaker: &mut Speaker) -> Result<Answering> {
        let Speaker { chat, rule, text, .. } = speaker;
        let (&last, new) = text.tokens.split_last().ok_or_else(|| Error::failed("a turn has no text"))?;
        let new = [&std::mem::take(&mut chat.unread)[..], new].concat();
        let start = Instant::now();
        chat.expect(self, rule, chat.entries.len() + new.len())?;
        chat.read(self, &new)?;
        let (prefill, cells_before, start) = (start.elapsed(), self.context.cells(chat.seq), Instant::now());
        let again = chat.cut(self, rule)?;
        let cut = Cut {
            place: Place::Shared,
            seq: chat.seq,
            next_pos: chat.next_pos,
            prefill: prefill + again,
            evict: start.elapsed().saturating_sub(again),
            cells_before,
            cells_after: self.context.cells(chat.seq),
        };
        let (tokens, stop, spent) = (Vec::new(), None, Duration::ZERO);
        Ok(Answering { cut, keep: chat.keep(), heads: chat.heads(rule), next: last, tokens, stop, spent })
    }
}

impl Answering {
    /// Takes the next token of the answer, from the logits after the one before.
    fn go_on(&mut self, speaker: &mut Speaker, model: &Model, logits: &[f32], n_predict: usize) -> Result<()> {
        let drawn = speaker.sampler.next(logits)?;
        let ends = speaker.sampler.stops_at(model, drawn);
        let room = self.tokens.len() < n_predict;
        let next = match speaker.given {
            Some(given) => given.next(model, &self.tokens, (!ends).then_some(drawn))?,
            None => (!ends && room).then_some(drawn),
        };
        self.tokens.extend(next);
        self.stop = match speaker.given {
            Some(given) => (next.is_none() || given.ends_after(model, &self.tokens)).then_some(given.stop),
            None if ends => Some(StopReason::EndOfTurn),
            None if speaker.sampler.stops_loop(&self.tokens) => Some(StopReason::Loop),
            None => (self.tokens.len() == n_predict).then_some(StopReason::Length),
        };
        match (self.stop, next) {
            // The last token was drawn but not read.
            (Some(StopReason::Length | StopReason::Loop), Some(last)) => speaker.chat.unread.push(last),
            (None, Some(next)) => self.next = next,
            _ => {}
        }
        Ok(())
    }
}
