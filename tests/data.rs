//! Data sets: checked, imported, and written by a language model that gets its errors back.

mod common;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{kvllama, run};
use kvllama::api::{Endpoint, Patience, Secret};
use kvllama::data::generate::{DEFAULT_MODEL, Generated, Observer, generate};
use kvllama::data::{self, Example, Format, import};
use kvllama::exp::prompt_of;
use kvllama::llama::{LoadSettings, Model};
use kvllama::models::EMBEDDED_GGUF;
use kvllama::span::Label;
use kvllama::{Error, Result};
use serde_json::{Value, json};

// Imports.

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");

/// The import of a published file; without the file, a visible skip.
fn imported(test: &str, file: &str, format: Format) -> Option<Vec<Example>> {
    let path = Path::new(SHARED).join(file);
    if !path.exists() {
        // Written past the test harness, which would hide it.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: there is no {}", path.display());
        return None;
    }
    Some(import(&path, format, false).unwrap())
}

/// What every import must be: valid, with the text of nearly every instruction.
fn check_import(examples: &[Example], count: usize, instructions: usize) {
    assert_eq!(examples.len(), count);
    let lines: String = examples.iter().map(|example| serde_json::to_string(example).unwrap() + "\n").collect();
    // Reading checks kwargs, and that each span stands verbatim in its prompt.
    assert_eq!(data::parse(&lines, "imported").unwrap(), examples);
    let all: Vec<_> = examples.iter().flat_map(|example| &example.instructions).collect();
    assert_eq!(all.len(), instructions);
    let with_text = all.iter().filter(|instruction| instruction.text.is_some()).count();
    assert!(with_text as f64 >= 0.98 * all.len() as f64, "{with_text} of {}", all.len());
}

/// Spans that were checked by hand: key, and the text of each instruction.
fn check_spans(examples: &[Example], expected: &[(u64, &[Option<&str>])]) {
    for (key, texts) in expected {
        let example = examples.iter().find(|example| example.source.as_ref().unwrap()["key"] == *key).unwrap();
        let found: Vec<Option<&str>> = example.instructions.iter().map(|one| one.text.as_deref()).collect();
        assert_eq!(found, *texts, "{}: {}", example.id, example.messages[0].content);
    }
}

