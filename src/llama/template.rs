//! Chat templates: the model's own Jinja template, rendered as `transformers` renders it.

use std::ops::Range;

use crate::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A chat template, as found in `tokenizer.chat_template` of a GGUF.
#[derive(Debug, Clone)]
pub struct Template(String);

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub text: String,
    /// By turn: the bytes of `text` that are its content, and how many bytes of white space the
    /// template trimmed off the content's start. `None` if the template does not show it verbatim.
    pub contents: Vec<Option<(Range<usize>, usize)>>,
}

impl Template {
    /// Wraps a template's source.
    pub fn new(source: String) -> Self {
        Template(source)
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.0
    }

    /// Renders `turns` up to the point where the model answers.
    pub(super) fn render(&self, turns: &[Turn], bos: &str, eos: &str) -> Result<Rendered> {
        let text = self.render_text(turns, bos, eos)?;
        // A second rendering with placeholders for the contents shows what the template adds around
        // them. Letters only, so that no trimming or escaping touches a placeholder.
        let placeholder = |index: usize| format!("kvllamaContent{}x", "i".repeat(index + 1));
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

    fn render_text(&self, turns: &[Turn], bos: &str, eos: &str) -> Result<String> {
        let mut environment = Environment::new();
        environment.set_syntax(whitespace_as_in_transformers()?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        // Templates that print today's date would make runs differ by day.
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

    /// Gemma 3's template, in the parts that concern text.
    const GEMMA: &str = "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- set first_user_prefix = \
        messages[0]['content'] + '\n\n' -%}\n    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set \
        first_user_prefix = \"\" -%}\n    {%- set loop_messages = messages -%}\n{%- endif -%}\n{%- for message in \
        loop_messages -%}\n    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n        {{ \
        raise_exception(\"Conversation roles must alternate user/assistant/user/assistant/...\") }}\n    {%- endif -%}\n    \
        {%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n        {%- \
        set role = message['role'] -%}\n    {%- endif -%}\n    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if \
        loop.first else \"\") }}\n    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n    \
        {%- endif -%}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    \
        {{'<start_of_turn>model\n'}}\n{%- endif -%}\n";

    fn turns(turns: &[(&str, &str)]) -> Vec<Turn> {
        turns.iter().map(|&(role, content)| Turn { role: role.into(), content: content.into() }).collect()
    }

    #[test]
    fn gemma_folds_the_system_text_into_the_first_user_turn() {
        let turns = turns(&[("system", "user"), ("user", "  user\nhi "), ("assistant", "hi"), ("user", "user")]);
        let rendered = Template::new(GEMMA.into()).render(&turns, "<bos>", "<eos>").unwrap();
        assert_eq!(
            rendered.text,
            "<bos><start_of_turn>user\nuser\n\nuser\nhi<end_of_turn>\n<start_of_turn>model\nhi<end_of_turn>\n\
             <start_of_turn>user\nuser<end_of_turn>\n<start_of_turn>model\n"
        );
        let contents: Vec<_> = rendered
            .contents
            .iter()
            .flatten()
            .map(|(range, lead)| (range.start, &rendered.text[range.clone()], *lead))
            .collect();
        assert_eq!(contents, [(25, "user", 0), (31, "user\nhi", 2), (73, "hi", 0), (109, "user", 0)]);
    }

    #[test]
    fn a_template_says_why_it_refuses() {
        let error = Template::new(GEMMA.into()).render(&turns(&[("user", "a"), ("user", "b")]), "", "").unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
        assert!(Template::new("{% if %}".into()).render(&turns(&[("user", "a")]), "", "").is_err());
    }
}
