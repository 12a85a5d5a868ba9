//! Memory: what a model and its context will take, and what the process took.

use std::sync::Arc;

use serde::Serialize;

use super::{Context, ContextSettings, Model};
use crate::Result;

/// What the process needs beside what llama.cpp accounts for: code, vocabulary, tokenizer tables, buffers.
const OVERHEAD_BASE: u64 = 40 << 20;
/// ... and this much for each token of the vocabulary (text, scores, hash tables), as measured on Gemma's 262k.
const OVERHEAD_PER_TOKEN: u64 = 450;

/// Bytes on one kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights.
    pub weights: u64,
    /// Keys and values.
    pub kv_cache: u64,
    /// Scratch of the compute graph.
    pub compute: u64,
}

impl Memory {
    /// Everything together.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.compute
    }
}

/// Memory of a model and its context, by where it lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// In the machine's memory.
    pub host: Memory,
    /// On GPUs.
    pub device: Memory,
}

impl MemoryUse {
    /// What a process with such a context will take at its peak. Of a `model` loaded [dry](super::LoadSettings::dry)
    /// nothing is allocated to find out.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn predict(model: &Arc<Model>, settings: ContextSettings) -> Result<Self> {
        let mut memory = Context::new(model, settings)?.memory_use();
        memory.host.compute += OVERHEAD_BASE + OVERHEAD_PER_TOKEN * model.n_vocab() as u64;
        Ok(memory)
    }

    /// With another context over the same weights.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Self {
        let side = |one: Memory, other: Memory| Memory {
            weights: one.weights,
            kv_cache: one.kv_cache + other.kv_cache,
            compute: one.compute + other.compute,
        };
        MemoryUse { host: side(self.host, other.host), device: side(self.device, other.device) }
    }

    /// Everything together, wherever it lies.
    pub fn total(&self) -> u64 {
        self.host.total() + self.device.total()
    }
}

/// The most memory this process has held so far, in bytes; `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        // The limit of a parent process is inherited by getrusage, but not by this file.
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    }
    #[cfg(target_os = "macos")]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok() // bytes, on this system
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    None
}
