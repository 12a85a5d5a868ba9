//! `manifest.json`: everything needed to repeat the run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Generation, Primary, Settings, Shard};
use crate::condition::{self, Condition, KvTypes};
use crate::llama::Model;
use crate::models::ModelSource;
use crate::{Error, Result, llama, models};

/// Version of the layout of a run directory.
pub const SCHEMA: u32 = 2;

/// The content of `manifest.json`: a fixed part, which must not change, and a growing list of sessions. It never holds
/// a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout of the run directory.
    pub schema: u32,
    /// Fingerprint of the fixed part.
    pub run_id: String,
    /// The model.
    pub model: ModelFile,
    /// The data set.
    pub data: DataFacts,
    /// What changes the outcome of a trial, besides its condition, the model and the example.
    pub generation: Generation,
    /// Only the examples of this shard.
    pub shard: Option<Shard>,
    /// The comparison that the study is about; it was written here before the first trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Primary>,
    /// Every start of `exp` on this directory.
    pub sessions: Vec<Session>,
    /// The conditions of a run of schema 1 whose names in its files differ from today's names.
    #[serde(skip)]
    pub(super) renamed: Vec<(String, Condition)>,
}

/// One start of `exp` on a run directory: what it planned, and what ran it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When it was started, RFC 3339.
    pub started: String,
    /// The command line.
    pub command: Vec<String>,
    /// The program and the machine that ran it.
    pub build: Build,
    /// The planned conditions, the baseline first if there is one.
    pub conditions: Vec<Condition>,
    /// Planned trials of each (example, condition).
    pub repeats: u32,
    /// The names of conditions that draw nothing, so that they are run once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub once: Vec<String>,
    /// By name of a condition that forgets single instructions, and by example: the planned repeats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forgets: BTreeMap<String, Vec<Vec<u32>>>,
    /// SHA-256 of each program and file that a policy of one's own came from (`exec:`, `scores:`), by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, String>,
    /// By example: the number of turns, if some of them are chats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<u32>,
    /// The ids of the planned examples; empty in a run of schema 1, which did not record them.
    pub examples: Vec<String>,
    /// The index of each of them in the data set, counted from 0.
    pub places: Vec<usize>,
    /// Number of planned examples.
    pub n_examples: usize,
}

/// The program and the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Version of kvllama.
    pub kvllama: String,
    /// Git commit it was built from.
    pub git_commit: String,
    /// Version of llama.cpp.
    pub llama_cpp: String,
    /// Backends compiled in, besides the CPU.
    pub features: Vec<String>,
    /// Operating system and architecture.
    pub platform: String,
    /// The devices that computed.
    pub devices: Vec<String>,
    /// CPU threads.
    pub threads: u32,
}

/// A field in which two manifests or builds differ. Its text: `seed was 1 and is now 2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The field's name.
    pub name: &'static str,
    /// The earlier value.
    pub then: String,
    /// The later value.
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} was {} and is now {}", self.name, self.then, self.now)
    }
}

/// A fact in which the sessions of one run differ. Its text: `commit (1a2b3c; 4d5e6f)`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mixed {
    /// The fact's name.
    pub name: &'static str,
    /// Its values.
    pub values: Vec<String>,
}

impl fmt::Display for Mixed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.values.join("; "))
    }
}

