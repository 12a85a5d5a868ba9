//! Cues: the words with which people state each rule of IFEval.

use serde_json::{Map, Value};

use super::Instruction;
use crate::score::text::regex;

/// How clearly a piece of a prompt states an instruction: the number of its cues, or 0 if a required cue is missing.
pub(super) fn cues(piece: &str, instruction: &Instruction) -> u32 {
    let s = Piece { text: normal(piece), kwargs: &instruction.kwargs };
    match instruction.kind.as_str() {
        "change_case:capital_word_frequency" => count(
            s.has(regex!(r"capital|all[- ]caps|upper ?-?case|\bcaps\b")) && s.has(regex!(r"\bwords?\b|times")),
            [s.counts("capital_frequency"), s.has(regex!(r"\bwords?\b"))],
        ),
        "change_case:english_capital" => count(
            s.has(regex!(r"capital|\bcaps\b|upper ?-?case")) && !s.has(regex!(r"\btimes\b")) && !s.has(no_capitals()),
            [s.has(regex!(r"\ball\b|every|entire|only|no lower")), s.has(regex!("letter|english"))],
        ),
        "change_case:english_lowercase" => count(
            s.has(regex!(r"lower ?-?case|small letters")) && !s.has(regex!(r"\bno lower")) || s.has(no_capitals()),
            [s.has(regex!(r"\ball\b|every|entire|only|english|\bno\b"))],
        ),
        "combination:repeat_prompt" => count(
            s.has(regex!(r"\brepeat")),
            [
                s.has(regex!("request|word for word|prompt|without (?:any )?change|question|sentence")),
                s.has(regex!(r"\bfirst\b|before|beginning")),
            ],
        ),
        "combination:two_responses" => count(
            s.has(regex!(r"\*{6}|(?:6|six) asterisk|\btwo (?:\w+ )?(?:responses|answers|versions)")),
            [s.has(regex!(r"\*{6}|asterisk")), s.has(regex!("separat")), s.has(regex!(r"\btwo\b|different"))],
        ),
        "detectable_content:number_placeholders" => count(
            s.has(regex!("placeholder|square bracket")),
            [s.has(regex!("placeholder")), s.counts("num_placeholders")],
        ),
        "detectable_content:postscript" => count(
            s.has(regex!(r"\bp\.\s?(?:p\.\s?)?s\b|post ?script|\bp?ps\b")),
            [s.names("postscript_marker"), s.has(regex!(r"post ?script|\badd\b|\bend\b"))],
        ),
        "detectable_format:constrained_response" => {
            count(s.has(regex!("my answer is yes")), [s.has(regex!("my answer is no"))])
        }
        "detectable_format:json_format" => count(
            s.has(regex!(r"\bjson\b")),
            [s.has(regex!("format|wrap|output|entire")), s.has(regex!("entire|wrap|only|whole|output"))],
        ),
        "detectable_format:multiple_sections" => count(
            s.names("section_spliter") && s.has(regex!("section|paragraph|part|day|audience")),
            [
                s.counts("num_sections"),
                s.numbers_sections(),
                s.has(regex!(r"\bmark(?:ed|ing)?\b|start|begin|label|noted|includ|contain|have")),
            ],
        ),
        "detectable_format:number_bullet_lists" => count(
            s.has(regex!("bullet")),
            [s.counts("num_bullets"), s.has(regex!("exactly|contain|includ|use|list|point(?:s|ed)"))],
        ),
        "detectable_format:number_highlighted_sections" => count(
            // Words of the sample that often comes with it (`*highlighted section*`) do not count.
            regex!(r"highlight|italic|\bbold\b|emphasi[sz]e")
                .is_match(&regex!(r"\*[^*\n]+\*").replace_all(&s.text, "*")),
            [s.counts("num_highlights"), s.has(regex!(r"\*[^*]+\*|markdown|section"))],
        ),
        "detectable_format:title" => count(
            s.has(regex!("<<|double angular|double angle|angular bracket")),
            [s.has(regex!("title|name")), s.has(regex!("<<")), s.has(regex!("angular|angle"))],
        ),
        "keywords:existence" => count(
            s.names_all("keywords") && s.has(regex!("includ|word|mention|contain|us(?:e|ing)|appear|add|related to")),
            [!s.forbids(), s.has(regex!("includ|word|mention|contain")), s.has(regex!("keyword"))],
        ),
        "keywords:forbidden_words" => count(
            s.names_all("forbidden_words") && s.forbids(),
            [s.has(regex!(r"word|includ|mention|\bus(?:e|ing)|\bsay"))],
        ),
        "keywords:frequency" => count(
            s.names("keyword") && (s.counts("frequency") || s.has(regex!("times")) || s.excluded() && s.forbids()),
            [s.counts("frequency"), s.has(regex!(r"word|times|once|twice"))],
        ),
        "keywords:letter_frequency" => count(
            s.names_letter(),
            [s.counts("let_frequency"), s.has(regex!("appear|times|includ|contain|without|avoid"))],
        ),
        "language:response_language" => count(
            s.names_language(),
            [s.has(regex!(r"language|\bin\b")), s.has(regex!("only|entire|no other|answer|respon[ds]|reply|whole"))],
        ),
        "length_constraints:nth_paragraph_first_word" => count(
            s.names("first_word") && s.has(regex!("start|first word|begin")),
            [s.has(regex!("paragraph")), s.has(regex!(r"\bword\b"))],
        ),
        "length_constraints:number_paragraphs" => {
            let counted = s.counts("num_paragraphs")
                && s.has(regex!(r"(?:paragraph|section|stanza|verse|part|version|point|step)s\b"));
            let separated = s.has(regex!(r"(?:^|[^*])\*{3}(?:[^*]|$)|(?:3|three) a\w*risk"));
            count(
                counted || separated && s.has(regex!("separat|divid|split|break|paragraph|section|part")),
                [counted, s.has(regex!("paragraph"))],
            )
        }
        "length_constraints:number_sentences" => {
            count(s.has(regex!("sentence")) && s.counts("num_sentences"), [s.has(compared())])
        }
        "length_constraints:number_words" => count(
            s.has(regex!(r"\bwords?\b")) && s.counts("num_words"),
            [s.has(regex!(r"\d\+?[ -]*(?:or (?:more|less|fewer) )?words?\b|[a-z]ty words?\b")), s.has(compared())],
        ),
        "punctuation:no_comma" => count(s.has(regex!(r"\bcommas?\b")), [s.forbids()]),
        "startend:end_checker" => {
            count(s.names("end_phrase"), [s.has(regex!(r"\bend|finish|conclu|\blast\b|final|phrase"))])
        }
        "startend:quotation" => count(
            s.has(regex!(r"\bquot(?:e|ation)")),
            [s.has(regex!("double")), s.has(regex!("wrap|enclos|surround|put|place|inside|entire|whole"))],
        ),
        _ => 0,
    }
}

