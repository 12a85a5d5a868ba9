//! Runs the chats of an example: as many side by side as the run answers at once.

use std::collections::HashMap;
use std::sync::Arc;

use super::Talk;
use super::run::{Cache, Run};
use super::trial::Trial;
use crate::engine::Given;
use crate::llama::Prompt;
use crate::{Error, Result};

/// A chat of the group that takes its turns together.
struct Chatting<'t, 'a> {
    turns: &'t [Trial<'a>],
    talk: Talk<'t>,
    /// Its last turn that is not on disk.
    last: usize,
    on_disk: HashMap<u32, Given>,
}

impl<'a> Run<'a> {
    /// Runs the chats of an example, each given by its turns, those that are not `done` from the beginning to their last
    /// pending turn. Turns that are on disk are answered once more, as they were, so that the cache is what it was.
    pub(super) fn chats(
        &mut self,
        cache: &mut Cache<'a>,
        texts: &[Prompt],
        chats: &[&[Trial<'a>]],
        done: impl Fn(&Trial) -> bool,
    ) -> Result<()> {
        self.drain(cache)?;
        // With streams, a sequence cannot be looked at, and has no more cells if there are fewer others.
        let alone = cache.reader.context().has_streams() || self.generation.measure_speed;
        let at_once = if alone { 1 } else { self.generation.parallel as usize };
        for group in chats.chunks(at_once) {
            self.take_turns(cache, texts, group, 0, &done)?;
        }
        Ok(())
    }

    /// Runs chats side by side, of which all turns before `first` are done.
    fn take_turns(
        &mut self,
        cache: &mut Cache<'a>,
        texts: &[Prompt],
        chats: &[&[Trial<'a>]],
        first: usize,
        done: &dyn Fn(&Trial) -> bool,
    ) -> Result<()> {
        let pending = |at: usize, trial: &Trial| at >= first && !done(trial);
        let mut group = Vec::new();
        for turns in chats {
            let Some(last) = (0..turns.len()).rfind(|&at| pending(at, &turns[at])) else { continue };
            let fresh = (0..last).all(|at| pending(at, &turns[at]));
            let on_disk = if fresh { HashMap::new() } else { self.store.answers(&turns[0].key)? };
            let seq = i32::try_from(group.len()).expect("there are at most 255 lanes");
            group.push(Chatting { turns, talk: turns[0].talk(seq), last, on_disk });
        }
        for (at, text) in texts.iter().enumerate() {
            let here = group.iter_mut().filter(|chat| at <= chat.last);
            let speakers = here.map(|Chatting { talk, on_disk, turns, .. }| {
                talk.speaker(text, on_disk.get(&turns[at].key.turn), self.model)
            });
            let turns = speakers
                .collect::<Result<Vec<_>>>()
                .and_then(|mut speakers| cache.reader.turns(&mut speakers, self.generation.n_predict));
            let turns = match turns {
                Ok(turns) => turns,
                Err(error) => {
                    cache.reader.end_chats();
                    return self.go_on_alone(cache, texts, chats, (at, error), done);
                }
            };
            for (chat, turn) in group.iter_mut().filter(|chat| at <= chat.last).zip(turns) {
                let (forgetting, cut, answer) = chat.talk.spoke(turn);
                let trial = &chat.turns[at];
                if pending(at, trial) {
                    let trial = Trial { prompt: Arc::new(chat.talk.said().clone()), key: trial.key.clone(), ..*trial };
                    self.finish(&trial, &forgetting, &cut, answer)?;
                }
            }
        }
        cache.reader.end_chats();
        Ok(())
    }

    /// After an error in turn `at`: runs the chats one by one to find the one that fails, whose other turns then fail.
    fn go_on_alone(
        &mut self,
        cache: &mut Cache<'a>,
        texts: &[Prompt],
        chats: &[&[Trial<'a>]],
        (at, error): (usize, Error),
        done: &dyn Fn(&Trial) -> bool,
    ) -> Result<()> {
        if let [chat] = chats {
            return self.fail_all(chat[at..].iter().filter(|trial| !done(trial)), error);
        }
        if matches!(error, Error::Interrupted) {
            return Err(error);
        }
        tracing::info!("a batch of chats failed ({error}); they go on one by one");
        chats.iter().try_for_each(|chat| self.take_turns(cache, texts, &[chat], at, done))
    }
}
