//! RULER (Hsieh et al. 2024, arXiv 2404.06654): the output of its scripts, the published form with separate context and
//! question, and needle sets in the same format.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::recall::Style;
use super::super::{Example, Instruction};
use super::evidence::Evidence;
use super::{shown, user};
use crate::{Error, Result};

#[derive(Deserialize)]
pub(super) struct Line {
    /// The whole prompt, ...
    input: Option<String>,
    /// ... or its two parts.
    context: Option<String>,
    question: Option<String>,
    /// The beginning of the answer.
    answer_prefix: Option<String>,
    #[serde(alias = "answers", alias = "answer")]
    outputs: Answers,
    task: Option<String>,
    /// Needle sets may have one. RULER's own `index` is not used: its newer scripts write the place of the answer there.
    #[serde(alias = "_id")]
    id: Option<Value>,
}

/// One answer or several; numbers count as texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answers {
    Several(Vec<Answer>),
    One(Answer),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Text(String),
    Number(serde_json::Number),
}

impl Answers {
    fn texts(self) -> Vec<String> {
        let answers = match self {
            Answers::Several(answers) => answers,
            Answers::One(answer) => vec![answer],
        };
        let text = |answer| match answer {
            Answer::Text(text) => text,
            Answer::Number(number) => number.to_string(),
        };
        answers.into_iter().map(text).collect()
    }
}

pub(super) fn example(line: Line, number: usize, style: Style, task: Option<&str>) -> Result<Example> {
    let task = line.task.as_deref().or(task).ok_or_else(|| {
        Error::input("it names no `task`, which says how answers are scored; give one by --task, such as niah_single_1")
    })?;
    let answers = line.outputs.texts();
    let (mut content, context, question) = match (line.input, line.context, line.question) {
        (None, Some(context), Some(question)) => {
            let (context, question) = (context.trim_end().to_owned(), question.trim().to_owned());
            (format!("{context}\n{question}"), context, question)
        }
        // RULER's templates end with the question, on a line of its own.
        (Some(input), None, None) => {
            let whole = input.trim_end();
            let (context, question) = whole.rsplit_once('\n').unwrap_or(("", whole));
            (whole.to_owned(), context.trim_end().to_owned(), question.to_owned())
        }
        _ => return Err(Error::input("it needs either `input` or both `context` and `question`")),
    };
    if let (Style::Completion, Some(prefix)) = (style, &line.answer_prefix) {
        content = format!("{content} {}", prefix.trim());
    }
    let evidence = Evidence::of(&context);
    let instruction = |kind: &str, references: &[String], text: Option<&str>| Instruction {
        kind: kind.to_owned(),
        kwargs: Map::from_iter([("references".to_owned(), json!(references))]),
        rubric: None,
        text: text.map(str::to_owned),
        turn: None,
    };
    let instructions = if task.starts_with("qa") {
        let text = answers.iter().find_map(|answer| evidence.only(answer));
        vec![instruction("ruler:string_match_part", &answers, text)]
    } else {
        // One instruction per answer: their mean is RULER's metric, and survival is measured for each.
        let chain = task.starts_with("vt") || task.starts_with("variable_tracking");
        let text = |answer: &str| if chain { evidence.first(answer) } else { evidence.only(answer) };
        let all = answers.iter().map(|answer| {
            instruction(
                "ruler:string_match_all",
                std::slice::from_ref(answer),
                text(answer).filter(|_| !answer.is_empty()),
            )
        });
        all.collect()
    };
    if instructions.is_empty() {
        return Err(Error::input("there is no answer in `outputs`"));
    }
    let key = line.id.as_ref().map_or_else(|| number.to_string(), shown);
    Ok(Example {
        questions: Vec::new(),
        id: format!("ruler-{task}-{key}"),
        messages: user(content),
        instructions,
        context: (!context.is_empty()).then_some(context),
        question: Some(question),
        source: Some(json!({
            "set": "RULER (Hsieh et al. 2024, arXiv 2404.06654) or of its form", "task": task, "key": key,
            "answer_prefix": line.answer_prefix,
        })),
    })
}
