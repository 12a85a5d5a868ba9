//! The report as a screenful of text, with ANSI styles that are stripped where they cannot be shown.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use textwrap::core::display_width;

use super::analysis::{self, Analysis, Comparison, CurveComparison, Question};
use super::words::{self, count, estimate};
use crate::stats::Estimate;

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const WARN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));

/// Largest number of comparisons of one kind on the screen; the page and `stats.json` have all.
const SHOWN: usize = 10;

/// A share of fewer instructions than these says little.
const FEW_INSTRUCTIONS: usize = 10;

/// Renders everything for a terminal of this width.
pub fn render(analysis: &Analysis, width: usize) -> String {
    let width = width.clamp(60, 120);
    let mut out = String::new();
    for run in &analysis.runs {
        let facts = [run.model.as_str(), &run.quantization, &run.data];
        let facts: Vec<&str> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
        let _ = writeln!(
            out,
            "{HEAD}{}{HEAD:#}  {DIM}{}; {}{DIM:#}",
            run.name,
            facts.join(", "),
            count(run.finished, "trial")
        );
    }
    out.push('\n');
    paragraph(&mut out, &analysis.summary.join(" "), width, "");
    scores(&mut out, analysis, width);
    earned(&mut out, analysis, width);
    predictions(&mut out, analysis, width);
    if let Some(noise) = analysis.noise_sentence() {
        out.push('\n');
        paragraph(&mut out, &format!("{DIM}{noise}{DIM:#}"), width, "");
    }
    doses(&mut out, analysis, width);
    comparisons(&mut out, analysis, width);
    turns(&mut out, analysis, width);
    leakage(&mut out, analysis, width);
    speeds(&mut out, analysis, width);
    forgotten(&mut out, analysis);
    survival(&mut out, analysis, width);
    if !analysis.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &analysis.warnings {
        paragraph(&mut out, &format!("{WARN}warning:{WARN:#} {warning}"), width, "  ");
    }
    out
}

fn paragraph(out: &mut String, text: &str, width: usize, indent: &str) {
    let options = textwrap::Options::new(width).subsequent_indent(indent);
    for line in textwrap::wrap(text, options) {
        let _ = writeln!(out, "{line}");
    }
}

fn scores(out: &mut String, analysis: &Analysis, width: usize) {
    let names: Vec<&str> = analysis.conditions.iter().map(|condition| condition.words.as_str()).collect();
    let name_width = name_column(&names, 9, width / 2);
    let plot = width.saturating_sub(name_width + 24 + 8).clamp(16, 60);
    let level = words::percent(analysis.level);
    let _ = writeln!(
        out,
        "\n{HEAD}{}  {}  0{}1   n{HEAD:#}",
        pad("score", name_width),
        pad(&format!("mean [{level} interval]"), 19),
        " ".repeat(plot - 2)
    );
    for condition in &analysis.conditions {
        let (numbers, drawn, n) = match &condition.score {
            Some(score) => (estimate(score), bar(score, plot), score.n.to_string()),
            None => ("no scores".to_owned(), " ".repeat(plot), String::new()),
        };
        let _ = writeln!(out, "{}  {}  {drawn}  {n:>2}", name_cell(&condition.words, name_width), pad(&numbers, 19));
    }
}

/// The mark of everything that is not the primary comparison, if there is one.
fn exploratory(analysis: &Analysis) -> &'static str {
    if analysis.primaries.is_empty() { "" } else { " (exploratory)" }
}

