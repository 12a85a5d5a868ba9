//! A run while it goes on: a page on this machine that follows its rows.
//!
//! [`Growing`] reads what was appended to `trials.csv`; [`Watched`] sums it up over one or more directories (the shards
//! of a run); [`serve`] shows the sums on loopback. A poll costs as much as the rows that have landed since the last
//! one; the report itself is made only when somebody asks for it and a file has changed.

mod growing;
mod server;
mod watched;

pub use growing::{Growing, Landed};
pub use server::{Server, serve};
pub use watched::{State, Sums, Watched};