impl Build {
    /// The facts that may change low bits of the logits, by name.
    fn facts(&self) -> [(&'static str, String); 6] {
        [
            ("kvllama", self.kvllama.clone()),
            ("commit", self.git_commit.clone()),
            ("llama.cpp", self.llama_cpp.clone()),
            ("backends", if self.features.is_empty() { "CPU".to_owned() } else { self.features.join(", ") }),
            ("platform", self.platform.clone()),
            ("devices", self.devices.join(", ")),
        ]
    }

    /// The facts that may change low bits and differ from those of an `earlier` build.
    pub fn differences(&self, earlier: &Build) -> Vec<Difference> {
        let pairs = self.facts().into_iter().zip(earlier.facts());
        let different = pairs.filter(|(now, then)| now != then);
        different.map(|((name, now), (_, then))| Difference { name, then, now }).collect()
    }

    /// This build on this machine.
    pub fn this(threads: u32) -> Self {
        let features = [
            ("cuda", cfg!(feature = "cuda")),
            ("metal", cfg!(feature = "metal")),
            ("vulkan", cfg!(feature = "vulkan")),
            ("rpc", cfg!(feature = "rpc")),
        ];
        Build {
            kvllama: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: env!("KVLLAMA_GIT_COMMIT").to_owned(),
            llama_cpp: llama::version(),
            features: features.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect(),
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            devices: llama::devices().into_iter().map(|device| device.description).collect(),
            threads,
        }
    }
}

/// The model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFile {
    /// The name or path given by the user.
    pub name: String,
    /// Size of the file in bytes.
    pub file_size: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The metadata of the GGUF.
    pub gguf: Value,
}

impl ModelFile {
    /// Describes a model that the user named `name`.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn of(source: &ModelSource, name: &str, model: &Model) -> Result<Self> {
        let sha256 = source.sha256()?;
        let gguf = serde_json::to_value(model.facts()).expect("plain data");
        Ok(ModelFile { name: name.to_owned(), file_size: source.file_size()?, sha256, gguf })
    }

    /// The file's name. The name inside a GGUF is often unreadable, or that of a directory.
    pub fn file_name(&self) -> &str {
        match self.name.as_str() {
            models::EMBEDDED => "kvllama's embedded model",
            name => name.rsplit([':', '/', '\\']).next().unwrap_or(name),
        }
    }

    /// The name shown to people: `smollm2-135m-instruct-q4_1.gguf (98 MB)`.
    pub fn shown(&self) -> String {
        format!("{} ({})", self.file_name(), megabytes(self.file_size))
    }
}

/// A file's size as download pages write it: `98 MB`, `7.1 GB`.
pub fn megabytes(bytes: u64) -> String {
    match bytes as f64 / 1e6 {
        mega if mega < 9.95 => format!("{mega:.1} MB"),
        mega if mega < 999.5 => format!("{mega:.0} MB"),
        mega => format!("{:.1} GB", mega / 1e3),
    }
}

/// The data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// The name or path given by the user.
    pub name: String,
    /// SHA-256 of the JSONL.
    pub sha256: String,
    /// Number of examples in it.
    pub n_examples: usize,
}

impl Session {
    /// A session that starts now.
    pub fn new(build: Build, settings: &Settings, planned: Vec<(usize, String)>) -> Self {
        let (places, examples): (Vec<_>, Vec<_>) = planned.into_iter().unzip();
        let started = time::OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .ok()
            .and_then(|now| now.format(&time::format_description::well_known::Rfc3339).ok())
            .unwrap_or_default();
        Session {
            started,
            command: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            build,
            conditions: settings.conditions.clone(),
            repeats: settings.repeats,
            once: Vec::new(),
            forgets: BTreeMap::new(),
            sources: BTreeMap::new(),
            turns: Vec::new(),
            n_examples: examples.len(),
            examples,
            places,
        }
    }
}

impl Session {
    /// The planned repeats of a condition, given by its name, on an example, given by its index here.
    pub fn repeats_of(&self, condition: &str, example: usize) -> Vec<u32> {
        match self.forgets.get(condition) {
            Some(repeats) => repeats.get(example).cloned().unwrap_or_default(),
            None if self.once.iter().any(|once| once == condition) => vec![0],
            None => (0..self.repeats).collect(),
        }
    }

    /// Number of turns of an example, given by its index here.
    pub fn turns_of(&self, example: usize) -> u32 {
        self.turns.get(example).copied().unwrap_or(1)
    }
}