/// The comparisons of curves; the summary shows the slope of each curve.
fn doses(out: &mut String, analysis: &Analysis, width: usize) {
    if analysis.curve_comparisons.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{HEAD}curve against curve{}{HEAD:#}", exploratory(analysis));
    let mut shown: Vec<_> = analysis.curve_comparisons.iter().collect();
    let left_out = shown.len().saturating_sub(SHOWN);
    // Certain ones first, then larger ones; the others are on the page.
    shown.sort_by(|a, b| {
        let key = |one: &CurveComparison| (one.is_significant(), one.decides().difference.point.abs());
        let ((certain_a, size_a), (certain_b, size_b)) = (key(a), key(b));
        certain_b.cmp(&certain_a).then(size_b.total_cmp(&size_a))
    });
    shown.truncate(SHOWN);
    for one in shown {
        let style = if one.is_significant() { Style::new() } else { DIM };
        paragraph(out, &format!("{style}{}{style:#}", one.sentence), width, "    ");
    }
    if left_out > 0 {
        let _ = writeln!(out, "{DIM}and {left_out} smaller or less certain ones: see report.html or stats.json{DIM:#}");
    }
}

/// The earned scores.
fn earned(out: &mut String, analysis: &Analysis, width: usize) {
    let conditions: Vec<_> =
        analysis.conditions.iter().filter_map(|condition| Some((&condition.words, condition.earned?))).collect();
    let Some(rests_on) = analysis.chance_sentence().filter(|_| !conditions.is_empty()) else { return };
    let name_width = name_column(conditions.iter().map(|(name, _)| name), 12, width / 2);
    let _ = writeln!(
        out,
        "\n{HEAD}{}  passed  chance  {}   n{HEAD:#}",
        pad("earned score", name_width),
        pad(&format!("earned [{} interval]", words::percent(analysis.level)), 21)
    );
    for (name, scored) in conditions {
        let _ = writeln!(
            out,
            "{}  {:>6}  {:>6}  {}  {:>2}",
            name_cell(name, name_width),
            words::number(scored.passed.point),
            words::number(scored.chance.point),
            pad(&estimate(&scored.earned), 21),
            scored.earned.n
        );
    }
    paragraph(out, &format!("{DIM}{rests_on}{DIM:#}"), width, "");
}

/// How far predictions moved, if it was measured.
fn predictions(out: &mut String, analysis: &Analysis, width: usize) {
    let measured: Vec<_> =
        analysis.conditions.iter().filter(|one| one.fidelity.kl.is_some() || one.fidelity.flips.is_some()).collect();
    if measured.is_empty() {
        return;
    }
    let name_width = name_column(measured.iter().map(|one| &one.words), 11, width / 2);
    let level = words::percent(analysis.level);
    let _ = writeln!(
        out,
        "\n{HEAD}{}  {}  × floor  flips   NLL{HEAD:#}",
        pad("predictions", name_width),
        pad(&format!("KL [{level} interval]"), 26)
    );
    let cell =
        |value: Option<f64>, places: usize| value.map_or("–".to_owned(), |value| words::decimals(value, places));
    for one in measured {
        let moved = &one.fidelity;
        let flips = moved.flips.map_or("–".to_owned(), |flips| words::percent(flips.point));
        let _ = writeln!(
            out,
            "{}  {}  {:>7}  {flips:>5}  {:>5}",
            name_cell(&one.words, name_width),
            pad(&moved.kl.as_ref().map_or("–".to_owned(), words::wide_estimate), 26),
            cell(moved.times_floor.map(|times| times.point), 1),
            cell(moved.nll_difference.map(|nll| nll.point), 2)
        );
    }
    let caption = "KL divergence from the full cache (nats per token, geometric mean), as a multiple of the full cache's own; share of \
                   tokens whose most likely successor changed; change of the answer's negative log-likelihood";
    paragraph(out, &format!("{DIM}{caption}{DIM:#}"), width, "");
}

/// What each condition gains in speed, where it was measured.
fn speeds(out: &mut String, analysis: &Analysis, width: usize) {
    let measured: Vec<_> =
        analysis.conditions.iter().filter_map(|condition| Some((condition, condition.speed?))).collect();
    if measured.is_empty() {
        return;
    }
    let name_width = name_column(measured.iter().map(|(condition, _)| &condition.words), 9, width / 2);
    let _ = writeln!(
        out,
        "\n{HEAD}{}  tokens/s  {}  first token  KV kept{HEAD:#}",
        pad("speed", name_width),
        pad("times full cache", 19)
    );
    for (condition, speed) in measured {
        let cost = &condition.cost;
        let _ = writeln!(
            out,
            "{}  {:>8}  {}  {:>9} s  {:>7}",
            name_cell(&condition.words, name_width),
            words::decimals(speed.tokens_per_s.point, 1),
            pad(&speed.times_full.as_ref().map_or_else(String::new, estimate), 19),
            words::decimals(speed.first_token_ms.point / 1e3, 2),
            words::percent(cost.kv_bytes_kept / cost.kv_bytes_full)
        );
    }
}

/// `     ├───●──┤    ` on an axis from 0 to 1.
fn bar(score: &Estimate, width: usize) -> String {
    let column = |value: f64| (value.clamp(0.0, 1.0) * (width - 1) as f64).round() as usize;
    let (low, point, high) = (column(score.low), column(score.point), column(score.high));
    (0..width)
        .map(|at| match at {
            _ if at == point => '●',
            _ if at == low => '├',
            _ if at == high => '┤',
            _ if low < at && at < high => '─',
            _ => '·',
        })
        .collect()
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(display_width(text))))
}

