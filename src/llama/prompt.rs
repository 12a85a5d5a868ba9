//! Prompts: tokens with labelled spans, such as `system` or `instruction:0`.

use std::ops::Range;

use super::template::{Rendered, Turn};
use super::{Model, Token};
use crate::span::{Label, Span};
use crate::{Error, Result};

/// A piece of a turn's content that gets a label.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The label of the span.
    pub label: Label,
    /// Index of the turn.
    pub turn: usize,
    /// Bytes of the turn's content.
    pub range: Range<usize>,
}

/// A prompt that is ready to be read, or the text that a later turn adds to one.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// All tokens, with BOS first if the model uses it. At least two; a later turn may have one.
    pub tokens: Vec<Token>,
    /// Labelled ranges over `tokens`.
    pub spans: Vec<Span>,
    /// The text of each token as bytes, with a control token as its text.
    pub pieces: Vec<Vec<u8>>,
    /// How many of the first tokens the prompts of other questions share; 0 if there are no other questions.
    pub shared: usize,
}

impl Prompt {
    /// Renders a conversation with the model's chat template.
    ///
    /// # Errors
    /// If the model has no template or the template refuses the conversation.
    pub fn chat(model: &Model, turns: &[Turn], marks: &[Mark]) -> Result<Self> {
        Self::rendered(model, turns, marks, None)
    }

    /// What a chat continues with after the turn `answer`, which the model gave itself: the end of that turn, the turns
    /// after it, and the beginning of the next answer. `turns` is the whole conversation; the content of the turn
    /// `answer` does not matter. The cache then holds the answer as it was generated, and only new text is tokenized.
    ///
    /// # Errors
    /// As [`Prompt::chat`], or if the template does not show answers verbatim.
    pub fn after(model: &Model, turns: &[Turn], marks: &[Mark], answer: usize) -> Result<Self> {
        Self::rendered(model, turns, marks, Some(answer))
    }

    fn rendered(model: &Model, turns: &[Turn], marks: &[Mark], answer: Option<usize>) -> Result<Self> {
        let (bos, eos) = model.special_texts();
        let Rendered { text, contents } = model.template()?.render(turns, &bos, &eos)?;
        let start = match answer.map(|answer| &contents[answer]) {
            None => 0,
            Some(Some((range, _))) => range.end,
            Some(None) => {
                return Err(Error::input(
                    "the chat template does not show the model's earlier answers as they are, so a chat cannot go on; \
                     give another with --chat-template",
                ));
            }
        };
        let role_label = |turn: &Turn| match turn.role.as_str() {
            "system" => Label::System,
            "assistant" => Label::Assistant,
            _ => Label::User,
        };
        let mut labelled: Vec<(Label, Range<usize>)> = Vec::new();
        for (turn, content) in turns.iter().zip(&contents) {
            match content {
                Some((range, _)) => labelled.push((role_label(turn), range.clone())),
                None => tracing::warn!("the chat template does not show a {} turn verbatim: it has no span", turn.role),
            }
        }
        for mark in marks {
            let Some((content, lead)) = &contents[mark.turn] else { continue };
            let shift = |byte: usize| (content.start + byte.saturating_sub(*lead)).min(content.end);
            labelled.push((mark.label, shift(mark.range.start)..shift(mark.range.end)));
        }
        if answer.is_none() {
            return Self::build(model, &text, Some(&bos), labelled);
        }
        labelled.retain(|(_, range)| range.start >= start);
        labelled.iter_mut().for_each(|(_, range)| *range = range.start - start..range.end - start);
        let text = &text[start..];
        if text.is_empty() {
            return Err(Error::input(
                "the chat template adds nothing between two answers; give another with --chat-template",
            ));
        }
        Self::build(model, text, None, labelled)
    }

