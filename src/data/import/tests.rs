use proptest::prelude::*;
use serde_json::json;

use super::*;

const CHAT: Style = Style::Chat;

fn ruler(style: Style, task: Option<&str>) -> Format {
    Format::Ruler { style, task: task.map(str::to_owned) }
}

fn one(line: &Value, format: &Format) -> Example {
    parse(&line.to_string(), "x", format).unwrap().remove(0)
}

fn texts(example: &Example) -> Vec<Option<&str>> {
    example.instructions.iter().map(|instruction| instruction.text.as_deref()).collect()
}

#[test]
fn ruler_is_imported_answer_by_answer_with_its_needles() {
    let context = "A special magic number is hidden here.\nThe grass is green. One of the special magic numbers for calm-owl is: 7301. \
                   The sky is blue. One of the special magic numbers for calm-owl is: 4415.";
    let question = "What are all the special magic numbers for calm-owl mentioned in the provided text?";
    let apart = json!({
        "context": context, "question": question, "answer_prefix": " The numbers are", "answer": ["7301", 4415],
        "task": "niah_multivalue", "max_new_tokens": 128,
    });
    let needles = [
        Some("One of the special magic numbers for calm-owl is: 7301."),
        Some("One of the special magic numbers for calm-owl is: 4415."),
    ];
    let example = one(&apart, &ruler(CHAT, None));
    assert_eq!((example.id.as_str(), texts(&example)), ("ruler-niah_multivalue-1", needles.to_vec()));
    assert_eq!(example.instructions[1].kwargs["references"], json!(["4415"]));
    assert_eq!(example.messages[0].content, format!("{context}\n{question}"));
    assert!(one(&apart, &ruler(Style::Completion, None)).messages[0].content.ends_with("text? The numbers are"));

    // The output of RULER's own scripts, where the file's name gives the task. `index` is the place of the first answer,
    // which two lines may share.
    let whole = json!({
        "index": 103, "input": format!("{context}\n{question} "), "outputs": ["7301", "4415"], "length": 90,
        "length_w_model_temp": 90, "answer_prefix": "The numbers are", "token_position_answer": 31,
    });
    let examples = parse(&format!("{whole}\n{whole}"), "x", &ruler(CHAT, Some("niah_multivalue"))).unwrap();
    let example = &examples[1];
    assert_eq!((example.id.as_str(), texts(example)), ("ruler-niah_multivalue-2", needles.to_vec()));
    assert_eq!((example.context.as_deref(), example.question.as_deref()), (Some(context), Some(question)));

    let chain = json!({"input": "VAR AB = 5. Grass.\nVAR CD = VAR AB.\nWhich?", "outputs": ["AB", "CD"]});
    assert_eq!(texts(&one(&chain, &ruler(CHAT, Some("vt")))), [Some("VAR AB = 5."), Some("VAR CD = VAR AB.")]);
    // Any of the answers is accepted, and an answer that occurs in two places has no span.
    let qa = json!({"context": "Rome. Paris. Paris again.", "question": "Where?", "outputs": ["paris", "rome"], "task": "qa_1"});
    let example = one(&qa, &ruler(CHAT, None));
    assert_eq!((example.instructions.len(), texts(&example)), (1, vec![Some("Rome.")]));
    assert_eq!(example.instructions[0].kind, "ruler:string_match_part");
}

