//! Judges, with servers and a command that use the real wire formats and fail in many ways.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvllama::api::price::{Price, Usage};
use kvllama::api::{Endpoint, Patience, Secret};
use kvllama::condition::Condition;
use kvllama::exp::{
    Build, DataFacts, Generation, InstructionRow, Manifest, ModelFile, PromptRow, Rows, Session, Settings, Store,
    TrialRow, write_prompts,
};
use kvllama::judge::stage::{self, Judged, Options, Plan, Spent};
use kvllama::judge::{Anthropic, Batch, ClaudeCli, DEFAULT_MODEL, Judge, Local, OpenAi, Request};
use kvllama::llama::{ContextSettings, LoadSettings, Model};
use serde_json::{Value, json};

const KEY: &str = "sk-ant-planted-0123456789";

// A run directory with given responses.

const EXAMPLE: &str = r#"{"id":"e","messages":[{"role":"user","content":"Be polite. Use no commas."}],"instructions":[{"rubric":"It is polite.","text":"Be polite."},{"type":"punctuation:no_comma","text":"Use no commas."}]}"#;

/// One trial per response; the first instruction has a rubric, the second a rule that was followed.
fn run_of(directory: &Path, responses: &[&str]) {
    let generation = Generation { n_predict: 8, ..Generation::default() };
    let conditions = vec![Condition::default()];
    let settings = Settings { conditions, repeats: 1, limit: None, shard: None, generation, primary: None };
    let session = Session::new(Build::this(1), &settings, Vec::new());
    let manifest = Manifest::new(
        ModelFile { name: "m".into(), file_size: 1, sha256: "00".into(), gguf: Value::Null },
        DataFacts { name: "d".into(), sha256: "11".into(), n_examples: 1 },
        &settings,
        session,
    );
    let (mut store, _) = Store::open(directory, &manifest, |_, _| None).unwrap();
    let instructions = kvllama::data::parse(EXAMPLE, "x").unwrap().remove(0).instructions;
    write_prompts(
        directory,
        &[PromptRow {
            example_id: "e".into(),
            pieces: vec![],
            spans: vec![],
            turns: vec![],
            questions: vec![],
            instructions,
        }],
    )
    .unwrap();
    for (repeat, response) in responses.iter().enumerate() {
        let repeat = repeat as u32;
        let mut trial = TrialRow {
            example_id: "e".into(),
            condition: "none".into(),
            repeat,
            response: (*response).into(),
            ..TrialRow::default()
        };
        let row =
            InstructionRow { example_id: "e".into(), condition: "none".into(), repeat, ..InstructionRow::default() };
        let rubric = InstructionRow { kind: "rubric".into(), ..row.clone() };
        let pass = Some(1);
        let mut rule = InstructionRow {
            instruction: 1,
            kind: "punctuation:no_comma".into(),
            pass_strict: pass,
            pass_loose: pass,
            ..row
        };
        rule.settle();
        let rows = [rubric, rule];
        trial.settle(&rows);
        store.append(&trial, &rows).unwrap();
    }
}

/// By response: the judge's score, and the reason in the row.
fn judged(directory: &Path) -> Vec<(Option<f64>, String)> {
    let rows = Rows::open(directory).unwrap();
    rows.instructions
        .iter()
        .filter(|row| row.instruction == 0)
        .map(|row| (row.judge_score, row.judge_reason.clone()))
        .collect()
}

#[derive(Default)]
struct Watch(Option<Plan>);

impl stage::Observer for Watch {
    fn planned(&mut self, plan: &Plan) {
        self.0 = Some(plan.clone());
    }
    fn replied(&mut self, _: usize, _: usize, _: &Spent) {}
}

fn judge(directory: &Path, judge: &mut dyn Judge) -> Judged {
    stage::run(directory, judge, &Options::default(), &mut Watch::default()).unwrap()
}

// A server whose replies are raw bytes, so that they can be wrong in any way.

#[derive(Debug, Clone)]
struct Asked {
    line: String,
    headers: HashMap<String, String>,
    body: Value,
    at: Instant,
}

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

enum Act {
    Answer(String),
    Hang,
}

impl Server {
    /// `act` gets the request, and the number of earlier ones with the same body.
    fn start(act: impl Fn(&Asked, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, act) = (Arc::clone(&asked), Arc::new(act));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, act) = (Arc::clone(&log), Arc::clone(&act));
                std::thread::spawn(move || serve(stream, &log, &*act));
            }
        });
        Server { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { url: self.url.clone(), key: Secret::new(KEY), patience: PATIENCE, parallel: 4 }
    }
}

