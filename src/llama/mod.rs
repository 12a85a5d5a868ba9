//! The llama.cpp boundary: only this module calls llama.cpp.
//!
//! - [`Model`]: a loaded GGUF with its tokenizer, chat template and facts.
//! - [`Prompt`]: a conversation rendered with the model's own template and tokenized, with [spans](crate::span).
//! - [`Context`]: sequences in a KV cache: decode, evict, compact, fork, logits.
//! - [`Sampler`]: draws the next token from logits; [`Grammar`]: draws only tokens that a grammar allows.
//!
//! Only the folder `ffi` has unsafe code.

mod context;
mod ffi;
mod gguf;
mod grammar;
mod memory;
mod model;
mod preamble;
mod prompt;
mod sampler;
mod template;
mod weights;
mod worker;

pub use context::{Context, Slot};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use gguf::check as check_gguf;
pub use grammar::Grammar;
pub use memory::{Memory, MemoryUse, free_memory, peak_memory};
pub use model::{Facts, KvLayer, Model};
pub use preamble::Preamble;
pub use prompt::{Mark, Prompt};
pub use sampler::{Sampler, Sampling};
pub use template::{Template, Turn};
pub use worker::{serve, use_worker};

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::condition::KvTypes;
use crate::{Error, Result};

/// A token id of the model's vocabulary.
pub type Token = i32;

/// How a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadSettings {
    /// Layers to offload to the GPU; `None` for all, if the build has a GPU backend.
    pub gpu_layers: Option<u32>,
    /// Map the file into memory. `None` decides by itself: on a CPU alone, mapping would hold the weights twice.
    pub mmap: Option<bool>,
    /// Read only the metadata and allocate nothing, to predict memory.
    pub dry: bool,
}

/// How a context is made.
#[derive(Debug, Clone)]
pub struct ContextSettings {
    /// Number of positions that the KV cache can hold, or, with [`ContextSettings::streams`], that each sequence can
    /// hold (llama.cpp rounds up to a multiple of 256).
    pub n_ctx: u32,
    /// Tokens decoded at once while reading the prompt.
    pub n_batch: u32,
    /// Number of sequences in the cache.
    pub n_seq: u32,
    /// Give each sequence its own cells (llama.cpp's streams): forking then copies the cells, and the copy can be
    /// compacted.
    pub streams: bool,
    /// CPU threads.
    pub threads: u32,
    /// Element types of keys and values.
    pub kv_type: KvTypes,
    /// Flash attention.
    pub flash_attn: FlashAttn,
    /// Keep every position in the sliding-window layers' cache, not only the window. Compaction needs this.
    pub swa_full: bool,
    /// Make a tap: a callback in the compute graph that can read attention, keys, queries and values, and hide
    /// positions from single heads. It costs nothing while unused.
    pub tap: bool,
}

impl Default for ContextSettings {
    fn default() -> Self {
        ContextSettings {
            n_ctx: 2048,
            n_batch: 512,
            n_seq: 1,
            streams: false,
            threads: 1,
            kv_type: KvTypes::default(),
            flash_attn: FlashAttn::Auto,
            swa_full: true,
            tap: false,
        }
    }
}

/// Models with fewer parameters than this compute on one thread. One thread finishes an operation before a second one
/// reaches ggml's barrier, and if other processes use the cores, waiting there costs a hundred times the work.
const SINGLE_THREAD_BELOW: u64 = 100_000_000;

/// Number of threads for a model of `n_params`: the physical cores, or what the process may use if that is less
/// (hyper-threads slow matrix products down); one for a tiny model.
pub fn default_threads(n_params: u64) -> u32 {
    if n_params < SINGLE_THREAD_BELOW {
        return 1;
    }
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let physical = sysinfo::System::physical_core_count().unwrap_or(usable);
    u32::try_from(usable.min(physical)).unwrap_or(1).max(1)
}

/// Whether attention is computed by the fused kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlashAttn {
    /// llama.cpp decides for the device.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl FromStr for FlashAttn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(FlashAttn::Auto),
            "on" => Ok(FlashAttn::On),
            "off" => Ok(FlashAttn::Off),
            _ => Err(Error::input(format!("`{text}` is not a flash attention setting; known are auto, on, off"))),
        }
    }
}

/// Cells of the KV cache of the global layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    /// Cells in the cache.
    pub size: u32,
    /// Cells that hold a position of any sequence.
    pub used: u32,
    /// Cells that hold a position of the requested sequence.
    pub sequence: u32,
}

/// A device on which llama.cpp can compute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Backend name, such as `CUDA0` or `CPU`.
    pub name: String,
    /// The hardware's own name.
    pub description: String,
    /// Whether it is a GPU.
    pub is_gpu: bool,
    /// Free memory in bytes.
    pub free: u64,
    /// All memory in bytes.
    pub total: u64,
}

/// All devices that this build sees.
pub fn devices() -> Vec<Device> {
    ffi::devices()
        .into_iter()
        .map(|raw| Device {
            name: raw.name,
            description: raw.description,
            is_gpu: raw.is_gpu,
            free: raw.free,
            total: raw.total,
        })
        .collect()
}

/// llama.cpp's version.
pub fn version() -> String {
    ffi::version()
}

/// What ggml was built with and found on this CPU.
pub fn system_info() -> String {
    ffi::system_info()
}
