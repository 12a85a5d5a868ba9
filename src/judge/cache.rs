//! `verdicts.jsonl`: every reply of every judge, as it came. What is known is not asked again, and
//! what was spent is known.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::price::{Price, Usage};
use super::{PROMPT_VERSION, Reply, Verdict};
use crate::{Error, Result};

/// The key of a verdict: whoever changes judge, prompt, rubric or response needs another one.
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
    /// Of the score, or of its absence.
    reason: String,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

/// The file and what it says.
pub(super) struct Cache {
    path: PathBuf,
    file: File,
    verdicts: HashMap<String, Verdict>,
    /// By judge.
    spent: HashMap<String, Spent>,
}

/// What a judge was paid for so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Verdicts asked for.
    pub requests: usize,
    /// Tokens billed.
    pub usage: Usage,
    /// US dollars; nothing where no price was known.
    pub cost_usd: f64,
}

impl Cache {
    /// Opens the file, or makes it. A torn last line is cut off.
    pub fn open(path: PathBuf) -> Result<Self> {
        let fail = || Error::io("cannot open", &path);
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail())?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(fail())?;
            bytes.truncate(whole);
        }
        let mut cache = Cache { path: path.clone(), file, verdicts: HashMap::new(), spent: HashMap::new() };
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(line) => cache.note(line),
                Err(error) => tracing::warn!("{}: a line is no verdict and is ignored: {error}", path.display()),
            }
        }
        Ok(cache)
    }

    /// The verdict under a key.
    pub fn get(&self, key: &str) -> Option<&Verdict> {
        self.verdicts.get(key)
    }

    /// What a judge was paid for.
    pub fn spent(&self, judge: &str) -> Spent {
        self.spent.get(judge).copied().unwrap_or_default()
    }

    /// Appends a reply; when this returns, it is on the disk.
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
        let text = serde_json::to_string(&line).expect("plain data") + "\n";
        let before = self.file.seek(SeekFrom::End(0)).map_err(Error::io("cannot write", &self.path))?;
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()).map_err(|error| {
            let _ = self.file.set_len(before);
            Error::io("cannot write", &self.path)(error)
        })?;
        self.note(line);
        Ok(())
    }

    fn note(&mut self, line: Line) {
        let spent = self.spent.entry(line.judge).or_default();
        spent.requests += 1;
        spent.usage += line.usage;
        spent.cost_usd += line.cost_usd.unwrap_or(0.0);
        if let Some(score) = line.score {
            self.verdicts.insert(line.key, Verdict { score, reason: line.reason });
        }
    }
}

/// The cache of a run.
pub(super) fn of(directory: &Path) -> Result<Cache> {
    Cache::open(directory.join("verdicts.jsonl"))
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
        let mut cache = Cache::open(path.clone()).unwrap();
        cache.append("j", price, reply("a", Some(0.5))).unwrap();
        cache.append("j", price, reply("b", None)).unwrap();
        cache.append("j", price, reply("b", Some(1.0))).unwrap();
        drop(cache);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let lines = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
            let mut cache = Cache::open(path.clone()).unwrap();
            assert_eq!((cache.get("a").is_some(), cache.get("b").is_some()), (lines > 0, lines > 2));
            assert_eq!(cache.spent("j").requests, lines);
            assert!((cache.spent("j").cost_usd - lines as f64 * 150e-6).abs() < 1e-12, "failures were paid for, too");
            cache.append("other", None, reply("c", Some(0.0))).unwrap();
            assert_eq!(Cache::open(path.clone()).unwrap().get("c").unwrap().reason, "so\n\"it\" is");
        }
    }

    #[test]
    fn a_key_changes_with_all_it_stands_for() {
        let keys = [key("j", "ab", "c"), key("j", "a", "bc"), key("jj", "ab", "c"), key("j", "ab", "d")];
        assert!((1..keys.len()).all(|index| !keys[..index].contains(&keys[index])));
        assert!(keys[0].len() <= 64, "a batch takes it as custom_id");
    }
}