    /// Uses the tokens as they are.
    pub fn from_tokens(model: &Model, tokens: Vec<Token>) -> Result<Self> {
        model.check_tokens(&tokens)?;
        let pieces: Vec<_> = tokens.iter().map(|&token| model.piece_with_control(token)).collect();
        let mut spans = Vec::new();
        let bos = usize::from(model.leading_bos().is_some_and(|bos| tokens.first() == Some(&bos)));
        if bos == 1 {
            spans.push(Span { label: Label::Bos, start: 0, end: 1 });
        }
        spans.push(Span { label: Label::User, start: bos, end: tokens.len() });
        Self { tokens, spans, pieces, shared: 0 }.checked()
    }

    /// Tokenizes `text` and turns its labelled byte ranges into token ranges; what no turn covers is labelled
    /// `template`. With `bos`, the text of that token, the prompt begins here.
    fn build(model: &Model, text: &str, bos: Option<&str>, mut labelled: Vec<(Label, Range<usize>)>) -> Result<Self> {
        // BOS exactly once: either the template writes it or it is added here.
        let written = bos.filter(|bos| !bos.is_empty() && text.starts_with(bos));
        let skip = written.map_or(0, str::len);
        let mut tokens = Vec::new();
        if let (Some(_), Some(token)) = (bos, model.leading_bos()) {
            tokens.push(token);
        } else if let Some(bos) = written {
            tokens.extend(model.tokenize(bos)?);
        }
        let n_bos = tokens.len();
        tokens.extend(model.tokenize(&text[skip..])?);

        let pieces: Vec<_> = tokens.iter().map(|&token| model.piece_with_control(token)).collect();
        let offsets = align(text.as_bytes(), skip, &pieces[n_bos..]);

        let mut covered: Vec<_> = labelled
            .iter()
            .filter(|(label, _)| matches!(label, Label::System | Label::User | Label::Assistant))
            .map(|(_, range)| range.clone())
            .collect();
        covered.sort_by_key(|range| range.start);
        let mut start = skip;
        for range in covered.into_iter().chain(std::iter::once(text.len()..text.len())) {
            if start < range.start {
                labelled.push((Label::Template, start..range.start));
            }
            start = range.end;
        }
        let mut spans: Vec<_> = labelled
            .into_iter()
            .filter_map(|(label, range)| {
                let tokens = overlapping(&offsets, range);
                (!tokens.is_empty()).then(|| Span { label, start: tokens.start + n_bos, end: tokens.end + n_bos })
            })
            .collect();
        if n_bos > 0 {
            spans.push(Span { label: Label::Bos, start: 0, end: n_bos });
        }
        spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end), span.label));
        let built = Self { tokens, spans, pieces, shared: 0 };
        if bos.is_none() { Ok(built) } else { built.checked() }
    }

    /// Appends what a later turn adds.
    pub fn extend(&mut self, more: &Prompt) {
        let start = self.tokens.len();
        let moved = |span: &Span| Span { label: span.label, start: start + span.start, end: start + span.end };
        self.spans.extend(more.spans.iter().map(moved));
        self.tokens.extend(&more.tokens);
        self.pieces.extend(more.pieces.iter().cloned());
    }

    /// Appends an answer that the model gave itself.
    pub fn extend_with_answer(&mut self, model: &Model, answer: &[Token]) {
        let start = self.tokens.len();
        self.tokens.extend(answer);
        self.pieces.extend(answer.iter().map(|&token| model.piece_with_control(token)));
        self.spans.push(Span { label: Label::Assistant, start, end: self.tokens.len() });
    }

    fn checked(self) -> Result<Self> {
        if self.tokens.len() < 2 {
            return Err(Error::input(format!(
                "the prompt has {} token(s); at least two are needed: one to be cached and one to be held back",
                self.tokens.len()
            )));
        }
        Ok(self)
    }

    /// Number of positions in the cache when the eviction happens: all but the last.
    pub fn n_cached(&self) -> usize {
        self.tokens.len() - 1
    }

    /// How many tokens conditions read together if `before` positions are read before the eviction: all that are cached,
    /// or, if the eviction concerns only what several questions share, that.
    pub fn read_together(&self, before: usize) -> usize {
        if before <= self.shared { self.shared } else { self.n_cached() }
    }

    /// The first span with that label.
    pub fn span(&self, label: Label) -> Option<&Span> {
        self.spans.iter().find(|span| span.label == label)
    }
}

