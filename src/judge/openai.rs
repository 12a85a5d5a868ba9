//! Any server with `/v1/chat/completions`: llama-server, Ollama, vLLM, and services.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::prompt::{self, FORM, SYSTEM};
use super::{Judge, Report, Request, Verdict, pool};
use crate::Result;
use crate::api::price::{Price, Usage};
use crate::api::{Auth, Client, Endpoint, Trouble};

/// A model behind an OpenAI-compatible endpoint.
pub struct OpenAi {
    client: Client,
    model: String,
    price: Option<Price>,
    parallel: usize,
    /// Whether to request an answer in the form of the schema; off once the endpoint has refused that.
    structured: AtomicBool,
}

/// Limit for tokens, with room for models that think before they answer.
const MAX_TOKENS: u32 = 2048;

impl OpenAi {
    /// The default address, that of llama-server.
    pub const URL: &str = "http://127.0.0.1:8080/v1";

    /// An address without a path gets `/v1`. Such endpoints have no price unless `price` gives one.
    ///
    /// # Errors
    /// If key or address cannot be used.
    pub fn new(endpoint: &Endpoint, model: &str, price: Option<Price>) -> Result<Self> {
        let mut endpoint = endpoint.clone();
        let bare = endpoint.url.trim_end_matches('/').splitn(4, '/').count() <= 3;
        if bare {
            endpoint.url = format!("{}/v1", endpoint.url.trim_end_matches('/'));
        }
        Ok(OpenAi {
            client: Client::new(&endpoint, &Auth::Bearer)?,
            model: model.to_owned(),
            price,
            parallel: endpoint.parallel,
            structured: AtomicBool::new(true),
        })
    }

    fn ask(&self, request: &Request, usage: &mut Usage) -> std::result::Result<Verdict, Trouble> {
        let structured = self.structured.load(Ordering::Relaxed);
        let body = self.body(request, structured);
        let answer = self.client.ask("/chat/completions", Some(&body), |answer| read(answer, usage));
        match answer {
            // Not every endpoint supports `response_format`.
            Err(Trouble::Refused { status: 400 | 422, .. }) if structured => {
                let body = self.body(request, false);
                let verdict = self.client.ask("/chat/completions", Some(&body), |answer| read(answer, usage))?;
                self.structured.store(false, Ordering::Relaxed);
                Ok(verdict)
            }
            answer => answer,
        }
    }

    fn body(&self, request: &Request, structured: bool) -> Value {
        let (response, criterion) = prompt::question(request);
        let mut body = json!({
            "model": self.model,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "messages": [
                {"role": "system", "content": format!("{SYSTEM}\n\n{FORM}")},
                {"role": "user", "content": format!("{response}\n\n{criterion}")},
            ],
        });
        if structured {
            body["response_format"] = json!({
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": true, "schema": prompt::schema()},
            });
        }
        body
    }
}

impl Judge for OpenAi {
    fn fingerprint(&self) -> String {
        // The name alone is not enough: each endpoint has its own model `default`.
        format!("openai {} {} temperature=0", self.client.base(), self.model)
    }

    fn price(&self) -> Option<Price> {
        self.price
    }

    fn max_tokens(&self) -> u32 {
        MAX_TOKENS
    }

    fn judge(&mut self, requests: &[Request], report: &mut Report) -> Result<()> {
        pool::each(requests, self.parallel, |request, usage| self.ask(request, usage), report)
    }
}

pub(super) fn read(answer: &str, usage: &mut Usage) -> std::result::Result<Verdict, String> {
    let answer: Value = serde_json::from_str(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let count = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
    let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
    *usage += Usage {
        input: count("prompt_tokens").saturating_sub(cached),
        output: count("completion_tokens"),
        cache_write: 0,
        cache_read: cached,
    };
    let text = answer["choices"][0]["message"]["content"].as_str().ok_or("the answer holds no message")?;
    prompt::parse_text(text)
}