fn count<const N: usize>(indispensable: bool, further: [bool; N]) -> u32 {
    if indispensable { 1 + further.map(u32::from).iter().sum::<u32>() } else { 0 }
}

/// Lower case, with plain quotes.
fn normal(text: &str) -> String {
    text.to_lowercase().replace(['“', '”'], "\"").replace(['‘', '’'], "'")
}

/// A piece of a prompt, and the kwargs whose values it may contain.
struct Piece<'a> {
    text: String,
    kwargs: &'a Map<String, Value>,
}

impl Piece<'_> {
    fn has(&self, pattern: &regex::Regex) -> bool {
        pattern.is_match(&self.text)
    }

    fn forbids(&self) -> bool {
        self.has(regex!(r"\b(?:no|not|never|without|neither|nor|avoid\w*|exclud\w*|refrain\w*|free|leave out|omit\w*|forbidden|cannot)\b|n't\b"))
    }

    /// Whether the piece says that the keyword must be absent.
    fn excluded(&self) -> bool {
        let is = |kwarg, value: Value| self.kwargs.get(kwarg) == Some(&value);
        is("frequency", 1.into()) && is("relation", "less than".into())
    }

    fn text(&self, kwarg: &str) -> String {
        normal(self.kwargs.get(kwarg).and_then(Value::as_str).unwrap_or_default().trim())
    }

    /// Whether it contains the text of a kwarg.
    fn names(&self, kwarg: &str) -> bool {
        let name = self.text(kwarg);
        !name.is_empty() && self.text.contains(name.trim_end_matches(['.', '!', '?']))
    }

    /// Whether it contains every text of a kwarg.
    fn names_all(&self, kwarg: &str) -> bool {
        let names = self.kwargs.get(kwarg).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        !names.is_empty() && names.iter().filter_map(Value::as_str).all(|name| self.text.contains(&normal(name)))
    }

    /// Whether it contains the number of a kwarg, in digits or in words. `less than 11` may also read `at most 10`, and
    /// `at least 6` `more than 5`.
    fn counts(&self, kwarg: &str) -> bool {
        let Some(number) = self.kwargs.get(kwarg).and_then(Value::as_f64) else { return false };
        let compared = self.kwargs.keys().any(|name| name.ends_with("relation"));
        let numbers =
            regex!(r"[a-z]+|\d+(?:,\d{3})*").find_iter(&self.text).filter_map(|word| as_number(word.as_str()));
        numbers.into_iter().any(|found| found == number || compared && found == number - 1.0)
    }

    /// `Section 1`, `Section X`
    fn numbers_sections(&self) -> bool {
        let splitter = self.text("section_spliter");
        self.text.match_indices(&splitter).any(|(at, _)| {
            let rest = self.text[at + splitter.len()..].trim_start();
            rest.starts_with(|c: char| c.is_ascii_digit()) || rest.starts_with('x')
        })
    }

    /// Whether it contains the letter as a word of its own, or the name of the sign.
    fn names_letter(&self) -> bool {
        let letter = self.text("letter");
        match letter.as_str() {
            "#" => self.has(regex!("#|hash ?tag")),
            "!" => self.has(regex!("exclamation")),
            _ => regex!(r"letters?\W+(\w)\b|\b(\w)'s\b|'(\w)'|\x22(\w)\x22")
                .captures_iter(&self.text)
                .any(|found| found.iter().skip(1).flatten().any(|found| found.as_str() == letter)),
        }
    }

    fn names_language(&self) -> bool {
        let code = self.text("language");
        LANGUAGES.iter().any(|(known, name)| *known == code && self.text.contains(name))
    }
}