const PATIENCE: Patience =
    Patience { attempts: 4, backoff: Duration::from_millis(4), timeout: Duration::from_millis(400) };

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, act: &dyn Fn(&Asked, usize) -> Act) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let asked = Asked { line: line.trim_end().to_owned(), headers, body, at: Instant::now() };
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|earlier| earlier.line == asked.line && earlier.body == asked.body).count();
        log.push(asked.clone());
        before
    };
    match act(&asked, before) {
        // A client that closes the connection is not an error.
        Act::Answer(bytes) => drop((&stream).write_all(bytes.as_bytes())),
        Act::Hang => std::thread::sleep(Duration::from_secs(2)),
    }
}

fn http(status: &str, headers: &str, body: &str) -> Act {
    Act::Answer(format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

/// A message of the Messages API.
fn message(input: &Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": DEFAULT_MODEL, "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "verdict", "input": input}],
        "usage": {"input_tokens": 1000, "output_tokens": 50, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 200},
    })
}

const COST: f64 = (1000.0 + 0.1 * 200.0 + 50.0 * 5.0) / 1e6;

fn verdict(text: &str) -> Value {
    json!({"reason": "As it says.", "score": if text.contains("please") { 1.0 } else { 0.25 }})
}

fn error(kind: &str, text: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": text}}).to_string()
}

/// The text that a Messages API request asks about, after the checks that every request must pass.
fn question(params: &Value) -> String {
    assert_eq!(params["model"], DEFAULT_MODEL);
    assert_eq!(params["tool_choice"], json!({"type": "tool", "name": "verdict"}));
    assert_eq!(params["tools"][0]["input_schema"]["required"], json!(["reason", "score"]));
    assert!(
        params["max_tokens"].is_u64() && params["system"].as_str().unwrap().contains("never an instruction to you")
    );
    let content = params["messages"][0]["content"].as_array().unwrap();
    let text: Vec<_> = content.iter().map(|block| block["text"].as_str().unwrap()).collect();
    assert!(text[1].contains("polite") || text[1].contains("no commas"));
    assert!(!params.to_string().contains("none"), "the judge does not see the condition");
    text[0].to_owned()
}

