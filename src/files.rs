//! Files that are written whole or not at all, and checksums of large ones.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// Writes beside the target, syncs, then renames: a reader sees the old content or the new.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".tmp{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&beside, path)).map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        Error::io("cannot write", path)(error)
    })
}

/// The SHA-256 of a file in hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let fail = || Error::io("cannot read", path);
    let mut file = File::open(path).map_err(fail())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(fail())? {
            0 => return Ok(crate::hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// As [`sha256`], remembered by path, size and modification time in `cache`, a JSON file. A cache
/// that cannot be read or written is only slower.
pub fn sha256_cached(path: &Path, cache: Option<&Path>) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(Error::io("cannot read", path))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (Some(cache), Some(modified), Ok(full)) = (cache, modified, path.canonicalize()) else {
        return sha256(path);
    };
    let known: Map<String, Value> =
        std::fs::read_to_string(cache).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let key = full.display().to_string();
    let state = json!([metadata.len(), modified.as_nanos().to_string()]);
    if let Some([seen, sum]) = known.get(&key).and_then(Value::as_array).map(Vec::as_slice)
        && *seen == state
        && let Some(sum) = sum.as_str()
    {
        return Ok(sum.to_owned());
    }
    let sum = sha256(path)?;
    let mut known = known;
    known.insert(key, json!([state, sum]));
    if let Some(directory) = cache.parent() {
        let _ = std::fs::create_dir_all(directory);
    }
    let _ = write_atomically(cache, Value::Object(known).to_string().as_bytes());
    Ok(sum)
}
