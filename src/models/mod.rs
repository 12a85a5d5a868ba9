//! Models: the embedded one, the known ones, where they are stored, and how they are downloaded.

mod hub;
mod part;
mod pull;
mod registry;

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use hub::Hub;
pub use pull::{Observer, pull};
pub use registry::{HubFile, KnownModel, known};

use crate::{Error, Result, files};

/// The name of the embedded model.
pub const EMBEDDED: &str = "default";
/// The embedded model.
pub static EMBEDDED_GGUF: &[u8] = include_bytes!("../../models/default.gguf");

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The model inside the binary.
    Embedded,
    /// A file.
    File(PathBuf),
}

impl ModelSource {
    /// SHA-256 of the model file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn sha256(&self) -> Result<String> {
        match self {
            ModelSource::Embedded => Ok(crate::hex(&Sha256::digest(EMBEDDED_GGUF))),
            ModelSource::File(path) => files::sha256_cached(path, checksum_cache().as_deref()),
        }
    }
}

/// The file that stores checksums of model files.
fn checksum_cache() -> Option<PathBuf> {
    let base =
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
    Some(base.join("kvllama").join("sha256.json"))
}

/// The directory of models.
pub fn directory() -> PathBuf {
    std::env::var_os("KVLLAMA_MODELS").map_or_else(|| PathBuf::from("models"), PathBuf::from)
}

/// Finds a model by name: `default`, a path, a short name, `OWNER/REPO:FILE.gguf`, or the name of any GGUF in
/// `directory` without its extension.
pub fn resolve(name: &str, directory: &Path) -> Result<ModelSource> {
    if name == EMBEDDED {
        return Ok(ModelSource::Embedded);
    }
    let path = PathBuf::from(name);
    if path.is_file() {
        return Ok(ModelSource::File(path));
    }
    let file = HubFile::parse(name);
    let local = file.as_ref().map_or_else(|_| format!("{name}.gguf"), |file| file.local.clone());
    let path = directory.join(&local);
    if Path::new(&local).file_name().is_some_and(|plain| plain == local.as_str()) && path.is_file() {
        return Ok(ModelSource::File(path));
    }
    let place = directory.display();
    Err(Error::input(match file {
        Ok(_) => format!("the model `{name}` is not in {place}; get it with `kvllama pull {name}`"),
        Err(_) => format!(
            "no model `{name}`: it is no file, not in {place}, and no known name; `kvllama models` lists those, and \
             `kvllama pull OWNER/REPO:FILE.gguf` gets any other from the hub"
        ),
    }))
}

/// A model that is known, stored here, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The value of `--model`.
    pub name: String,
    /// Number of bytes: of the file if it is here, else the approximate size on the hub.
    pub size: u64,
    /// Whether it is here and complete.
    pub present: bool,
    /// The file; the embedded model has none.
    pub path: Option<PathBuf>,
    /// Number of bytes from an unfinished pull.
    pub partial: u64,
    /// `OWNER/REPO:FILE` on the hub.
    pub hub: Option<String>,
    /// The licence, and where to read it.
    pub licence: Option<&'static str>,
    /// Whether a pull needs an HF_TOKEN.
    pub gated: bool,
}

/// The embedded model, every known one, and all other GGUFs in `directory`.
pub fn list(directory: &Path) -> Result<Vec<Listed>> {
    let mut all = vec![Listed { size: EMBEDDED_GGUF.len() as u64, present: true, ..Listed::named(EMBEDDED) }];
    for model in known() {
        let path = directory.join(format!("{}.gguf", model.name));
        let here =
            path.is_file().then(|| std::fs::metadata(&path)).transpose().map_err(Error::io("cannot read", &path))?;
        all.push(Listed {
            size: here.as_ref().map_or(model.size, std::fs::Metadata::len),
            present: here.is_some(),
            partial: part::left_over(&path),
            path: here.map(|_| path),
            hub: Some(format!("{}:{}", model.repo, model.file)),
            licence: Some(model.licence),
            gated: model.gated,
            ..Listed::named(model.name)
        });
    }
    let mut others = Vec::new();
    for (name, path) in ggufs(directory)? {
        if !all.iter().any(|model| model.name == name) {
            let size = std::fs::metadata(&path).map_err(Error::io("cannot read", &path))?.len();
            others.push(Listed { size, present: true, path: Some(path), ..Listed::named(&name) });
        }
    }
    others.sort_by(|a, b| a.name.cmp(&b.name));
    all.extend(others);
    Ok(all)
}

impl Listed {
    fn named(name: &str) -> Self {
        Listed {
            name: name.to_owned(),
            size: 0,
            present: false,
            path: None,
            partial: 0,
            hub: None,
            licence: None,
            gated: false,
        }
    }
}

/// Every GGUF in `directory`, with its name; none if the directory does not exist.
fn ggufs(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("cannot read", directory))?,
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    Ok(paths.filter_map(|path| Some((path.file_name()?.to_str()?.strip_suffix(".gguf")?.to_owned(), path))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_path_short_name_hub_name_or_stem() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, "GGUF").unwrap();
            path
        };
        let find = |name: &str| match resolve(name, directory.path()) {
            Ok(ModelSource::File(path)) => Ok(path),
            Ok(ModelSource::Embedded) => Err("embedded".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(find("default").unwrap_err(), "embedded");
        assert!(find("gemma-3-1b-it-q4_0").unwrap_err().contains("`kvllama pull gemma-3-1b-it-q4_0`"));
        assert!(find("o/r:m.gguf").unwrap_err().contains("`kvllama pull o/r:m.gguf`"));
        assert!(find("nobody").unwrap_err().contains("`kvllama models`"));

        let known = put("gemma-3-1b-it-q4_0.gguf");
        let hub = put("o--r--m.gguf");
        let own = put("own.gguf");
        assert_eq!(find("gemma-3-1b-it-q4_0").unwrap(), known);
        assert_eq!(find("o/r:m.gguf").unwrap(), hub);
        assert_eq!(find("own").unwrap(), own);
        assert_eq!(find(own.to_str().unwrap()).unwrap(), own);
        assert!(resolve("../own", &directory.path().join("sub")).is_err(), "a name must not climb out");
    }

    #[test]
    fn the_list_joins_what_is_known_with_what_is_here() {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("gemma-3-1b-it-q4_0.gguf", 3),
            ("own.gguf", 4),
            ("gemma-3-4b-it-q4_0.gguf.0123456789ab.part", 5),
            ("notes.txt", 6),
        ] {
            std::fs::write(directory.path().join(name), vec![0; bytes]).unwrap();
        }
        let list = list(directory.path()).unwrap();
        let find = |name: &str| list.iter().find(|model| model.name == name).unwrap();
        assert_eq!(list.len(), 1 + known().len() + 1);
        assert!(find("default").present);
        assert_eq!((find("gemma-3-1b-it-q4_0").present, find("gemma-3-1b-it-q4_0").size), (true, 3));
        assert_eq!((find("gemma-3-4b-it-q4_0").present, find("gemma-3-4b-it-q4_0").partial), (false, 5));
        assert_eq!((find("own").size, find("own").hub.as_deref()), (4, None));
        assert!(super::list(&directory.path().join("none")).is_ok());
    }
}