/// The width of a first column of names, within bounds.
fn name_column(names: impl IntoIterator<Item = impl AsRef<str>>, least: usize, most: usize) -> usize {
    names.into_iter().map(|name| display_width(name.as_ref())).max().unwrap_or(0).clamp(least, most)
}

/// A name in the first column; if it is too long, it gets a line of its own.
fn name_cell(name: &str, width: usize) -> String {
    if display_width(name) > width { format!("{name}\n{}", " ".repeat(width)) } else { pad(name, width) }
}

fn comparisons(out: &mut String, analysis: &Analysis, width: usize) {
    let mut questions: Vec<Question> = analysis.comparisons.iter().map(|comparison| comparison.question).collect();
    questions.dedup();
    for question in questions {
        let mut compared: Vec<&Comparison> =
            analysis.comparisons.iter().filter(|comparison| comparison.question == question).collect();
        let left_out = compared.len().saturating_sub(SHOWN);
        if left_out > 0 {
            // The least certain comparisons are left out; the others keep their order.
            let mut ranked = compared.clone();
            ranked.sort_by(|a, b| a.p_permutation.total_cmp(&b.p_permutation));
            let last = ranked[SHOWN - 1].p_permutation;
            let mut room = SHOWN;
            compared.retain(|comparison| {
                let keep = comparison.p_permutation <= last && room > 0;
                room -= usize::from(keep);
                keep
            });
        }
        table_of_comparisons(out, analysis, &compared, width);
        if left_out > 0 {
            let _ = writeln!(out, "{DIM}and {left_out} less certain ones: see report.html or stats.json{DIM:#}");
        }
    }
}

