//! The models that have a short name, and the names of all other files of the hub.

use std::fmt;

use crate::{Error, Result};

/// A model that has a short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// The short name; the file in the models directory is `NAME.gguf`.
    pub name: &'static str,
    /// Repository on the hub, `OWNER/REPO`.
    pub repo: &'static str,
    /// File in that repository.
    pub file: &'static str,
    /// Its approximate number of bytes. The exact size and the SHA-256 come from the hub.
    pub size: u64,
    /// The licence, and where to read it.
    pub licence: &'static str,
    /// Whether the hub gives it only to accounts that have accepted the licence.
    pub gated: bool,
}

const GEMMA: &str = "Gemma Terms of Use, https://ai.google.dev/gemma/terms";
const APACHE: &str = "Apache License 2.0";

/// For the Gemma models, `q4_0` is made from the weights of Google's quantization-aware training (QAT), with 8-bit
/// embeddings; `q4_0-google` is the file that Google published, with 16-bit embeddings; `q4_k_m` is quantized after
/// training.
#[rustfmt::skip]
const KNOWN: &[KnownModel] = &[
    open("gemma-3-270m-it-q4_0", "ggml-org/gemma-3-270m-it-qat-GGUF", "gemma-3-270m-it-qat-Q4_0.gguf", 241_410_624),
    open("gemma-3-1b-it-q4_0", "ggml-org/gemma-3-1b-it-qat-GGUF", "gemma-3-1b-it-qat-Q4_0.gguf", 720_425_600),
    open("gemma-3-4b-it-q4_0", "ggml-org/gemma-3-4b-it-qat-GGUF", "gemma-3-4b-it-qat-Q4_0.gguf", 2_526_080_992),
    open("gemma-3-12b-it-q4_0", "ggml-org/gemma-3-12b-it-qat-GGUF", "gemma-3-12b-it-qat-Q4_0.gguf", 7_131_017_792),
    open("gemma-3-27b-it-q4_0", "ggml-org/gemma-3-27b-it-qat-GGUF", "gemma-3-27b-it-qat-Q4_0.gguf", 15_908_791_488),
    open("gemma-3-270m-it-q4_k_m", "unsloth/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q4_K_M.gguf", 253_115_424),
    open("gemma-3-1b-it-q4_k_m", "ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf", 806_058_240),
    open("gemma-3-4b-it-q4_k_m", "ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q4_K_M.gguf", 2_489_757_856),
    open("gemma-3-12b-it-q4_k_m", "ggml-org/gemma-3-12b-it-GGUF", "gemma-3-12b-it-Q4_K_M.gguf", 7_300_574_976),
    open("gemma-3-27b-it-q4_k_m", "ggml-org/gemma-3-27b-it-GGUF", "gemma-3-27b-it-Q4_K_M.gguf", 16_546_404_736),
    open("gemma-3-270m-it-q8_0", "ggml-org/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q8_0.gguf", 292_000_000),
    gated("gemma-3-1b-it-q4_0-google", "google/gemma-3-1b-it-qat-q4_0-gguf", "gemma-3-1b-it-q4_0.gguf", 1_000_000_000),
    gated("gemma-3-4b-it-q4_0-google", "google/gemma-3-4b-it-qat-q4_0-gguf", "gemma-3-4b-it-q4_0.gguf", 3_160_000_000),
    gated("gemma-3-12b-it-q4_0-google", "google/gemma-3-12b-it-qat-q4_0-gguf", "gemma-3-12b-it-q4_0.gguf", 8_070_000_000),
    gated("gemma-3-27b-it-q4_0-google", "google/gemma-3-27b-it-qat-q4_0-gguf", "gemma-3-27b-it-q4_0.gguf", 17_200_000_000),
    apache("smollm2-135m-instruct-q8_0", "HuggingFaceTB/SmolLM2-135M-Instruct-GGUF", "smollm2-135m-instruct-q8_0.gguf", 145_000_000),
    apache("smollm2-360m-instruct-q8_0", "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", "smollm2-360m-instruct-q8_0.gguf", 386_000_000),
    apache("smollm2-1.7b-instruct-q4_k_m", "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", "smollm2-1.7b-instruct-q4_k_m.gguf", 1_060_000_000),
    apache("qwen2.5-0.5b-instruct-q4_k_m", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf", 491_000_000),
    apache("qwen2.5-1.5b-instruct-q4_k_m", "Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q4_k_m.gguf", 1_120_000_000),
    apache("qwen3-0.6b-q8_0", "Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf", 639_000_000),
    apache("qwen3-1.7b-q8_0", "Qwen/Qwen3-1.7B-GGUF", "Qwen3-1.7B-Q8_0.gguf", 1_830_000_000),
];

const fn open(name: &'static str, repo: &'static str, file: &'static str, size: u64) -> KnownModel {
    KnownModel { name, repo, file, size, licence: GEMMA, gated: false }
}

const fn gated(name: &'static str, repo: &'static str, file: &'static str, size: u64) -> KnownModel {
    KnownModel { gated: true, ..open(name, repo, file, size) }
}

const fn apache(name: &'static str, repo: &'static str, file: &'static str, size: u64) -> KnownModel {
    KnownModel { licence: APACHE, ..open(name, repo, file, size) }
}

/// All models that have a short name.
pub fn known() -> &'static [KnownModel] {
    KNOWN
}

