//! Memory: how much a model and its context will need, and how much the process used.

use std::sync::Arc;

use serde::Serialize;

use super::{Context, ContextSettings, Model};
use crate::Result;

/// Memory of the process that llama.cpp does not count: code, vocabulary, tokenizer tables, buffers.
const OVERHEAD_BASE: u64 = 40 << 20;
/// The same for each token of the vocabulary (text, scores, hash tables), as measured on Gemma's 262k.
const OVERHEAD_PER_TOKEN: u64 = 450;

/// Bytes in one kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights.
    pub weights: u64,
    /// Keys and values.
    pub kv_cache: u64,
    /// Scratch memory of the compute graph.
    pub compute: u64,
}

impl Memory {
    /// Everything together.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.compute
    }
}

/// Memory of a model and its context, by place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// In the machine's memory.
    pub host: Memory,
    /// On GPUs.
    pub device: Memory,
}

impl MemoryUse {
    /// Predicts the peak memory of a process with these contexts, which share the weights. If `model` was loaded
    /// [dry](super::LoadSettings::dry), the prediction allocates nothing.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn predict(model: &Arc<Model>, contexts: impl IntoIterator<Item = ContextSettings>) -> Result<Self> {
        let mut all = MemoryUse::default();
        for settings in contexts {
            all = all.beside(&Context::new(model, settings)?.memory_use());
        }
        all.host.compute += OVERHEAD_BASE + OVERHEAD_PER_TOKEN * model.n_vocab() as u64;
        Ok(all)
    }

    /// The same with another context over the same weights.
    fn beside(&self, other: &Self) -> Self {
        let side = |one: Memory, other: Memory| Memory {
            weights: other.weights,
            kv_cache: one.kv_cache + other.kv_cache,
            compute: one.compute + other.compute,
        };
        MemoryUse { host: side(self.host, other.host), device: side(self.device, other.device) }
    }

    /// Whether the machine has enough free memory: `free` bytes of its own (see [`free_memory`]), and those of its GPUs.
    pub fn fits(&self, free: u64) -> bool {
        let gpu_free: u64 = super::devices().iter().filter(|device| device.is_gpu).map(|device| device.free).sum();
        self.host.total() <= free && self.device.total() <= gpu_free.max(u64::from(self.device.total() == 0))
    }

    /// The sum over all places.
    pub fn total(&self) -> u64 {
        self.host.total() + self.device.total()
    }
}

/// Bytes of memory that a new process may take.
pub fn free_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.available_memory()
}

/// The peak memory of this process so far, in bytes; `None` if the system does not report it.
pub fn peak_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        // getrusage would include a peak inherited from the parent process; this file does not.
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