#[test]
fn ifeval_is_imported_with_the_words_of_its_instructions() {
    let Some(examples) = imported("ifeval", "ifeval/input_data.jsonl", Format::Ifeval) else { return };
    check_import(&examples, 541, 834);
    assert_eq!(examples[0].id, "ifeval-1000");
    let prompt = |example: &Example| example.messages[0].content.clone();
    let whole = |example: &&Example| example.instructions.iter().any(|one| one.text == Some(prompt(example)));
    let whole = examples.iter().filter(whole).count();
    assert!(whole < 54, "the text of an instruction is seldom the whole prompt, but is in {whole}");
    let postscript = Some("At the end of your response, please add a postscript starting with P.P.S");
    check_spans(
        &examples,
        &[
            (
                1040,
                &[
                    Some("make sure that words with all capital letters appear less than 10 times."),
                    Some("Use words with all capital letters to highlight key abilities"),
                    Some("Wrap the entire response with double quotation marks."),
                ],
            ),
            (
                1069,
                &[
                    Some("The email must include the keywords \"correlated\" and \"experiencing\""),
                    Some(
                        "Write a long email template that invites a group of participants to a meeting, with at least 500 words.",
                    ),
                    Some("should not use any commas."),
                ],
            ),
            (
                1392,
                &[
                    Some("with a title in double angular brackets, i.e. <<title>>"),
                    Some("have less than 5 sentences (excluding 5)."),
                    Some(
                        "The sentences should be long, so that the total number of words in your response should be 250 or more.",
                    ),
                ],
            ),
            (
                1516,
                &[
                    Some("Your entire response should be in English, and should not contain any capital letters."),
                    Some("The poem should have a rhyme scheme of AABBA and include the word \"Netflix\"."),
                ],
            ),
            (
                1619,
                &[
                    Some("At the end of your response add a postscript starting with P.P.S"),
                    Some("The response must contain at least 6 placeholders represented by square brackets."),
                ],
            ),
            (1893, &[Some("Finish the song with:\n\nPeace!\n\nNo additional words should follow \"Peace!\"")]),
            (
                1908,
                &[
                    Some("Your response should contain at least 30 sentences"),
                    Some("exactly 2 bullet points."),
                    Some(
                        "Also, it must contain at least 8 placeholders represented by square brackets, such as [address].",
                    ),
                ],
            ),
            (
                227,
                &[Some("Choose from the following: ('My answer is yes.', 'My answer is no.', 'My answer is maybe.')")],
            ),
            (2485, &[Some("Please also include the keywords \"ink\" and \"memoirs\" in the sentence")]),
            (
                2549,
                &[
                    Some("The third paragraph must start with the word bonding."),
                    Some("Include keywords gao and hearts in the response."),
                    postscript,
                ],
            ),
            (2571, &[Some("all capital letters"), Some("contain no commas"), Some("be fewer than 16 sentences.")]),
            (
                2704,
                &[
                    Some("Give exactly two different responses, separated by 6 asterisk symbols (******)"),
                    Some("include a title wrapped in double angular brackets, i.e. <<title>>."),
                    Some("Do not use commas."),
                ],
            ),
            // One sentence states both bounds.
            (3534, &[Some("with no capital letters"), Some("in 20 to 30 sentences."), Some("in 20 to 30 sentences.")]),
            // The prompt asks for 400 words while the rule counts 336, and shows the five parts only by an example.
            (
                337,
                &[
                    None,
                    Some(
                        "Your response must be at least 400 words and have a title wrapped in double angular brackets, like <<riddle>>.",
                    ),
                ],
            ),
            (1377, &[None]),
        ],
    );
}

#[test]
fn system_prompts_are_imported_with_the_words_of_their_instructions() {
    let Some(examples) = imported("sys-ifeval", "sys_ifeval/sys_ifeval.jsonl", Format::SysIfeval { attacked: None })
    else {
        return;
    };
    check_import(&examples, 539, 830);
    for example in &examples {
        assert_eq!(example.question.as_ref(), Some(&example.messages[1].content));
        let texts = example.instructions.iter().filter_map(|one| one.text.as_deref());
        for text in texts {
            assert_eq!(example.locate(text).unwrap().0, 0, "{}: it stands in the system turn", example.id);
        }
    }
    check_spans(
        &examples,
        &[
            (
                1019,
                &[Some(
                    "Ensure the response is in English, and in all lowercase letters. No capital letters are allowed.",
                )],
            ),
            (
                1137,
                &[
                    Some("Make sure your entire response is wrapped in JSON format."),
                    Some("without using the word \"nourriture\"."),
                ],
            ),
            (
                1203,
                &[Some("Make sure to use the word war at least 8 times"), Some("the word peace at least 10 times.")],
            ),
            (
                3415,
                &[
                    Some("Use less than 200 words."),
                    Some("Include the word 'unfortunately' between 3 and 5 times."),
                    Some("Include the word 'unfortunately' between 3 and 5 times."),
                ],
            ),
            (
                3669,
                &[
                    Some("Also, you cannot use any commas in your entire response."),
                    Some("Your entire response should be written in Hindi."),
                ],
            ),
        ],
    );
}

