//! Policies whose score comes from outside: a program (`exec:./mine.py`), a file of scores (`scores:FILE.jsonl`), or filters
//! measured beforehand (`qfilters`).
//!
//! [`evict`](crate::evict) knows them by name alone. [`open`] starts the programs and reads the files, once a run. A
//! program that uses this library brings its own with [`PolicySpec::own`](crate::evict::PolicySpec::own).

mod exec;
mod file;
mod program;
mod shape;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::calibrate::Filters;
use crate::condition::Condition;
use crate::evict::{OwnKind, PolicySpec, Score, SourceFile};
use crate::models::ModelSource;
use crate::{Error, Result};

/// Starts the programs and reads the files that these conditions name, each once. Conditions without any stay as they
/// are. Filters must be those of `model`.
///
/// # Errors
/// If a program or a file cannot be used; before any model is read.
pub fn open(conditions: &mut [Condition], model: &ModelSource) -> Result<()> {
    let mut opened: Vec<PolicySpec> = Vec::new();
    for condition in conditions {
        let spec = &condition.policy;
        if spec.is_open() {
            continue;
        }
        let policy = match opened.iter().find(|other| other.same_source(spec)) {
            Some(other) => spec.opened_as(other),
            None => {
                let policy = opened_spec(spec, model).map_err(|error| match error {
                    Error::Program(said) => Error::input(said),
                    other => other,
                })?;
                opened.push(policy.clone());
                policy
            }
        };
        condition.policy = policy;
        check(condition)?;
    }
    Ok(())
}

/// Reads a line that a program may have answered; for fuzzing.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_reply(reply: &serde_json::Value) {
    exec::read(reply);
}

fn opened_spec(spec: &PolicySpec, model: &ModelSource) -> Result<PolicySpec> {
    let own = spec.own_source().expect("only these are not open");
    let filters = || own.file().map_or_else(|| Filters::place(model), PathBuf::from);
    let path = if own.kind == OwnKind::Filters { filters() } else { PathBuf::from(&own.source) };
    let path = path.as_path();
    let score: Arc<dyn Score> = match own.kind {
        OwnKind::Exec => {
            let timeout = Duration::from_secs(spec.parameter("timeout").unwrap_or(60) as u64);
            Arc::new(exec::Exec::start(path, &own.parameters, timeout)?)
        }
        OwnKind::Scores => Arc::new(file::File::read(path)?),
        OwnKind::Filters => Arc::new(Filters::of_model(path, model)?.filters),
        OwnKind::Library => {
            return Err(Error::input(format!(
                "`{spec}` is the policy of a program that uses kvllama as a library, and only that program can run it; on the \
                 command line bring your own with exec:PROGRAM"
            )));
        }
    };
    let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
    let file = SourceFile { path: path.display().to_string(), sha256: crate::hex(&Sha256::digest(bytes)) };
    Ok(spec.opened(score, Some(file)))
}

/// Refuses what a program that chooses positions itself leaves nothing to do.
fn check(condition: &Condition) -> Result<()> {
    let policy = &condition.policy;
    let chooses = policy.score().is_some_and(Score::chooses);
    if chooses && (policy.wrappers().next().is_some() || condition.fair.is_on()) {
        return Err(Error::input(format!(
            "`{condition}`: the program answers which positions survive, so that no wrapper and no --fair can choose; let it \
             answer scores instead"
        )));
    }
    Ok(())
}
