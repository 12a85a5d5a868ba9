//! Pulls a model from the hub: resumes after an interruption, verifies the file, and puts it in place completely or not
//! at all.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;

use super::hub::{Answer, Client, Hub, Trouble, is_sha256};
use super::part::Part;
use super::registry::HubFile;
use crate::api::{pause, sleep};
use crate::{Error, Result};

/// Observes a pull.
pub trait Observer {
    /// `done` bytes are on disk, of `total` if the size is known.
    fn progress(&mut self, done: u64, total: Option<u64>);
    /// Something worth a message happened: a retry, a restart.
    fn note(&mut self, text: &str);
}

/// Failures in a row, without a single new byte, after which a pull gives up.
const MAX_FAILURES: u32 = 6;

/// Pulls `file` into `directory` and returns its path; returns at once if the file is already there.
///
/// The file must have the SHA-256 that the hub states, or `sha256` if given; without either, nothing is pulled.
pub fn pull(
    hub: &Hub,
    file: &HubFile,
    directory: &Path,
    sha256: Option<&str>,
    observer: &mut dyn Observer,
) -> Result<PathBuf> {
    if let Some(sha256) = sha256.filter(|text| !is_sha256(text)) {
        return Err(Error::input(format!("`{sha256}` is no SHA-256: that has 64 hexadecimal digits")));
    }
    let target = directory.join(&file.local);
    if target.is_file() {
        observer.note(&format!("{} is already here; remove it to pull it anew", target.display()));
        return Ok(target);
    }
    fs::create_dir_all(directory).map_err(Error::io("cannot create", directory))?;
    let sha256 = sha256.map(str::to_ascii_lowercase);
    let mut download = Download { client: Client::new(hub)?, file, target, sha256, part: None, observer };
    let mut failures = 0;
    loop {
        let before = download.len();
        let outcome = download.attempt();
        failures = if download.len() > before { 0 } else { failures + 1 };
        let (reason, retry_after) = match outcome {
            Ok(true) => return download.finish(),
            Ok(false) if failures < MAX_FAILURES => continue,
            Ok(false) => ("the file keeps changing".to_owned(), None),
            Err(Trouble::Fatal(error)) => return Err(error),
            Err(Trouble::Transient { reason, retry_after }) => (reason, retry_after),
        };
        if failures >= MAX_FAILURES {
            return Err(Error::failed(format!(
                "cannot pull {file}: {reason}; {} are kept, run the same command again to go on",
                HumanBytes(download.len())
            )));
        }
        let wait = pause(hub.backoff, failures, retry_after);
        download.observer.note(&format!("{reason}; trying again in {:.0} s", wait.as_secs_f64().ceil()));
        sleep(wait)?;
    }
}

struct Download<'a> {
    client: Client<'a>,
    file: &'a HubFile,
    target: PathBuf,
    sha256: Option<String>,
    /// Opened once the checksum is known.
    part: Option<Part>,
    observer: &'a mut dyn Observer,
}

impl Download<'_> {
    fn len(&self) -> u64 {
        self.part.as_ref().map_or(0, Part::len)
    }

    /// Makes one request and reads it to its end. Returns `true` if every byte is here, `false` if the part has another
    /// length than the request assumed, so that a new request must start from there.
    fn attempt(&mut self) -> std::result::Result<bool, Trouble> {
        let offset = self.len();
        let Answer { sha256, size, start, body, host } = self.client.open(self.file, offset)?;
        let sha256 = self.expected(sha256, &host)?;
        if self.part.as_ref().is_none_or(|part| part.sha256() != sha256) {
            if let Some(old) = self.part.take() {
                self.observer.note("the file has changed on the hub: starting from zero");
                old.discard();
            }
            self.part = Some(Part::open(&self.target, &sha256)?);
        }
        let part = self.part.as_mut().expect("just opened");
        if self.target.is_file() || size == Some(part.len()) {
            return Ok(true);
        }
        if part.len() != offset {
            if part.len() > 0 {
                self.observer.note(&format!("going on from {}", HumanBytes(part.len())));
            }
            return Ok(false);
        }
        let Some(mut body) = body.filter(|_| size.is_none_or(|size| size > offset)) else {
            part.restart()?;
            return Ok(false);
        };
        if start != offset {
            if start != 0 {
                return Err(Error::failed(format!("{host} sent bytes from {start} on, not from {offset}")).into());
            }
            self.observer.note(&format!("{host} cannot resume a download: starting from zero"));
            part.restart()?;
        }
        if let Some(size) = size {
            check_space(&self.target, size - part.len())?;
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            self.observer.progress(part.len(), size);
            let read = body.read(&mut buffer);
            let n = read.map_err(|error| Trouble::transient(format!("the connection to {host} broke: {error}")))?;
            if n == 0 {
                break;
            }
            part.append(&buffer[..n])?;
            if size.is_some_and(|size| part.len() > size) {
                break;
            }
        }
        match size {
            Some(size) if part.len() < size => Err(Trouble::transient(format!("{host} closed the connection early"))),
            _ => Ok(true),
        }
    }

    /// The checksum that the file must have.
    fn expected(&self, told: Option<String>, host: &str) -> Result<String> {
        match (&self.sha256, told) {
            (Some(wanted), Some(told)) if *wanted != told => Err(Error::input(format!(
                "the hub's {} has the SHA-256 {told}, not the {wanted} that was asked for",
                self.file
            ))),
            (Some(wanted), _) => Ok(wanted.clone()),
            (None, Some(told)) => Ok(told),
            (None, None) => Err(Error::failed(format!(
                "{host} tells no SHA-256 of {}, so it could not be verified; give the one you expect with --sha256",
                self.file
            ))),
        }
    }

    fn finish(mut self) -> Result<PathBuf> {
        let part = self.part.take().expect("a finished download has a part");
        if self.target.is_file() {
            // Another process has finished first.
            part.discard();
        } else {
            part.finish()?;
        }
        Ok(self.target)
    }
}

fn check_space(target: &Path, needed: u64) -> Result<()> {
    let directory = target.parent().unwrap_or(Path::new("."));
    let free = fs4::available_space(directory).map_err(Error::io("cannot tell the free space of", directory))?;
    if needed > free {
        return Err(Error::failed(format!(
            "{} needs {} more, but only {} are free there; make room, or pull to another disk with --dir",
            target.display(),
            HumanBytes(needed),
            HumanBytes(free)
        )));
    }
    Ok(())
}