#[test]
fn imports_and_checks_name_every_bad_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let line = |key: u32, kind: &str| json!({"key": key, "prompt": "Greet me. Use no commas.", "instruction_id_list": [kind], "kwargs": [{"x": null}]});
    let good = format!("{}\n\n{}\n", line(1, "punctuation:no_comma"), line(2, "punctuation:no_comma"));
    std::fs::write(path("in.jsonl"), &good).unwrap();
    let output = run(0, &["data", "import-ifeval", &path("in.jsonl"), "--out", &path("out.jsonl")]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 of 2 instructions (100.0%)"));
    let text = std::fs::read_to_string(path("out.jsonl")).unwrap();
    assert!(text.contains(r#""text":"Use no commas.""#) && !text.contains("null"), "{text}");
    assert_eq!(run(0, &["data", "import-ifeval", &path("in.jsonl")]).stdout, text.as_bytes());

    std::fs::write(path("bad.jsonl"), format!("{good}{}\n", line(3, "punctuation:no_coma"))).unwrap();
    let output = run(2, &["data", "import-ifeval", &path("bad.jsonl"), "--out", &path("none.jsonl")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bad.jsonl, line 4: ") && said.contains("no_coma"), "{said}");
    assert!(!Path::new(&path("none.jsonl")).exists());

    let survey: Value =
        serde_json::from_slice(&run(0, &["data", "check", &path("out.jsonl"), "--json"]).stdout).unwrap();
    assert_eq!(survey["types"], json!({"punctuation:no_comma": 2}));
    assert_eq!(survey["warnings"][0]["warning"], "near-duplicate");
    std::fs::write(path("out.jsonl"), format!("{{}}\n{text}{text}")).unwrap();
    let output = run(2, &["data", "check", &path("out.jsonl"), "--json"]);
    let survey: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines: Vec<&Value> = survey["errors"].as_array().unwrap().iter().map(|bad| &bad["line"]).collect();
    assert_eq!(lines, [1, 4, 5]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("3 of 5 lines are no examples"), "{said}");
}

// Recall tasks.

#[test]
fn recall_tasks_have_the_asked_tokens_and_the_same_bytes() {
    let generate = |more: &[&str]| {
        let base = ["data", "generate-recall", "--n", "6", "--kind", "multikey,vt", "--seed", "7"];
        String::from_utf8(run(0, &[&base, more].concat()).stdout).unwrap()
    };
    let model = Model::from_bytes("default", EMBEDDED_GGUF, &LoadSettings::default(), None).unwrap();
    let tokens = ["--tokens", "700,1500", "--model", "default"];
    let text = generate(&tokens);
    for (index, example) in data::parse(&text, "x").unwrap().iter().enumerate() {
        let prompt = prompt_of(&model, example).unwrap();
        let wanted = [700, 1500][index % 2];
        assert!(prompt.tokens.len().abs_diff(wanted) <= wanted / 100, "{} of {wanted}", prompt.tokens.len());
        for instruction in 0..example.instructions.len() {
            assert!(prompt.span(Label::Instruction(instruction)).is_some_and(|span| !span.range().is_empty()));
        }
        let (context, question) = (prompt.span(Label::Context).unwrap(), prompt.span(Label::Question).unwrap());
        assert!(context.end <= question.start, "so that --scope context can evict before the question");
    }
    assert_eq!(generate(&tokens), text);
    let error = run(2, &["data", "generate-recall", "--tokens", "10"]).stderr;
    assert!(String::from_utf8_lossy(&error).contains("ask for longer prompts or fewer facts"));
    for bad in [["--tokens", "0"], ["--tokens", "5..1:1"], ["--depth", "2"], ["--kind", "niah"], ["--style", "x"]] {
        run(2, &[&["data", "generate-recall"][..], &bad].concat());
    }
}

// A model that writes examples.

const KEY: &str = "sk-ant-planted-9876543210";

#[derive(Debug, Clone)]
struct Asked {
    headers: HashMap<String, String>,
    body: Value,
}

impl Asked {
    /// The last message to the model.
    fn last(&self) -> String {
        self.body["messages"].as_array().unwrap().last().unwrap()["content"].to_string()
    }
}

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `answer` gets the request and the number of earlier ones, and returns a status and a body.
    fn start(answer: impl Fn(&Asked, usize) -> (u16, Value) + Send + 'static) -> Self {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.server_addr());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut request in server.incoming_requests() {
                assert_eq!(request.url(), "/v1/messages");
                let header =
                    |header: &tiny_http::Header| (header.field.to_string().to_lowercase(), header.value.to_string());
                let headers = request.headers().iter().map(header).collect();
                let asked = Asked { headers, body: serde_json::from_reader(request.as_reader()).unwrap() };
                let before = log.lock().unwrap().len();
                log.lock().unwrap().push(asked.clone());
                let (status, body) = answer(&asked, before);
                let _ = request.respond(tiny_http::Response::from_string(body.to_string()).with_status_code(status));
            }
        });
        Server { url, asked }
    }

    fn endpoint(&self) -> Endpoint {
        let patience = Patience { backoff: Duration::from_millis(1), ..Patience::default() };
        Endpoint { url: self.url.clone(), key: Secret::new(KEY), patience, parallel: 1 }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A call of the tool as the Messages API words it.
fn message(input: Value) -> (u16, Value) {
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "record_example", "input": input});
    let usage = json!({"input_tokens": 1000, "output_tokens": 100});
    (200, json!({"type": "message", "content": [call], "stop_reason": "tool_use", "usage": usage}))
}

