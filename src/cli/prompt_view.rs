//! The text output of `probe`: the prompt with its evicted tokens struck out, survival per span, the answers.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::engine::{Answer, Forgetting};
use crate::evict::KeepSet;
use crate::llama::{Preamble, Prompt};
use crate::span::labels;

const EVICTED: Style = Style::new().strikethrough().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
const HEAD: Style = Style::new().bold();

/// Renders everything as text with ANSI styles; if styles will be stripped, brackets `[-so-]` mark evictions.
pub(super) fn render(
    prompt: &Prompt,
    forgetting: &Forgetting,
    condition: &str,
    full: Option<&Answer>,
    cut: &Answer,
    n_predict: usize,
    preamble: Option<&Preamble>,
) -> String {
    let (width, keep) = (terminal_width(), &forgetting.keep);
    let colour = anstream::stdout().current_choice() != anstream::ColorChoice::Never;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{HEAD}prompt{HEAD:#} under {condition}: {} tokens, {} of {} cached positions evicted ({})",
        prompt.tokens.len(),
        keep.len() - forgetting.n_kept(),
        keep.len(),
        match (&forgetting.heads, colour) {
            (Some(_), _) => "others in each head: hidden, not freed",
            (None, true) => "struck out",
            (None, false) => "in [-brackets-]",
        },
    );
    out.push_str(&marked(prompt, keep, colour));
    out.push_str("\n\n");
    out.push_str(&span_table(prompt, forgetting));
    if let Some(preamble) = preamble {
        let _ = writeln!(out, "template: {}", preamble_view(preamble));
    }
    if n_predict > 0 {
        out.push('\n');
        match full {
            Some(full) => out.push_str(&side_by_side(&full.text, &cut.text, width)),
            None => {
                let _ = writeln!(out, "{HEAD}answer{HEAD:#}\n{}", cut.text);
            }
        }
    }
    out
}

/// Describes a system prompt that the template adds.
pub(super) fn preamble_view(preamble: &Preamble) -> String {
    format!("it adds a system prompt of its own, {} tokens (\"{}\")", preamble.tokens, preamble.text)
}

/// The prompt's text, with marked evicted runs.
fn marked(prompt: &Prompt, keep: &KeepSet, colour: bool) -> String {
    let mut out = String::new();
    let mut position = 0;
    while position < prompt.pieces.len() {
        let kept = keep.contains(position);
        let end = (position..prompt.pieces.len()).find(|&at| keep.contains(at) != kept).unwrap_or(prompt.pieces.len());
        let bytes: Vec<u8> = prompt.pieces[position..end].concat();
        let text = String::from_utf8_lossy(&bytes);
        let _ = match (kept, colour) {
            (true, _) => write!(out, "{text}"),
            (false, true) => write!(out, "{EVICTED}{}{EVICTED:#}", text.replace('\n', "↵\n")),
            (false, false) => write!(out, "[-{}-]", text.replace('\n', "↵\n")),
        };
        position = end;
    }
    out
}

fn span_table(prompt: &Prompt, forgetting: &Forgetting) -> String {
    let mut out = format!("{HEAD}{:<16} {:>7} {:>7} {:>7}  survival{HEAD:#}\n", "span", "tokens", "kept", "evicted");
    for label in labels(&prompt.spans) {
        let spans = prompt.spans.iter().filter(|span| span.label == label);
        let (total, kept) = spans.fold((0, 0.0), |(total, kept), span| {
            (total + span.range().len(), kept + forgetting.kept_within(span.range()))
        });
        let decimals = usize::from(forgetting.heads.is_some()); // a mean over heads
        let name = label.to_string();
        let _ = writeln!(
            out,
            "{name:<16} {total:>7} {kept:>7.decimals$} {:>7.decimals$}  {:>7.0}%",
            total as f64 - kept,
            100.0 * kept / total as f64
        );
    }
    out
}

fn side_by_side(full: &str, cut: &str, width: usize) -> String {
    let column = (width.saturating_sub(3) / 2).max(20);
    let wrap = |text: &str| -> Vec<String> {
        text.lines().flat_map(|line| textwrap::wrap(line, column)).map(|line| line.into_owned()).collect()
    };
    let (left, right) = (wrap(full), wrap(cut));
    let pad = |text: &str| " ".repeat(column.saturating_sub(textwrap::core::display_width(text)));
    let mut out = format!("{HEAD}full cache{HEAD:#}{} | {HEAD}cut cache{HEAD:#}\n", pad("full cache"));
    for row in 0..left.len().max(right.len()) {
        let left = left.get(row).map_or("", String::as_str);
        let right = right.get(row).map_or("", String::as_str);
        let _ = writeln!(out, "{left}{} | {right}", pad(left));
    }
    out
}

fn terminal_width() -> usize {
    textwrap::termwidth().clamp(60, 160)
}
