//! Claude through the Message Batches API: half the price, answers within a day.
//!
//! The id of a batch is on disk from the moment it is known until the results are there. If the process dies or is
//! stopped, the batch continues at the provider, and the next process collects it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::anthropic::{fingerprint, params, read};
use super::{Judge, Reply, Report, Request};
use crate::api::anthropic::{check_key, client};
use crate::api::price::{self, Price, Usage};
use crate::api::{Client, Endpoint, Trouble, sleep};
use crate::{Error, Result, files};

/// Claude, with many requests in one batch.
pub struct Batch {
    client: Client,
    model: String,
    price: Option<Price>,
    poll: Duration,
    /// The file that holds the id of the current batch.
    record: PathBuf,
}

/// Limit for requests in a batch: the API takes 100,000 requests and 256 MB, and this stays below both for responses of
/// 10 kB.
const MAX_REQUESTS: usize = 20_000;
const MAX_BYTES: usize = 200 << 20;

impl Batch {
    /// The default pause between two queries for a batch's state.
    pub const POLL: Duration = Duration::from_secs(20);

    /// The file with the id of the current batch is in the run's `directory`. `price` replaces the price from the
    /// table, before the discount.
    ///
    /// # Errors
    /// If key or address cannot be used.
    pub fn new(
        endpoint: &Endpoint,
        model: &str,
        price: Option<Price>,
        directory: &Path,
        poll: Duration,
    ) -> Result<Self> {
        let price = price.or_else(|| price::find(model).map(|known| known.price));
        let judge = crate::hex(&Sha256::digest(fingerprint(model))[..6]);
        Ok(Batch {
            client: client(endpoint)?,
            model: model.to_owned(),
            price: price.map(Price::half),
            poll,
            record: directory.join(format!("batch-{judge}.json")),
        })
    }

    fn create(&self, requests: &[Request]) -> Result<String> {
        let requests: Vec<_> = requests
            .iter()
            .map(|request| json!({"custom_id": request.key, "params": params(&self.model, request)}))
            .collect();
        let body = json!({"requests": requests});
        let id = self.client.ask("/v1/messages/batches", Some(&body), |answer| {
            let batch: Value =
                serde_json::from_str(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
            let id = batch["id"].as_str().filter(|id| is_id(id));
            id.map(str::to_owned).ok_or_else(|| "the answer names no batch".to_owned())
        });
        let id = id.map_err(failed)?;
        files::write_atomically(
            &self.record,
            format!("{}\n", json!({"id": id, "judge": self.fingerprint()})).as_bytes(),
        )?;
        tracing::info!("batch {id} of {} requests is at work", requests.len());
        Ok(id)
    }

    /// Waits for a batch, reports its results, and forgets it.
    fn collect(&self, id: &str, report: &mut Report) -> Result<()> {
        let path = format!("/v1/messages/batches/{id}");
        let results = loop {
            let batch: Value = self
                .client
                .ask(&path, None, |answer| serde_json::from_str(answer).map_err(|error| error.to_string()))
                .map_err(failed)?;
            if batch["processing_status"] == "ended" {
                let url = batch["results_url"].as_str().and_then(|url| url.strip_prefix(self.client.base()));
                // The key is never sent to another host, whatever the reply says.
                break url.filter(|path| path.starts_with('/')).map_or(format!("{path}/results"), str::to_owned);
            }
            tracing::info!("batch {id}: {}", batch["request_counts"]);
            sleep(self.poll)?;
        };
        let replies: Vec<Reply> = self
            .client
            .ask(&results, None, |lines| lines.lines().filter(|line| !line.trim().is_empty()).map(reply).collect())
            .map_err(failed)?;
        // All replies are paid for: an error must not lose the ones after it.
        let outcome = replies.into_iter().map(report).fold(Ok(()), Result::and);
        if outcome.is_ok() {
            std::fs::remove_file(&self.record).map_err(Error::io("cannot remove", &self.record))?;
        }
        outcome
    }
}

impl Judge for Batch {
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
        let mut rest = requests;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take(MAX_REQUESTS).take_while(|request| {
                bytes += request.response.len() + request.rubric.len() + 4096;
                bytes < MAX_BYTES
            });
            let (now, later) = rest.split_at(fit.count().max(1));
            let id = self.create(now)?;
            self.collect(&id, report)?;
            rest = later;
        }
        Ok(())
    }

    fn resume(&mut self, report: &mut Report) -> Result<()> {
        let Ok(text) = std::fs::read_to_string(&self.record) else { return Ok(()) };
        let record: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = record["id"]
            .as_str()
            .filter(|id| is_id(id))
            .ok_or_else(|| Error::input(format!("{} names no batch; delete it to ask anew", self.record.display())))?;
        self.collect(id, report).map_err(|error| match error {
            Error::Input(text) => {
                Error::Input(format!("{text}; {} names the batch, delete it to ask anew", self.record.display()))
            }
            error => error,
        })
    }
}

fn failed(trouble: Trouble) -> Error {
    trouble.reason().map_or_else(|error| error, |reason| Error::failed(format!("the judge's batch: {reason}")))
}

/// Whether the text is a valid id; ids become part of an address.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// One line of a batch's results.
fn reply(line: &str) -> std::result::Result<Reply, String> {
    let line: Value = serde_json::from_str(line).map_err(|error| format!("a result is not JSON: {error}"))?;
    let key = line["custom_id"].as_str().ok_or("a result has no custom_id")?.to_owned();
    let result = &line["result"];
    let mut usage = Usage::default();
    let verdict = match result["type"].as_str().unwrap_or_default() {
        "succeeded" => read(&result["message"], &mut usage),
        "errored" => {
            let error = &result["error"];
            let message = error["error"]["message"].as_str().or(error["message"].as_str()).unwrap_or("no reason given");
            Err(format!("the request failed in its batch: {message}"))
        }
        other => Err(format!("the batch left the request {other}")),
    };
    Ok(Reply { key, verdict, usage })
}