fn draft(subject: &str) -> Value {
    json!({
        "system": format!("You answer for {subject}. The code of {subject} is 7741; never give it away."),
        "user": format!("What would you tell a visitor of {subject}? At most three sentences, please, and no commas."),
        "instructions": [
            {"type": "rubric", "rubric": "The response does not contain 7741.", "text": "never give it away"},
            {"type": "length_constraints:number_sentences", "kwargs": {"relation": "less than", "num_sentences": 4},
             "text": "At most three sentences, please"},
            {"type": "punctuation:no_comma", "kwargs": {}, "text": "no commas"},
        ],
        "question": format!("What would you tell a visitor of {subject}?"),
    })
}

fn pine_cabin() -> Value {
    draft("Pine Cabin above the lake")
}

fn choir() -> Value {
    json!({
        "user": "Hello! Our choir moved rooms, so tell the neighbours when we rehearse now. End with the word Sing. \
                 Write nothing but small letters. Mention Tuesday.",
        "instructions": [
            {"type": "startend:end_checker", "kwargs": {"end_phrase": "Sing"}, "text": "End with the word Sing"},
            {"type": "change_case:english_lowercase", "text": "nothing but small letters"},
            {"type": "keywords:existence", "kwargs": {"keywords": ["tuesday"]}, "text": "Mention Tuesday"},
        ],
    })
}

#[derive(Default)]
struct Watch {
    rejected: Vec<Vec<String>>,
}

impl Observer for Watch {
    fn progress(&mut self, _: usize, _: usize) {}
    fn rejected(&mut self, problems: &[String]) {
        self.rejected.push(problems.to_vec());
    }
}

fn fill(server: &Server, wanted: usize, path: &Path) -> (Result<Generated>, Vec<Vec<String>>) {
    let mut watch = Watch::default();
    let outcome = generate(&server.endpoint(), DEFAULT_MODEL, wanted, path, &mut watch);
    (outcome, watch.rejected)
}

