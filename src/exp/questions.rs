//! The prompts of an example with several questions: one each, with what they share at their beginning.

use super::read_before;
use crate::condition::{Condition, Memory};
use crate::data::Example;
use crate::llama::{Model, Prompt};
use crate::span::{Label, Span};
use crate::{Error, Result};

/// The prompt of each question. Their first [`Prompt::shared`] tokens are the same, and end before the question.
///
/// # Errors
/// As [`Prompt::chat`].
pub(super) fn prompts(model: &Model, example: &Example) -> Result<Vec<Prompt>> {
    let asked = example.each_asked();
    let mut prompts: Vec<Prompt> =
        asked.iter().map(|example| super::prompt_of(model, example)).collect::<Result<_>>()?;
    let same = |a: &Prompt, b: &Prompt| std::iter::zip(&a.tokens, &b.tokens).take_while(|(a, b)| a == b).count();
    let until = |prompt: &Prompt| prompt.span(Label::Question).map_or(0, |span| span.start);
    let shared = prompts.iter().map(|prompt| same(prompt, &prompts[0]).min(until(prompt))).min().unwrap_or(0);
    prompts.iter_mut().for_each(|prompt| prompt.shared = shared);
    Ok(prompts)
}

/// Whether a condition cuts only what all questions share, so that they are answered from the same cut cache.
pub(super) fn cuts_once(condition: &Condition, prompt: &Prompt) -> bool {
    let before = read_before(condition, prompt).is_ok_and(|read| read <= prompt.shared);
    prompt.shared > 0 && before && condition.memory == Memory::Kv && condition.budget.rolling().is_none()
}

/// Checks whether a condition can be met on questions.
///
/// # Errors
/// Names what questions exclude.
pub(super) fn check(condition: &Condition) -> Result<()> {
    match condition.target() {
        None => Ok(()),
        Some(_) => Err(Error::input(format!(
            "`{condition}` forgets one instruction of a prompt, and questions have instructions of their own; write each \
             question as an example"
        ))),
    }
}

/// What all questions share, then what each adds, as one sequence of pieces; also where each addition begins.
pub(super) fn laid_out(prompts: &[Prompt]) -> (Prompt, Vec<usize>) {
    let Some(first) = prompts.first() else { return (Prompt::default(), Vec::new()) };
    let mut whole = part(first, 0, first.shared);
    let mut starts = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        starts.push(whole.tokens.len());
        whole.extend(&part(prompt, prompt.shared, prompt.tokens.len()));
    }
    (whole, starts)
}

/// A range of a prompt; spans are cut at its ends.
fn part(prompt: &Prompt, start: usize, end: usize) -> Prompt {
    let inside = |span: &Span| {
        let (from, to) = (span.start.max(start), span.end.min(end));
        (from < to).then(|| Span { label: span.label, start: from - start, end: to - start })
    };
    Prompt {
        tokens: prompt.tokens[start..end].to_vec(),
        spans: prompt.spans.iter().filter_map(inside).collect(),
        pieces: prompt.pieces[start..end].to_vec(),
        shared: 0,
    }
}