/// One line per comparison: the difference that decides, its interval and its corrected p.
fn table_of_comparisons(out: &mut String, analysis: &Analysis, compared: &[&Comparison], width: usize) {
    let Some(first) = compared.first() else { return };
    let earned = compared.iter().any(|comparison| comparison.earned.is_some());
    let breakdown = compared.iter().any(|comparison| comparison.breakdown.is_some());
    let named = |comparison: &Comparison| {
        let (a, b) = (&analysis.conditions[comparison.a], &analysis.conditions[comparison.b]);
        match comparison.question {
            Question::Baseline => b.words.clone(),
            // Both have the same budget, which is named once.
            Question::Axis(_) => format!("{} against {}", b.series, a.words),
            Question::Bytes | Question::Run => format!("{} against {}", b.words, a.words),
        }
    };
    let names: Vec<String> = compared.iter().map(|comparison| named(comparison)).collect();
    let longest = names.iter().map(|name| display_width(name)).max().unwrap_or(0);
    let title = format!("{}{}", first.question.title(), exploratory(analysis));
    let name_width = if 2 * display_width(&title) > width { longest } else { longest.max(display_width(&title)) };
    let name_width = name_width.min(width / 2);
    let title = name_cell(&title, name_width);
    let _ = writeln!(
        out,
        "\n{HEAD}{}  {}  p(Holm)  {}  n{HEAD:#}",
        title,
        pad(&format!("{} [{}]", if earned { "earned score" } else { "score" }, words::percent(analysis.level)), 21),
        if breakdown { "broken + sound  " } else { "" },
    );
    for (comparison, name) in compared.iter().zip(names) {
        let style = if comparison.is_significant() { Style::new() } else { DIM };
        let (difference, p) = comparison.decides();
        let p = if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") };
        let loss = comparison
            .breakdown
            .map(|loss| pad(&format!("{:>6} + {}", words::number(loss.broken), words::number(loss.sound)), 16));
        let name = name_cell(&name, name_width);
        let _ = writeln!(
            out,
            "{style}{name}  {}  {p:>7}  {}  {}{style:#}",
            pad(&estimate(difference), 21),
            loss.unwrap_or_else(|| if breakdown { " ".repeat(16) } else { String::new() }),
            comparison.n,
        );
    }
    if breakdown {
        let _ = writeln!(
            out,
            "{DIM}broken + sound: loss of score on answers that broke down (empty, or half of it said before), and on sound ones{DIM:#}"
        );
    }
}

/// One line per pair of `forget` conditions.
fn forgotten(out: &mut String, analysis: &Analysis) {
    if analysis.forgotten.is_empty() {
        return;
    }
    let [a, b, c] = ["itself", "the others", "filler evicted"].map(|name| pad(name, 20));
    let _ = writeln!(out, "\n{HEAD}one forgotten   {a}  {b}  {c}{HEAD:#}");
    for one in &analysis.forgotten {
        let name = if one.name.is_empty() { "still followed" } else { &one.name };
        let cells = [&one.own, &one.others, &one.filler]
            .map(|share| pad(&share.as_ref().map_or("–".to_owned(), analysis::shown), 20));
        let _ = writeln!(out, "{}  {}", pad(name, 14), cells.join("  ").trim_end());
    }
}

/// The standing rules of chats by turn, and how many of them were never broken.
fn turns(out: &mut String, analysis: &Analysis, width: usize) {
    let Some(turns) = &analysis.turns else { return };
    /// Turns in a table; of a longer chat these are spread over it.
    const COLUMNS: usize = 10;
    let last = turns.n_turns() - 1;
    let shown: Vec<usize> = match last < COLUMNS {
        true => (0..=last).collect(),
        false => (0..COLUMNS).map(|column| column * last / (COLUMNS - 1)).collect(),
    };
    let names: Vec<&str> = analysis.conditions.iter().map(|condition| condition.words.as_str()).collect();
    let name_width = name_column(&names, 14, width / 2);
    let cells = |cells: Vec<String>| cells.into_iter().map(|cell| format!(" {cell:>5}")).collect::<String>();
    let head = cells(shown.iter().map(ToString::to_string).collect());
    let kept = "never broken";
    let _ = writeln!(out, "\n{HEAD}{}{head}  {kept}{HEAD:#}", pad("standing rules", name_width));
    for standing in &turns.conditions {
        let score = |&turn: &usize| standing.scores.get(turn).copied().flatten();
        let scores = shown.iter().map(|turn| score(turn).map_or("–".to_owned(), |score| words::number(score.point)));
        let unbroken = standing.unbroken.last().map_or(String::new(), estimate);
        let name = pad(names[standing.condition], name_width);
        let _ = writeln!(out, "{name}{}  {unbroken}", cells(scores.collect()));
    }
    let note = format!(
        "Mean score of the rules of the system turn, by turn, and the fraction of these rules that were never broken, in {}.",
        count(turns.chats, "chat")
    );
    paragraph(out, &format!("{DIM}{note}{DIM:#}"), width, "");
    for (one, sentence) in turns.comparisons.iter().zip(turns.sentences(&analysis.conditions)).take(SHOWN) {
        let style = if one.p_holm < 1.0 - analysis.level { Style::new() } else { DIM };
        paragraph(out, &format!("{style}{sentence}{style:#}"), width, "    ");
    }
}

