//! Chats from a seeded generator: simple standing rules that small models can follow, asked for again and again.
//!
//! What the system message states is checked in later turns: that is what a cache that is cut turn by turn forgets. The
//! same seed gives the same chats on every machine, and a set of 100 begins with the set of 10.

use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::load::check;
use super::{Example, Instruction, Message, Role, Turns};
use crate::random::{below, sample, shuffle};
use crate::{Error, Result};

/// What the system message states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Facts, one of which is asked for in each turn.
    Facts,
    /// The language of every answer, which is revoked in the end.
    Language,
    /// Rules in the language of the embedded model.
    Demo,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Facts, Kind::Language, Kind::Demo];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Facts => "facts",
            Kind::Language => "language",
            Kind::Demo => "demo",
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

/// Settings for making chats. Examples use the kinds in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chats {
    /// Kinds of chat. Not empty.
    pub kinds: Vec<Kind>,
    /// Number of turns.
    pub turns: usize,
    /// The seed.
    pub seed: u64,
}

/// Number of facts that a system message states.
const FACTS: usize = 4;

/// What a fact says, two ways to ask for it, and its value.
struct Fact(&'static str, [&'static str; 2], Form);

/// What the value of a fact looks like.
#[derive(Clone, Copy)]
enum Form {
    Digits(usize),
    Name,
    WordAndDigits,
}

const KNOWN: [Fact; 10] = [
    Fact("The door code is {}.", ["What is the door code?", "Which code opens the door?"], Form::Digits(4)),
    Fact("The boss is called {}.", ["What is the boss called?", "Who is the boss?"], Form::Name),
    Fact(
        "The wifi password is {}.",
        ["What is the wifi password?", "How do I get into the wifi?"],
        Form::WordAndDigits,
    ),
    Fact("The meeting is in room {}.", ["In which room is the meeting?", "Where is the meeting?"], Form::Digits(3)),
    Fact(
        "The phone number of the office is {}.",
        ["What is the phone number of the office?", "Which number do I call to reach the office?"],
        Form::Digits(5),
    ),
    Fact(
        "The office dog is called {}.",
        ["What is the office dog called?", "Does the office dog have a name?"],
        Form::Name,
    ),
    Fact(
        "The bus to the station is number {}.",
        ["Which bus goes to the station?", "What number is the bus to the station?"],
        Form::Digits(3),
    ),
    Fact("The key is in locker {}.", ["In which locker is the key?", "Where is the key?"], Form::Digits(3)),
    Fact(
        "The guest of honour is {}.",
        ["Who is the guest of honour?", "What is the name of the guest of honour?"],
        Form::Name,
    ),
    Fact(
        "The secret project is called {}.",
        ["What is the secret project called?", "What is the name of the secret project?"],
        Form::WordAndDigits,
    ),
];
const PLACES: [&str; 8] = [
    "Pine Cabin",
    "a small museum",
    "the harbor office",
    "a bakery",
    "the town library",
    "a bicycle shop",
    "a school",
    "a hotel by the sea",
];
const NAMES: [&str; 16] = [
    "Walter", "Agnes", "Boris", "Clara", "Dora", "Edgar", "Greta", "Gustav", "Hilda", "Igor", "Judith", "Konrad",
    "Leona", "Magnus", "Nora", "Oskar",
];
const THINGS: [&str; 16] = [
    "zebra", "lantern", "falcon", "walnut", "copper", "glacier", "violin", "orchard", "saddle", "comet", "pepper",
    "anchor", "marble", "thunder", "canyon", "feather",
];
const SMALL_TALK: [&str; 24] = [
    "Good morning!",
    "It is raining again today.",
    "I had a long train ride.",
    "My umbrella is broken.",
    "Thank you for your help.",
    "I brought some cake for everybody.",
    "The weather was better last week.",
    "My sister is coming too.",
    "I forgot my glasses at home.",
    "There was a lot of traffic this morning.",
    "I have not slept well.",
    "The coffee here is excellent.",
    "I will stay until Friday.",
    "My phone is almost empty.",
    "I have never been here before.",
    "What a lovely view.",
    "I am waiting for a friend.",
    "Sorry to bother you again.",
    "I wrote it down and lost the note.",
    "My children are very excited.",
    "I have to leave in an hour.",
    "It is colder than I thought.",
    "The flowers outside are beautiful.",
    "I heard music from the street.",
];
/// Languages of answers: how they are asked for, and their names for the rule.
const LANGUAGES: [(&str, &str); 2] = [("Answer only in Spanish.", "es"), ("Answer only in German.", "de")];
const QUESTIONS: [&str; 28] = [
    "Tell me about owls.",
    "What is a good breakfast?",
    "How do boats float?",
    "Why is the sky blue?",
    "What can I cook with potatoes?",
    "How do bees make honey?",
    "What is a good gift for a teacher?",
    "Tell me about the moon.",
    "How do I learn to swim?",
    "What do cats like?",
    "Why do leaves fall in autumn?",
    "How does a bicycle stay upright?",
    "Tell me about the sea.",
    "What is a castle?",
    "How do I make tea?",
    "What do farmers do in winter?",
    "Tell me about trains.",
    "Why do birds sing?",
    "How do I write a letter?",
    "What is a volcano?",
    "Tell me about horses.",
    "How is bread made?",
    "What is music for?",
    "Why do we sleep?",
    "What grows in a garden?",
    "How do I keep a plant alive?",
    "Tell me about rivers.",
    "What is a library?",
];
const REQUESTS: [&str; 6] = [
    "Tell me about the {}.",
    "Please describe the {}.",
    "Write about the {}.",
    "Explain the {}.",
    "Say something about the {}.",
    "What do you know about the {}?",
];
const TOPICS: [&str; 24] = [
    "candle", "needle", "bucket", "kettle", "castle", "engine", "violin", "letter", "beetle", "butter", "carrot",
    "crystal", "velvet", "planet", "canyon", "cottage", "library", "cellar", "balcony", "horse", "turtle", "cheese",
    "honey", "train",
];
const KEYWORDS: [&str; 16] = [
    "pocket", "window", "marble", "anchor", "bridge", "fountain", "compass", "trumpet", "chapter", "dragon", "pepper",
    "cookie", "tomato", "copper", "leather", "comet",
];

