//! Replays: the text that makes a model repeat its prompt, for policies that score it by that (`kvzip`).

use crate::llama::{Model, Prompt, Token, Turn};
use crate::{Error, Result};

/// Number of tokens by which a later part refers to the one before it.
const REFERENCE: usize = 8;

/// What is read behind `tokens`, part by part: the request to repeat them, the end of the user's turn, and the next
/// `chunk` of the tokens themselves. The texts are those of KVzip.
///
/// # Errors
/// If the request cannot be tokenized.
pub fn replays(model: &Model, tokens: &[Token], chunk: usize) -> Result<Vec<Vec<Token>>> {
    let bos = usize::from(model.leading_bos().is_some_and(|bos| tokens.first() == Some(&bos)));
    let repeated = &tokens[bos..];
    let answer = start_of_answer(model)?;
    let mut replays = Vec::new();
    for (index, part) in repeated.chunks(chunk).enumerate() {
        let mut replay = if index == 0 {
            model.tokenize("\n\nRepeat the previous context exactly.")?
        } else {
            model.tokenize("\n\nRepeat the part of the previous context exactly, starting with")?
        };
        let start = index * chunk;
        replay.extend(&repeated[start.saturating_sub(REFERENCE)..start]);
        replay.extend(&answer);
        replay.extend(part);
        replays.push(replay);
    }
    Ok(replays)
}

/// The tokens between a user's words and the answer in the model's chat template; a line break without a template.
fn start_of_answer(model: &Model) -> Result<Vec<Token>> {
    let turn = Turn { role: "user".to_owned(), content: "x".to_owned() };
    let after = Prompt::chat(model, &[turn], &[]).ok().and_then(|prompt| {
        let user = prompt.span(crate::span::Label::User)?;
        Some(prompt.tokens[user.end..].to_vec()).filter(|after| !after.is_empty())
    });
    after.map_or_else(|| model.tokenize("\n").map_err(|error| Error::failed(error.to_string())), Ok)
}
