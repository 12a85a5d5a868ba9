//! JSON over HTTP, with the timeouts and retries that language models need.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use ureq::http::{HeaderMap, HeaderValue, Request, Uri, header};
use ureq::{Agent, RequestExt as _};

use super::retry::{Patience, Trouble, persist};
use super::secret::Secret;
use crate::{Error, Result};

/// How an API is reached.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The address of the API.
    pub url: String,
    /// The key, if the API needs one.
    pub key: Option<Secret>,
    /// Retries and timeouts.
    pub patience: Patience,
    /// Largest number of requests at the same time.
    pub parallel: usize,
}

/// How the key is sent.
pub(crate) enum Auth {
    /// As a header of its own.
    Header(&'static str),
    /// As a bearer token.
    Bearer,
}

/// A client of one API.
pub(crate) struct Client {
    agent: Agent,
    /// The address, without a slash at its end.
    base: String,
    host: String,
    headers: HeaderMap,
    key: Option<Secret>,
    patience: Patience,
}

/// Limit for a reply: results of a large batch are long, but not endless.
const MAX_BODY: u64 = 1 << 30;

impl Client {
    /// # Errors
    /// If the address or the key cannot be used.
    pub fn new(endpoint: &Endpoint, auth: &Auth) -> Result<Self> {
        let base = endpoint.url.trim_end_matches('/').to_owned();
        let bad = || Error::input("the address of the API is not one like https://api.example.com");
        let uri: Uri = base.parse().map_err(|_| bad())?;
        let authority =
            uri.authority().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))).ok_or_else(bad)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(Error::input(
                "the address of the API holds a user name or a query; keys belong into the environment",
            ));
        }
        let mut headers = HeaderMap::new();
        if let Some(key) = &endpoint.key {
            let (name, text) = match auth {
                Auth::Header(name) => (*name, key.reveal().to_owned()),
                Auth::Bearer => ("authorization", format!("Bearer {}", key.reveal())),
            };
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| Error::input("the API key holds a character that HTTP forbids"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // A key must not follow a redirect to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("kvllama/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(endpoint.patience.timeout))
            .max_idle_connections_per_host(endpoint.parallel)
            .build()
            .new_agent();
        let host = authority.to_string();
        Ok(Client { agent, base, host, headers, key: endpoint.key.clone(), patience: endpoint.patience })
    }

    /// Adds a header that is not secret.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Whether requests carry a key.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends `body` (or a request without one), again if needed, until `read` accepts the reply.
    pub fn ask<T>(
        &self,
        path: &str,
        body: Option<&Value>,
        mut read: impl FnMut(&str) -> std::result::Result<T, String>,
    ) -> std::result::Result<T, Trouble> {
        persist(&self.patience, || {
            let answer = self.once(path, body)?;
            read(&answer).map_err(Trouble::Misformed)
        })
    }

    fn once(&self, path: &str, body: Option<&Value>) -> std::result::Result<String, Trouble> {
        let mut request = Request::builder().uri(format!("{}{path}", self.base));
        request = request.method(if body.is_some() { "POST" } else { "GET" });
        request.headers_mut().expect("the address was checked").extend(self.headers.clone());
        let response = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string())
                .map_err(ureq::Error::Http)
                .and_then(|request| request.with_agent(&self.agent).run()),
            None => {
                request.body(()).map_err(ureq::Error::Http).and_then(|request| request.with_agent(&self.agent).run())
            }
        };
        let response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let text = response.into_body().with_config().limit(MAX_BODY).lossy_utf8(true).read_to_string();
        if let 408 | 409 | 425 | 429 | 500..=599 = status {
            let said = text.map(|text| self.message(text)).unwrap_or_default();
            return Err(Trouble::Passing { reason: format!("{} answers {status}{said}", self.host), retry_after });
        }
        let text = text.map_err(|error| self.unreachable(&error))?;
        match status {
            200..=299 => Ok(self.redact(text)),
            401 | 403 | 404 => Err(Error::input(format!(
                "{} refuses requests: {status}{}; check the key, the model and the address",
                self.host,
                self.message(text)
            ))
            .into()),
            _ => {
                let reason = format!("{} answers {status}{}", self.host, self.message(text));
                Err(Trouble::Refused { status, reason })
            }
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Trouble {
        Trouble::passing(format!("{} cannot be reached: {}", self.host, self.redact(error.to_string())))
    }

    /// The server's reason for a refusal, after a colon.
    fn message(&self, text: String) -> String {
        let text = self.redact(text);
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let error = &value["error"];
        let said = error["message"].as_str().or(error.as_str()).unwrap_or(&text);
        let line = shorten(&said.split_whitespace().collect::<Vec<_>>().join(" "), 200);
        if line.is_empty() { line } else { format!(": {line}") }
    }

    fn redact(&self, text: String) -> String {
        match &self.key {
            Some(key) => key.redact(text),
            None => text,
        }
    }
}

/// The first `limit` characters of a text.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The pause that a server asks for: `retry-after`, in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, key: &str) -> Endpoint {
        Endpoint { url: url.into(), key: Secret::new(key), patience: Patience::default(), parallel: 1 }
    }

    #[test]
    fn addresses_and_keys_are_checked_without_being_shown() {
        let error = |url, key| Client::new(&endpoint(url, key), &Auth::Bearer).err().map(|error| error.to_string());
        assert_eq!(error("http://127.0.0.1:80/v1/", "k"), None);
        for (url, key) in
            [("https://me:pass@host", "k"), ("host", "k"), ("ftp://host", "k"), ("https://h?key=pass", "k")]
        {
            let error = error(url, key).unwrap();
            assert!(!error.contains("pass"), "{error}");
        }
        assert!(error("https://host", "sk\n1").is_some_and(|error| !error.contains("sk")));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("1.5"), Some(Duration::from_millis(1500)));
        assert!(read("Tue, 31 Dec 2199 23:59:59 GMT").is_some_and(|wait| wait > Duration::from_secs(1 << 30)));
        assert_eq!((read("Wed, 21 Oct 2015 07:28:00 GMT"), read("soon"), read("-1")), (None, None, None));
    }
}
