//! `verdicts.jsonl`: every reply of every judge, as received, so that nothing is asked twice and all costs are known.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{PROMPT_VERSION, Reply, Verdict};
use crate::api::price::{Price, Usage};
use crate::lines::Lines;
use crate::{Error, Result};

/// The key of a verdict. It differs if the judge, the prompt, the rubric or the response differs.
pub(super) fn key(fingerprint: &str, rubric: &str, response: &str) -> String {
    let whole = serde_json::to_string(&(fingerprint, PROMPT_VERSION, rubric, response)).expect("plain data");
    crate::hex(&Sha256::digest(whole))
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    judge: String,
    prompt_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// The reason for the score, or why there is none.
    reason: String,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

/// The file and its contents.
pub(super) struct Cache {
    lines: Lines,
    verdicts: HashMap<String, Verdict>,
    /// What each judge was paid.
    spent: HashMap<String, Spent>,
}

/// What a judge was paid so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Number of verdicts requested.
    pub requests: usize,
    /// Tokens billed.
    pub usage: Usage,
    /// US dollars; 0 if no price was known.
    pub cost_usd: f64,
}

impl Cache {
    /// Opens the file, or creates it. An incomplete last line is cut off.
    ///
    /// # Errors
    /// If another line is not a verdict.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut verdicts, mut spent) = Default::default();
        let (lines, torn) = Lines::open(path, |line| {
            let line =
                serde_json::from_str(line).map_err(|error| Error::input(format!("this is no verdict: {error}")))?;
            note(&mut verdicts, &mut spent, line);
            Ok(())
        })?;
        if torn {
            tracing::warn!("{}: the last line was torn and has been dropped", path.display());
        }
        Ok(Cache { lines, verdicts, spent })
    }

    /// The verdict under a key.
    pub fn get(&self, key: &str) -> Option<&Verdict> {
        self.verdicts.get(key)
    }

    /// What a judge was paid.
    pub fn spent(&self, judge: &str) -> Spent {
        self.spent.get(judge).copied().unwrap_or_default()
    }

    /// Appends a reply; when this returns, the reply is on disk.
    pub fn append(&mut self, judge: &str, price: Option<Price>, reply: Reply) -> Result<()> {
        let (score, reason) = match reply.verdict {
            Ok(verdict) => (Some(verdict.score), verdict.reason),
            Err(reason) => (None, reason),
        };
        let line = Line {
            key: reply.key,
            judge: judge.to_owned(),
            prompt_version: PROMPT_VERSION,
            score,
            reason,
            usage: reply.usage,
            cost_usd: price.map(|price| price.cost(&reply.usage)),
        };
        self.lines.append(&line)?;
        note(&mut self.verdicts, &mut self.spent, line);
        Ok(())
    }
}

fn note(verdicts: &mut HashMap<String, Verdict>, spent: &mut HashMap<String, Spent>, line: Line) {
    let spent = spent.entry(line.judge).or_default();
    spent.requests += 1;
    spent.usage += line.usage;
    spent.cost_usd += line.cost_usd.unwrap_or(0.0);
    if let Some(score) = line.score {
        verdicts.insert(line.key, Verdict { score, reason: line.reason });
    }
}

/// The cache of a run.
pub(super) fn of(directory: &Path) -> Result<Cache> {
    Cache::open(&directory.join("verdicts.jsonl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(key: &str, score: Option<f64>) -> Reply {
        let verdict = score.map(|score| Verdict { score, reason: "so\n\"it\" is".into() }).ok_or("no".to_owned());
        Reply { key: key.into(), verdict, usage: Usage { input: 100, output: 10, ..Usage::default() } }
    }

    #[test]
    fn a_file_torn_at_any_byte_keeps_its_whole_lines_and_takes_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verdicts.jsonl");
        let price = Some(Price { input: 1.0, output: 5.0 });
        let mut cache = Cache::open(&path).unwrap();
        cache.append("j", price, reply("a", Some(0.5))).unwrap();
        cache.append("j", price, reply("b", None)).unwrap();
        cache.append("j", price, reply("b", Some(1.0))).unwrap();
        drop(cache);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            // A line that lacks only its line feed is complete.
            let lines = whole[..whole.len().min(length + 1)].iter().filter(|&&byte| byte == b'\n').count();
            let mut cache = Cache::open(&path).unwrap();
            assert_eq!((cache.get("a").is_some(), cache.get("b").is_some()), (lines > 0, lines > 2));
            assert_eq!(cache.spent("j").requests, lines);
            assert!((cache.spent("j").cost_usd - lines as f64 * 150e-6).abs() < 1e-12, "failures were paid for, too");
            cache.append("other", None, reply("c", Some(0.0))).unwrap();
            drop(cache);
            assert_eq!(Cache::open(&path).unwrap().get("c").unwrap().reason, "so\n\"it\" is");
        }
    }

    #[test]
    fn a_key_changes_with_all_it_stands_for() {
        let keys = [key("j", "ab", "c"), key("j", "a", "bc"), key("jj", "ab", "c"), key("j", "ab", "d")];
        assert!((1..keys.len()).all(|index| !keys[..index].contains(&keys[index])));
        assert!(keys[0].len() <= 64, "a batch takes it as custom_id");
    }
}
