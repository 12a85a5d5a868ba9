//! The facts of an example, and the question about them.

use std::ops::Range;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;

use crate::random::{below, shuffle};
use crate::{Error, Result};

/// What is hidden and what is requested, by RULER's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One fact (`niah_single`).
    Single,
    /// One code for each of several people; the code of one person is requested (`niah_multikey`).
    MultiKey,
    /// Several codes of one person; all are requested (`niah_multivalue`).
    MultiValue,
    /// One code for each of several people; all are requested (`niah_multiquery`).
    MultiQuery,
    /// A chain of variables, each with the value of the one before; the names of all that have the first one's value
    /// are requested (`vt`).
    Variables,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Single, Kind::MultiKey, Kind::MultiValue, Kind::MultiQuery, Kind::Variables];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Single => "single",
            Kind::MultiKey => "multikey",
            Kind::MultiValue => "multivalue",
            Kind::MultiQuery => "multiquery",
            Kind::Variables => "vt",
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            Error::input(format!("`{text}` is not a kind; known are {}", Kind::ALL.map(Kind::name).join(", ")))
        })
    }
}

/// What an example hides and asks for.
pub(super) struct Facts {
    /// The line before the text, in a chat prompt.
    pub announcement: String,
    /// One sentence per fact; the requested ones come first.
    pub stated: Vec<String>,
    /// For each fact the text that an answer to it must contain.
    pub answers: Vec<String>,
    /// What is requested: one question, or several that ask for one fact each.
    pub asked: Vec<Asked>,
}

/// A question.
pub(super) struct Asked {
    /// The question, in a chat prompt.
    pub question: String,
    /// The beginning of the answer, in a completion prompt. It occurs nowhere else, so that it can be found as the
    /// question.
    pub stem: String,
    /// The facts that it asks for.
    pub facts: Range<usize>,
}

impl Facts {
    /// Draws names and codes that do not occur in the carrier. More than one question is asked only of [`Kind::MultiKey`].
    pub fn draw(kind: Kind, count: usize, questions: usize, carrier: &str, rng: &mut ChaCha8Rng) -> Result<Self> {
        let count = if kind == Kind::Single { 1 } else { count };
        let people = if kind == Kind::MultiValue { 1 } else { count };
        if people > NAMES.len() || count > MOST {
            return Err(Error::input(format!("{count} facts are too many; at most {MOST} have names of their own")));
        }
        let code = |rng: &mut ChaCha8Rng| (1000 + below(rng, 9000)).to_string();
        if kind == Kind::Variables {
            let variable = |rng: &mut ChaCha8Rng| (0..5).map(|_| char::from(b'A' + below(rng, 26) as u8)).collect();
            return Ok(Facts::chain(distinct(count, carrier, rng, variable), &distinct(1, carrier, rng, code)[0]));
        }
        let codes = distinct(count, carrier, rng, code);
        let mut names = NAMES.to_vec();
        shuffle(&mut names, rng);
        let names = &names[..people];
        let announcement =
            "Here is a text. Some people's special codes are hidden in it. Remember the codes.".to_owned();
        if kind == Kind::MultiValue {
            let name = names[0];
            return Ok(Facts {
                announcement,
                stated: codes.iter().map(|code| format!("A special code of {name} is {code}.")).collect(),
                answers: codes,
                asked: vec![Asked {
                    question: format!("What are all the special codes of {name} in the text? List the {count} codes."),
                    stem: format!("According to the text, the {count} special codes of {name} are"),
                    facts: 0..count,
                }],
            });
        }
        let stated = names.iter().zip(&codes).map(|(name, code)| format!("The special code of {name} is {code}."));
        let stated: Vec<String> = stated.collect();
        let asked = if kind == Kind::MultiQuery {
            let all = listed(names);
            vec![Asked {
                question: format!("What are the special codes of {all}?"),
                stem: format!("According to the text, the special codes of {all} are"),
                facts: 0..count,
            }]
        } else {
            let one = |(fact, name): (usize, &&str)| Asked {
                question: format!("What is the special code of {name}?"),
                stem: format!("According to the text, the special code of {name} is"),
                facts: fact..fact + 1,
            };
            names.iter().enumerate().take(questions).map(one).collect()
        };
        Ok(Facts { announcement, stated, answers: codes, asked })
    }

    fn chain(variables: Vec<String>, value: &str) -> Self {
        let of = |index: usize| match index {
            0 => format!("VAR {} = {value}.", variables[0]),
            _ => format!("VAR {} = VAR {}.", variables[index], variables[index - 1]),
        };
        let count = variables.len();
        Facts {
            announcement: "Here is a text. Assignments of variables are hidden in it. Remember them.".to_owned(),
            stated: (0..count).map(of).collect(),
            asked: vec![Asked {
                question: format!("Which {count} variables have the value {value}? Name them all."),
                stem: format!("According to the text, the {count} variables that have the value {value} are"),
                facts: 0..count,
            }],
            answers: variables,
        }
    }
}

/// `Ada, Ben and Cleo`
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// Different texts that do not occur in the carrier.
fn distinct(
    count: usize,
    carrier: &str,
    rng: &mut ChaCha8Rng,
    draw: impl Fn(&mut ChaCha8Rng) -> String,
) -> Vec<String> {
    let mut drawn: Vec<String> = Vec::with_capacity(count);
    while drawn.len() < count {
        let text = draw(rng);
        if !drawn.contains(&text) && !carrier.contains(&text) {
            drawn.push(text);
        }
    }
    drawn
}

/// Largest number of facts in a text.
const MOST: usize = NAMES.len();

/// Names that do not occur in the carrier.
const NAMES: [&str; 48] = [
    "Ada", "Amir", "Anya", "Bruno", "Carla", "Chloe", "Dario", "Diego", "Elena", "Emil", "Farah", "Felix", "Gina",
    "Goran", "Hanna", "Hugo", "Ingrid", "Ivan", "Jana", "Jorge", "Kai", "Katya", "Leila", "Luca", "Marco", "Mei",
    "Nadia", "Nina", "Olga", "Omar", "Paula", "Pedro", "Quinn", "Rania", "Ravi", "Rosa", "Samir", "Sofia", "Tara",
    "Tomas", "Uma", "Vera", "Viktor", "Wanda", "Xenia", "Yusuf", "Zara", "Zeno",
];
