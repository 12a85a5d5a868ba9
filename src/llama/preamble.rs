//! The text that a chat template adds by itself: many templates add a system prompt if a conversation has none.

use serde::{Deserialize, Serialize};

use super::{Model, Turn};
use crate::span::{Label, Span};

/// A system prompt that the chat template adds, such as SmolLM2's "You are a helpful AI assistant named SmolLM, ...".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preamble {
    /// Its text, without the template's control tokens.
    pub text: String,
    /// Its length in tokens.
    pub tokens: usize,
}

/// Fewest words of a preamble: shorter texts are names of roles.
const FEWEST_WORDS: usize = 3;

impl Preamble {
    /// The text that the model's template puts before the first user turn of a conversation without a system turn.
    pub(super) fn of(model: &Model) -> Option<Self> {
        const CONTENT: &str = "kvllamaContent";
        let (bos, eos) = model.special_texts();
        let turn = Turn { role: "user".to_owned(), content: CONTENT.to_owned() };
        let rendered = model.template().ok()?.render(&[turn], &bos, &eos).ok()?;
        let before = rendered.text.split_once(CONTENT)?.0;
        // The texts between control tokens are names of roles and the template's own words.
        let mut stretches = vec![Vec::new()];
        for token in model.tokenize(before).ok()? {
            match model.piece(token) {
                control if control.is_empty() => stretches.push(Vec::new()),
                piece => stretches.last_mut().expect("never empty").extend(piece),
            }
        }
        let texts = stretches.iter().map(|bytes| without_role(&String::from_utf8_lossy(bytes)).to_owned());
        let words = |text: &String| text.split_whitespace().count();
        let text = texts.filter(|text| words(text) >= FEWEST_WORDS).max_by_key(words)?;
        Some(Preamble { tokens: model.tokenize(&text).ok()?.len(), text })
    }

    /// Whether the template added this preamble to a prompt; if the conversation has a system turn, it usually does
    /// not. `pieces` are the texts of the prompt's tokens, `spans` its labelled ranges over them.
    pub fn is_in(&self, pieces: &[impl AsRef<[u8]>], spans: &[Span]) -> bool {
        spans.iter().filter(|span| span.label == Label::Template).any(|span| {
            let bytes: Vec<u8> = pieces[span.range()].iter().flat_map(|piece| piece.as_ref()).copied().collect();
            String::from_utf8_lossy(&bytes).contains(&self.text)
        })
    }
}

/// A text of the template without the name of a role in its first line.
fn without_role(stretch: &str) -> &str {
    let stretch = stretch.trim();
    match stretch.split_once('\n') {
        Some((role, rest)) if !role.trim().contains(char::is_whitespace) => rest.trim(),
        _ => stretch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::{LoadSettings, Prompt};
    use crate::models::{EMBEDDED, EMBEDDED_GGUF};

    #[test]
    fn what_a_template_says_is_found_and_marks_and_roles_are_not() {
        let load = |template: Option<&str>| {
            let template = template.map(str::to_owned);
            Model::from_bytes(EMBEDDED, EMBEDDED_GGUF, &LoadSettings::default(), template).unwrap()
        };
        assert_eq!(load(None).facts().preamble, None);

        let template = "{% if messages[0]['role'] != 'system' %}<start_of_turn>system\nYou are a helpful owl.<end_of_turn>\n\
            {% endif %}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}";
        let model = load(Some(template));
        let preamble = model.facts().preamble.unwrap();
        assert_eq!(preamble.text, "You are a helpful owl.");
        assert_eq!(preamble.tokens, model.tokenize("You are a helpful owl.").unwrap().len());
        let turn = |role: &str, content: &str| Turn { role: role.into(), content: content.into() };
        // Words of the user do not count as the template's.
        for (turns, expected) in [
            (vec![turn("user", "hi")], true),
            (vec![turn("system", "Be kind."), turn("user", "You are a helpful owl.")], false),
        ] {
            let prompt = Prompt::chat(&model, &turns, &[]).unwrap();
            assert_eq!(preamble.is_in(&prompt.pieces, &prompt.spans), expected);
        }
    }
}
