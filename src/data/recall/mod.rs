//! Recall tasks: facts hidden in a natural text, and a question about them after it.
//!
//! The kinds are those of RULER (Hsieh et al. 2024, arXiv 2404.06654): `niah_single`, `niah_multikey`,
//! `niah_multivalue`, `niah_multiquery`, `vt`. Each requested fact is an instruction of its own, whose `text` is the
//! sentence that states it. So survival is measured for each fact, and the mean over an example's instructions is
//! RULER's `string_match_all`.

mod carrier;
mod depth;
mod facts;

use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::load::check;
use super::{Example, Instruction, Message, Role, Turns};
use crate::{Error, Result};
use carrier::{Carrier, Passage};
pub use depth::{Depths, range};
use facts::Facts;
pub use facts::Kind;

/// The form of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A question to a chat model.
    Chat,
    /// The beginning of the answer, for a model that continues a text: `... the special code of Ada is`.
    Completion,
}

impl FromStr for Style {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "chat" => Ok(Style::Chat),
            "completion" => Ok(Style::Completion),
            _ => Err(Error::input(format!("`{text}` is not a style; known are `chat` and `completion`"))),
        }
    }
}

/// Settings for making recall tasks. Examples use the kinds, the lengths and, if they are a list, the depths in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Recall {
    /// Lengths of the prompts, in the unit of the measure given to [`generate`]. Not empty.
    pub lengths: Vec<usize>,
    /// Kinds of task. Not empty.
    pub kinds: Vec<Kind>,
    /// Number of facts in a text, including those that are not requested; [`Kind::Single`] has one.
    pub facts: usize,
    /// Number of questions about each text, each for another fact; more than one only with [`Kind::MultiKey`].
    pub questions: usize,
    /// The depths of the facts in the text.
    pub depths: Depths,
    /// The form of the prompt.
    pub style: Style,
    /// The same seed gives the same examples; a set of 100 begins with the set of 10.
    pub seed: u64,
}

/// Makes `n` examples. `measure` returns the length of an example's prompt.
///
/// # Errors
/// If the facts and the question alone are longer than the requested prompt, or if there are more facts than names.
pub fn generate(recall: &Recall, n: usize, measure: &dyn Fn(&Example) -> Result<usize>) -> Result<Vec<Example>> {
    let carrier = Carrier::bundled();
    // Each text continues where the one before stopped, so texts overlap only when the carrier is used up.
    let mut start = crate::random::below(&mut recall.rng(None), carrier.len() as u64);
    (0..n)
        .map(|index| {
            let (example, used) = recall.example(index, &carrier, start, measure)?;
            start += used;
            Ok(example)
        })
        .collect()
}

impl Recall {
    /// The random stream of an example, or the one that all examples share.
    fn rng(&self, index: Option<usize>) -> ChaCha8Rng {
        let mut key = Sha256::new().chain_update(b"kvllama recall").chain_update(self.seed.to_le_bytes());
        if let Some(index) = index {
            key.update((index as u64).to_le_bytes());
        }
        ChaCha8Rng::from_seed(key.finalize().into())
    }

    /// Makes one example; also returns how many sentences of the carrier it used.
    fn example(
        &self,
        index: usize,
        carrier: &Carrier,
        start: usize,
        measure: &dyn Fn(&Example) -> Result<usize>,
    ) -> Result<(Example, usize)> {
        let rng = &mut self.rng(Some(index));
        let kind = self.kinds[index % self.kinds.len()];
        let length = self.lengths[index % self.lengths.len()];
        let facts = Facts::draw(kind, self.facts, self.questions, carrier.text(), rng)?;
        let depths = self.depths.draw(index, facts.stated.len(), kind == Kind::Variables, rng);
        let with = |words: usize| {
            let passage = carrier.passage(start, words);
            (self.frame(index, kind, &facts, &depths, &passage), passage.sentences())
        };
        let measured = |words: usize| measure(&with(words).0);
        let bare = measured(0)?;
        if bare > length {
            return Err(Error::input(format!(
                "the facts and the question of `{}` take {bare} alone, and the prompt is to have {length}; ask for longer \
                 prompts or fewer facts",
                self.id(index, kind)
            )));
        }
        // Finds the largest number of words that fits, by bisection; a word is one token or more.
        let (mut fits, mut exceeds) = (0, length + 1);
        while exceeds - fits > 1 {
            let middle = fits.midpoint(exceeds);
            if measured(middle)? <= length { fits = middle } else { exceeds = middle }
        }
        let over = measured(fits + 1)?.abs_diff(length) < measured(fits)?.abs_diff(length);
        let (example, used) = with(fits + usize::from(over));
        check(&example)?;
        Ok((example, used))
    }

    fn id(&self, index: usize, kind: Kind) -> String {
        format!("recall-{:03}-{}", index + 1, kind.name())
    }

    fn frame(&self, index: usize, kind: Kind, facts: &Facts, depths: &[f64], passage: &Passage) -> Example {
        let context = passage.with(&facts.stated, depths);
        let shared = match self.style {
            Style::Chat => format!("{}\n\n{context}", facts.announcement),
            Style::Completion => context.clone(),
        };
        let mut questions: Vec<String> = facts
            .asked
            .iter()
            .map(|asked| if self.style == Style::Chat { asked.question.clone() } else { asked.stem.clone() })
            .collect();
        let several = questions.len() > 1;
        let instruction = |question: usize, fact: usize| Instruction {
            kind: "ruler:string_match_all".to_owned(),
            kwargs: Map::from_iter([("references".to_owned(), json!([facts.answers[fact]]))]),
            rubric: None,
            text: Some(facts.stated[fact].clone()),
            turn: several.then(|| Turns::one(question)),
        };
        let of_all = facts.asked.iter().enumerate();
        let instructions = of_all.flat_map(|(question, asked)| asked.facts.clone().map(move |fact| (question, fact)));
        let instructions = instructions.map(|(question, fact)| instruction(question, fact)).collect();
        let question = (!several).then(|| questions.remove(0));
        let content = question.as_ref().map_or_else(|| shared.clone(), |question| format!("{shared}\n\n{question}"));
        let depths: Vec<Value> = depths.iter().map(|depth| json!((depth * 1e3).round() / 1e3)).collect();
        Example {
            id: self.id(index, kind),
            messages: vec![Message { role: Role::User, content }],
            instructions,
            questions,
            question,
            source: Some(json!({"by": "kvllama data generate-recall", "kind": kind.name(), "depths": depths})),
            context: Some(context),
        }
    }
}

#[cfg(test)]
mod tests;
