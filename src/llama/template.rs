//! Chat templates: the model's own Jinja template or one by name, rendered as `transformers` renders it.

use std::ops::Range;

use crate::alloc::limited;
use crate::{Error, Result, threads};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// A chat template, as found in `tokenizer.chat_template` of a GGUF.
#[derive(Debug, Clone)]
pub struct Template(String);

/// A template with a name. None of them writes BOS: a prompt gets it if the model uses it.
struct Named {
    name: &'static str,
    source: &'static str,
    /// A control token that models of this template have; `None` if the template suits any model.
    mark: Option<&'static str>,
}

const NAMED: [Named; 4] = [
    Named { name: "chatml", source: include_str!("templates/chatml.jinja"), mark: Some("<|im_start|>") },
    Named { name: "gemma", source: include_str!("templates/gemma.jinja"), mark: Some("<start_of_turn>") },
    Named { name: "llama3", source: include_str!("templates/llama3.jinja"), mark: Some("<|start_header_id|>") },
    Named { name: "raw", source: include_str!("templates/raw.jinja"), mark: None },
];

/// Bytes of a template; the longest that are published have a quarter of it.
const MAX_SOURCE: usize = 1 << 16;
/// Steps of the template's interpreter; a conversation of a hundred turns takes a few thousand.
const MAX_STEPS: u64 = 10_000_000;
/// Bytes of memory while rendering.
const MAX_MEMORY: usize = 1 << 28;
const TOO_MUCH_MEMORY: &str =
    "the model's chat template needs more than 256 MiB for one conversation; give another with --chat-template";
/// Bytes of stack while rendering, enough for a step down at each byte of the source; only what is used is allocated.
const STACK: usize = 1 << 26;
/// Bytes that a template may add to a conversation, besides repeating its text: twice the longest published template.
const MAX_ADDED: usize = 1 << 15;

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub text: String,
    /// For each turn, the bytes of `text` that are its content, and how many bytes of white space the template trimmed
    /// from the content's start. `None` if the template does not show the content verbatim.
    pub contents: Vec<Option<(Range<usize>, usize)>>,
}

impl Template {
    /// Wraps a template's source.
    pub fn new(source: String) -> Self {
        Template(source)
    }

    /// The template with this name: `chatml`, `gemma` and `llama3` as those families write turns, or `raw`, the text of
    /// the messages with an empty line between two. `None` if the name is unknown.
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|named| named.name == name).map(|named| Template(named.source.to_owned()))
    }

    /// The names that [`Template::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|named| named.name)
    }

    /// The control token of the template with this name; a vocabulary without it reads the template as plain text.
    pub(super) fn mark(name: &str) -> Option<&'static str> {
        NAMED.iter().find(|named| named.name == name)?.mark
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.0
    }

    /// Renders `turns` up to the place where the model answers.
    pub(crate) fn render(&self, turns: &[Turn], bos: &str, eos: &str) -> Result<Rendered> {
        let text = self.render_text(turns, bos, eos)?;
        // A second rendering, with placeholders for the contents, shows what the template adds around them. A
        // placeholder has only letters, so that no trimming or escaping changes it.
        let letters =
            |index: usize| index.to_string().bytes().map(|digit| char::from(b'a' + digit - b'0')).collect::<String>();
        let placeholder = |index: usize| format!("kvllamaContent{}x", letters(index));
        let marked: Vec<_> = turns
            .iter()
            .enumerate()
            .map(|(index, turn)| Turn { role: turn.role.clone(), content: placeholder(index) })
            .collect();
        let marked = self.render_text(&marked, bos, eos)?;

        let mut contents = vec![None; turns.len()];
        let mut cursor = 0; // in `text`
        let mut rest = marked.as_str();
        for (index, turn) in turns.iter().enumerate() {
            let Some((before, after)) = rest.split_once(&placeholder(index)) else { continue };
            let trimmed = turn.content.trim();
            let expected = cursor + before.len();
            let verbatim = text.get(cursor..expected) == Some(before);
            let found = [turn.content.as_str(), trimmed]
                .into_iter()
                .find(|content| verbatim && text[expected..].starts_with(content))
                .map(|content| (expected, content))
                .or_else(|| text[cursor..].find(trimmed).map(|offset| (cursor + offset, trimmed)));
            let Some((start, content)) = found else { continue };
            let lead = if content.len() == turn.content.len() {
                0
            } else {
                turn.content.len() - turn.content.trim_start().len()
            };
            cursor = start + content.len();
            contents[index] = Some((start..cursor, lead));
            rest = after;
        }
        Ok(Rendered { text, contents })
    }

    /// Renders within limits, because the template may come from a stranger's file: of its own size, steps, stack,
    /// memory and output.
    fn render_text(&self, turns: &[Turn], bos: &str, eos: &str) -> Result<String> {
        if self.0.len() > MAX_SOURCE {
            return Err(Error::input(format!(
                "the model's chat template has {} bytes, and at most {MAX_SOURCE} are read; give another with \
                 --chat-template",
                self.0.len()
            )));
        }
        let render = || limited(MAX_MEMORY, TOO_MUCH_MEMORY, || self.render_unlimited(turns, bos, eos));
        // The parser descends once for each sign of `---1`.
        let text = std::thread::scope(|scope| {
            let renderer = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, render);
            renderer
                .map_err(threads::refused)?
                .join()
                .unwrap_or_else(|_| Err(Error::input("the model's chat template cannot be rendered")))
        })?;
        let given: usize = turns.iter().map(|turn| turn.content.len()).sum();
        if text.len() > MAX_ADDED + 4 * given {
            return Err(Error::input(format!(
                "the model's chat template makes {} bytes of a conversation of {given}; give another with --chat-template",
                text.len()
            )));
        }
        Ok(text)
    }

    fn render_unlimited(&self, turns: &[Turn], bos: &str, eos: &str) -> Result<String> {
        let mut environment = Environment::new();
        environment.set_syntax(whitespace_as_in_transformers()?);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        // Templates that print today's date would make runs differ by day, so the date is fixed.
        environment.add_function("strftime_now", |_format: String| "26 Jul 2024".to_owned());
        let rendered = environment.template_from_str(&self.0).and_then(|template| {
            template.render(context! {
                messages => turns.iter().map(message).collect::<Value>(),
                bos_token => bos,
                eos_token => eos,
                add_generation_prompt => true,
            })
        });
        rendered.map_err(|error| {
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            Error::input(format!("the model's chat template refuses this conversation: {detail}"))
        })
    }
}

