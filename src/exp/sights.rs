//! The scores that the conditions of one example need: each is computed once, whatever the number of budgets.

use std::ops::Range;

use super::forget::{quota_of, read_before, scored_parts};
use crate::Result;
use crate::condition::Condition;
use crate::engine::Reader;
use crate::evict::{PolicySpec, Quota, Score, Scores, Subject};
use crate::llama::Prompt;

/// The scores that some conditions need of one prompt, by policy and number of positions read.
#[derive(Default)]
pub struct Sights {
    /// The example's id, for policies that know examples.
    example: String,
    sights: Vec<Sight>,
}

struct Sight {
    asked: Asked,
    scores: Option<Scores>,
}

/// What determines the scores of a prompt.
#[derive(PartialEq)]
struct Asked {
    policy: PolicySpec,
    /// Positions that are read and scored.
    read: usize,
    /// What is asked of a policy that chooses itself: its answer is for one budget.
    quota: Option<Quota>,
    /// Parts that are scored each for itself.
    parts: Vec<Range<usize>>,
}

impl Asked {
    fn of(condition: &Condition, prompt: &Prompt) -> Result<Self> {
        Ok(Asked {
            policy: condition.policy.clone(),
            read: read_before(condition, prompt)?,
            quota: quota_of(condition, prompt)?,
            parts: scored_parts(condition, prompt)?,
        })
    }
}

/// What a policy may know of a prompt besides its tensors, if `read` positions are read before the eviction.
pub(super) fn subject<'a>(example: &'a str, prompt: &'a Prompt, read: usize) -> Subject<'a> {
    Subject {
        example,
        tokens: &prompt.tokens[..read],
        texts: &prompt.pieces[..read],
        spans: &prompt.spans,
        cached: prompt.n_cached(),
        quota: None,
        parts: &[],
    }
}

impl Sights {
    /// No scores yet, of the example with this id.
    pub fn of_example(id: &str) -> Self {
        Sights { example: id.to_owned(), sights: Vec::new() }
    }

    /// Records the scores that a condition needs.
    ///
    /// # Errors
    /// If the prompt lacks the condition's scope, or if the budget cannot be met.
    pub fn need(&mut self, condition: &Condition, prompt: &Prompt) -> Result<()> {
        let asked = Asked::of(condition, prompt)?;
        // Under a rolling budget the prompt is read and scored by the trial itself.
        let scored = condition.score().is_some() && condition.budget.rolling().is_none();
        if scored && self.find(&asked).is_none() {
            self.sights.push(Sight { asked, scores: None });
        }
        Ok(())
    }

    /// Reads the prompt once for each place at which it is cut, the longest part last, and computes the scores.
    ///
    /// # Errors
    /// As [`Reader::scores`].
    pub fn look(&mut self, reader: &mut Reader, prompt: &Prompt) -> Result<()> {
        self.sights.sort_by_key(|sight| sight.asked.read);
        for group in self.sights.chunk_by_mut(|a, b| a.asked.read == b.asked.read) {
            let read = group[0].asked.read;
            let asked: Vec<(&dyn Score, Subject)> = group
                .iter()
                .filter_map(|Sight { asked, .. }| {
                    let plain = subject(&self.example, prompt, read);
                    let subject = Subject { quota: asked.quota.clone(), parts: &asked.parts, ..plain };
                    Some((asked.policy.score()?, subject))
                })
                .collect();
            let seen = reader.scores(&prompt.tokens[..read], prompt.shared, &asked)?;
            group.iter_mut().zip(seen).for_each(|(sight, seen)| sight.scores = Some(seen));
        }
        Ok(())
    }

    /// The scores of a condition.
    ///
    /// # Errors
    /// As [`Sights::need`].
    pub fn of(&self, condition: &Condition, prompt: &Prompt) -> Result<Option<&Scores>> {
        Ok(self.find(&Asked::of(condition, prompt)?).and_then(|sight| sight.scores.as_ref()))
    }

    fn find(&self, asked: &Asked) -> Option<&Sight> {
        self.sights.iter().find(|sight| sight.asked == *asked)
    }
}