impl Manifest {
    /// Describes a run whose first session starts now.
    pub fn new(model: ModelFile, data: DataFacts, settings: &Settings, session: Session) -> Self {
        let mut manifest = Manifest {
            schema: SCHEMA,
            run_id: String::new(),
            model,
            data,
            generation: settings.generation.clone(),
            shard: settings.shard,
            primary: settings.primary.clone(),
            sessions: vec![session],
            renamed: Vec::new(),
        };
        manifest.identify();
        manifest
    }

    /// Computes the fingerprint from the fixed part.
    pub(super) fn identify(&mut self) {
        let facts: Vec<_> = self.determinants().into_iter().map(|(name, value, _)| (name, value)).collect();
        let text = serde_json::to_string(&facts).expect("plain data");
        self.run_id = crate::hex(&Sha256::digest(text)[..6]);
    }

    /// The time of the run's first start.
    pub fn started(&self) -> &str {
        self.sessions.first().map_or("", |session| &session.started)
    }

    /// The build of the last session.
    pub fn build(&self) -> &Build {
        &self.sessions.last().expect("a manifest has a session").build
    }

    /// Every planned condition with its name in the run's files, in the order in which they were first planned.
    pub fn conditions(&self) -> Vec<(String, Condition)> {
        let mut conditions: Vec<(String, Condition)> = Vec::new();
        for condition in self.sessions.iter().flat_map(|session| &session.conditions) {
            if !conditions.iter().any(|(_, known)| known == condition) {
                let renamed = self.renamed.iter().find(|(_, renamed)| renamed == condition);
                let name = renamed.map_or_else(|| condition.to_string(), |(name, _)| name.clone());
                conditions.push((name, condition.clone()));
            }
        }
        conditions
    }

    /// The largest number of planned trials of one (example, condition).
    pub fn repeats(&self) -> u32 {
        self.sessions.iter().map(|session| session.repeats).max().unwrap_or(0)
    }

    /// Number of planned trials on the examples that `counts` takes: the union over the sessions.
    pub fn n_planned(&self, counts: impl Fn(&str) -> bool) -> usize {
        let mut planned: HashMap<(&str, &Condition), usize> = HashMap::new();
        let mut unnamed = 0;
        for session in &self.sessions {
            if session.examples.is_empty() {
                unnamed += session.n_examples * session.conditions.len() * session.repeats as usize;
            }
            for condition in &session.conditions {
                let name = condition.to_string();
                for (index, example) in session.examples.iter().enumerate().filter(|(_, example)| counts(example)) {
                    // The repeats of one session begin those of another that plans more.
                    let repeats = planned.entry((example, condition)).or_default();
                    let trials =
                        session.repeats_of(&name, index).len().saturating_mul(session.turns_of(index) as usize);
                    *repeats = trials.max(*repeats);
                }
            }
        }
        unnamed + planned.values().sum::<usize>()
    }

    /// The facts in which the builds and devices of the sessions differ. Their rows belong to one run, but have
    /// different origins.
    pub fn mixed(&self) -> Vec<Mixed> {
        let facts: Vec<_> = self.sessions.iter().map(|session| session.build.facts()).collect();
        let Some(first) = facts.first() else { return Vec::new() };
        let values = (0..first.len()).map(|index| {
            let mut values: Vec<String> = Vec::new();
            facts.iter().map(|facts| &facts[index].1).for_each(|value| {
                if !values.contains(value) {
                    values.push(value.clone());
                }
            });
            Mixed { name: first[index].0, values }
        });
        values.filter(|mixed| mixed.values.len() > 1).collect()
    }