fn message(turn: &Turn) -> Value {
    context! { role => turn.role.as_str(), content => turn.content.as_str() }
}

fn whitespace_as_in_transformers() -> Result<SyntaxConfig> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    syntax.map_err(|error| Error::failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(turns: &[(&str, &str)]) -> Vec<Turn> {
        turns.iter().map(|&(role, content)| Turn { role: role.into(), content: content.into() }).collect()
    }

    #[test]
    fn gemma_folds_the_system_text_into_the_first_user_turn() {
        let turns = turns(&[("system", "user"), ("user", "  user\nhi "), ("assistant", "hi"), ("user", "user")]);
        let rendered = Template::named("gemma").unwrap().render(&turns, "<bos>", "<eos>").unwrap();
        assert_eq!(
            rendered.text,
            "<start_of_turn>user\nuser\n\nuser\nhi<end_of_turn>\n<start_of_turn>model\nhi<end_of_turn>\n\
             <start_of_turn>user\nuser<end_of_turn>\n<start_of_turn>model\n"
        );
        let contents: Vec<_> = rendered
            .contents
            .iter()
            .flatten()
            .map(|(range, lead)| (range.start, &rendered.text[range.clone()], *lead))
            .collect();
        assert_eq!(contents, [(20, "user", 0), (26, "user\nhi", 2), (68, "hi", 0), (104, "user", 0)]);
    }

    #[test]
    fn every_named_template_shows_each_turn_where_it_stands() {
        let turns =
            turns(&[("system", "Be kind."), ("user", "  user\nhi {{ x }} "), ("assistant", "hi"), ("user", "hi")]);
        for (name, text, user) in [
            (
                "chatml",
                "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n  user\nhi {{ x }} <|im_end|>\n<|im_start|>\
                 assistant\nhi<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
                "  user\nhi {{ x }} ",
            ),
            (
                "llama3",
                "<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\
                 \n\nuser\nhi {{ x }}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nhi<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
                "user\nhi {{ x }}",
            ),
            ("raw", "Be kind.\n\n  user\nhi {{ x }} \n\nhi\n\nhi", "  user\nhi {{ x }} "),
        ] {
            let rendered = Template::named(name).unwrap().render(&turns, "<bos>", "<eos>").unwrap();
            assert_eq!(rendered.text, text, "{name}");
            let shown: Vec<_> =
                rendered.contents.iter().map(|content| &text[content.clone().expect("it is shown").0]).collect();
            assert_eq!(shown, ["Be kind.", user, "hi", "hi"], "{name}");
        }
    }

    #[test]
    fn a_template_says_why_it_refuses() {
        let error =
            Template::named("gemma").unwrap().render(&turns(&[("user", "a"), ("user", "b")]), "", "").unwrap_err();
        assert!(error.to_string().contains("must alternate"), "{error}");
        assert!(Template::new("{% if %}".into()).render(&turns(&[("user", "a")]), "", "").is_err());
    }

    #[test]
    fn a_template_that_asks_for_too_much_is_an_error() {
        let deep = format!("{{{{ {}1 }}}}", "-".repeat(MAX_SOURCE - 10));
        let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".to_owned();
        for source in [deep, endless, "{{ 'x' * 10000000 }}".to_owned(), "x".repeat(200_000)] {
            let said = Template::new(source.clone()).render(&turns(&[("user", "a")]), "", "");
            assert!(said.is_err() || source.starts_with("{{ -"), "{}", &source[..20]);
        }
    }
}