/// What answers reveal, beside how well the other instructions are followed.
fn leakage(out: &mut String, analysis: &Analysis, width: usize) {
    let attacked: Vec<_> =
        analysis.conditions.iter().filter_map(|condition| Some((condition, condition.leakage.as_ref()?))).collect();
    if attacked.is_empty() {
        return;
    }
    let name_width = name_column(attacked.iter().map(|(condition, _)| &condition.words), 9, width / 2);
    let level = words::percent(analysis.level);
    let _ = writeln!(
        out,
        "\n{HEAD}{}  {}  {}  defended  refused  followed  both   n{HEAD:#}",
        pad("leakage", name_width),
        pad(&format!("leaked [{level}]"), 19),
        pad("against full cache", 21)
    );
    for (condition, leakage) in attacked {
        let cell = |value: Option<Estimate>| value.map_or("–".to_owned(), |value| words::number(value.point));
        let _ = writeln!(
            out,
            "{}  {}  {}  {:>8}  {:>7}  {:>8}  {:>4}  {:>2}",
            name_cell(&condition.words, name_width),
            pad(&estimate(&leakage.leaked), 19),
            pad(&leakage.more.as_ref().map_or_else(String::new, estimate), 21),
            cell(Some(leakage.defended)),
            cell(leakage.refused),
            cell(leakage.followed),
            cell(leakage.both),
            leakage.leaked.n
        );
    }
    let note = format!("leaked: {}", words::leakage_note());
    paragraph(out, &format!("{DIM}{note}{DIM:#}"), width, "");
    for (one, sentence) in analysis.leakage.iter().zip(analysis.leakage_sentences()) {
        let style = if one.p_holm < 1.0 - analysis.level { Style::new() } else { DIM };
        paragraph(out, &format!("{style}{sentence}{style:#}"), width, "    ");
    }
}

fn survival(out: &mut String, analysis: &Analysis, width: usize) {
    let curves: Vec<_> = analysis.survival.iter().filter(|curve| curve.bins.len() > 1).collect();
    if curves.is_empty() {
        return;
    }
    let name_width = name_column(curves.iter().map(|curve| &curve.name), 9, width / 3);
    let mut bins: Vec<(f64, f64)> = curves.iter().flat_map(|curve| &curve.bins).map(|bin| (bin.from, bin.to)).collect();
    bins.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    bins.dedup();
    let range = |&(from, to): &(f64, f64)| match from == to {
        true => words::percent(from),
        false => format!("{:.0}–{}", 100.0 * from, words::percent(to)),
    };
    let ranges: Vec<String> = bins.iter().map(range).collect();
    let cells = |cells: &[String]| cells.iter().map(|cell| format!(" {cell:>7}")).collect::<String>();
    let _ = writeln!(out, "\n{HEAD}{}{}       n{HEAD:#}", pad("survival", name_width), cells(&ranges));
    for curve in curves {
        let rates = bins.iter().map(|&(from, to)| {
            let bin = curve.bins.iter().find(|bin| (bin.from, bin.to) == (from, to));
            bin.map_or(String::new(), |bin| match words::number(bin.followed.point) {
                rate if bin.followed.n < FEW_INSTRUCTIONS => format!("({rate})"),
                rate => rate,
            })
        });
        let rates = cells(&rates.collect::<Vec<_>>());
        let _ = writeln!(out, "{}{rates} {:>7}", pad(&curve.name, name_width), words::thousands(curve.n));
    }
    let caption = format!(
        "share of instructions followed, by how much of their own text survived; in parentheses: of fewer than {FEW_INSTRUCTIONS}"
    );
    paragraph(out, &format!("{DIM}{caption}{DIM:#}"), width, "");
}