    /// The fields that determine the outcome of a trial: name, value, and text for a message.
    fn determinants(&self) -> Vec<(&'static str, Value, String)> {
        let Manifest { generation, model, data, .. } = self;
        let fact = |name, value: Value| {
            let shown = value.to_string();
            (name, value, shown)
        };
        let file = |name, sha256: &String, shown: &String| {
            (name, json(sha256), format!("{shown} (SHA-256 {}...)", &sha256[..sha256.len().min(8)]))
        };
        let template = match (&generation.chat_template, &generation.chat_template_sha256) {
            (Some(name), Some(sha256)) => file("chat-template", sha256, name),
            (None, None) => ("chat-template", Value::Null, "the model's own".to_owned()),
            (_, sha256) => fact("chat-template", json(sha256)),
        };
        vec![
            file("model", &model.sha256, &model.name),
            file("data", &data.sha256, &data.name),
            fact("seed", json(&generation.seed)),
            fact("n-predict", json(&generation.n_predict)),
            fact("sampling", json(&generation.sampling)),
            fact("flash-attn", json(&generation.flash_attn)),
            fact("swa-full", json(&generation.swa_full)),
            fact("batch", json(&generation.n_batch)),
            // The conditions that share a batch vary anyway; one condition at a time is a different computation.
            fact("parallel", json(&if generation.parallel > 1 { "more than 1" } else { "1" })),
            fact("fidelity", json(&generation.fidelity)),
            fact("measure-speed", json(&generation.measure_speed)),
            fact("gpu-layers", json(&generation.gpu_layers)),
            template,
            fact("shard", json(&self.shard)),
        ]
    }

    /// The fields that determine outcomes and differ from `earlier`.
    pub fn differences(&self, earlier: &Manifest) -> Vec<Difference> {
        self.determinants()
            .into_iter()
            .zip(earlier.determinants())
            .filter(|((_, now, _), (_, then, _))| now != then)
            .map(|((name, _, now), (_, _, then))| Difference { name, then, now })
            .chain(self.changed_source(earlier))
            .collect()
    }

