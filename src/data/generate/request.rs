//! The text for the model, and the tool through which it submits an example. Raise [`PROMPT_VERSION`] with every change
//! here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::accept::INSTRUCTIONS;
use crate::api::anthropic::with_tool;
use crate::data::{Example, Instruction, Message, RUBRIC, Role};
use crate::score::{Rule, rules};

/// Version of the prompt, recorded in the `source` of an example.
pub const PROMPT_VERSION: u32 = 1;

/// The tool through which the model submits an example.
pub(super) const TOOL: &str = "record_example";

const MAX_TOKENS: u32 = 4096;

const SYSTEM: &str = "\
You write test prompts for a study of how well language models follow several instructions at once. You hand in one \
example at a time with the tool record_example.

An example is a prompt, as a person or a product would write it, that holds some checkable instructions:
- system (optional): the system turn, such as the brief of an assistant, with persona, facts, rules, secrets to keep.
- user: what the user writes. Together with the system turn 90 to 400 words. Real situations, names, numbers and \
facts; no two of your examples alike. Plain text, not a bare list of rules: instructions stand where a writer would put \
them, some early, some late, some in the middle of a paragraph.
- instructions: each instruction that a response can be checked against.
  - type: one of the rules below, or rubric.
  - kwargs: exactly what the rule takes, with no other names. relation (let_relation, capital_relation) is `at least` \
or `less than`; numbers are whole. The prompt must say exactly what the kwargs say: `at most three sentences` is \
less than 4.
  - rubric: for the type rubric only, a criterion in one sentence for a judge who sees the response and nothing else; \
so it names every fact that is needed.
  - text: the words of the prompt that state this instruction, copied character by character, as short as they can be \
and still state it. They stand in the prompt exactly once, and the texts of two instructions do not overlap.
- context (optional): the background that the response may draw on, copied from the prompt character by character.
- question (optional): the request itself without its instructions, copied in the same way.

One response must be able to follow all instructions together. Every demand of the prompt that can be checked is listed.
Rules are checked by a program to the letter; rubrics are for what no rule can check: secrets, persona, tone, facts from \
the context, order, what to leave out.

The rules, what a response must do, and their kwargs:
";

/// The rules that are offered: those of IFEval, which other data sets use as well.
fn offered() -> impl Iterator<Item = &'static Rule> {
    rules().iter().filter(|rule| !rule.name.starts_with("kvllama:"))
}

/// Situations that make examples differ from each other.
const SITUATIONS: [&str; 24] = [
    "a small hotel and a guest with a request",
    "a school: a letter to parents, a lesson, a worksheet",
    "a shop's customer service and a complaint",
    "a museum, a library or an archive",
    "a farm, a garden or the weather",
    "a kitchen, a menu or a recipe with constraints",
    "a software team: release notes, a bug report, a review",
    "a journey with fixed dates and little money",
    "a clinic's front desk (no diagnosis)",
    "a local newspaper and its style rules",
    "a club, a choir or a sports team organizing something",
    "a landlord and a tenant",
    "a laboratory or a field study and its notes",
    "a bank's or an insurer's assistant with rules on what not to say",
    "a theatre, a film or a game and its characters",
    "a charity asking, thanking or reporting",
    "a family event and its awkward details",
    "a town hall answering a citizen",
    "a job: an application, a reference, a first day",
    "a repair, a manual or a warning",
    "history told for a given audience",
    "a science question for a given age",
    "a negotiation by e-mail",
    "a summary of a meeting whose minutes are given",
];

/// The description of the example number `turn`. Types that are rare in the file are requested first.
pub(super) fn brief(turn: usize, kinds: &BTreeMap<String, usize>) -> String {
    let (least, most) = INSTRUCTIONS.into_inner();
    let mut names: Vec<&str> = offered().map(|rule| rule.name).collect();
    let turned = turn % names.len();
    names.rotate_left(turned);
    names.sort_by_key(|name| kinds.get(*name).copied().unwrap_or(0));
    let number = least + turn * 5 % (most - least + 1);
    let system = if turn % 4 == 3 { "no system turn" } else { "a system turn" };
    format!(
        "Write an example with {number} instructions and {system}. The situation: {}. \
         At least one instruction is a rubric. Use some of these rules, as far as they go together: {}.",
        SITUATIONS[turn % SITUATIONS.len()],
        names[..6].join(", ")
    )
}

/// The parameters of a request.
pub(super) fn params(model: &str, messages: &[Value]) -> Value {
    let mut system = SYSTEM.to_owned();
    for rule in offered() {
        let kwargs = if rule.kwargs.is_empty() { "none".to_owned() } else { rule.kwargs.join(", ") };
        let _ = writeln!(system, "- {}: {} kwargs: {kwargs}", rule.name, rule.about);
    }
    let params = json!({
        "model": model,
        "max_tokens": MAX_TOKENS,
        // The same for every example.
        "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
        "messages": messages,
    });
    with_tool(params, TOOL, "Hands in one example.", schema())
}

fn schema() -> Value {
    let kinds: Vec<&str> = offered().map(|rule| rule.name).chain([RUBRIC]).collect();
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({
        "type": "object",
        "properties": {
            "system": text("The system turn; left out if there is none."),
            "user": text("The user's turn."),
            "instructions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string", "enum": kinds},
                        "kwargs": {"type": "object", "description": "What the rule takes; left out for a rubric."},
                        "rubric": text("The criterion, for the type rubric only."),
                        "text": text("The words of the prompt that state it, verbatim."),
                    },
                    "required": ["type", "text"],
                    "additionalProperties": false,
                },
            },
            "context": text("The background, verbatim."),
            "question": text("The request itself, verbatim."),
        },
        "required": ["user", "instructions"],
        "additionalProperties": false,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    system: Option<String>,
    user: String,
    instructions: Vec<Instruction>,
    context: Option<String>,
    question: Option<String>,
}

/// Turns the model's tool call into an example.
pub(super) fn read(input: &Value, id: String, model: &str) -> std::result::Result<Example, String> {
    let draft = Draft::deserialize(input).map_err(|error| format!("the input does not fit the schema: {error}"))?;
    let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let system = some(draft.system).map(|content| Message { role: Role::System, content });
    let user = Message { role: Role::User, content: draft.user };
    let source = json!({
        "model": model,
        "prompt_version": PROMPT_VERSION,
        "date": OffsetDateTime::now_utc().date().to_string(),
        "kvllama": env!("CARGO_PKG_VERSION"),
    });
    Ok(Example {
        questions: Vec::new(),
        id,
        messages: system.into_iter().chain([user]).collect(),
        instructions: draft.instructions,
        context: some(draft.context),
        question: some(draft.question),
        source: Some(source),
    })
}

/// The reply to an example that is not accepted.
pub(super) fn rejection(call: &Value, problems: &[String]) -> Value {
    let list: String = problems.iter().map(|problem| format!("\n- {problem}")).collect();
    let text = format!("The example was not taken. Mend this and hand in the whole example again:{list}");
    json!({"type": "tool_result", "tool_use_id": call, "is_error": true, "content": text})
}
