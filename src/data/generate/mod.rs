//! Generates new examples with a language model and accepts only valid ones.
//!
//! The model is asked for one example at a time, through a tool with a schema (`request`). Its example is checked
//! (`accept`); if it has problems, the model is told which and may correct them a few times. An accepted example is on
//! disk (`file`) before the next is requested, so that a rerun continues from there.

mod accept;
mod file;
mod request;

use std::path::Path;

use serde_json::{Value, json};

use self::file::OpenFile;
use super::Example;
use crate::api::anthropic::{MESSAGES, call, check_key, client, usage};
use crate::api::price::{self, Usage};
use crate::api::{Client, Endpoint, Trouble};
use crate::{Error, Result, interrupt};

pub use request::PROMPT_VERSION;

/// The default model that writes examples.
pub const DEFAULT_MODEL: &str = "claude-sonnet-4-5-20250929";

/// How often the model may submit one example: once, and then with corrections.
const TRIES: u32 = 4;
/// Examples in a row that could not be corrected, after which the command stops.
const MAX_GIVEN_UP: usize = 5;

/// The result of a generation.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Generated {
    /// Number of examples now in the file.
    pub examples: usize,
    /// Number of examples written by this call.
    pub written: usize,
    /// Number of examples that the model could not correct.
    pub given_up: usize,
    /// Tokens that were billed.
    pub usage: Usage,
    /// Their cost in US dollars; `None` if the price is not known.
    pub cost_usd: Option<f64>,
}

/// Observes the generation.
pub trait Observer {
    /// The file holds `examples` of the `wanted` examples.
    fn progress(&mut self, examples: usize, wanted: usize);

    /// The model submitted an example with these problems.
    fn rejected(&mut self, problems: &[String]);
}

/// Fills the file `path` up to `wanted` examples, written by `model`. Examples already in the file count.
///
/// # Errors
/// If the file holds anything but examples or is in use, if the API cannot be reached, or if the model fails
/// repeatedly. Examples written so far stay.
pub fn generate(
    endpoint: &Endpoint,
    model: &str,
    wanted: usize,
    path: &Path,
    observer: &mut dyn Observer,
) -> Result<Generated> {
    let mut writer = Writer { client: client(endpoint)?, model, usage: Usage::default() };
    check_key(&writer.client)?;
    let mut file = OpenFile::open(path)?;
    let held = file.examples();
    let (mut given_up, mut in_a_row) = (0, 0);
    observer.progress(held, wanted);
    while file.examples() < wanted {
        match writer.write(&file, file.examples() + given_up, observer)? {
            Ok(example) => {
                file.append(example)?;
                in_a_row = 0;
                observer.progress(file.examples(), wanted);
            }
            Err(problems) => {
                given_up += 1;
                in_a_row += 1;
                if in_a_row == MAX_GIVEN_UP {
                    let last = problems.join("; ");
                    return Err(Error::failed(format!(
                        "{model} wrote no sound example {MAX_GIVEN_UP} times in a row, the last because: {last}"
                    )));
                }
            }
        }
    }
    let Writer { usage, .. } = writer;
    let cost_usd = price::find(model).map(|known| known.price.cost(&usage));
    Ok(Generated { examples: file.examples(), written: file.examples() - held, given_up, usage, cost_usd })
}

/// The state of a generation.
struct Writer<'a> {
    client: Client,
    model: &'a str,
    usage: Usage,
}

impl Writer<'_> {
    /// Returns a valid example, or the problems of the last attempt.
    fn write(
        &mut self,
        file: &OpenFile,
        turn: usize,
        observer: &mut dyn Observer,
    ) -> Result<std::result::Result<Example, Vec<String>>> {
        let mut messages = vec![json!({"role": "user", "content": request::brief(turn, file.kinds())})];
        let mut problems = Vec::new();
        for _ in 0..TRIES {
            if interrupt::requested() {
                return Err(Error::Interrupted);
            }
            let answer = self.ask(&messages)?;
            let call = call(&answer, request::TOOL).map_err(Error::failed)?;
            let example = request::read(&call["input"], file.free_id(), self.model);
            problems = match example {
                Ok(example) => match accept::problems(&example, file.prompts()) {
                    none if none.is_empty() => return Ok(Ok(example)),
                    problems => problems,
                },
                Err(problem) => vec![problem],
            };
            observer.rejected(&problems);
            messages.push(json!({"role": "assistant", "content": answer["content"]}));
            messages.push(json!({"role": "user", "content": [request::rejection(&call["id"], &problems)]}));
        }
        Ok(Err(problems))
    }

    /// Requests a message that calls the tool.
    fn ask(&mut self, messages: &[Value]) -> Result<Value> {
        let Writer { client, model, usage: spent } = self;
        let answer = client.ask(MESSAGES, Some(&request::params(model, messages)), |answer| {
            let message: Value =
                serde_json::from_str(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
            *spent += usage(&message);
            if message["stop_reason"] == "max_tokens" {
                return Err("the answer was cut off: it is too long".to_owned());
            }
            call(&message, request::TOOL)?;
            Ok(message)
        });
        answer.map_err(|trouble: Trouble| trouble.reason().map_or_else(|error| error, Error::failed))
    }
}