/// The byte range of `text` for each piece, from byte `start` on. Tokenizers may add a leading space or normalize; a
/// piece that is not found gets the empty range at the current place.
fn align(text: &[u8], start: usize, pieces: &[Vec<u8>]) -> Vec<Range<usize>> {
    let mut cursor = start;
    pieces
        .iter()
        .map(|piece| {
            let from = cursor;
            let rest = &text[cursor..];
            if rest.starts_with(piece) {
                cursor += piece.len();
            } else if let Some(unspaced) = piece.strip_prefix(b" ").filter(|unspaced| rest.starts_with(unspaced)) {
                cursor += unspaced.len();
            }
            from..cursor
        })
        .collect()
}

/// The tokens whose bytes overlap `range`.
fn overlapping(offsets: &[Range<usize>], range: Range<usize>) -> Range<usize> {
    let start = offsets.partition_point(|token| token.end <= range.start);
    let end = offsets.partition_point(|token| token.start < range.end);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::{LoadSettings, Template};
    use crate::models::{EMBEDDED, EMBEDDED_GGUF};

    #[test]
    fn pieces_align_with_the_text_they_stand_for() {
        let pieces = [" Hello", ",", " wor", "ld", "?"].map(|piece| piece.as_bytes().to_vec());
        assert_eq!(align(b"Hello, world", 0, &pieces), [0..5, 5..6, 6..10, 10..12, 12..12]);
    }

    #[test]
    fn spans_hold_their_words_under_every_named_template() {
        let (system, user, instruction) =
            ("Be kind.", "Tell me about the owl. No commas are allowed.", "No commas are allowed.");
        let turns = [("system", system), ("user", user)]
            .map(|(role, content)| Turn { role: role.to_owned(), content: content.to_owned() });
        let start = user.find(instruction).unwrap();
        let mark = Mark { label: Label::Instruction(0), turn: 1, range: start..start + instruction.len() };
        for name in Template::names() {
            let template = Template::named(name).map(|template| template.source().to_owned());
            let model = Model::from_bytes(EMBEDDED, EMBEDDED_GGUF, &LoadSettings::default(), template).unwrap();
            let prompt = Prompt::chat(&model, &turns, std::slice::from_ref(&mark)).unwrap();
            let text = |span: &Span| String::from_utf8(prompt.pieces[span.range()].concat()).unwrap();
            for (label, words) in [(Label::System, system), (Label::User, user), (Label::Instruction(0), instruction)] {
                assert_eq!(text(prompt.span(label).expect("a span")).trim(), words, "{name}, {label}");
            }
            let bos = Some(&prompt.tokens[0]);
            assert_eq!(prompt.tokens.iter().filter(|token| Some(*token) == bos).count(), 1, "{name}: BOS once");
            // What no turn covers, except BOS, is labelled `template`.
            let rest: String = prompt.spans.iter().filter(|span| span.label == Label::Template).map(text).collect();
            let marks = Template::named(name).unwrap().render(&turns, "", "").unwrap().text;
            assert_eq!(rest.trim(), marks.replace(system, "").replace(user, "").trim(), "{name}");
        }
    }

    #[test]
    fn a_token_that_straddles_a_boundary_belongs_to_both_sides() {
        let offsets = [0..2, 2..5, 5..5, 5..9];
        assert_eq!(overlapping(&offsets, 0..3), 0..2);
        assert_eq!(overlapping(&offsets, 3..9), 1..4);
        assert_eq!(overlapping(&offsets, 2..2), 1..1);
    }
}
