//! Models: the embedded one, the known ones, and where they lie.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

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

/// Where models are kept.
pub fn directory() -> PathBuf {
    std::env::var_os("KVLLAMA_MODELS").map_or_else(|| PathBuf::from("models"), PathBuf::from)
}

/// Finds a model.
pub fn resolve(name: &str, _directory: &Path) -> Result<ModelSource> {
    if name == EMBEDDED {
        return Ok(ModelSource::Embedded);
    }
    let path = PathBuf::from(name);
    if path.exists() { Ok(ModelSource::File(path)) } else { Err(Error::input(format!("no model `{name}`"))) }
}