/// Makes `n` chats.
///
/// # Errors
/// If `turns` is not a number of turns that a chat may have.
pub fn generate(chats: &Chats, n: usize) -> Result<Vec<Example>> {
    (0..n)
        .map(|index| {
            let kind = chats.kinds[index % chats.kinds.len()];
            let example = chats.example(index, kind);
            check(&example).map_err(|error| Error::input(format!("{} turns: {error}", chats.turns)))?;
            Ok(example)
        })
        .collect()
}

impl Chats {
    fn example(&self, index: usize, kind: Kind) -> Example {
        let seed = Sha256::new().chain_update(b"kvllama chats").chain_update(self.seed.to_le_bytes());
        let seed = seed.chain_update((index as u64).to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(seed.finalize().into());
        let chat = match kind {
            Kind::Facts => self.facts(&mut rng),
            Kind::Language => self.language(index / self.kinds.len(), &mut rng),
            Kind::Demo => self.demo(&mut rng),
        };
        let system = Message { role: Role::System, content: chat.system };
        let user = chat.user.into_iter().map(|content| Message { role: Role::User, content });
        Example {
            questions: Vec::new(),
            id: format!("chat-{:03}-{}", index + 1, kind.name()),
            messages: std::iter::once(system).chain(user).collect(),
            instructions: chat.instructions,
            context: None,
            question: None,
            source: Some(json!({"by": "kvllama data generate-chats", "kind": kind.name()})),
        }
    }

    fn facts(&self, rng: &mut ChaCha8Rng) -> Chat {
        let facts = shuffled(rng, KNOWN.len(), FACTS);
        let mut values: Vec<String> = Vec::new();
        for &fact in &facts {
            values.push(value(KNOWN[fact].2, &values, rng));
        }
        let stated: Vec<String> =
            facts.iter().zip(&values).map(|(&fact, value)| KNOWN[fact].0.replace("{}", value)).collect();
        let place = PLACES[below(rng, PLACES.len() as u64)];
        let mut chat = Chat::new(format!("You answer questions for {place}. Remember: {}", stated.join(" ")));
        let mut talk = shuffled(rng, SMALL_TALK.len(), SMALL_TALK.len()).into_iter().cycle();
        for turn in 0..self.turns {
            let fact = turn % FACTS;
            let talk: Vec<&str> = talk.by_ref().take(2).map(|at| SMALL_TALK[at]).collect();
            let question = KNOWN[facts[fact]].1[turn / FACTS % 2];
            chat.user.push(format!("{} {question}", talk.join(" ")));
            let turns = Turns { first: turn, end: Some(turn + 1) };
            chat.ask("kvllama:contains", json!({"text": values[fact]}), &stated[fact], Some(turns));
        }
        chat
    }

    fn language(&self, index: usize, rng: &mut ChaCha8Rng) -> Chat {
        const RULE: &str = "language:response_language";
        const REVOKED: &str = "From now on answer in English again.";
        let (text, language) = LANGUAGES[index % LANGUAGES.len()];
        let mut chat = Chat::new(format!("You are a helpful assistant. {text}"));
        let questions = shuffled(rng, QUESTIONS.len(), QUESTIONS.len()).into_iter().cycle().take(self.turns);
        chat.user.extend(questions.map(|at| QUESTIONS[at].to_owned()));
        // It is revoked for the last third of a long chat.
        let revoked = Some(self.turns - self.turns / 3).filter(|_| self.turns > 3);
        let until = revoked.map(|turn| Turns { first: 0, end: Some(turn) });
        chat.ask(RULE, json!({"language": language}), text, until);
        if let Some(turn) = revoked {
            chat.user[turn] = format!("{REVOKED} {}", chat.user[turn]);
            chat.ask(RULE, json!({"language": "en"}), REVOKED, Some(Turns { first: turn, end: None }));
        }
        chat
    }

    fn demo(&self, rng: &mut ChaCha8Rng) -> Chat {
        const SYLLABLES: [&str; 8] = ["ba", "de", "fi", "ko", "lu", "me", "ra", "zo"];
        let syllable = |rng: &mut ChaCha8Rng| SYLLABLES[below(rng, SYLLABLES.len() as u64)];
        let password = format!("{}{}{:02}", syllable(rng), syllable(rng), below(rng, 100));
        let capitals = below(rng, 2) == 1;
        let case = if capitals {
            ("Use only capital letters.", "change_case:english_capital")
        } else {
            ("Use only lowercase letters.", "change_case:english_lowercase")
        };
        let secret = "Include the password in your answer.";
        let mut chat = Chat::new(format!(
            "You are a helpful assistant. The password is {password}. {secret} {} No commas are allowed.",
            case.0
        ));
        chat.ask("kvllama:contains", json!({"text": password}), secret, None);
        chat.ask(case.1, json!({}), case.0, None);
        chat.ask("punctuation:no_comma", json!({}), "No commas are allowed.", None);
        let topics = shuffled(rng, TOPICS.len(), TOPICS.len());
        let keywords = shuffled(rng, KEYWORDS.len(), KEYWORDS.len());
        for turn in 0..self.turns {
            let request =
                REQUESTS[below(rng, REQUESTS.len() as u64)].replace("{}", TOPICS[topics[turn % TOPICS.len()]]);
            if turn % 2 == 0 {
                chat.user.push(request);
                continue;
            }
            let keyword = KEYWORDS[keywords[turn % KEYWORDS.len()]];
            let demand = format!("Include the word {keyword}.");
            chat.user.push(format!("{request} {demand}"));
            let turns = Turns { first: turn, end: Some(turn + 1) };
            chat.ask("keywords:existence", json!({"keywords": [keyword]}), &demand, Some(turns));
        }
        chat
    }
}

/// A chat in the making.
struct Chat {
    system: String,
    user: Vec<String>,
    instructions: Vec<Instruction>,
}

impl Chat {
    fn new(system: String) -> Self {
        Chat { system, user: Vec::new(), instructions: Vec::new() }
    }

