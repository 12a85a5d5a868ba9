//! Measures how much faster a large batch of sequences decodes than a small one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::llama::{Context, ContextSettings, Model, Slot};

/// Timed decodes, of which the fastest counts; one untimed decode comes before.
const TIMED: usize = 2;

/// Measures decoding speed for batches of different sizes on an almost empty cache.
pub struct Pace(Context);

impl Pace {
    /// Makes a measurement for up to `most` sequences. The other settings are those of the run.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn new(model: &Arc<Model>, settings: ContextSettings, most: u32) -> Result<Self> {
        let n_ctx = most * (1 + TIMED as u32);
        let settings = ContextSettings { n_ctx, n_seq: most, n_batch: most, streams: false, tap: false, ..settings };
        Ok(Pace(Context::new(model, settings)?))
    }

    /// Tokens per second of `lanes` sequences together.
    ///
    /// # Errors
    /// If decoding fails.
    pub fn tokens_per_second(&mut self, lanes: u32) -> Result<f64> {
        let Pace(context) = self;
        context.clear();
        let token = context.model().tokenize("a")?.first().copied().unwrap_or(0);
        let mut fastest = Duration::MAX;
        for pos in 0..=TIMED as i32 {
            let slots: Vec<_> = (0..lanes as i32).map(|seq| Slot { token, pos, seq, logits: true }).collect();
            let start = Instant::now();
            context.decode(&slots)?;
            context.logits(0)?; // waits for the device
            if pos > 0 {
                fastest = fastest.min(start.elapsed());
            }
        }
        Ok(f64::from(lanes) / fastest.as_secs_f64().max(1e-9))
    }
}
