//! `exec:PROGRAM`: scores, or keep sets, that a program of the user's own answers. docs/your-own-policy.md describes the
//! protocol.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::program::Program;
use super::shape::{Array, sizes, write};
use crate::evict::{Heads, Layer, Layers, Needs, Quota, Score, Scores, Subject};
use crate::{Error, Result};

/// Version of the protocol.
const PROTOCOL: u64 = 1;

/// A program that was started and has said what it needs.
pub(super) struct Exec {
    program: Mutex<Program>,
    hello: Hello,
    /// Where arrays are exchanged; removed with this value.
    directory: tempfile::TempDir,
}

/// What a program says about itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hello {
    protocol: u64,
    needs: Vec<Need>,
    /// How many of the last queries `attention_*` and `*queries` are about; all without it.
    last: Option<usize>,
    /// The largest part of the prompt that these queries may be.
    share: Option<f64>,
    layers: Choice,
    answers: Answers,
}

impl Hello {
    /// Reads a reply; `Err` is the end of a sentence about the program.
    fn read(reply: &Value) -> std::result::Result<Self, String> {
        let hello = Hello::deserialize(reply)
            .map_err(|error| format!("says hello in words that kvllama does not know: {error}"))?;
        if hello.protocol != PROTOCOL {
            return Err(format!(
                "speaks protocol {}, and this kvllama speaks {PROTOCOL}; its hello must contain \"protocol\": {PROTOCOL}",
                hello.protocol
            ));
        }
        if hello.last == Some(0) || hello.share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return Err("says hello with `last` below 1, or with `share` outside 0 to 1".to_owned());
        }
        Ok(hello)
    }

    /// How many of the last of `len` queries it looks at.
    fn last(&self, len: usize) -> usize {
        let most = self.share.map_or(len, |share| (len as f64 * share) as usize);
        self.last.unwrap_or(len).min(most).clamp(1, len.max(1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Need {
    Keys,
    RawKeys,
    Values,
    Queries,
    RawQueries,
    AttentionSums,
    AttentionMaxima,
}

/// The layers that it looks at.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Choice {
    Kind(Layers),
    Numbers(Vec<u32>),
}

impl Default for Choice {
    fn default() -> Self {
        Choice::Kind(Layers::All)
    }
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answers {
    #[default]
    Scores,
    Keep,
}

impl Exec {
    /// Starts the program and asks what it needs.
    ///
    /// # Errors
    /// If it cannot be started, or does not answer as the protocol says.
    pub fn start(path: &Path, parameters: &[(String, String)], timeout: Duration) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("kvllama-").tempdir();
        let directory =
            directory.map_err(|source| Error::Io { what: "cannot make a directory for arrays".into(), source })?;
        let mut program = Program::start(path, timeout)?;
        // A number if it is one, so that a program can compute with it.
        let value =
            |text: &String| serde_json::from_str(text).ok().filter(Value::is_number).unwrap_or_else(|| json!(text));
        let parameters: Map<String, Value> =
            parameters.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        let request = json!({
            "ask": "hello", "protocol": PROTOCOL, "kvllama": env!("CARGO_PKG_VERSION"), "parameters": parameters,
            "directory": directory.path(),
        });
        let reply = program.ask(&request)?;
        let hello = Hello::read(&reply).map_err(|error| program.fault(&error))?;
        Ok(Exec { program: Mutex::new(program), hello, directory })
    }

    fn wants(&self, need: Need) -> bool {
        self.hello.needs.contains(&need)
    }

    fn last(&self, len: usize) -> usize {
        self.hello.last(len)
    }

    /// Writes the arrays of a layer and describes it.
    fn describe(&self, layer: &Layer) -> Result<Value> {
        let (len, last) = (layer.len, self.last(layer.len));
        let mut facts = json!({
            "index": layer.index, "window": layer.window, "heads": layer.heads, "kv_heads": layer.kv_heads,
            "d_k": layer.d_k, "d_v": layer.d_v, "last": last, "scale": layer.scale, "softcap": layer.softcap,
        });
        let path = |name: &str| self.directory.path().join(format!("{}.{name}.npy", layer.index));
        let mut put = |name: &str, shape: &[usize], values: &[f32]| {
            write(&path(name), shape, values)?;
            facts[name] = json!(path(name));
            Ok::<_, Error>(())
        };
        let (kv, k, v) = (layer.kv_heads, layer.d_k, layer.d_v);
        // Another policy may have asked for more queries.
        let rows = |all: &'_ [f32]| all[all.len() - (last * layer.heads * k).min(all.len())..].to_vec();
        if self.wants(Need::Keys) {
            put("keys", &[len, kv, k], layer.keys)?;
        }
        if self.wants(Need::RawKeys) {
            put("raw_keys", &[len, kv, k], layer.raw_keys)?;
        }
        if self.wants(Need::Values) {
            put("values", &[len, kv, v], layer.values)?;
        }
        if self.wants(Need::Queries) {
            put("queries", &[last, layer.heads, k], &rows(layer.query_rows))?;
        }
        if self.wants(Need::RawQueries) {
            put("raw_queries", &[last, layer.heads, k], &rows(layer.raw_query_rows))?;
        }
        let attention = layer.weights_from(len - last).into_iter();
        let sums_and_maxima = attention.flat_map(|weights| {
            [
                (Need::AttentionSums, "attention_sums", &weights.sums),
                (Need::AttentionMaxima, "attention_maxima", &weights.maxima),
            ]
        });
        for (need, name, heads) in sums_and_maxima {
            if self.wants(need) {
                write(&path(name), &[kv, len], &heads.concat())?;
                facts[name] = json!(path(name));
            }
        }
        Ok(facts)
    }
}

/// The scores in a reply: 1 for kept and 0 for evicted positions if it is a keep set. Files are relative to `directory`;
/// `layers` are numbers and KV heads.
fn scores_of(
    directory: &Path,
    reply: &Value,
    layers: &[(u32, usize)],
    len: usize,
    quota: Option<&Quota>,
) -> std::result::Result<Scores, String> {
    let name = if quota.is_some() { "keep" } else { "scores" };
    let given = reply.get(name).ok_or_else(|| format!("answers without `{name}`"))?;
    let array = match given {
        Value::String(file) => Array::npy(&directory.join(file)),
        lists => Array::nested(lists),
    };
    let bad = |error: String| format!("gives {name} that cannot be used: {error}");
    let array = array.map_err(bad)?;
    let Some(quota) = quota else { return array.scores(layers, len).map_err(bad) };
    let kept = array.rows(layers, quota.keep).map_err(bad)?;
    let of_head = |kept: &[f64]| {
        let mut scores = vec![0.0; len];
        for &position in kept {
            match scores.get_mut(position as usize) {
                Some(score) if position.fract() == 0.0 && position >= 0.0 && *score == 0.0 => *score = 1.0,
                _ => {
                    return Err(bad(format!("{position} is no position of 0 to {}, or stands there twice", len - 1)));
                }
            }
        }
        match quota.must.iter().find(|&&position| scores[position] == 0.0) {
            Some(position) => Err(bad(format!("position {position} must survive (it is in `must`) and is missing"))),
            None => Ok(scores),
        }
    };
    let mut scores = Scores::default();
    for (layer, heads) in layers.iter().zip(kept) {
        let heads: std::result::Result<_, String> = heads.into_iter().map(of_head).collect();
        scores.layers.push((layer.0, heads?));
    }
    Ok(scores)
}

/// Reads a line that a program may have answered to any question; for fuzzing.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read(reply: &Value) {
    let (layers, nowhere) = ([(0, 2), (5, 2)], Path::new("/nonexistent"));
    let _ = Hello::read(reply).map(|hello| assert!((1..=3).contains(&hello.last(3))));
    let _ = scores_of(nowhere, reply, &layers, 3, None).map(|scores| assert_eq!(scores.layers.len(), 2));
    let _ = scores_of(nowhere, reply, &layers, 3, Some(&Quota { keep: 2, must: vec![2] }));
}

impl Score for Exec {
    fn needs(&self, len: usize) -> Needs {
        let from = i32::try_from(len - self.last(len)).unwrap_or(i32::MAX);
        let attention = self.wants(Need::AttentionSums) || self.wants(Need::AttentionMaxima);
        let queries = self.wants(Need::Queries) || self.wants(Need::RawQueries);
        Needs {
            attention_from: if attention { vec![from] } else { Vec::new() },
            attention_maxima: self.wants(Need::AttentionMaxima),
            query_rows_from: queries.then_some(from),
            raw_query_rows: self.wants(Need::RawQueries),
            keys: self.wants(Need::Keys),
            raw_keys: self.wants(Need::RawKeys),
            values: self.wants(Need::Values),
            ..Needs::default()
        }
    }

    fn scores_layer(&self, layer: u32, local: bool) -> bool {
        match &self.hello.layers {
            Choice::Kind(kind) => kind.include(layer, local),
            Choice::Numbers(numbers) => numbers.contains(&layer),
        }
    }

    fn chooses(&self) -> bool {
        self.hello.answers == Answers::Keep
    }

    fn rolls(&self) -> bool {
        false
    }

    /// Unused: a program scores all layers at once.
    fn score(&self, _layer: &Layer) -> Heads {
        Heads::new()
    }

    fn scores(&self, layers: &[Layer], subject: &Subject) -> Result<Scores> {
        let described: Result<Vec<Value>> = layers.iter().map(|layer| self.describe(layer)).collect();
        let texts: Vec<_> = subject.texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
        let len = subject.tokens.len();
        let mut request = json!({
            "ask": "scores", "example": subject.example, "length": len, "tokens": subject.tokens, "texts": texts,
            "spans": subject.spans, "directory": self.directory.path(), "layers": described?,
        });
        if let Some(quota) = &subject.quota {
            request["ask"] = json!("keep");
            request["keep"] = json!(quota.keep);
            request["must"] = json!(quota.must);
        }
        let mut program =
            self.program.lock().map_err(|_| Error::failed("a thread panicked while it asked a program"))?;
        let reply = program.ask(&request)?;
        scores_of(self.directory.path(), &reply, &sizes(layers), len, subject.quota.as_ref())
            .map_err(|error| program.fault(&error))
    }
}
