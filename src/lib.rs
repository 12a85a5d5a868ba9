//! What does a language model forget when its KV cache is cut?
//!
//! The model reads a whole prompt; a policy evicts positions from the KV cache; the model answers; each instruction of
//! the prompt is scored. The `kvllama` command runs this as an experiment; this library contains its parts.
//!
//! A complete experiment, as `kvllama exp --policy random --ratio 0.5 --limit 2 --n-predict 16` runs it:
//!
//! ```
//! use kvllama::exp::{Experiment, Observer, TrialRow};
//!
//! struct Watch;
//! impl Observer for Watch {
//!     fn started(&mut self, trials: usize, _finished: usize) {
//!         println!("{trials} trials");
//!     }
//!     fn trial(&mut self, row: &TrialRow, _mean: Option<f64>) {
//!         println!("{} {}: {:?}", row.example_id, row.condition, row.mean_score);
//!     }
//! }
//!
//! let mut experiment = Experiment::new("default", "demo", "--policy random --ratio 0.5")?;
//! experiment.settings.limit = Some(2);
//! experiment.settings.generation.n_predict = 16;
//! let directory = tempfile::tempdir().unwrap();
//! let outcome = experiment.run(directory.path(), &mut Watch)?;
//! assert_eq!(outcome.finished, 2 * 2); // the full cache is added
//! assert!(directory.path().join("trials.csv").exists());
//! # Ok::<(), kvllama::Error>(())
//! ```
//!
//! One prompt, one eviction, one answer:
//!
//! ```
//! use kvllama::evict::{Budget, PolicySpec, TrialSeed, View, evict};
//! use kvllama::engine::{Forgetting, Reader};
//! use kvllama::llama::{ContextSettings, LoadSettings, Model, Prompt, Sampler, Sampling, Turn};
//! use kvllama::models;
//!
//! let model = Model::from_bytes("default", models::EMBEDDED_GGUF, &LoadSettings::default(), None)?;
//! let text = "Tell me about the owl for my old uncle. No commas are allowed.";
//! let turns = [Turn { role: "user".into(), content: text.into() }];
//! let prompt = Prompt::chat(&model, &turns, &[])?;
//!
//! let protected = vec![false; prompt.n_cached()];
//! let budget = Budget::Ratio("0.25".parse()?);
//! let view = View::new(0..prompt.n_cached(), &protected, budget, TrialSeed(1));
//! let keep = evict("random".parse::<PolicySpec>()?.policy(), prompt.n_cached(), &view)?;
//!
//! let mut reader = Reader::private(&model, ContextSettings { n_ctx: 256, ..ContextSettings::default() })?;
//! let mut cut = reader.cut(&prompt, &Forgetting::new(keep))?;
//! let answer = reader.answer(&prompt, &mut cut, &mut Sampler::new(&Sampling::default(), 0), 32)?;
//! println!("{}", answer.text);
//! # Ok::<(), kvllama::Error>(())
//! ```
//!
//! # Modules
//!
//! - [`evict`]: which positions survive. Pure functions; a policy is one file and one line in a list.
//! - [`own`]: policies whose score comes from outside: programs that are asked, files with scores or filters.
//! - [`mod@calibrate`]: measures the filters of the policy `qfilters`.
//! - [`span`]: labelled token ranges of a prompt, which policies protect and for which survival is measured.
//! - [`llama`]: the llama.cpp boundary: models, prompts, KV caches, sampling. All unsafe code is in `llama/ffi`,
//!   except the allocator in [`alloc`].
//! - [`engine`]: reads a prompt, cuts its cache, answers; one condition at a time or many side by side.
//! - [`data`]: examples and their instructions: bundled, loaded, checked, imported, generated.
//! - [`score`]: rules that say whether an instruction was followed.
//! - [`report`]: the results of runs: terminal, page, figures.
//! - [`export`]: runs in the formats of other tools: Parquet, CSV, inspect_ai, kvpress, Every Eval Ever.
//! - [`live`]: a page on this machine that follows a run while it goes on.
//! - [`stats`]: intervals and tests over examples. Pure functions.
//! - [`models`]: the embedded model, the models known by name, and their download.
//! - [`condition`]: the columns of an experiment: one file per axis, and the grid that combines the axes.
//! - [`exp`]: the experiment: the loop, durable rows.
//! - [`api`]: language models behind an HTTP API: keys, retries, prices.
//! - [`judge`]: language models that score instructions that no rule can check.
//! - [`mod@bench`]: how fast the engine is, compared with other programs.
//! - [`size`]: amounts of memory as one types and reads them.
//! - [`interrupt`]: the request to stop, read by everything that takes long.
//! - [`cli`]: the command line, one file per subcommand.
//!
//! A module may depend only on modules to its right: `cli` -> `judge` -> `exp` -> `data` -> `api`, `score`; `exp` ->
//! `own` -> `calibrate`, `engine` -> `llama` -> `evict`, `span`.

#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod alloc;
pub mod api;
pub mod bench;
pub mod calibrate;
pub mod cli;
pub mod condition;
pub mod data;
pub mod engine;
pub mod error;
pub mod evict;
pub mod exp;
pub mod export;
mod files;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod interrupt;
pub mod judge;
mod lines;
pub mod live;
pub mod llama;
pub mod models;
pub mod own;
mod random;
pub mod report;
pub mod score;
pub mod size;
pub mod span;
pub mod stats;
mod threads;

pub use error::{Error, Result};

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
