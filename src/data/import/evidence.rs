//! Finds the sentence of a context that contains an answer.

use crate::score::text::punkt;

/// The sentences of a context, line by line.
pub(super) struct Evidence<'a>(Vec<&'a str>);

impl<'a> Evidence<'a> {
    pub fn of(context: &'a str) -> Self {
        Evidence(context.lines().flat_map(punkt::sentences).filter(|sentence| !sentence.trim().is_empty()).collect())
    }

    /// The only sentence with the answer, in any case. `None` if there is none or several, because then the right one
    /// is unknown.
    pub fn only(&self, answer: &str) -> Option<&'a str> {
        let mut with = self.with(answer);
        with.next().filter(|_| with.next().is_none())
    }

    /// The first sentence with the answer.
    pub fn first(&self, answer: &str) -> Option<&'a str> {
        self.with(answer).next()
    }

    fn with(&self, answer: &str) -> impl Iterator<Item = &'a str> {
        let answer = answer.to_lowercase();
        self.0.iter().copied().filter(move |sentence| sentence.to_lowercase().contains(&answer))
    }
}