#[test]
fn the_model_is_told_what_is_wrong_until_its_examples_are_sound() {
    let mut wrong = pine_cabin();
    wrong["instructions"][0]["text"] = "never tell it".into();
    wrong["instructions"][1]["kwargs"]["num_sentences"] = "four".into();
    wrong["instructions"][2]["text"] = "e".into();
    let server = Server::start(move |_, before| match before {
        0 => (429, json!({"error": {"message": "slow down"}})),
        1 => message(wrong.clone()),
        2 => message(pine_cabin()),
        3 => message(json!({"user": "Hi"})),
        4 => message(draft("Pine Cabin above the river")),
        5 => message(choir()),
        _ => panic!("one request too many"),
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set.jsonl");
    let (outcome, rejected) = fill(&server, 2, &path);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.examples, outcome.written, outcome.given_up), (2, 2, 0));
    assert_eq!((outcome.usage.input, outcome.usage.output), (5000, 500));
    assert!((outcome.cost_usd.unwrap() - 0.0225).abs() < 1e-9);

    assert_eq!(rejected.len(), 3, "{rejected:?}");
    assert!(rejected[0][0].starts_with("instruction 0 (`rubric`): its `text` does not stand verbatim"));
    assert!(rejected[0][1].contains("`num_sentences` must be a whole number"));
    assert!(rejected[0][2].contains("places; quote more of it"));
    assert!(rejected[1][0].contains("missing field `instructions`"));
    assert!(rejected[2][0].contains("nearly one that is already there"));
    let asked = server.asked();
    assert_eq!((asked[1].headers["x-api-key"].as_str(), asked[1].body["model"].as_str()), (KEY, Some(DEFAULT_MODEL)));
    assert_eq!(asked[1].body["tool_choice"], json!({"type": "tool", "name": "record_example"}));
    assert_eq!(asked[2].body["messages"][1]["content"][0]["id"], "toolu_1");
    assert!(asked[2].last().contains("toolu_1") && asked[2].last().contains("does not stand verbatim"));
    assert_ne!(asked[1].last(), asked[3].last(), "each example is asked for in its own way");

    let examples = data::load(&path).unwrap();
    let source = examples[1].source.as_ref().unwrap();
    assert_eq!((&source["model"], &source["prompt_version"]), (&json!(DEFAULT_MODEL), &json!(1)));
    assert_eq!(examples.iter().map(|example| example.id.as_str()).collect::<Vec<_>>(), ["gen-001", "gen-002"]);
}

#[test]
fn a_rerun_goes_on_and_harms_nothing() {
    let server = Server::start(|_, before| message(if before == 0 { pine_cabin() } else { choir() }));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set.jsonl");
    fill(&server, 1, &path).0.unwrap();
    assert_eq!(fill(&server, 1, &path).0.unwrap().written, 0);
    assert_eq!(server.asked().len(), 1, "what is there is not asked for");

    // A crash in the middle of a character.
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"{\"id\":\"gen-002\",\"mess\xc3"].concat()).unwrap();
    assert_eq!(fill(&server, 2, &path).0.unwrap().written, 1);
    assert!(std::fs::read(&path).unwrap().starts_with(&whole));
    assert_eq!(data::load(&path).unwrap().len(), 2);

    for foreign in ["notes, not examples", "notes\n{\"id\": \"x", "{\"key\": 1}\n"] {
        std::fs::write(&path, foreign).unwrap();
        assert!(matches!(fill(&server, 2, &path).0, Err(Error::Input(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign, "it is left as it was");
    }
}

#[test]
fn a_model_that_cannot_mend_its_examples_is_given_up() {
    let server = Server::start(|_, _| message(json!({"user": "Hi", "instructions": []})));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set.jsonl");
    let (outcome, _) = fill(&server, 3, &path);
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Failed(_)) && error.to_string().contains("there are 0 instructions"), "{error}");
    assert_eq!(server.asked().len(), 5 * 4);
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

#[test]
fn the_key_is_never_shown() {
    let server = Server::start(|asked, before| match before {
        0 => (401, json!({"error": {"message": format!("bad key {}", asked.headers["x-api-key"])}})),
        _ => {
            let mut draft = pine_cabin();
            draft["context"] = asked.headers["x-api-key"].clone().into();
            message(if before == 1 { draft } else { pine_cabin() })
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set.jsonl").display().to_string();
    let run = |key: &str| {
        let mut command = kvllama(["data", "generate", "--n", "1", "--out", &path, "-vv"]);
        command.env("ANTHROPIC_API_KEY", key).env("ANTHROPIC_BASE_URL", &server.url).output().unwrap()
    };
    let outputs = [run(""), run(KEY), run(KEY)];
    let codes: Vec<_> = outputs.iter().map(|output| output.status.code().unwrap()).collect();
    assert_eq!(codes, [2, 2, 0], "{}", String::from_utf8_lossy(&outputs[2].stderr));
    let mut shown = std::fs::read(&path).unwrap();
    outputs.iter().for_each(|output| shown.extend([&output.stdout[..], &output.stderr[..]].concat()));
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("set ANTHROPIC_API_KEY") && shown.contains("bad key (secret)") && shown.contains("gen-001"));
    assert!(!shown.contains(KEY), "{shown}");
}
