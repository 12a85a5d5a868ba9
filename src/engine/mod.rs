//! Read, cut, answer: the steps of an experiment with a model, on top of the llama.cpp boundary.
//!
//! - [`Reader`]: reads a prompt, evicts from its cache, generates an answer; one condition at a time.
//! - [`Forced`]: an answer that begins with given tokens (teacher forcing).
//! - [`Lanes`]: answers many conditions of the same prompt side by side, in one batch.
//! - [`replays`]: what a model reads to repeat its prompt, for policies that score it by that.
//! - [`Chat`]: a cache that grows turn by turn and is cut again and again, also while the model generates;
//!   [`Reader::turns`]: several chats take their next turn side by side.
//! - [`Given`]: an answer that is given again, so that a chat can go on.
//! - [`Fidelity`]: how far a cut cache's predictions are from those of the full cache.
//! - [`Pace`]: measures how much faster a batch of many sequences is.

mod chat;
mod fidelity;
mod forced;
mod given;
mod lanes;
mod pace;
mod reader;
mod replay;
mod turns;

pub use chat::{Chat, Choose, Entries, Rule, check_compacting};
pub use fidelity::Fidelity;
pub use forced::Forced;
pub use given::Given;
pub use lanes::{Job, Lanes};
pub use pace::Pace;
pub use reader::{Answer, Cut, Forgetting, Reader, StopReason};
pub use replay::replays;
pub use turns::{ChatTurn, Speaker};
