//! Policies whose score is brought in: a program (`exec:./mine.py`), a file of scores (`scores:FILE.jsonl`), a [`Score`] in
//! a program that uses this library (`own:NAME`), or filters measured beforehand (`qfilters`).
//!
//! A name says which policy is meant; what it computes is brought in later, by
//! [`PolicySpec::opened`](super::PolicySpec::opened). So a report can name it without running it.

use std::sync::Arc;

use super::score::{QFILTERS, lowest};
use super::{Family, Heads, Layer, Needs, Parameter, Policy, Score, Scores, Subject, View};
use crate::{Error, Result};

/// What kind of policy of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnKind {
    /// A program that kvllama starts and asks.
    Exec,
    /// A file with the scores of each example.
    Scores,
    /// A [`Score`] of a program that uses this library.
    Library,
    /// The filters of `qfilters`, from the file that its parameter `file` names, or else from beside the model.
    Filters,
}

/// Which policy of one's own: `./mine.py` with `window=16`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// What kind it is.
    pub kind: OwnKind,
    /// The program, the file, or the name; empty for filters.
    pub source: String,
    /// Parameters that kvllama passes on to a program, or the file of filters: name and value.
    pub parameters: Vec<(String, String)>,
}

/// The file behind a policy, as a manifest records it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceFile {
    /// Its path, as given.
    pub path: String,
    /// SHA-256 of its content.
    pub sha256: String,
}

/// The kinds, with what follows the name and a colon.
pub(super) static OWN: [(&Family, OwnKind, &str); 4] = [
    (&QFILTERS, OwnKind::Filters, ""),
    (&EXEC, OwnKind::Exec, "PROGRAM"),
    (&SCORES, OwnKind::Scores, "FILE.jsonl"),
    (&LIBRARY, OwnKind::Library, "NAME"),
];

/// The policies that take a name, with what that is: `exec` and `PROGRAM`.
pub fn own_policies() -> impl Iterator<Item = (&'static Family, &'static str)> {
    OWN.iter().filter(|(.., what)| !what.is_empty()).map(|(family, _, what)| (*family, *what))
}

impl Own {
    /// The file that `qfilters:file=PATH` names.
    pub fn file(&self) -> Option<&str> {
        self.parameters.iter().find(|(name, _)| name == FILE).map(|(_, path)| path.as_str())
    }
}

/// The parameter that names a file of filters.
pub(super) const FILE: &str = "file";

static EXEC: Family = Family {
    name: "exec",
    title: "Own program",
    summary: "what a program of your own answers, such as exec:./mine.py (docs/your-own-policy.md)",
    paper: None,
    parameters: &[Parameter {
        name: "timeout",
        default: 60,
        range: 1..=86_400,
        about: "seconds that an answer may take; other parameters go to the program",
    }],
    make: |_| Box::new(Unopened),
};

static SCORES: Family = Family {
    name: "scores",
    title: "Scores from a file",
    summary: "scores by example that were computed elsewhere: lines {\"example_id\": .., \"scores\": ..}",
    paper: None,
    parameters: &[],
    make: |_| Box::new(Unopened),
};

static LIBRARY: Family = Family {
    name: "own",
    title: "Own policy",
    summary: "the score of a program that uses kvllama as a library (PolicySpec::own)",
    paper: None,
    parameters: &[],
    make: |_| Box::new(Unopened),
};

/// Ranks by a score that was brought in.
pub(super) struct Opened(pub Arc<dyn Score>);

impl Policy for Opened {
    fn score(&self) -> Option<&dyn Score> {
        Some(&*self.0)
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        lowest(view, n_evict)
    }
}

/// A policy of which only the name is known.
struct Unopened;

impl Policy for Unopened {
    fn score(&self) -> Option<&dyn Score> {
        Some(self)
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        lowest(view, n_evict)
    }
}

impl Score for Unopened {
    fn needs(&self, _len: usize) -> Needs {
        Needs::default()
    }

    fn rolls(&self) -> bool {
        false
    }

    fn score(&self, _layer: &Layer) -> Heads {
        Heads::new()
    }

    fn scores(&self, _layers: &[Layer], _subject: &Subject) -> Result<Scores> {
        Err(Error::failed("the policy's program or file was never opened (`kvllama::own::open`)"))
    }
}
