//! Where a run lives: a new directory under `results/`, or that of an earlier run.

use std::path::{Path, PathBuf};

use super::{Manifest, Store};
use crate::{Error, Result};

/// A free directory under `results` for a run, named after its start and its policies, such as
/// `2026-01-31T120000-random`.
pub fn new_directory(results: &Path, manifest: &Manifest) -> PathBuf {
    let conditions = manifest.conditions();
    let mut policies: Vec<_> = conditions.iter().map(|(_, condition)| condition.policy.name()).collect();
    policies.dedup();
    if policies.len() > 1 && policies[0] == "none" {
        policies.remove(0); // the baseline goes without saying
    }
    let started = manifest.started().replace(':', "");
    let stem = format!("{}-{}", started.trim_end_matches('Z'), policies.join("+").replace(':', "-"));
    (1..)
        .map(|n| results.join(if n == 1 { stem.clone() } else { format!("{stem}-{n}") }))
        .find(|directory| !directory.exists())
        .expect("some number is free")
}

/// Renames a directory that holds a run, so that `manifest`'s run can start there; returns its new name.
///
/// # Errors
/// If it cannot be renamed.
pub fn put_aside(directory: &Path, manifest: &Manifest) -> Result<Option<PathBuf>> {
    if !Store::exists(directory) {
        return Ok(None);
    }
    let mut aside = directory.as_os_str().to_owned();
    aside.push(format!(".before-{}", manifest.started().replace(':', "")));
    std::fs::rename(directory, &aside).map_err(Error::io("cannot put aside", directory))?;
    Ok(Some(aside.into()))
}

/// The run under `results` with the same settings that was started last.
///
/// # Errors
/// If `results` cannot be listed.
pub fn latest_match(results: &Path, manifest: &Manifest) -> Result<Option<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(results) else { return Ok(None) };
    let mut found: Option<(String, PathBuf)> = None;
    for entry in entries {
        let directory = entry.map_err(Error::io("cannot list", results))?.path();
        let Ok(earlier) = Manifest::read(&directory.join("manifest.json")) else { continue };
        // A run may have grown, so it is enough if it planned some of these conditions.
        let planned = earlier.conditions();
        let overlaps = manifest.conditions().iter().any(|(_, now)| planned.iter().any(|(_, then)| then == now));
        let same = earlier.schema == manifest.schema && earlier.run_id == manifest.run_id && overlaps;
        let started = earlier.sessions.last().map_or("", |session| &session.started).to_owned();
        if same && found.as_ref().is_none_or(|(latest, _)| *latest < started) {
            found = Some((started, directory));
        }
    }
    Ok(found.map(|(_, directory)| directory))
}
