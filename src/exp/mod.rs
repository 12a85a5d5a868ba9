//! The experiment: a grid of conditions x examples x repeats, run trial by trial into a run directory.
//!
//! - [`Experiment`]: a complete experiment as one call.
//! - [`Settings`]: everything that identifies a run; [`Manifest`]: its record on disk.
//! - [`Plan`]: the settings applied to a model and a data set: prompts, trials, sizes.
//! - [`Room`]: how many conditions of a plan answer side by side, within the memory.
//! - [`Store`]: the run directory: durable rows, resume, lock.
//! - [`run`]: the loop over trials.
//! - [`merge()`]: combines shards into one run.
//! - [`stop`]: early stopping.
//! - [`Rows`]: a finished run's rows in memory, to be scored again; [`rescore`] does this by rule.

mod chat;
mod dense;
mod experiment;
mod forget;
mod manifest;
mod means;
mod merge;
mod place;
mod plan;
mod primary;
mod prompts;
mod questions;
mod rescore;
mod rewrite;
mod room;
mod rows;
mod run;
mod settings;
mod shard;
mod sights;
pub mod stop;
mod store;
mod table;
mod together;
mod trial;

pub use chat::{Talk, roll, texts_of};
use chat::{check_chat, most_cells};
pub use dense::Dense;
pub use experiment::{Experiment, Opened, examples_named, open};
use forget::kept_at_most;
pub use forget::{Demands, check, each_layer, forgetting, read_before, rehearse, replay_cells, target};
pub use manifest::{Build, DataFacts, Difference, Manifest, Mixed, ModelFile, Session, megabytes};
pub use means::{ConditionMean, means};
pub use merge::{Merged, Missing, merge};
pub use place::{latest_match, new_directory, put_aside};
pub use plan::{Plan, prompt_of};
pub use primary::Primary;
pub use prompts::{PROMPTS, PromptRow, instructions_of, read_prompts, write_prompts};
pub use rescore::{Rescored, rescore};
pub use rewrite::Rows;
pub(crate) use rewrite::check_complete;
pub use room::{Parallel, Room};
pub use rows::{InstructionRow, Key, Scorer, TrialRow};
pub use run::{Observer, Outcome, run};
pub use settings::{Generation, Settings, default_n_predict};
pub use shard::Shard;
pub use sights::Sights;
pub use store::{INSTRUCTIONS, MANIFEST, Resumed, Store, TRIALS};
pub(crate) use table::{check_columns, inspect};
