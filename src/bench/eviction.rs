//! The cost of an eviction: choosing the keep set, and removing positions from the KV cache.

use std::hint::black_box;
use std::sync::Arc;

use super::{Row, keep_set, median, timed, tokens};
use crate::Result;
use crate::evict::Layers;
use crate::llama::{Context, ContextSettings, Model};

const LENGTHS: [usize; 2] = [2_048, 131_072];
/// Lengths of prompts, and what is evicted of them.
const CACHED: [(usize, &str); 2] = [(2_048, "0.5"), (32_768, "0.9")];
const RATIO: &str = "0.5";
/// The policies to choose with; all policies with scores choose in the same way.
const CHOSEN: [(&str, &str); 3] = [("streaming", "streaming"), ("random", "random"), ("knorm", "any with scores")];
/// The policies with the fewest and the most ranges to remove.
const REMOVED: [&str; 2] = ["streaming", "random"];
const UNIT: &str = "µs per 1,000 positions";

/// Measures the choice, the removal, and the copy into a dense lane on `model`. Scores are given; the section `tap` measures their cost.
///
/// # Errors
/// If the context cannot be made.
pub fn eviction(model: &Arc<Model>, runs: usize) -> Result<(String, Vec<Row>)> {
    let mut rows = Vec::new();
    let mut row = |what: String, len: usize, seconds: Vec<f64>| {
        rows.push(Row::new(format!("{what}, {len} positions"), median(seconds) * 1e9 / len as f64, UNIT));
    };
    for (name, shown) in CHOSEN {
        for len in LENGTHS {
            let choose = || timed(|| Ok(black_box(keep_set(name, RATIO, len)?))).map(|(_, seconds)| seconds);
            row(format!("choose, {shown}@{RATIO}"), len, (0..runs).map(|_| choose()).collect::<Result<_>>()?);
        }
    }
    for (len, ratio) in CACHED {
        let settings = ContextSettings { n_ctx: len as u32, n_seq: 2, ..ContextSettings::default() };
        let mut context = Context::new(model, settings.clone())?;
        let mut lane = Context::new(model, ContextSettings { streams: true, n_seq: 1, ..settings })?;
        context.read(0, &tokens(model, len), 0, false)?;
        for name in REMOVED {
            let keep = keep_set(name, ratio, len)?;
            let ranges = keep.evicted().len();
            let mut remove = || {
                context.fork(0, 1)?;
                timed(|| context.evict(1, keep.evicted(), Layers::All)).map(|((), seconds)| seconds)
            };
            let seconds = (0..runs).map(|_| remove()).collect::<Result<_>>()?;
            row(format!("remove, {name}@{ratio} ({ranges} ranges)"), len, seconds);
            let mut copy =
                || timed(|| context.gather(0, &keep.kept(), true, &mut lane, 0)).map(|((), seconds)| seconds);
            let seconds = (0..runs).map(|_| copy()).collect::<Result<_>>()?;
            row(format!("copy the survivors, {name}@{ratio}"), len, seconds);
        }
    }
    Ok(("What is done once a trial, between reading and answering.".to_owned(), rows))
}
