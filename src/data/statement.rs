//! Finds where a prompt states an instruction: the sentence, or the clause, on which a rule is based.
//!
//! Imported data sets name the rules of a prompt, but not the words that state them. Each rule has cues here, words
//! with which people state it. A sentence without the required cues of a rule is never used, because no span is better
//! than a wrong one.

use std::ops::Range;

use super::Instruction;
use super::cues::cues;
use crate::score::text::{punkt, regex};

/// For each instruction the bytes of `text` that state it; `None` if they cannot be found.
pub(super) fn find(text: &str, instructions: &[Instruction]) -> Vec<Option<Range<usize>>> {
    let sentences = sentences(text, instructions);
    let told: Vec<Option<Told>> = instructions.iter().map(|instruction| told(text, &sentences, instruction)).collect();
    let spans = (0..told.len()).map(|i| {
        let Told { best, all } = told[i].clone()?;
        let others = || told.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, told)| told.as_ref());
        let span = if others().any(|other| other.best == best) {
            clause(text, sentences[best].clone(), &instructions[i])
        } else {
            // Neighbouring sentences that add cues are included, unless they belong to another instruction.
            let own = |index: &usize| all.contains(index) && others().all(|other| other.best != *index);
            let first = (0..best).rev().take_while(own).last().unwrap_or(best);
            let last = (best + 1..sentences.len()).take_while(own).last().unwrap_or(best);
            without_passage(text, sentences[first].start..sentences[last].end, &instructions[i])
        };
        // A span is later found by its text, so this text must not occur earlier.
        (text.find(&text[span.clone()]) == Some(span.start)).then_some(span)
    });
    spans.collect()
}

/// The sentences that state an instruction.
#[derive(Clone)]
struct Told {
    /// The one with the most cues.
    best: usize,
    /// All sentences with nearly as many cues.
    all: Vec<usize>,
}

fn told(text: &str, sentences: &[Range<usize>], instruction: &Instruction) -> Option<Told> {
    let cues: Vec<u32> = sentences.iter().map(|range| cues(&text[range.clone()], instruction)).collect();
    // Of equals the last, because prompts usually end with their demands.
    let best = (0..sentences.len()).max_by_key(|&index| cues[index]).filter(|&index| cues[index] > 0)?;
    let all = (0..sentences.len()).filter(|&index| cues[index] > 0 && cues[index] + 1 >= cues[best]).collect();
    Some(Told { best, all })
}

/// The shortest run of clauses of a sentence that states the instruction as well as the whole sentence.
fn clause(text: &str, sentence: Range<usize>, instruction: &Instruction) -> Range<usize> {
    let clauses = clauses(text, sentence.clone());
    let whole = cues(&text[sentence.clone()], instruction);
    let runs = (0..clauses.len()).flat_map(|i| (i..clauses.len()).map(move |j| (i, j)));
    let runs = runs.map(|(i, j)| clauses[i].start..clauses[j].end);
    runs.filter(|run| cues(&text[run.clone()], instruction) >= whole).min_by_key(Range::len).unwrap_or(sentence)
}

/// A sentence up to a colon, if a quoted passage to work on follows the colon.
fn without_passage(text: &str, sentence: Range<usize>, instruction: &Instruction) -> Range<usize> {
    let inside = &text[sentence.clone()];
    let head = regex!(r#":\s*["“]"#).find(inside).map(|colon| sentence.start..sentence.start + colon.start());
    head.filter(|head| cues(&text[head.clone()], instruction) >= cues(inside, instruction)).unwrap_or(sentence)
}

/// Sentences as Punkt splits them, line by line, without list markers.
fn sentences(text: &str, instructions: &[Instruction]) -> Vec<Range<usize>> {
    let whole = unbroken(text, instructions);
    // A postscript marker before a capital letter is not an abbreviation: `... with P.P.S Your ...`.
    let marker = regex!(r"P\.(?:P\.)?S\.?( )[A-Z]");
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for sentence in text.lines().flat_map(punkt::sentences) {
        let mut range = range_of(text, sentence);
        if let Some(last) = ranges.last()
            && (whole.iter().any(|whole| whole.start < last.end && range.start < whole.end)
                || wraps(text, last, &range))
        {
            range.start = last.start;
            ranges.pop();
        }
        let at = range_of(text, sentence).start;
        for gap in marker.captures_iter(sentence).filter_map(|found| found.get(1)) {
            ranges.push(range.start..at + gap.start());
            range.start = at + gap.end();
        }
        ranges.push(range);
    }
    let mark = regex!(r"^(?:\(?\d{1,2}[.)]|[-*•])\s+");
    for range in &mut ranges {
        range.start += mark.find(&text[range.clone()]).map_or(0, |mark| mark.len());
    }
    ranges.retain(|range| !text[range.clone()].trim().is_empty());
    ranges
}

/// Whether a sentence continues in the next line.
fn wraps(text: &str, first: &Range<usize>, next: &Range<usize>) -> bool {
    text[first.end..next.start] == *"\n"
        && text[first.clone()].ends_with(char::is_alphanumeric)
        && text[next.clone()].starts_with(char::is_lowercase)
}

/// Places where no sentence ends: parentheses, `i.e.`, and texts that an instruction quotes.
fn unbroken(text: &str, instructions: &[Instruction]) -> Vec<Range<usize>> {
    let within = regex!(r"\([^()\n]{0,300}\)|\b(?:i\.e|e\.g)\.,?\s+\S");
    let answers = regex!(
        r"(?is)\S\s*\bMy answer is (?:yes|no|maybe)\b.{0,60}\bMy answer is (?:yes|no|maybe)\b.{0,60}\bMy answer is (?:yes|no|maybe)\b"
    );
    let mut ranges: Vec<Range<usize>> =
        within.find_iter(text).chain(answers.find(text)).map(|found| found.range()).collect();
    for phrase in instructions.iter().filter_map(|instruction| instruction.kwargs.get("end_phrase")?.as_str()) {
        for (start, found) in text.match_indices(phrase.trim()) {
            let end = start + found.len();
            let quotes = text[end..].len() - text[end..].trim_start_matches(['"', '”', '\'', '.']).len();
            let lead = text[..start].trim_end_matches(['"', '“', '\'', ' ', '\n']).len();
            ranges.push(lead.saturating_sub(1)..end + quotes);
        }
    }
    ranges
}

/// Parts of a sentence between commas and conjunctions; quotes and brackets are not split.
fn clauses(text: &str, sentence: Range<usize>) -> Vec<Range<usize>> {
    let inside = &text[sentence.clone()];
    let shut: Vec<_> =
        regex!(r#""[^"]*"|“[^”]*”|\([^)]*\)|\[[^\]]*\]|<<.*?>>|\d+ and \d+"#).find_iter(inside).collect();
    // The clause after a `with` or a `without` begins with that word.
    let cut = regex!(
        r"(?i)(?:[,;:]\s+(?:(?:and|but|or|then|also)\s+(?:also\s+)?)?|\s+(?:and|but|while)\s+(?:also\s+)?|\s+(?:-+|[–—])\s+|\.\s+)|(\s+)with(?:out)?\b"
    );
    let mut clauses = Vec::new();
    let mut start = 0;
    for found in cut.captures_iter(inside) {
        let gap = found.get(1).unwrap_or_else(|| found.get_match());
        if !shut.iter().any(|shut| shut.start() < gap.end() && gap.start() < shut.end()) {
            clauses.push(sentence.start + start..sentence.start + gap.start());
            start = gap.end();
        }
    }
    clauses.push(sentence.start + start..sentence.end);
    clauses
}

fn range_of(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}