    /// A program or file behind a policy that is no longer what it was in `earlier`.
    fn changed_source(&self, earlier: &Manifest) -> Option<Difference> {
        let of = |manifest: &'_ Manifest| -> Vec<(String, String)> {
            manifest.sessions.iter().flat_map(|session| session.sources.clone()).collect()
        };
        let (then, now) = (of(earlier), of(self));
        let pairs = now.iter().flat_map(|now| then.iter().map(move |then| (then, now)));
        let ((path, then), (_, now)) = pairs.into_iter().find(|(then, now)| then.0 == now.0 && then.1 != now.1)?;
        let shown = |sha256: &String| format!("{path} (SHA-256 {}...)", &sha256[..sha256.len().min(8)]);
        Some(Difference { name: "policy", then: shown(then), now: shown(now) })
    }

    /// This run with one more session, that of `now`. A different build or device is allowed with a warning, and the
    /// sessions record it.
    ///
    /// # Errors
    /// If a field that determines outcomes differs (the message names it), if this run has an earlier schema, or if
    /// trials have `begun` and the primary comparison is another.
    pub fn grown(mut self, now: &Manifest, directory: &Path, begun: bool) -> Result<Self> {
        if self.schema != now.schema {
            return Err(Error::input(format!(
                "{} holds a run of kvllama {}, which this version reads (report, score, judge, merge) and cannot go on \
                 with; choose another --out, or --fresh to put the old run aside",
                directory.display(),
                self.build().kvllama
            )));
        }
        let differences: Vec<_> = now.differences(&self).iter().map(Difference::to_string).collect();
        if !differences.is_empty() {
            return Err(Error::input(format!(
                "{} holds another run: {}; choose another --out, or --fresh to put the old run aside",
                directory.display(),
                differences.join("; ")
            )));
        }
        if let Some(primary) = now.primary.as_ref().filter(|primary| self.primary.as_ref() != Some(primary)) {
            if begun {
                let named = self.primary.as_ref().map_or("none".to_owned(), |earlier| format!("\"{earlier}\""));
                return Err(Error::input(format!(
                    "--primary \"{primary}\": {} already holds trials, and before the first of them its primary comparison \
                     was {named}; leave --primary out, or choose another --out",
                    directory.display()
                )));
            }
            self.primary = Some(primary.clone());
        }
        let mixed: Vec<_> = now.build().differences(self.build()).iter().map(Difference::to_string).collect();
        if !mixed.is_empty() {
            tracing::warn!("{} goes on as a mixed run: {}", directory.display(), mixed.join("; "));
        }
        self.sessions.extend(now.sessions.iter().cloned());
        Ok(self)
    }

    /// Reads a manifest, of this schema or of an earlier one.
    ///
    /// # Errors
    /// If the file cannot be read or is no manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let no_manifest = |error: String| {
            Error::input(format!(
                "{} is no manifest that kvllama {} can read: {error}; restore the file, or choose another directory",
                path.display(),
                env!("CARGO_PKG_VERSION")
            ))
        };
        crate::files::refuse_irregular(path)?;
        let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| no_manifest(error.to_string()))?;
        match value["schema"].as_u64() {
            Some(1) => {
                let mut manifest = Self::of_schema_1(&value).map_err(no_manifest)?;
                manifest.grow_by_rows(&path.with_file_name(super::TRIALS));
                Ok(manifest)
            }
            Some(2) => {
                let manifest: Manifest =
                    serde_json::from_value(value).map_err(|error| no_manifest(error.to_string()))?;
                match manifest.sessions.is_empty() {
                    true => Err(no_manifest("it has no session".to_owned())),
                    false => Ok(manifest),
                }
            }
            Some(newer) => Err(no_manifest(format!("it has schema {newer}, written by a newer kvllama"))),
            None => Err(no_manifest("it has no schema".to_owned())),
        }
    }

    /// Reads the manifest of kvllama 0.1.0, which had one fixed plan instead of sessions.
    fn of_schema_1(value: &Value) -> std::result::Result<Self, String> {
        fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> std::result::Result<T, String> {
            serde_json::from_value(value[name].clone()).map_err(|error| format!("{name}: {error}"))
        }
        let settings = &value["settings"];
        let conditions = settings["conditions"].as_array().ok_or("settings: there are no conditions")?;
        let kv_type = kv_type_of_schema_1(value);
        let upgraded =
            |value| condition::upgrade(value).map(|(condition, name)| (Condition { kv_type, ..condition }, name));
        let conditions: Vec<_> = conditions.iter().map(upgraded).collect::<std::result::Result<_, _>>()?;
        let data: DataFacts = field(value, "data")?;
        let (limit, shard) = (field::<Option<usize>>(settings, "limit")?, field(settings, "shard")?);
        let session = Session {
            started: field(value, "started")?,
            command: field(value, "command")?,
            build: field(value, "build")?,
            conditions: conditions.iter().map(|(condition, _)| condition.clone()).collect(),
            repeats: field(settings, "repeats")?,
            once: Vec::new(),
            forgets: BTreeMap::new(),
            sources: BTreeMap::new(),
            turns: Vec::new(),
            examples: Vec::new(),
            places: Vec::new(),
            n_examples: limit.unwrap_or(usize::MAX).min(data.n_examples),
        };
        let renamed = conditions.into_iter().filter(|(condition, name)| condition.to_string() != *name);
        Ok(Manifest {
            schema: 1,
            run_id: field(value, "run_id")?,
            model: field(value, "model")?,
            data,
            generation: field(settings, "generation")?,
            shard,
            primary: None,
            sessions: vec![session],
            renamed: renamed.map(|(condition, name)| (name, condition)).collect(),
        })
    }

    /// Adds the conditions and repeats that only the rows show: a run of schema 1 may have grown beyond its manifest.
    fn grow_by_rows(&mut self, trials: &Path) {
        // Errors in the rows are reported by the code that reads the rows.
        let Ok(mut reader) = csv::Reader::from_path(trials) else { return };
        let Ok(columns) = reader.headers().cloned() else { return };
        let mut known: HashSet<String> = self.conditions().into_iter().map(|(name, _)| name).collect();
        for row in reader.records().map_while(std::result::Result::ok) {
            let cell = |name: &str| Some(row.get(columns.iter().position(|column| column == name)?)?.to_owned());
            let session = &mut self.sessions[0];
            let repeat = cell("repeat").and_then(|text| text.parse().ok()).unwrap_or(0u32);
            session.repeats = session.repeats.max(repeat.saturating_add(1));
            let Some(name) = cell("condition").filter(|name| !known.contains(name)) else { continue };
            if let Ok((condition, then)) = condition::upgrade_row(cell) {
                let condition = Condition {
                    kv_type: session.conditions.first().map_or_else(Default::default, |first| first.kv_type),
                    ..condition
                };
                session.conditions.push(condition.clone());
                if then != condition.to_string() {
                    self.renamed.push((then, condition));
                }
            }
            known.insert(name);
        }
    }

    /// Writes the file atomically.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        crate::files::write_atomically(path, text.as_bytes())
    }
}