#[test]
fn the_messages_api_may_fail_in_every_way_and_no_verdict_is_lost() {
    let server = Server::start(|asked, before| {
        assert_eq!(asked.line, "POST /v1/messages HTTP/1.1");
        assert_eq!(
            (asked.headers["x-api-key"].as_str(), asked.headers["anthropic-version"].as_str()),
            (KEY, "2023-06-01")
        );
        let text = question(&asked.body);
        let good = message(&verdict(&text)).to_string();
        let trouble = |name: &str| text.contains(name) && before == 0;
        if trouble("[429]") {
            http("429 Too Many Requests", "retry-after: 0.3\r\n", &error("rate_limit_error", "slow down"))
        } else if trouble("[529]") {
            http("529 Overloaded", "", &error("overloaded_error", "Overloaded"))
        } else if trouble("[500]") {
            http("500 Internal Server Error", "", "oops")
        } else if trouble("[truncated]") {
            http("200 OK", "", &good[..good.len() / 2])
        } else if trouble("[cut off]") {
            Act::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", good.len(), &good[..40]))
        } else if trouble("[schema]") {
            http("200 OK", "", &message(&json!({"reason": "Great.", "score": 7})).to_string())
        } else if trouble("[hang]") {
            Act::Hang
        } else if trouble("[closed]") {
            Act::Answer(String::new())
        } else if text.contains("[down]") {
            http("503 Service Unavailable", "", &error("api_error", "down"))
        } else if text.contains("[prose]") {
            http("200 OK", "", &message(&json!({"verdict": "good"})).to_string())
        } else {
            http("200 OK", "", &good)
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let responses = [
        "please",
        "rude",
        "please [429]",
        "rude [529]",
        "please [500]",
        "rude [truncated]",
        "please [cut off]",
        "rude [schema]",
        "please [hang]",
        "rude [closed]",
        "please [down]",
        "please [prose]",
        "please",
    ];
    run_of(directory.path(), &responses);
    let mut anthropic = Anthropic::new(&server.endpoint(), DEFAULT_MODEL, None).unwrap();
    let mut watch = Watch::default();
    let outcome = stage::run(directory.path(), &mut anthropic, &Options::default(), &mut watch).unwrap();

    for (response, (score, reason)) in responses.iter().zip(judged(directory.path())) {
        match *response {
            "please [down]" => {
                assert!(score.is_none() && reason.starts_with("unjudged: ") && reason.contains("503: down"), "{reason}")
            }
            "please [prose]" => {
                assert!(score.is_none() && reason.starts_with("unjudged: the verdict is out of form"), "{reason}")
            }
            _ => {
                assert_eq!((score, reason.as_str()), (verdict(response)["score"].as_f64(), "As it says."), "{response}")
            }
        }
    }
    let asked = server.asked();
    let of = |name: &str| {
        asked.iter().filter(|asked| asked.body.to_string().contains(name)).map(|asked| asked.at).collect::<Vec<_>>()
    };
    assert_eq!(asked.len(), 2 + 8 * 2 + 4 + 3, "equal questions are asked once, patience ends");
    assert!(of("[429]")[1] - of("[429]")[0] >= Duration::from_millis(300), "retry-after is honoured");

    // The bill: an answer for each of the ten verdicts, one malformed before, three in prose.
    let billed = 10 + 1 + 3;
    assert_eq!(outcome.spent.requests, 12);
    assert_eq!(
        outcome.spent.usage,
        Usage { input: 1000 * billed, output: 50 * billed, cache_write: 0, cache_read: 200 * billed }
    );
    assert!((outcome.spent.cost_usd - COST * billed as f64).abs() < 1e-9, "{}", outcome.spent.cost_usd);
    let plan = watch.0.unwrap();
    assert_eq!((plan.pending, plan.known), (12, 0));
    assert!((0.5..2.0).contains(&(plan.cost_usd.unwrap() / (12.0 * COST))), "the estimate is near: {plan:?}");

    // Means contain only scored instructions, and the rule decides if there is one.
    let rows = Rows::open(directory.path()).unwrap();
    let means: Vec<_> = rows.trials.iter().map(|row| (row.judge_score, row.mean_score)).collect();
    assert_eq!(means[..2], [(Some(1.0), Some(1.0)), (Some(0.25), Some(0.625))]);
    assert_eq!(means[10], (None, Some(1.0)));
    drop(rows);

    // A rerun asks only for missing verdicts; a judge of another name has none.
    let again = judge(directory.path(), &mut anthropic);
    assert_eq!((again.spent.requests, again.judged, again.unjudged, again.spent_in_all.requests), (2, 11, 2, 14));
    let other = Options { dry_run: true, ..Options::default() };
    let mut watch = Watch::default();
    let mut sonnet = Anthropic::new(&server.endpoint(), "claude-sonnet-4-5-20250929", None).unwrap();
    stage::run(directory.path(), &mut sonnet, &other, &mut watch).unwrap();
    assert_eq!(watch.0.unwrap().known, 0);
}

#[test]
fn a_rerun_makes_no_request_and_a_stop_loses_nothing() {
    let server = Server::start(|asked, _| http("200 OK", "", &message(&verdict(&question(&asked.body))).to_string()));
    let directory = tempfile::tempdir().unwrap();
    let responses: Vec<String> = (0..30).map(|n| format!("please {n}")).collect();
    run_of(directory.path(), &responses.iter().map(String::as_str).collect::<Vec<_>>());
    let mut anthropic = Anthropic::new(&server.endpoint(), DEFAULT_MODEL, None).unwrap();

    let options = Options { all: true, max_cost: Some(20.0 * COST), ..Options::default() };
    let first = stage::run(directory.path(), &mut anthropic, &options, &mut Watch::default()).unwrap();
    assert!(first.out_of_budget && first.spent.cost_usd <= 20.0 * COST && first.spent.requests >= 15, "{first:?}");
    assert_eq!(first.judged, first.spent.requests);
    assert_eq!(first.unjudged, 60 - first.judged, "what is not asked for is visible");

    let options = Options { all: true, ..Options::default() };
    let second = stage::run(directory.path(), &mut anthropic, &options, &mut Watch::default()).unwrap();
    assert_eq!((server.asked().len(), second.judged, second.unjudged), (60, 60, 0));
    assert!((second.spent_in_all.cost_usd - 60.0 * COST).abs() < 1e-9);
    let agreement = second.agreement.unwrap();
    assert_eq!((agreement.both, agreement.total()), (30, 30));

    let csv = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    let before = (csv("trials.csv"), csv("instructions.csv"));
    let third = stage::run(directory.path(), &mut anthropic, &options, &mut Watch::default()).unwrap();
    assert_eq!((server.asked().len(), third.spent), (60, Spent::default()));
    assert_eq!((csv("trials.csv"), csv("instructions.csv")), before);
}

#[test]
fn a_batch_outlives_the_process_that_made_it() {
    let results = Arc::new(Mutex::new(String::new()));
    let lines = Arc::clone(&results);
    let server = Server::start(move |asked, before| {
        let status = |status: &str, url: Value| {
            let counts = json!({"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 1});
            let batch = json!({"id": "msgbatch_1", "type": "message_batch", "processing_status": status, "request_counts": counts, "results_url": url});
            http("200 OK", "", &batch.to_string())
        };
        match asked.line.as_str() {
            "POST /v1/messages/batches HTTP/1.1" => {
                for (index, request) in asked.body["requests"].as_array().unwrap().iter().enumerate() {
                    let text = question(&request["params"]);
                    let result = match index {
                        0 => {
                            json!({"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "boom"}}})
                        }
                        1 => json!({"type": "expired"}),
                        _ => json!({"type": "succeeded", "message": message(&verdict(&text))}),
                    };
                    let line = json!({"custom_id": request["custom_id"], "result": result});
                    lines.lock().unwrap().push_str(&format!("{line}\n"));
                }
                status("in_progress", Value::Null)
            }
            // The process that makes the batch does not see its end.
            "GET /v1/messages/batches/msgbatch_1 HTTP/1.1" => match before {
                0 => http("400 Bad Request", "", &error("invalid_request_error", "not now")),
                1 => status("in_progress", Value::Null),
                _ => status("ended", json!("https://elsewhere.example/results")),
            },
            "GET /v1/messages/batches/msgbatch_1/results HTTP/1.1" => http("200 OK", "", &lines.lock().unwrap()),
            other => panic!("{other}"),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    run_of(directory.path(), &["please 1", "please 2", "please 3", "rude 4"]);
    let batch =
        || Batch::new(&server.endpoint(), DEFAULT_MODEL, None, directory.path(), Duration::from_millis(5)).unwrap();
    let died = stage::run(directory.path(), &mut batch(), &Options::default(), &mut Watch::default()).unwrap_err();
    assert!(died.to_string().contains("400: not now"), "{died}");
    assert!(
        judged(directory.path()).iter().all(|(score, reason)| score.is_none() && reason == "unjudged: not asked yet")
    );

    // The next process collects it, and asks in a new batch for the failed requests.
    let options = Options { max_cost: Some(0.0), ..Options::default() };
    let outcome = stage::run(directory.path(), &mut batch(), &options, &mut Watch::default()).unwrap();
    let creations = || server.asked().iter().filter(|asked| asked.line.starts_with("POST")).count();
    assert_eq!((creations(), outcome.judged, outcome.unjudged), (1, 2, 2));
    assert!((outcome.spent.cost_usd - COST).abs() < 1e-9, "two verdicts at half the price");
    let scores: Vec<_> = judged(directory.path()).iter().filter_map(|(score, _)| *score).collect();
    assert!(scores.contains(&0.25) || scores == [1.0, 1.0]);
    assert!(
        std::fs::read_dir(directory.path())
            .unwrap()
            .flatten()
            .all(|file| !file.file_name().to_string_lossy().starts_with("batch-"))
    );
    // Single requests and batches are one judge.
    let known = judge(
        directory.path(),
        &mut Anthropic::new(
            &Server::start(|asked, _| http("200 OK", "", &message(&verdict(&question(&asked.body))).to_string()))
                .endpoint(),
            DEFAULT_MODEL,
            None,
        )
        .unwrap(),
    );
    assert_eq!((known.spent.requests, known.judged), (2, 4));
}

#[test]
fn an_openai_endpoint_without_response_format_is_asked_in_words() {
    let server = Server::start(|asked, _| {
        assert_eq!(asked.line, "POST /v1/chat/completions HTTP/1.1");
        assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
        if asked.body.get("response_format").is_some() {
            return http(
                "400 Bad Request",
                "",
                &json!({"error": {"message": "response_format is not supported"}}).to_string(),
            );
        }
        let messages = asked.body["messages"].as_array().unwrap();
        assert!(messages[0]["content"].as_str().unwrap().contains("Answer with one JSON object"));
        let content = format!("```json\n{}\n```", verdict(messages[1]["content"].as_str().unwrap()));
        let answer = json!({
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        });
        http("200 OK", "", &answer.to_string())
    });
    let directory = tempfile::tempdir().unwrap();
    run_of(directory.path(), &["please", "rude"]);
    let endpoint = Endpoint { parallel: 1, ..server.endpoint() };
    let mut openai = OpenAi::new(&endpoint, "m", Some(Price { input: 1.0, output: 2.0 })).unwrap();
    let outcome = judge(directory.path(), &mut openai);
    assert_eq!(judged(directory.path()), [(Some(1.0), "As it says.".into()), (Some(0.25), "As it says.".into())]);
    assert!((outcome.spent.cost_usd - 2.0 * 120e-6).abs() < 1e-12);
    assert_eq!(server.asked().len(), 3, "the endpoint is offered a schema once");
}

#[cfg(unix)]
#[test]
fn the_claude_command_is_asked_through_a_pipe_and_its_faults_are_survived() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let run = directory.path().join("run");
    run_of(&run, &["please", "rude [garbage]", "please [fails]", "rude [error]", "please [hang]"]);
    let program = directory.path().join("claude");
    let script = r#"#!/bin/sh
text=$(cat)
[ "$1 $2 $3 $4 $5" = "-p --output-format json --model some-model" ] || exit 9
[ -z "$ANTHROPIC_API_KEY" ] || exit 9
case "$text" in *The\ criterion:\ It\ is\ polite.*) ;; *) exit 9 ;; esac
first() { case "$text" in *"[$1]"*) mkdir "HERE/$1" 2>/dev/null ;; *) false ;; esac; }
if first garbage; then echo '{"type":"result",'; exit 0; fi
if first fails; then echo 'Not logged in' >&2; exit 1; fi
if first error; then echo '{"type":"result","subtype":"success","is_error":true,"result":"limit reached"}'; exit 1; fi
if first hang; then sleep 2; fi
case "$text" in *please*) score=1 ;; *) score=0.25 ;; esac
printf '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"total_cost_usd":0.001,"usage":{"input_tokens":3,"output_tokens":20},"result":"{\\"reason\\": \\"As it says.\\", \\"score\\": %s}"}' $score
"#;
    std::fs::write(&program, script.replace("HERE", directory.path().to_str().unwrap())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let patience = Patience { timeout: Duration::from_millis(1000), ..PATIENCE };
    let mut claude = ClaudeCli::new(program, "some-model", patience, 2);
    let outcome = judge(&run, &mut claude);
    let scores: Vec<_> = judged(&run).into_iter().map(|(score, _)| score).collect();
    assert_eq!(scores, [Some(1.0), Some(0.25), Some(1.0), Some(0.25), Some(1.0)], "{outcome:?}");
    assert_eq!((outcome.spent.usage.output, outcome.spent.cost_usd), (100, 0.0));
    assert_eq!(judge(&run, &mut claude).spent.requests, 0);

    let error = stage::run(
        &run,
        &mut ClaudeCli::new("no-such-claude".into(), "m", patience, 1),
        &Options::default(),
        &mut Watch::default(),
    );
    assert!(error.unwrap_err().to_string().contains("cannot run `no-such-claude`"));
}

#[test]
fn a_local_judge_can_say_nothing_but_a_verdict() {
    let model = Model::from_file(&common::tiny_model(), &LoadSettings::default(), None).unwrap();
    let request = |rubric: &str, response: &str| Request {
        key: rubric.into(),
        rubric: rubric.into(),
        response: response.into(),
        shared: true,
    };
    let ask = |requests: &[Request]| {
        let mut local =
            Local::new(&model, ContextSettings { n_ctx: 4096, ..ContextSettings::default() }, "00".into()).unwrap();
        let mut replies = BTreeMap::new();
        local
            .judge(requests, &mut |reply| {
                replies.insert(reply.key.clone(), reply.verdict.unwrap());
                Ok(())
            })
            .unwrap();
        replies
    };
    let requests = [
        request("It is polite.", "Hello there."),
        request("It is short.", "Hello there."),
        request("It rhymes.", "Oh no"),
    ];
    let together = ask(&requests);
    assert!(together.values().all(|verdict| (0.0..=1.0).contains(&verdict.score) && !verdict.reason.is_empty()));
    for one in requests {
        assert_eq!(
            ask(std::slice::from_ref(&one))[&one.key],
            together[&one.key],
            "what was read for another counts for nothing"
        );
    }
}

#[test]
fn no_key_is_seen_anywhere() {
    // A server that repeats the key in its errors and in a verdict.
    let server = Server::start(|asked, before| {
        let key = asked.headers.get("x-api-key").cloned().unwrap_or_default();
        match before {
            0 => http("500 Internal Server Error", "", &error("api_error", &format!("bad {key}"))),
            _ if question(&asked.body).contains("refused") => {
                http("400 Bad Request", "", &error("invalid_request_error", &key))
            }
            _ => http("200 OK", "", &message(&json!({"reason": format!("key {key}"), "score": 1})).to_string()),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    run_of(directory.path(), &["please", "refused"]);
    let mut said = Vec::new();
    for (key, url, code) in
        [(KEY, server.url.clone(), 1), ("", server.url.clone(), 2), (KEY, format!("{}/none", server.url), 1)]
    {
        let run = directory.path().to_str().unwrap();
        let output = common::kvllama(["-vvv", "judge", run, "--json"])
            .envs([("ANTHROPIC_API_KEY", key), ("ANTHROPIC_BASE_URL", url.as_str())])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        said.push(text);
    }
    assert!(said[0].contains("400: (secret)") && said[1].contains("set ANTHROPIC_API_KEY"), "{said:?}");
    assert_eq!(judged(directory.path())[0], (Some(1.0), "key (secret)".into()));
    for file in std::fs::read_dir(directory.path()).unwrap().flatten() {
        said.push(String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned());
    }
    assert!(said.len() >= 8 && said.iter().all(|text| !text.contains(KEY)));
}

#[test]
fn a_dry_run_needs_no_key_and_every_retry_is_said() {
    let server = Server::start(|asked, before| match before {
        0 => http("503 Service Unavailable", "", ""),
        _ => http("200 OK", "", &message(&verdict(&question(&asked.body))).to_string()),
    });
    let directory = tempfile::tempdir().unwrap();
    run_of(directory.path(), &["please"]);
    let run = |key: &str, more: &[&str]| {
        let mut command = common::kvllama(["judge", directory.path().to_str().unwrap()]);
        command.args(more).envs([("ANTHROPIC_API_KEY", key), ("ANTHROPIC_BASE_URL", server.url.as_str())]);
        let output = command.output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, err)
    };
    for judge in ["anthropic", "anthropic-batch"] {
        let (code, out, err) = run("", &["--dry-run", "--judge", judge]);
        assert!(code == Some(0) && out.starts_with("1 verdicts to ask of anthropic"), "{err}");
        assert_eq!(run("", &["--judge", judge]).0, Some(2));
    }
    assert!(server.asked().is_empty());
    let (code, _, err) = run(KEY, &[]);
    assert!(code == Some(0) && err.contains("answers 503; request 1 of 6, the next in"), "{err}");
}

#[test]
fn exp_judges_what_it_generated_and_goes_on_where_it_stopped() {
    let server = Server::start(|asked, _| match asked.headers.get("authorization") {
        None => {
            let content = json!({"reason": "Fine.", "score": 0.5}).to_string();
            http("200 OK", "", &json!({"choices": [{"message": {"content": content}}]}).to_string())
        }
        Some(_) => http("401 Unauthorized", "", "{}"),
    });
    let directory = tempfile::tempdir().unwrap();
    let (data, out) = (directory.path().join("d.jsonl"), directory.path().join("run"));
    std::fs::write(&data, EXAMPLE).unwrap();
    let model = common::tiny_model();
    let exp = |key: &str, code: i32| {
        let mut command = common::kvllama(["exp", "--ratio=0.5", "--n-predict=8", "--json", "--judge=openai"]);
        command
            .arg("--judge-url")
            .arg(&server.url)
            .arg("--model")
            .arg(&model)
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(&out);
        let output = command.env("OPENAI_API_KEY", key).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(exp("wrong", 2)["finished"], 2, "a judge that refuses costs no row");
    let judged = exp("", 0);
    assert_eq!((&judged["judge"]["judged"], &judged["judge"]["unjudged"]), (&json!(2), &json!(0)));
    let asked = server.asked().len();
    exp("", 0);
    assert_eq!(server.asked().len(), asked);
    for row in common::rows(&out, "instructions.csv").values() {
        let by = if row["type"] == "rubric" { ("judge", "0.5") } else { ("rule", row["pass_strict"].as_str()) };
        assert_eq!(row["scored_by"], by.0);
        assert_eq!(row["score"].parse::<f64>().unwrap(), by.1.parse::<f64>().unwrap());
    }
}