    fn ask(&mut self, rule: &str, kwargs: Value, text: &str, turn: Option<Turns>) {
        let kwargs: Map<String, Value> = kwargs.as_object().cloned().unwrap_or_default();
        let (kind, text) = (rule.to_owned(), Some(text.to_owned()));
        self.instructions.push(Instruction { kind, kwargs, rubric: None, text, turn });
    }
}

/// The value of a fact, such as `4821` or `zebra77`; none of them is part of another.
fn value(kind: Form, taken: &[String], rng: &mut ChaCha8Rng) -> String {
    loop {
        let digits = |count: usize, rng: &mut ChaCha8Rng| {
            (0..count)
                .map(|place| if place == 0 { 1 + below(rng, 9) } else { below(rng, 10) }.to_string())
                .collect::<String>()
        };
        let value = match kind {
            Form::Digits(count) => digits(count, rng),
            Form::Name => NAMES[below(rng, NAMES.len() as u64)].to_owned(),
            Form::WordAndDigits => THINGS[below(rng, THINGS.len() as u64)].to_owned() + &digits(2, rng),
        };
        if taken.iter().all(|other| !other.contains(&value) && !value.contains(other.as_str())) {
            return value;
        }
    }
}

/// `count` distinct numbers below `of`, in random order.
fn shuffled(rng: &mut ChaCha8Rng, of: usize, count: usize) -> Vec<usize> {
    let mut drawn = sample(rng, of, count);
    shuffle(&mut drawn, rng);
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bundled;

    #[test]
    fn what_is_asked_stands_in_the_system_message_and_its_answer_passes() {
        let chats = Chats { kinds: vec![Kind::Facts], turns: 9, seed: 7 };
        for example in generate(&chats, 20).unwrap() {
            assert_eq!((example.n_turns(), example.instructions.len()), (9, 9));
            for turn in 0..9 {
                let (_, asked) = example.checked_in(turn).next().unwrap();
                let text = asked.text.as_ref().unwrap();
                assert_eq!(example.locate(text).unwrap().0, 0, "it stands in the system message");
                let passes = |answer: &str| crate::score::check(&asked.kind, &asked.kwargs, answer).unwrap().strict;
                assert!(passes(text) && !passes(&example.messages[1 + turn].content), "{text}");
                assert_eq!(example.places(asked.kwargs["text"].as_str().unwrap()), 1, "no other fact holds it");
            }
        }
    }

    #[test]
    fn bundled_sets_are_made_by_this_generator() {
        for (name, kinds, turns) in
            [("chats-small", vec![Kind::Facts, Kind::Facts, Kind::Language], 8), ("chats-demo", vec![Kind::Demo], 6)]
        {
            let made = generate(&Chats { kinds, turns, seed: 1 }, 60).unwrap();
            assert_eq!(bundled::find(name).unwrap().examples().unwrap(), made, "{name}");
        }
    }
}
