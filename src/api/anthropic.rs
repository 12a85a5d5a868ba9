//! The Messages API of Anthropic, used so that an answer is the input of a tool that must be called.

use serde_json::{Value, json};

use super::price::{self, Usage};
use super::{Auth, Client, Endpoint};
use crate::{Error, Result};

/// The default address of the API.
pub const URL: &str = "https://api.anthropic.com";

/// The path for a message.
pub(crate) const MESSAGES: &str = "/v1/messages";

/// # Errors
/// If key or address cannot be used. A missing key is an error of [`check_key`]: what a plan costs can be told without.
pub(crate) fn client(endpoint: &Endpoint) -> Result<Client> {
    Ok(Client::new(endpoint, &Auth::Header("x-api-key"))?.with("anthropic-version", "2023-06-01"))
}

/// # Errors
/// If there is no key.
pub(crate) fn check_key(client: &Client) -> Result<()> {
    match client.has_key() {
        true => Ok(()),
        false => Err(Error::input("the Anthropic API needs a key: set ANTHROPIC_API_KEY")),
    }
}

/// Adds a tool, and the demand to call it, to the parameters of a request.
pub(crate) fn with_tool(mut params: Value, name: &str, description: &str, schema: Value) -> Value {
    params["tools"] = json!([{"name": name, "description": description, "input_schema": schema}]);
    params["tool_choice"] = json!({"type": "tool", "name": name});
    params
}

/// The billed tokens of a message.
pub(crate) fn usage(message: &Value) -> Usage {
    let count = |name: &str| message["usage"][name].as_u64().unwrap_or(0);
    Usage {
        input: count("input_tokens"),
        output: count("output_tokens"),
        cache_write: count("cache_creation_input_tokens"),
        cache_read: count("cache_read_input_tokens"),
    }
}

/// A tool call in a message: its `id` and its `input`.
pub(crate) fn call<'a>(message: &'a Value, tool: &str) -> std::result::Result<&'a Value, String> {
    let stop = message["stop_reason"].as_str().unwrap_or("nothing");
    let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let call = blocks.iter().find(|block| block["type"] == "tool_use" && block["name"] == tool);
    call.ok_or_else(|| format!("the answer holds no {tool}; it stopped for {stop}"))
}

/// Whether a model is known to accept a temperature.
pub(crate) fn takes_temperature(model: &str) -> bool {
    price::find(model).is_some_and(|known| known.temperature)
}
