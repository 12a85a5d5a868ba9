//! An unfinished download: a locked `.part` file beside its target, hashed while it grows.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use sha2::{Digest as _, Sha256};

use crate::files::Locked;
use crate::{Error, Result};

/// The bytes received so far. Its name contains the checksum of the whole file, so that a later run finds only the
/// beginning of the same file; a changed file starts a new part.
pub(super) struct Part {
    target: PathBuf,
    path: PathBuf,
    /// Held until the file is in place.
    file: Locked,
    /// Expected checksum of the whole file.
    sha256: String,
    hasher: Sha256,
    len: u64,
}

impl Part {
    /// Opens and locks the part of `target`, and reads the bytes of an earlier run.
    pub fn open(target: &Path, sha256: &str) -> Result<Self> {
        let path = beside(target, &format!(".{}.part", &sha256[..12]));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("cannot write", &path))?;
        let mut file = Locked::new(file, &path)?;
        remove_others(target, &path);
        let mut hasher = Sha256::new();
        let mut len = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(Error::io("cannot read", &path))? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    len += n as u64;
                }
            }
        }
        Ok(Part { target: target.to_owned(), path, file, sha256: sha256.to_owned(), hasher, len })
    }

    /// Number of bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The checksum that the whole file must have.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Adds bytes at the end. If the disk becomes full, the bytes that still fit count.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.write_error(error)),
                Ok(n) => {
                    self.hasher.update(&bytes[..n]);
                    self.len += n as u64;
                    bytes = &bytes[n..];
                }
            }
        }
        Ok(())
    }

    /// Discards all bytes.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(Error::io("cannot write", &self.path))?;
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// Verifies the whole file and moves it into place; removes a part with the wrong checksum.
    pub fn finish(self) -> Result<()> {
        let found = crate::hex(&self.hasher.clone().finalize());
        if found != self.sha256 {
            self.discard();
            return Err(Error::failed(format!(
                "{} arrived damaged and was removed: its SHA-256 is {found}, expected is {}; run the same command again",
                self.target.display(),
                self.sha256
            )));
        }
        self.file.sync_all().map_err(|error| self.write_error(error))?;
        fs::rename(&self.path, &self.target).map_err(Error::io("cannot write", &self.target))?;
        // The rename is durable once the directory is synced.
        if let Some(directory) = self.target.parent().and_then(|parent| File::open(parent).ok()) {
            let _ = directory.sync_all();
        }
        Ok(())
    }

    /// Removes the part.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }

    fn write_error(&self, error: std::io::Error) -> Error {
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
            return Error::failed(format!(
                "the disk is full: {} of {} are kept; make room and run the same command again to go on from there",
                HumanBytes(self.len),
                self.target.display()
            ));
        }
        Error::io("cannot write", &self.path)(error)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // An empty part is not worth keeping; after the move there is no part at all.
        if self.len == 0 {
            self.discard();
        }
    }
}

/// Number of bytes that an earlier, unfinished pull of `target` left.
pub(super) fn left_over(target: &Path) -> u64 {
    parts(target).filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).max().unwrap_or(0)
}

/// Removes parts of other versions that the hub once had under this name.
fn remove_others(target: &Path, ours: &Path) {
    for path in parts(target).filter(|path| path != ours) {
        let _ = fs::remove_file(path);
    }
}

fn parts(target: &Path) -> impl Iterator<Item = PathBuf> {
    let directory = target.parent().unwrap_or(Path::new("."));
    let prefix = format!("{}.", target.file_name().unwrap_or_default().to_string_lossy());
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).filter(move |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".part"))
            .is_some_and(|sha256| sha256.len() == 12 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
