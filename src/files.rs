//! Files that are written atomically, and checksums of large files.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// Writes a temporary file beside the target, syncs it, then renames it: a reader sees the old content or the new.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = || Error::io("cannot write", path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(readable());
    let mut beside = builder.tempfile_in(directory).map_err(fail())?;
    beside.write_all(bytes).and_then(|()| beside.as_file().sync_all()).map_err(fail())?;
    beside.persist(path).map_err(|error| fail()(error.error))?;
    Ok(())
}

/// How the names of temporary files begin.
const TEMPORARY: &str = ".kvllama-";

/// The permissions of ordinary files; those of temporary files allow only the owner.
#[cfg(unix)]
fn readable() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::Permissions::from_mode(0o666) // the process's umask takes from it
}

/// Removes the temporary files that a killed [`write_atomically`] left in a directory. No other process may write
/// there.
pub fn remove_unfinished(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A file that no other process can lock until this is dropped.
pub struct Locked(File);

impl Locked {
    /// Locks an open file; `path` is what the error names.
    ///
    /// # Errors
    /// If another process has locked it.
    pub fn new(file: File, path: &Path) -> Result<Self> {
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::input(format!(
                "another process is writing to {}; wait for it, or choose another name",
                path.display()
            )),
            TryLockError::Error(error) => Error::io("cannot lock", path)(error),
        })?;
        Ok(Locked(file))
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Locked {
    /// Closing the file would not do: a child process that is just being started still has a copy of its handle.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Refuses everything that is not a plain file: reading a pipe could wait for ever.
pub fn refuse_irregular(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path).map_err(Error::io("cannot read", path))?;
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::input(format!("{} is not a regular file; move it away", path.display())))
}

/// Appends to a file in one write and syncs it. If that fails, the file is cut back to its former length.
///
/// # Errors
/// If it cannot be written, if the file system stored less than it confirmed, or if `path` no longer names this file,
/// because somebody has moved or deleted it.
pub fn append(file: &mut File, path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = || Error::io("cannot write", path);
    if !is_at(file, path) {
        return Err(Error::failed(format!("{} was deleted or replaced while it was being written", path.display())));
    }
    let before = file.seek(SeekFrom::End(0)).map_err(fail())?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data()).and_then(|()| file.metadata());
    let failure = match written {
        Ok(metadata) if metadata.len() == before + bytes.len() as u64 => return Ok(()),
        Ok(_) => Error::failed(format!(
            "the file system confirmed {} bytes more of {} than it stored; choose an --out on another disk",
            bytes.len(),
            path.display()
        )),
        Err(error) => fail()(error),
    };
    let _ = file.set_len(before);
    Err(failure)
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(open), Ok(there)) if id(&open) == id(&there))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
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

/// As [`sha256`], remembered by path, size and modification time in `cache`, a JSON file. If the cache cannot be read
/// or written, the function is only slower.
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