/// The types of the KV cache in schema 1: one setting for the whole run.
fn kv_type_of_schema_1(value: &Value) -> KvTypes {
    value["settings"]["generation"]["kv_type"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("plain data")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::exp::Generation;

    /// A manifest for tests of other modules.
    pub(crate) fn manifest() -> Manifest {
        let generation = Generation { n_predict: 8, ..Generation::default() };
        let conditions = vec![Condition::default()];
        let settings = Settings { conditions, repeats: 1, limit: None, shard: None, generation, primary: None };
        let session = Session::new(Build::this(1), &settings, vec![(0, "a".into()), (1, "b".into()), (2, "c".into())]);
        Manifest::new(
            ModelFile { name: "m".into(), file_size: 1, sha256: "00".into(), gguf: Value::Null },
            DataFacts { name: "d".into(), sha256: "11".into(), n_examples: 3 },
            &settings,
            session,
        )
    }

    #[test]
    fn a_manifest_survives_its_file_and_its_run_id_ignores_the_clock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        let written = manifest();
        written.write(&path).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), written);
        assert_eq!(manifest().run_id, written.run_id);
    }

    #[test]
    fn what_was_planned_is_the_union_of_the_sessions() {
        let mut manifest = manifest();
        let first = manifest.sessions[0].clone();
        let random: Condition =
            Condition { policy: "random".parse().unwrap(), budget: "0.5".parse().unwrap(), ..Condition::default() };
        manifest.sessions.push(Session {
            conditions: vec![Condition::default(), random],
            repeats: 2,
            examples: vec!["b".into(), "d".into()],
            places: vec![1, 3],
            n_examples: 2,
            ..first
        });
        // none: a, c once, b, d twice; random@0.5: b, d twice.
        assert_eq!(manifest.n_planned(|_| true), 2 + 4 + 4);
        manifest.sessions[1].once = vec!["none".into()];
        manifest.sessions[1].forgets = BTreeMap::from([("random@0.5".into(), vec![vec![0, 2], vec![]])]);
        assert_eq!(manifest.n_planned(|_| true), 4 + 2);
        assert_eq!(manifest.n_planned(|example| example == "b"), 1 + 2);
        assert_eq!(manifest.repeats(), 2);
        let names: Vec<_> = manifest.conditions().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["none", "random@0.5"]);
        assert_eq!(manifest.mixed(), []);
        manifest.sessions[1].build.devices = vec!["another".into()];
        assert_eq!(manifest.mixed()[0].name, "devices");
    }

    #[test]
    fn a_manifest_of_the_first_schema_is_read() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run/manifest.json");
        let manifest = Manifest::read(&sample).unwrap();
        assert_eq!((manifest.schema, manifest.sessions.len()), (1, 1));
        assert!(manifest.conditions().len() > 1 && manifest.n_planned(|_| true) > 0);
    }
}
