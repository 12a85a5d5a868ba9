//! The carrier: the natural text in which facts are hidden, public-domain stories (see data/README.md).

use crate::score::text::punkt;

/// One paragraph per line.
const TEXT: &str = include_str!("../../../data/carrier.txt");

/// The carrier, sentence by sentence.
pub(super) struct Carrier {
    sentences: Vec<Sentence>,
}

#[derive(Clone, Copy)]
struct Sentence {
    text: &'static str,
    words: usize,
    /// Whether it begins a paragraph.
    begins: bool,
}

impl Carrier {
    pub fn bundled() -> Self {
        let sentences = TEXT.lines().flat_map(|paragraph| {
            punkt::sentences(paragraph).into_iter().enumerate().map(|(index, text)| Sentence {
                text,
                words: text.split_whitespace().count(),
                begins: index == 0,
            })
        });
        Carrier { sentences: sentences.collect() }
    }

    /// The whole text.
    pub fn text(&self) -> &'static str {
        TEXT
    }

    /// Number of sentences.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// The first `words` words from a sentence on; after the last sentence it continues with the first.
    pub fn passage(&self, start: usize, words: usize) -> Passage {
        let mut passage = Passage { whole: Vec::new(), cut: None };
        let mut left = words;
        for sentence in self.sentences.iter().cycle().skip(start % self.len()) {
            if sentence.words > left {
                if left > 0 {
                    passage.cut = Some((*sentence, left));
                }
                break;
            }
            left -= sentence.words;
            passage.whole.push(*sentence);
        }
        passage
    }
}

/// Consecutive sentences of the carrier, and perhaps the beginning of one more.
pub(super) struct Passage {
    whole: Vec<Sentence>,
    /// The incomplete sentence, and how many of its words are included.
    cut: Option<(Sentence, usize)>,
}

impl Passage {
    /// Number of sentences, including an incomplete one.
    pub fn sentences(&self) -> usize {
        self.whole.len() + usize::from(self.cut.is_some())
    }

    /// The passage with each fact between two sentences, at the place where the share of words before it is nearest to
    /// the fact's depth in [0, 1]. Facts at the same place keep their order.
    pub fn with(&self, facts: &[String], depths: &[f64]) -> String {
        let cut = self.cut.map(|(sentence, words)| {
            let kept: Vec<&str> = sentence.text.split_whitespace().take(words).collect();
            let kept = kept.join(" ");
            (format!("{}...", kept.trim_end_matches(|c: char| c.is_ascii_punctuation())), words, sentence.begins)
        });
        let whole = self.whole.iter().map(|sentence| (sentence.text, sentence.words, sentence.begins));
        let cut = cut.as_ref().map(|(text, words, begins)| (text.as_str(), *words, *begins));
        let sentences: Vec<(&str, usize, bool)> = whole.chain(cut).collect();
        // The number of words before each place; there is one more place than sentences.
        let mut before = vec![0];
        for (_, words, _) in &sentences {
            before.push(before[before.len() - 1] + words);
        }
        let all = before[before.len() - 1] as f64;
        let distance = |place: usize, depth: f64| (before[place] as f64 - depth * all).abs();
        let nearest = |depth: f64| {
            let places = 0..before.len();
            places.min_by(|a, b| distance(*a, depth).total_cmp(&distance(*b, depth))).expect("there is a place")
        };
        let places: Vec<usize> = depths.iter().map(|&depth| nearest(depth)).collect();

        let mut text = String::new();
        for place in 0..=sentences.len() {
            let here = facts.iter().zip(&places).filter(|(_, of)| **of == place);
            here.for_each(|(fact, _)| append(&mut text, fact, false));
            if let Some((sentence, _, begins)) = sentences.get(place) {
                append(&mut text, sentence, *begins);
            }
        }
        text
    }
}

fn append(text: &mut String, sentence: &str, begins: bool) {
    if !text.is_empty() {
        text.push(if begins { '\n' } else { ' ' });
    }
    text.push_str(sentence);
}
