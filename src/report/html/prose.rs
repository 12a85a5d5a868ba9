//! Sentences as HTML, with parts that stay on one line.

use crate::report::figures::escape;

/// Escapes a sentence; code becomes `code` elements, and intervals and options stay on one line.
pub fn prose(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(start) = rest.find(['`', '[', '-']) {
        html.push_str(&escape(&rest[..start]));
        rest = &rest[start..];
        let (class, length) = unbroken(rest);
        let piece = escape(&rest[..length]);
        match class {
            Some(Unbroken::Code) => html.push_str(&format!("<code>{}</code>", piece.trim_matches('`'))),
            Some(Unbroken::Interval) => html.push_str(&format!("<span class=\"whole\">{piece}</span>")),
            None => html.push_str(&piece),
        }
        rest = &rest[length..];
    }
    html.push_str(&escape(rest));
    // `n = 120` and `p(Holm) < 0.001` stay on one line.
    [(" = ", "\u{a0}=\u{a0}"), (" &lt; ", "\u{a0}&lt;\u{a0}")]
        .iter()
        .fold(html, |html, (from, to)| html.replace(from, to))
}

/// Escapes a name and allows line breaks after its colons and underscores.
pub fn breakable(name: &str) -> String {
    escape(name).replace('_', "_<wbr>").replace(':', ":<wbr>")
}

enum Unbroken {
    Code,
    Interval,
}

/// The unbreakable part at the beginning of a text, and its length in bytes.
fn unbroken(text: &str) -> (Option<Unbroken>, usize) {
    if let Some(end) = text.strip_prefix('`').and_then(|inner| inner.find('`')) {
        return (Some(Unbroken::Code), end + 2);
    }
    if let Some(option) = text.strip_prefix("--") {
        let length = option.find(|letter: char| !letter.is_ascii_lowercase() && letter != '-').unwrap_or(option.len());
        return if length > 0 { (Some(Unbroken::Code), length + 2) } else { (None, 2) };
    }
    let numeric = |inner: &str| !inner.is_empty() && inner.chars().all(|letter| "0123456789.,− ".contains(letter));
    match text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inner, _)) if numeric(inner) => (Some(Unbroken::Interval), inner.len() + 2),
        _ => (None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::{breakable, prose};

    #[test]
    fn sentences_are_escaped_and_kept_whole_where_they_must_be() {
        assert_eq!(
            prose("a<b costs −0.2 [−0.3, 0.1]; raise --n-predict. Run `kvllama judge` -- or [not]"),
            "a&lt;b costs −0.2 <span class=\"whole\">[−0.3, 0.1]</span>; raise <code>--n-predict</code>. Run \
             <code>kvllama judge</code> -- or [not]"
        );
        assert_eq!(prose("(p(Holm) < 0.001, n = 9)"), "(p(Holm)\u{a0}&lt;\u{a0}0.001, n\u{a0}=\u{a0}9)");
        assert_eq!(breakable("a_b:<c>"), "a_<wbr>b:<wbr>&lt;c&gt;");
        assert_eq!(prose("`a [1] <script>"), "`a <span class=\"whole\">[1]</span> &lt;script&gt;");
    }
}
