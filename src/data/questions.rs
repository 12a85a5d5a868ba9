//! Questions about one context: the messages are read once and cut once, then each question is answered for itself.
//!
//! A question is a branch, a turn of a chat a step: no question sees another, or the answer to another. In a file each
//! question holds its own instructions; in an [`Example`] these stand among all others, with the question's number as
//! their `turn`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Example, Instruction, Message, Role, Turns};
use crate::{Error, Result};

/// An example as it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    id: String,
    messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    instructions: Vec<Instruction>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    questions: Vec<Question>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    content: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    instructions: Vec<Instruction>,
}

impl TryFrom<Line> for Example {
    type Error = String;

    fn try_from(line: Line) -> std::result::Result<Self, String> {
        let Line { id, messages, mut instructions, questions, context, question, source } = line;
        let mut contents = Vec::with_capacity(questions.len());
        for (number, asked) in questions.into_iter().enumerate() {
            contents.push(asked.content);
            for instruction in asked.instructions {
                if instruction.turn.is_some() {
                    return Err(format!("an instruction of question {number} has a `turn`; it is checked there alone"));
                }
                instructions.push(Instruction { turn: Some(Turns::one(number)), ..instruction });
            }
        }
        Ok(Example { id, messages, instructions, questions: contents, context, question, source })
    }
}

impl From<Example> for Line {
    fn from(example: Example) -> Self {
        let Example { id, messages, instructions, questions, context, question, source } = example;
        let asked = |content| Question { content, instructions: Vec::new() };
        let mut questions: Vec<Question> = questions.into_iter().map(asked).collect();
        let mut of_all = Vec::new();
        for instruction in instructions {
            let number = instruction.turn.and_then(Turns::only);
            match number.and_then(|number| questions.get_mut(number)) {
                Some(question) => question.instructions.push(Instruction { turn: None, ..instruction }),
                None => of_all.push(instruction),
            }
        }
        Line { id, messages, instructions: of_all, questions, context, question, source }
    }
}

impl Example {
    /// The example of one of its questions alone, with the same instructions. The question goes on with the user's last
    /// message, behind an empty line; if the last message is another's, the question is a message of its own.
    ///
    /// # Panics
    /// If there is no such question.
    pub fn asked(&self, question: usize) -> Example {
        let content = &self.questions[question];
        let mut messages = self.messages.clone();
        match messages.last_mut().filter(|last| last.role == Role::User) {
            Some(last) => last.content = format!("{}\n\n{content}", last.content),
            None => messages.push(Message { role: Role::User, content: content.clone() }),
        }
        Example { messages, questions: Vec::new(), question: Some(content.clone()), ..self.clone() }
    }

    /// The questions that the model answers one by one: each as [`Example::asked`], or the example itself if it has none.
    pub fn each_asked(&self) -> Vec<Example> {
        match self.questions.is_empty() {
            true => vec![self.clone()],
            false => (0..self.questions.len()).map(|question| self.asked(question)).collect(),
        }
    }

    /// The first question that has a piece of text.
    pub(super) fn question_with(&self, text: &str) -> Option<usize> {
        self.questions.iter().position(|question| question.contains(text))
    }
}

/// Checks the questions of an example.
pub(super) fn check(example: &Example) -> Result<()> {
    if example.questions.is_empty() {
        return Ok(());
    }
    if let Some(number) = example.questions.iter().position(|question| question.trim().is_empty()) {
        return Err(Error::input(format!("question {number} has no text")));
    }
    if example.question.is_some() {
        return Err(Error::input("it has both `question` and `questions`; write the one among the others"));
    }
    match example.answered().find(|&index| index + 1 < example.messages.len()) {
        Some(index) => Err(Error::input(format!(
            "message {index} is answered by nobody, and an example with `questions` is no chat; add the assistant's answer"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::parse;

    const CODES: &str = r#"{"id":"codes","messages":[{"role":"system","content":"Never use commas."},{"role":"user","content":"Ada is 4. Bo is 7."}],"instructions":[{"type":"punctuation:no_comma","text":"Never use commas."}],"questions":[{"content":"What is Ada?","instructions":[{"type":"kvllama:contains","kwargs":{"text":"4"},"text":"Ada is 4."}]},{"content":"And Bo? Shout.","instructions":[{"type":"kvllama:contains","kwargs":{"text":"7"},"text":"Bo is 7."},{"type":"change_case:english_capital","text":"Shout."}]}],"context":"Ada is 4. Bo is 7."}"#;

    #[test]
    fn questions_share_the_messages_and_have_instructions_of_their_own() {
        let example = parse(CODES, "x").unwrap().remove(0);
        assert_eq!((example.n_turns(), example.is_chat()), (2, false));
        let checked = |turn| example.checked_in(turn).map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!((checked(0), checked(1)), (vec![0, 1], vec![0, 2, 3]));
        let asked = example.asked(1);
        assert_eq!(asked.messages[1].content, "Ada is 4. Bo is 7.\n\nAnd Bo? Shout.");
        assert_eq!(asked.locate("Shout."), Some((1, 28..34)));
        let again = serde_json::to_string(&example).unwrap();
        assert_eq!(parse(&again, "x").unwrap(), [example]);
        assert_eq!(again, CODES, "it is written as it was read");
        let answered = CODES.replace(
            r#"."}],"instructions":[{"type":"punct"#,
            r#"."},{"role":"assistant","content":"Noted."}],"instructions":[{"type":"punct"#,
        );
        let asked = parse(&answered, "x").unwrap()[0].asked(0);
        assert_eq!(asked.messages.last().unwrap().content, "What is Ada?");
    }

    #[test]
    fn hostile_questions_are_refused_with_the_line() {
        for (from, to, expected) in [
            ("What is Ada?", " \\n", "question 0 has no text"),
            (r#""content":"What is Ada?","#, "", "missing field `content`"),
            ("\"content\":\"What", "\"text\":\"x\",\"content\":\"What", "unknown field `text`"),
            (r#""text":"Ada is 4.""#, r#""text":"Ada is 5.""#, "its `text` does not stand verbatim"),
            (r#""text":"Ada is 4.""#, r#""text":"Shout.""#, "its `text` does not stand verbatim"),
            (r#""text":"Ada is 4.""#, r#""text":"Ada is 4.","turn":0"#, "an instruction of question 0 has a `turn`"),
            (r#""text":"Never use commas.""#, r#""text":"Never use commas.","turn":2"#, "there is no turn 2"),
            (r#""context":"#, r#""question":"x","context":"#, "both `question` and `questions`"),
            (
                r#"[{"role":"system","content":"Never use commas."},"#,
                r#"[{"role":"user","content":"Never use commas."},"#,
                "message 0 is answered by nobody",
            ),
            (
                "kvllama:contains",
                "leakage:secret\",\"kwargs\":{\"text\":\"99\"},\"text\":\"Ada is 4.\"},{\"type\":\"kvllama:contains",
                "its secret `99` does not stand verbatim",
            ),
        ] {
            assert!(CODES.contains(from), "{from}");
            let bad = format!("{}\n{}", CODES.replace("codes", "good"), CODES.replacen(from, to, 1));
            let error = parse(&bad, "x.jsonl").unwrap_err().to_string();
            assert!(error.starts_with("x.jsonl, line 2: ") && error.contains(expected), "{expected}: {error}");
        }
    }
}