#[test]
fn longbench_is_imported_with_the_metric_of_its_set() {
    let line = |dataset: &str| {
        json!({"input": "Who rang?", "context": "It was late. The lodger rang the bell.", "answers": ["The lodger"],
               "length": 9, "dataset": dataset, "language": "en", "all_classes": null, "_id": "f00"})
    };
    let format = Format::Longbench { style: CHAT };
    let example = one(&line("hotpotqa_e"), &format);
    assert_eq!(
        (example.id.as_str(), texts(&example)),
        ("longbench-hotpotqa_e-f00", vec![Some("The lodger rang the bell.")])
    );
    assert!(example.question.unwrap().ends_with("Question: Who rang?"));
    // The edition for kvpress has LongBench's own prompt in parts.
    let whole = json!({
        "context": "Answer briefly.\n\nIt was late. The lodger rang the bell.\n\n", "question": "Question: Who rang?\n\n",
        "answer_prefix": "Answer:", "answers": ["The lodger"], "all_classes": [], "dataset": "qasper", "task": "qasper",
        "language": "en", "length": "9", "_id": "f00", "max_new_tokens": "148",
    });
    let example = one(&whole, &Format::Longbench { style: Style::Completion });
    let asked = "Answer briefly.\n\nIt was late. The lodger rang the bell.\n\nQuestion: Who rang?\nAnswer:";
    assert_eq!(
        (example.messages[0].content.as_str(), example.instructions[0].kind.as_str()),
        (asked, "longbench:qa_f1_score")
    );
    let kinds = ["qasper", "triviaqa", "samsum", "gov_report"].map(|set| {
        let instruction = &one(&line(set), &format).instructions[0];
        (instruction.kind.clone(), instruction.kwargs.contains_key("first_line"))
    });
    let (f1, rouge) = ("longbench:qa_f1_score", "longbench:rouge_score");
    assert_eq!(
        kinds,
        [(f1, false), (f1, true), (rouge, true), (rouge, false)].map(|(kind, first)| (kind.to_owned(), first))
    );
}

#[test]
fn hostile_lines_are_refused_with_their_number() {
    let good = json!({"context": "Ada is 4.", "question": "What?", "outputs": ["4"], "task": "t", "id": 1});
    for (change, mend) in [
        (json!({"outputs": []}), "no answer in `outputs`"),
        (json!({"outputs": [""]}), "`references` must be"),
        (json!({"outputs": [{"a": 1}]}), "not a line of ruler"),
        (json!({"task": null}), "give one by --task"),
        (json!({"question": null}), "either `input` or both"),
        (json!({"input": "x"}), "either `input` or both"),
        (json!({"question": "  "}), "the `question` does not stand"),
        (json!({"task": "a\u{7}"}), "control characters"),
        (json!({}), "already taken by line 1"),
    ] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = parse(&format!("{good}\n{bad}"), "x.jsonl", &ruler(CHAT, None)).unwrap_err().to_string();
        assert!(error.starts_with("x.jsonl, line 2: ") && error.contains(mend), "{change}: {error}");
    }
    let trec = json!({"input": "", "context": "c", "answers": ["a"], "dataset": "trec"}).to_string();
    let error = parse(&trec, "x", &Format::Longbench { style: CHAT }).unwrap_err().to_string();
    assert!(
        error.contains("line 1: the data set `trec` has a metric that kvllama lacks; it has those of narrativeqa"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn whatever_a_line_holds_is_imported_or_refused(
        context in "(?s).{0,60}", question in "(?s).{0,20}", answers in prop::collection::vec("(?s).{0,6}", 0..4),
        task in "niah|vt|qa|.{0,3}", dataset in "qasper|samsum|.{0,3}", completion: bool,
    ) {
        let style = if completion { Style::Completion } else { CHAT };
        let line = json!({"context": context, "question": question, "outputs": answers, "task": task});
        let ruler = parse(&line.to_string(), "x", &ruler(style, None));
        let line = json!({"context": context, "input": question, "answers": answers, "dataset": dataset});
        let longbench = parse(&line.to_string(), "x", &Format::Longbench { style });
        for examples in [ruler, longbench] {
            let lines = examples.unwrap_or_default().iter().map(|one| json!(one).to_string()).collect::<Vec<_>>().join("\n");
            // The imported lines form a valid data set.
            prop_assert!(lines.is_empty() || crate::data::parse(&lines, "x").is_ok());
        }
    }
}