/// One GGUF file of one repository, and its name in the models directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// `OWNER/REPO`.
    pub repo: String,
    /// Path of the file in the repository.
    pub file: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Name in the models directory: always a plain file name.
    pub local: String,
}

impl HubFile {
    /// Reads a short name or `OWNER/REPO:FILE.gguf`, optionally with `@REVISION` at its end.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some(model) = KNOWN.iter().find(|model| model.name == name) {
            let local = format!("{name}.gguf");
            return Ok(HubFile { repo: model.repo.into(), file: model.file.into(), revision: MAIN.into(), local });
        }
        let Some((repo, rest)) = name.split_once(':') else {
            return Err(Error::input(format!(
                "`{name}` is no known model (`kvllama models` lists them) and not OWNER/REPO:FILE.gguf"
            )));
        };
        let (file, revision) = rest.rsplit_once('@').unwrap_or((rest, MAIN));
        let part = match () {
            () if !is_path(repo) || repo.matches('/').count() != 1 => format!("OWNER/REPO `{repo}`"),
            () if !is_path(file) || !file.ends_with(".gguf") => format!("file `{file}`"),
            () if !is_path(revision) => format!("revision `{revision}`"),
            () => {
                let at = if revision == MAIN { String::new() } else { format!("@{revision}") };
                let local = format!("{repo}{at}/{file}").replace('/', "--");
                return Ok(HubFile { repo: repo.into(), file: file.into(), revision: revision.into(), local });
            }
        };
        Err(Error::input(format!(
            "the {part} in `{name}` is not valid; write OWNER/REPO:FILE.gguf, with letters, digits, `.`, `_`, `-`, `+`"
        )))
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.file, self.repo)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, " at {}", self.revision) }
    }
}

/// The default revision.
const MAIN: &str = "main";

/// Whether `text` is a relative path that needs no escaping in a URL and cannot leave its directory.
fn is_path(text: &str) -> bool {
    text.split('/').all(|part| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for model in KNOWN {
            let file = HubFile::parse(&format!("{}:{}", model.repo, model.file)).unwrap();
            assert_eq!((file.repo.as_str(), file.file.as_str()), (model.repo, model.file));
            assert_eq!(KNOWN.iter().filter(|other| other.name == model.name).count(), 1, "{}", model.name);
        }
        for size in ["270m", "1b", "4b", "12b", "27b"] {
            for quantization in ["q4_0", "q4_k_m"] {
                let name = format!("gemma-3-{size}-it-{quantization}");
                assert_eq!(HubFile::parse(&name).unwrap().local, format!("{name}.gguf"));
            }
        }
    }

    #[test]
    fn a_file_of_the_hub_is_named_by_repo_path_and_revision() {
        let file = HubFile::parse("o/r-1:sub/m.Q4_0.gguf@refs/pr/1").unwrap();
        assert_eq!(
            (file.repo.as_str(), file.file.as_str(), file.revision.as_str()),
            ("o/r-1", "sub/m.Q4_0.gguf", "refs/pr/1")
        );
        assert_eq!(file.local, "o--r-1@refs--pr--1--sub--m.Q4_0.gguf");
        assert_eq!(HubFile::parse("o/r:m.gguf").unwrap().local, "o--r--m.gguf");
    }

    #[test]
    fn names_that_climb_out_or_need_escaping_are_refused() {
        for name in [
            "../x:m.gguf",
            "o/..:m.gguf",
            "o/r:../../m.gguf",
            "o/r:/etc/m.gguf",
            "o/r:a//m.gguf",
            "o/r:.m.gguf",
            "o/r:a\\m.gguf",
            "o/r:m.gguf@../x",
            "o/r:m.gguf@",
            "o:m.gguf",
            "o/r/s:m.gguf",
            "o/r:m.bin",
            "o/r:m?x.gguf",
            "o/r:m#.gguf",
            "o/r:%2e.gguf",
            "o/r:m\n.gguf",
            "",
            "gemma-9",
        ] {
            assert!(HubFile::parse(name).is_err(), "{name:?}");
        }
    }
}
