//! LongBench (Bai et al. 2023, arXiv 2308.14508): the sets that its F1 and ROUGE-L score.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::recall::Style;
use super::super::{Example, Instruction};
use super::evidence::Evidence;
use super::{shown, user};
use crate::{Error, Result};

#[derive(Deserialize)]
pub(super) struct Line {
    input: Option<String>,
    context: String,
    /// Only in the edition for kvpress: there `context`, `question` and `answer_prefix` together are LongBench's prompt.
    question: Option<String>,
    answer_prefix: Option<String>,
    answers: Vec<String>,
    dataset: Option<String>,
    task: Option<String>,
    #[serde(alias = "id")]
    _id: Option<Value>,
}

/// How the sets of one kind ask and score.
struct Kind {
    datasets: &'static [&'static str],
    rule: &'static str,
    /// Whether only the first line of an answer counts: LongBench does this for sets whose prompts are worked examples.
    first_line: bool,
    ask: fn(&str) -> String,
}

const KINDS: [Kind; 5] = [
    Kind {
        datasets: &["narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique"],
        rule: "longbench:qa_f1_score",
        first_line: false,
        ask: |input| {
            format!("Answer this question from the text above, in as few words as you can.\nQuestion: {input}")
        },
    },
    Kind { datasets: &["triviaqa"], rule: "longbench:qa_f1_score", first_line: true, ask: str::to_owned },
    Kind { datasets: &["samsum"], rule: "longbench:rouge_score", first_line: true, ask: str::to_owned },
    Kind {
        datasets: &["qmsum"],
        rule: "longbench:rouge_score",
        first_line: false,
        ask: |input| format!("Answer this from the meeting above, in a few sentences: {input}"),
    },
    Kind {
        datasets: &["gov_report", "multi_news"],
        rule: "longbench:rouge_score",
        first_line: false,
        ask: |_| "Summarize the text above on one page.".to_owned(),
    },
];

pub(super) fn example(line: Line, number: usize, style: Style) -> Result<Example> {
    let name = line.dataset.or(line.task).ok_or_else(|| Error::input("it names no `dataset`"))?;
    // LongBench-E's files have names with this ending.
    let dataset = name.strip_suffix("_e").unwrap_or(&name);
    let kind = KINDS.iter().find(|kind| kind.datasets.contains(&dataset)).ok_or_else(|| {
        let known: Vec<&str> = KINDS.iter().flat_map(|kind| kind.datasets).copied().collect();
        Error::input(format!(
            "the data set `{}` has a metric that kvllama lacks; it has those of {}",
            name.escape_debug(),
            known.join(", ")
        ))
    })?;
    let context = line.context.trim_end().to_owned();
    let (mut question, prefix) = match (line.input, line.question) {
        (Some(input), _) => ((kind.ask)(input.trim()), if kind.first_line { None } else { Some("Answer:".to_owned()) }),
        (None, Some(question)) => (question.trim().to_owned(), line.answer_prefix),
        (None, None) => return Err(Error::input("it needs `input` or `question`")),
    };
    if let Some(prefix) = prefix.as_deref().map(str::trim).filter(|prefix| !question.ends_with(prefix))
        && style == Style::Completion
    {
        question = format!("{question}\n{prefix}");
    }
    let mut kwargs = Map::from_iter([("references".to_owned(), json!(line.answers))]);
    if kind.first_line {
        kwargs.insert("first_line".to_owned(), json!(true));
    }
    let evidence = Evidence::of(&context);
    let text = line.answers.iter().filter(|answer| !answer.is_empty()).find_map(|answer| evidence.only(answer));
    let instruction =
        Instruction { kind: kind.rule.to_owned(), kwargs, rubric: None, text: text.map(str::to_owned), turn: None };
    let key = line._id.as_ref().map_or_else(|| number.to_string(), shown);
    Ok(Example {
        questions: Vec::new(),
        id: format!("longbench-{name}-{key}"),
        messages: user(format!("{context}\n\n{question}")),
        instructions: vec![instruction],
        context: (!context.is_empty()).then_some(context),
        question: Some(question),
        source: Some(json!({
            "set": "LongBench (Bai et al. 2023, arXiv 2308.14508)", "dataset": name, "key": key,
        })),
    })
}
