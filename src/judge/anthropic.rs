//! Claude through the Messages API.

use serde_json::{Value, json};

use super::prompt::{self, MAX_TOKENS, SYSTEM};
use super::{Judge, Report, Request, Verdict, pool};
use crate::Result;
use crate::api::anthropic::{MESSAGES, call, check_key, client, takes_temperature, usage, with_tool};
use crate::api::price::{self, Price, Usage};
use crate::api::{Client, Endpoint};

/// Claude, with one request per verdict.
pub struct Anthropic {
    client: Client,
    model: String,
    price: Option<Price>,
    parallel: usize,
}

impl Anthropic {
    /// `price` replaces the price from the table.
    ///
    /// # Errors
    /// If key or address cannot be used.
    pub fn new(endpoint: &Endpoint, model: &str, price: Option<Price>) -> Result<Self> {
        let price = price.or_else(|| price::find(model).map(|known| known.price));
        Ok(Anthropic { client: client(endpoint)?, model: model.to_owned(), price, parallel: endpoint.parallel })
    }
}

impl Judge for Anthropic {
    fn fingerprint(&self) -> String {
        fingerprint(&self.model)
    }

    fn ready(&self) -> Result<()> {
        check_key(&self.client)
    }

    fn price(&self) -> Option<Price> {
        self.price
    }

    fn judge(&mut self, requests: &[Request], report: &mut Report) -> Result<()> {
        let ask = |request: &Request, usage: &mut Usage| {
            let body = params(&self.model, request);
            self.client.ask(MESSAGES, Some(&body), |answer| {
                let message =
                    serde_json::from_str(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
                read(&message, usage)
            })
        };
        pool::each(requests, self.parallel, ask, report)
    }
}

/// The same for single requests and for batches, whose verdicts count as those of the same judge.
pub(super) fn fingerprint(model: &str) -> String {
    let temperature = if takes_temperature(model) { " temperature=0" } else { "" };
    format!("anthropic {model}{temperature}")
}

/// The parameters of one request: the verdict is the input of a tool that must be called.
pub(super) fn params(model: &str, request: &Request) -> Value {
    let (response, criterion) = prompt::question(request);
    let prefix = price::tokens(SYSTEM) + price::tokens(&response);
    let mut response = json!({"type": "text", "text": response});
    if request.shared && price::find(model).is_some_and(|known| prefix >= known.cacheable) {
        response["cache_control"] = json!({"type": "ephemeral"});
    }
    let params = json!({
        "model": model,
        "max_tokens": MAX_TOKENS,
        "system": SYSTEM,
        "messages": [{"role": "user", "content": [response, {"type": "text", "text": criterion}]}],
    });
    let mut params = with_tool(params, "verdict", "Records the verdict on the response.", prompt::schema());
    if takes_temperature(model) {
        params["temperature"] = json!(0);
    }
    params
}

/// The verdict in a message. Its tokens are billed whatever it contains.
pub(super) fn read(message: &Value, spent: &mut Usage) -> std::result::Result<Verdict, String> {
    *spent += usage(message);
    prompt::parse(&call(message, "verdict")?["input"])
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
