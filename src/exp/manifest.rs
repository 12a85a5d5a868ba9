//! `manifest.json`: everything needed to repeat the run.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Settings;
use crate::{Error, Result, llama};

/// Version of the layout of a run directory.
const SCHEMA: u32 = 1;

/// What is written to `manifest.json`. No secrets, ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout of the run directory.
    pub schema: u32,
    /// Fingerprint of all that determines the outcome of a trial.
    pub run_id: String,
    /// When the run was first started, RFC 3339.
    pub started: String,
    /// The command line.
    pub command: Vec<String>,
    /// What ran.
    pub build: Build,
    /// The model.
    pub model: ModelFile,
    /// The data set.
    pub data: DataFacts,
    /// The settings.
    pub settings: Settings,
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

impl Build {
    /// This build on this machine.
    pub fn this(threads: u32) -> Self {
        let features = [
            ("cuda", cfg!(feature = "cuda")),
            ("metal", cfg!(feature = "metal")),
            ("vulkan", cfg!(feature = "vulkan")),
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
    /// The name or path it was asked for by.
    pub name: String,
    /// Size of the file in bytes.
    pub file_size: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// What the GGUF says of itself.
    pub gguf: Value,
}

/// The data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// The name or path it was asked for by.
    pub name: String,
    /// SHA-256 of the JSONL.
    pub sha256: String,
    /// Examples in it.
    pub n_examples: usize,
}

impl Manifest {
    /// Describes a run that starts now.
    pub fn new(build: Build, model: ModelFile, data: DataFacts, settings: Settings) -> Self {
        let started = time::OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .ok()
            .and_then(|now| now.format(&time::format_description::well_known::Rfc3339).ok())
            .unwrap_or_default();
        let mut manifest = Manifest {
            schema: SCHEMA,
            run_id: String::new(),
            started,
            command: std::env::args().collect(),
            build,
            model,
            data,
            settings,
        };
        let text = serde_json::to_string(&manifest.determinants()).expect("plain data");
        manifest.run_id = crate::hex(&Sha256::digest(text)[..6]);
        manifest
    }

    /// The fields that determine the outcome of a trial, by name.
    fn determinants(&self) -> Vec<(&'static str, Value)> {
        let generation = &self.settings.generation;
        vec![
            ("schema", json(&self.schema)),
            ("model.sha256", json(&self.model.sha256)),
            ("data.sha256", json(&self.data.sha256)),
            ("seed", json(&generation.seed)),
            ("n-predict", json(&generation.n_predict)),
            ("sampling", json(&generation.sampling)),
            ("kv-type", json(&generation.kv_type)),
            ("flash-attn", json(&generation.flash_attn)),
            ("swa-full", json(&generation.swa_full)),
            ("batch", json(&generation.n_batch)),
            // Which conditions meet in a batch varies anyway; one at a time is another computation.
            ("parallel", json(&if generation.parallel > 1 { "more than 1" } else { "1" })),
            ("fidelity", json(&generation.fidelity)),
            ("gpu-layers", json(&generation.gpu_layers)),
            ("chat-template", json(&generation.chat_template_sha256)),
            ("shard", json(&self.settings.shard)),
            ("llama.cpp", json(&self.build.llama_cpp)),
        ]
    }

    /// What determines outcomes and differs from `earlier`: `(name, earlier, now)`.
    pub fn differences(&self, earlier: &Manifest) -> Vec<(&'static str, String, String)> {
        self.determinants()
            .into_iter()
            .zip(earlier.determinants())
            .filter(|((_, now), (_, then))| now != then)
            .map(|((name, now), (_, then))| (name, then.to_string(), now.to_string()))
            .collect()
    }

    /// Reads a manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
        serde_json::from_str(&text).map_err(|error| {
            Error::input(format!("{} is not a manifest of this version of kvllama: {error}", path.display()))
        })
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        crate::files::write_atomically(path, text.as_bytes())
    }
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("plain data")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::exp::{Condition, Generation};
    use crate::llama::{FlashAttn, KvType, Sampling};

    /// A manifest for tests of what surrounds it.
    pub(crate) fn manifest() -> Manifest {
        let generation = Generation {
            seed: 1,
            n_predict: 8,
            sampling: Sampling::default(),
            kv_type: KvType::F16,
            flash_attn: FlashAttn::Auto,
            swa_full: true,
            n_batch: 512,
            parallel: 1,
            fidelity: false,
            gpu_layers: None,
            chat_template_sha256: None,
        };
        Manifest::new(
            Build::this(1),
            ModelFile { name: "m".into(), file_size: 1, sha256: "00".into(), gguf: Value::Null },
            DataFacts { name: "d".into(), sha256: "11".into(), n_examples: 3 },
            Settings { conditions: vec![Condition::baseline()], repeats: 1, limit: None, shard: None, generation },
        )
    }

    #[test]
    fn a_manifest_survives_its_file_and_its_run_id_ignores_the_clock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        let written = manifest();
        written.write(&path).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), written);
        assert_eq!(Manifest { started: "later".into(), ..manifest() }.run_id, written.run_id);
    }
}