fn no_capitals() -> &'static regex::Regex {
    regex!(
        r"(?:\bno\b|\bnot\b|n't\b|without|avoid)[^.]{0,60}(?:capital|upper ?-?case)|(?:capital|upper ?-?case)[^.]{0,20}(?:\bnot\b|n't\b)"
    )
}

fn compared() -> &'static regex::Regex {
    regex!(r"at least|at most|less|fewer|more|under|exactly|only|up to|over|\bor\b|than|\+|between|maximum|minimum")
}

fn as_number(word: &str) -> Option<f64> {
    const WORDS: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    const TENS: [&str; 7] = ["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    match word {
        "once" | "first" => Some(1.0),
        "twice" => Some(2.0),
        "hundred" => Some(100.0),
        _ => (WORDS.iter().position(|known| *known == word))
            .or_else(|| Some(30 + 10 * TENS.iter().position(|known| *known == word)?))
            .map(|number| number as f64)
            .or_else(|| word.replace(',', "").parse().ok()),
    }
}

/// The languages that langdetect distinguishes.
const LANGUAGES: [(&str, &str); 55] = [
    ("af", "afrikaans"),
    ("ar", "arabic"),
    ("bg", "bulgarian"),
    ("bn", "bengali"),
    ("ca", "catalan"),
    ("cs", "czech"),
    ("cy", "welsh"),
    ("da", "danish"),
    ("de", "german"),
    ("el", "greek"),
    ("en", "english"),
    ("es", "spanish"),
    ("et", "estonian"),
    ("fa", "persian"),
    ("fi", "finnish"),
    ("fr", "french"),
    ("gu", "gujarati"),
    ("he", "hebrew"),
    ("hi", "hindi"),
    ("hr", "croatian"),
    ("hu", "hungarian"),
    ("id", "indonesian"),
    ("it", "italian"),
    ("ja", "japanese"),
    ("kn", "kannada"),
    ("ko", "korean"),
    ("lt", "lithuanian"),
    ("lv", "latvian"),
    ("mk", "macedonian"),
    ("ml", "malayalam"),
    ("mr", "marathi"),
    ("ne", "nepali"),
    ("nl", "dutch"),
    ("no", "norwegian"),
    ("pa", "punjabi"),
    ("pl", "polish"),
    ("pt", "portuguese"),
    ("ro", "romanian"),
    ("ru", "russian"),
    ("sk", "slovak"),
    ("sl", "slovenian"),
    ("so", "somali"),
    ("sq", "albanian"),
    ("sv", "swedish"),
    ("sw", "swahili"),
    ("ta", "tamil"),
    ("te", "telugu"),
    ("th", "thai"),
    ("tl", "tagalog"),
    ("tr", "turkish"),
    ("uk", "ukrainian"),
    ("ur", "urdu"),
    ("vi", "vietnamese"),
    ("zh-cn", "chinese"),
    ("zh-tw", "chinese"),
];
