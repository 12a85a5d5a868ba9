//! Porter's stemmer ("An algorithm for suffix stripping", 1980) as NLTK extends it: the Python package `rouge-score`
//! compares words by it.

/// A suffix, what replaces it, and the smallest measure that the rest of the word must have.
type Suffix = (&'static str, &'static str, usize);

/// Words that NLTK stems by a list.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

const STEP_2: [Suffix; 21] = [
    ("ational", "ate", 1),
    ("tional", "tion", 1),
    ("enci", "ence", 1),
    ("anci", "ance", 1),
    ("izer", "ize", 1),
    ("bli", "ble", 1),
    ("alli", "al", 1),
    ("entli", "ent", 1),
    ("eli", "e", 1),
    ("ousli", "ous", 1),
    ("ization", "ize", 1),
    ("ation", "ate", 1),
    ("ator", "ate", 1),
    ("alism", "al", 1),
    ("iveness", "ive", 1),
    ("fulness", "ful", 1),
    ("ousness", "ous", 1),
    ("aliti", "al", 1),
    ("iviti", "ive", 1),
    ("biliti", "ble", 1),
    ("fulli", "ful", 1),
];

const STEP_3: [Suffix; 7] = [
    ("icate", "ic", 1),
    ("ative", "", 1),
    ("alize", "al", 1),
    ("iciti", "ic", 1),
    ("ical", "ic", 1),
    ("ful", "", 1),
    ("ness", "", 1),
];

const STEP_4: [Suffix; 19] = [
    ("al", "", 2),
    ("ance", "", 2),
    ("ence", "", 2),
    ("er", "", 2),
    ("ic", "", 2),
    ("able", "", 2),
    ("ible", "", 2),
    ("ant", "", 2),
    ("ement", "", 2),
    ("ment", "", 2),
    ("ent", "", 2),
    ("ion", "", 2),
    ("ou", "", 2),
    ("ism", "", 2),
    ("ate", "", 2),
    ("iti", "", 2),
    ("ous", "", 2),
    ("ive", "", 2),
    ("ize", "", 2),
];

/// The stem of a word of lower-case ASCII letters and digits.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let word = step_2(step_1(word));
    let word = first_of(word, &STEP_3);
    // `ion` goes only after an s or a t.
    let word = match word.strip_suffix("ion") {
        Some(rest) if !rest.ends_with(['s', 't']) => word,
        _ => first_of(word, &STEP_4),
    };
    step_5(word)
}

/// Plurals, -ed and -ing, and a final y.
fn step_1(word: &str) -> String {
    let short = word.len() == 4;
    let word = match word {
        _ if short && word.ends_with("ies") => word[..3].to_owned(),
        _ => first_of(word.to_owned(), &[("sses", "ss", 0), ("ies", "i", 0), ("ss", "ss", 0), ("s", "", 0)]),
    };
    let word = step_1b(word);
    match word.strip_suffix('y') {
        Some(rest) if rest.len() > 1 && consonants(rest).ends_with(&[true]) => format!("{rest}i"),
        _ => word,
    }
}

fn step_1b(word: String) -> String {
    if let Some(rest) = word.strip_suffix("ied") {
        return format!("{rest}{}", if word.len() == 4 { "ie" } else { "i" });
    }
    if word.ends_with("eed") {
        return first_of(word, &[("eed", "ee", 1)]);
    }
    let rest = ["ed", "ing"].into_iter().find_map(|suffix| word.strip_suffix(suffix));
    let Some(rest) = rest.filter(|rest| consonants(rest).contains(&false)) else { return word };
    if ["at", "bl", "iz"].iter().any(|end| rest.ends_with(end)) {
        return format!("{rest}e");
    }
    let bytes = rest.as_bytes();
    match bytes {
        [.., before, last] if before == last && consonants(rest).ends_with(&[true]) => match last {
            b'l' | b's' | b'z' => rest.to_owned(),
            _ => rest[..rest.len() - 1].to_owned(),
        },
        _ if measure(rest) == 1 && ends_short(rest) => format!("{rest}e"),
        _ => rest.to_owned(),
    }
}

fn step_2(word: String) -> String {
    match word.strip_suffix("alli") {
        Some(rest) if measure(rest) > 0 => return step_2(format!("{rest}al")),
        _ => {}
    }
    match word.strip_suffix("ogi") {
        // The l of `logi` counts as part of the rest.
        Some(rest) if rest.ends_with('l') && measure(rest) > 0 => format!("{rest}og"),
        _ => first_of(word, &STEP_2),
    }
}

/// A final e, and a double l.
fn step_5(word: String) -> String {
    let word = match word.strip_suffix('e') {
        Some(rest) if measure(rest) > 1 || (measure(rest) == 1 && !ends_short(rest)) => rest.to_owned(),
        _ => word,
    };
    match word.strip_suffix('l') {
        Some(rest) if rest.ends_with('l') && measure(rest) > 1 => rest.to_owned(),
        _ => word,
    }
}

/// Replaces the first suffix of the list that the word ends with, if the rest has its measure.
fn first_of(word: String, suffixes: &[Suffix]) -> String {
    let found = suffixes.iter().find_map(|(suffix, by, least)| Some((word.strip_suffix(suffix)?, by, *least)));
    match found {
        Some((rest, by, least)) if measure(rest) >= least => format!("{rest}{by}"),
        _ => word,
    }
}

/// Which letters are consonants: all but a, e, i, o, u, and a y behind a consonant.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        let consonant = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !flags.last().is_some_and(|before| *before),
            _ => true,
        };
        flags.push(consonant);
    }
    flags
}

/// How often a consonant follows a vowel: Porter's m.
fn measure(word: &str) -> usize {
    consonants(word).windows(2).filter(|pair| *pair == [false, true]).count()
}

/// Whether the word ends like `hop`: consonant, vowel, and a consonant that is not w, x or y; or is like `at`.
fn ends_short(word: &str) -> bool {
    let flags = consonants(word);
    match flags.as_slice() {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}
