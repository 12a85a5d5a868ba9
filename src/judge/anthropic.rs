//! Claude through the Messages API.

use serde_json::{Value, json};

use super::http::{Auth, Client, Endpoint};
use super::pool;
use super::price::{self, Price, Usage};
use super::prompt::{self, MAX_TOKENS, SYSTEM};
use super::{Judge, Report, Request, Verdict};
use crate::{Error, Result};

/// Claude, one request a verdict.
pub struct Anthropic {
    client: Client,
    model: String,
    price: Option<Price>,
    parallel: usize,
}

impl Anthropic {
    /// Where the API is, unless told otherwise.
    pub const URL: &str = "https://api.anthropic.com";

    /// `price` replaces the one of the table.
    ///
    /// # Errors
    /// If there is no key, or if key or address cannot be used.
    pub fn new(endpoint: &Endpoint, model: &str, price: Option<Price>) -> Result<Self> {
        let price = price.or_else(|| price::find(model).map(|known| known.price));
        Ok(Anthropic { client: client(endpoint)?, model: model.to_owned(), price, parallel: endpoint.parallel })
    }
}

impl Judge for Anthropic {
    fn fingerprint(&self) -> String {
        fingerprint(&self.model)
    }

    fn price(&self) -> Option<Price> {
        self.price
    }

    fn judge(&mut self, requests: &[Request], report: &mut Report) -> Result<()> {
        let ask = |request: &Request, usage: &mut Usage| {
            let body = params(&self.model, request);
            self.client.ask("/v1/messages", Some(&body), |answer| {
                let message =
                    serde_json::from_str(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
                read(&message, usage)
            })
        };
        pool::each(requests, self.parallel, ask, report)
    }
}

pub(super) fn client(endpoint: &Endpoint) -> Result<Client> {
    if endpoint.key.is_none() {
        return Err(Error::input("the judge needs an API key: set ANTHROPIC_API_KEY, or choose another --judge"));
    }
    Ok(Client::new(endpoint, &Auth::Header("x-api-key"))?.with("anthropic-version", "2023-06-01"))
}

/// The same for single requests and for batches: their verdicts are the same judge's.
pub(super) fn fingerprint(model: &str) -> String {
    let temperature = if takes_temperature(model) { " temperature=0" } else { "" };
    format!("anthropic {model}{temperature}")
}

fn takes_temperature(model: &str) -> bool {
    price::find(model).is_some_and(|known| known.temperature)
}

/// The parameters of one request: the verdict is the input of a tool that must be called.
pub(super) fn params(model: &str, request: &Request) -> Value {
    let (response, criterion) = prompt::question(request);
    let prefix = price::tokens(SYSTEM) + price::tokens(&response);
    let mut response = json!({"type": "text", "text": response});
    if request.shared && price::find(model).is_some_and(|known| prefix >= known.cacheable) {
        response["cache_control"] = json!({"type": "ephemeral"});
    }
    let mut params = json!({
        "model": model,
        "max_tokens": MAX_TOKENS,
        "system": SYSTEM,
        "tools": [{
            "name": "verdict",
            "description": "Records the verdict on the response.",
            "input_schema": prompt::schema(),
        }],
        "tool_choice": {"type": "tool", "name": "verdict"},
        "messages": [{"role": "user", "content": [response, {"type": "text", "text": criterion}]}],
    });
    if takes_temperature(model) {
        params["temperature"] = json!(0);
    }
    params
}

/// The verdict in a message, whose tokens are billed whatever it holds.
pub(super) fn read(message: &Value, usage: &mut Usage) -> std::result::Result<Verdict, String> {
    let count = |name: &str| message["usage"][name].as_u64().unwrap_or(0);
    *usage += Usage {
        input: count("input_tokens"),
        output: count("output_tokens"),
        cache_write: count("cache_creation_input_tokens"),
        cache_read: count("cache_read_input_tokens"),
    };
    let stop = message["stop_reason"].as_str().unwrap_or("nothing");
    let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let call = blocks.iter().find(|block| block["type"] == "tool_use" && block["name"] == "verdict");
    let call = call.ok_or_else(|| format!("the answer holds no verdict; it stopped for {stop}"))?;
    prompt::parse(&call["input"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_prompts_are_cached_where_that_pays() {
        let cached = |model: &str, shared: bool, length: usize| {
            let request = Request { key: String::new(), rubric: "x".into(), response: "word ".repeat(length), shared };
            params(model, &request)["messages"][0]["content"][0].get("cache_control").is_some()
        };
        assert!(cached("claude-sonnet-4-5-20250929", true, 1000));
        assert!(!cached("claude-sonnet-4-5-20250929", false, 1000), "nobody would read it");
        assert!(!cached("claude-sonnet-4-5-20250929", true, 100), "too short to be cached");
        assert!(!cached("claude-haiku-4-5-20251001", true, 1000), "too short for this model");
        assert!(
            params(
                "claude-opus-4-7",
                &Request { key: String::new(), rubric: String::new(), response: String::new(), shared: false }
            )
            .get("temperature")
            .is_none()
        );
    }
}
