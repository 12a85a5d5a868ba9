//! The only unsafe code of the crate (this folder): thin owners of llama.cpp's raw handles.
//!
//! `llama-cpp-2` wraps the same handles but keeps them private, and kvllama needs them for loading from memory,
//! `no_alloc` contexts, the abort and eval callbacks, and cell counts. So this module owns the model and the context
//! itself, over `llama-cpp-sys-2`. Samplers need no handle and come from `llama-cpp-2`.
//!
//! llama.cpp aborts the process on broken invariants, so every function here first checks its arguments for what would
//! break one.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

mod said;
mod tap;

pub(super) use said::{error, take_error};
use said::{loading, model_works, start};
use tap::RawTap;

use crate::condition::KvType;

use super::{Cells, ContextSettings, FlashAttn, LoadSettings, Memory, MemoryUse, Slot, Token};

#[allow(non_camel_case_types, missing_docs)]
#[cfg_attr(not(feature = "rpc"), allow(dead_code, reason = "a build without workers calls less"))]
mod kvtap {
    include!(concat!(env!("OUT_DIR"), "/kvtap.rs"));
}

/// llama.cpp's abort callback: whether the running decode must stop at its next graph node.
unsafe extern "C" fn stop(_: *mut c_void) -> bool {
    crate::interrupt::requested()
}

/// llama.cpp's own version string.
pub(super) fn version() -> String {
    // SAFETY: returns a static string.
    unsafe { CStr::from_ptr(sys::llama_version()) }.to_string_lossy().into_owned()
}

/// What ggml was compiled with and found on this CPU, as llama.cpp prints it.
pub(super) fn system_info() -> String {
    start();
    // SAFETY: returns a static string.
    unsafe { CStr::from_ptr(sys::llama_print_system_info()) }.to_string_lossy().into_owned()
}

/// A device on which ggml can compute.
pub(super) struct RawDevice {
    pub name: String,
    pub description: String,
    pub is_gpu: bool,
    pub free: u64,
    pub total: u64,
}

pub(super) fn devices() -> Vec<RawDevice> {
    start();
    // SAFETY: the registry is filled by `start`; every index below the count is valid, and
    // names and descriptions are static strings of the backend.
    unsafe {
        (0..sys::ggml_backend_dev_count())
            .map(|index| {
                let device = sys::ggml_backend_dev_get(index);
                let text = |ptr| CStr::from_ptr(ptr).to_string_lossy().into_owned();
                let (mut free, mut total) = (0, 0);
                sys::ggml_backend_dev_memory(device, &raw mut free, &raw mut total);
                let kind = sys::ggml_backend_dev_type(device);
                RawDevice {
                    name: text(sys::ggml_backend_dev_name(device)),
                    description: text(sys::ggml_backend_dev_description(device)),
                    is_gpu: kind == sys::GGML_BACKEND_DEVICE_TYPE_GPU || kind == sys::GGML_BACKEND_DEVICE_TYPE_IGPU,
                    free: free as u64,
                    total: total as u64,
                }
            })
            .collect()
    }
}

/// Registers the devices of a worker; `false` if it has none. Somebody must listen there.
#[cfg(feature = "rpc")]
pub(super) fn use_worker(endpoint: &str) -> bool {
    start();
    let Ok(endpoint) = CString::new(endpoint) else { return false };
    // SAFETY: NUL-terminated; llama.cpp copies it.
    unsafe { kvtap::kvtap_use_worker(endpoint.as_ptr()) }
}

/// Serves this machine's devices; returns only if that fails.
#[cfg(feature = "rpc")]
pub(super) fn serve(endpoint: &str, threads: u32) {
    start();
    let Ok(endpoint) = CString::new(endpoint) else { return };
    // SAFETY: NUL-terminated, and alive during the call.
    unsafe { kvtap::kvtap_serve(endpoint.as_ptr(), threads as usize) }
}

/// Owns a `llama_model`.
pub(super) struct RawModel(NonNull<sys::llama_model>);

// SAFETY: after loading, a llama_model is only read; llama.cpp shares it between contexts and threads.
unsafe impl Send for RawModel {}
// SAFETY: as above.
unsafe impl Sync for RawModel {}

impl Drop for RawModel {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and every context holds an `Arc` of its model.
        unsafe { sys::llama_model_free(self.0.as_ptr()) }
    }
}

fn model_params(settings: &LoadSettings) -> sys::llama_model_params {
    // SAFETY: plain data.
    let mut params = unsafe { sys::llama_model_default_params() };
    params.n_gpu_layers = settings.gpu_layers.map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
    // Without a GPU, mmap keeps quantized weights twice: in the page cache and repacked for the
    // CPU kernels. Reading the file instead keeps them once.
    // SAFETY: a constant of the build.
    let offload = unsafe { sys::llama_supports_gpu_offload() } && settings.gpu_layers != Some(0);
    params.load_mode = match settings.mmap {
        Some(true) => sys::LLAMA_LOAD_MODE_MMAP,
        None if offload => sys::LLAMA_LOAD_MODE_AUTO,
        _ => sys::LLAMA_LOAD_MODE_NONE,
    };
    params.no_alloc = settings.dry;
    params
}

impl RawModel {
    pub(super) fn from_file(path: &Path, settings: &LoadSettings) -> Option<Self> {
        start();
        loading(&path.display().to_string());
        let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
        let mut params = model_params(settings);
        if settings.dry {
            params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
        }
        // SAFETY: the path is NUL-terminated and the settings are valid; a failure gives NULL.
        NonNull::new(unsafe { kvtap::kvtap_load(path.as_ptr(), &raw const params) }).map(Self)
    }

    pub(super) fn from_memory(name: &str, bytes: &[u8], settings: &LoadSettings) -> Option<Self> {
        start();
        loading(name);
        let mut params = model_params(settings);
        params.load_mode = sys::LLAMA_LOAD_MODE_NONE; // a memory stream cannot be mapped
        // SAFETY: pointer and length describe `bytes`, which outlives the call.
        let raw = unsafe { kvtap::kvtap_model_from_memory(bytes.as_ptr().cast(), bytes.len(), &raw const params) };
        NonNull::new(raw).map(Self)
    }

    fn ptr(&self) -> *const sys::llama_model {
        self.0.as_ptr()
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: valid handle; the vocabulary lives as long as the model.
        unsafe { sys::llama_model_get_vocab(self.ptr()) }
    }

    /// A GGUF metadata value as text.
    pub(super) fn meta(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: a NULL buffer of size 0 asks for the length alone.
        let length = unsafe { sys::llama_model_meta_val_str(self.ptr(), key.as_ptr(), std::ptr::null_mut(), 0) };
        let mut buffer = vec![0u8; usize::try_from(length).ok()? + 1];
        // SAFETY: the buffer has the size passed.
        unsafe { sys::llama_model_meta_val_str(self.ptr(), key.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        buffer.pop();
        Some(String::from_utf8_lossy(&buffer).into_owned())
    }

    pub(super) fn chat_template(&self) -> Option<String> {
        // SAFETY: NULL asks for the default template; the string lives as long as the model.
        let raw = unsafe { sys::llama_model_chat_template(self.ptr(), std::ptr::null()) };
        // SAFETY: not NULL, NUL-terminated.
        (!raw.is_null()).then(|| unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned())
    }

    pub(super) fn description(&self) -> String {
        let mut buffer = [0u8; 256];
        // SAFETY: the buffer has the size passed.
        unsafe { sys::llama_model_desc(self.ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        CStr::from_bytes_until_nul(&buffer).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Why kvllama cannot use this model; `None` if it can.
    pub(super) fn unsuitable(&self) -> Option<&'static str> {
        // SAFETY: getters on a valid handle.
        unsafe {
            if sys::llama_model_has_encoder(self.ptr()) || !sys::llama_model_has_decoder(self.ptr()) {
                Some("it is an encoder, not a causal language model")
            } else if sys::llama_model_is_recurrent(self.ptr()) {
                Some("it is a recurrent model: it has no KV cache to evict from")
            } else if sys::llama_model_is_hybrid(self.ptr()) {
                Some("it is a hybrid model: part of its memory is recurrent and cannot be evicted by position")
            } else if sys::llama_model_is_diffusion(self.ptr()) {
                Some("it is a diffusion model, not a causal one")
            } else if sys::llama_vocab_type(self.vocab()) == sys::LLAMA_VOCAB_TYPE_NONE {
                Some("it has no vocabulary")
            } else {
                None
            }
        }
    }

    pub(super) fn n_vocab(&self) -> usize {
        // SAFETY: getter.
        unsafe { sys::llama_vocab_n_tokens(self.vocab()) }.unsigned_abs() as usize
    }

    pub(super) fn n_ctx_train(&self) -> u32 {
        // SAFETY: getter.
        unsafe { sys::llama_model_n_ctx_train(self.ptr()) }.unsigned_abs()
    }

    pub(super) fn n_layer(&self) -> u32 {
        // SAFETY: getter.
        unsafe { sys::llama_model_n_layer(self.ptr()) }.unsigned_abs()
    }

    /// The number of KV heads in a layer's own cache (0 if it has no cache), and whether the layer has a sliding
    /// window.
    pub(super) fn kv_heads(&self, layer: u32) -> (usize, bool) {
        let (layer, mut local) = (i32::try_from(layer).unwrap_or(0), false);
        // SAFETY: getter; `Model` passes layers it has; valid out pointer.
        let heads = unsafe { kvtap::kvtap_kv_heads(self.ptr(), layer, &raw mut local) };
        (usize::try_from(heads).unwrap_or(0), local)
    }

    /// Whether the rotation of keys depends on the size of the context.
    pub(super) fn rope_depends_on_size(&self) -> bool {
        // SAFETY: getter.
        unsafe { kvtap::kvtap_rope_depends_on_size(self.ptr()) }
    }

    pub(super) fn n_swa(&self) -> u32 {
        // SAFETY: getter.
        unsafe { sys::llama_model_n_swa(self.ptr()) }.unsigned_abs()
    }

    pub(super) fn size(&self) -> u64 {
        // SAFETY: getter.
        unsafe { sys::llama_model_size(self.ptr()) }
    }

    pub(super) fn n_params(&self) -> u64 {
        // SAFETY: getter.
        unsafe { sys::llama_model_n_params(self.ptr()) }
    }

    pub(super) fn bos(&self) -> Option<Token> {
        // SAFETY: getter; -1 means none.
        let token = unsafe { sys::llama_vocab_bos(self.vocab()) };
        (token >= 0).then_some(token)
    }

    pub(super) fn eos(&self) -> Option<Token> {
        // SAFETY: getter; -1 means none.
        let token = unsafe { sys::llama_vocab_eos(self.vocab()) };
        (token >= 0).then_some(token)
    }

    pub(super) fn adds_bos(&self) -> bool {
        // SAFETY: getter.
        unsafe { sys::llama_vocab_get_add_bos(self.vocab()) }
    }

    pub(super) fn is_end_of_generation(&self, token: Token) -> bool {
        // SAFETY: tokens come from this vocabulary: `Model` checks every one that a user typed.
        unsafe { sys::llama_vocab_is_eog(self.vocab(), token) }
    }

    /// `None` if llama.cpp cannot tokenize the text with this vocabulary.
    pub(super) fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Option<Vec<Token>> {
        let length = i32::try_from(text.len()).expect("a prompt is under 2 GiB");
        let mut tokens: Vec<Token> = vec![0; text.len() + 2];
        let call = |tokens: &mut Vec<Token>| {
            let room = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
            // SAFETY: text and buffer are passed with their lengths.
            unsafe {
                kvtap::kvtap_tokenize(
                    self.vocab(),
                    text.as_ptr().cast(),
                    length,
                    tokens.as_mut_ptr(),
                    room,
                    add_special,
                    parse_special,
                )
            }
        };
        let mut count = call(&mut tokens);
        if count < 0 && count != i32::MIN {
            tokens.resize(count.unsigned_abs() as usize, 0);
            count = call(&mut tokens);
        }
        tokens.truncate(usize::try_from(count).ok()?);
        Some(tokens)
    }

    /// The bytes of a token; for a control token its text if `special`, else nothing.
    pub(super) fn piece(&self, token: Token, special: bool) -> Vec<u8> {
        let mut buffer = vec![0u8; 64];
        let call = |buffer: &mut Vec<u8>| {
            let room = i32::try_from(buffer.len()).unwrap_or(i32::MAX);
            // SAFETY: the buffer has the size passed; tokens come from this vocabulary.
            unsafe { kvtap::kvtap_piece(self.vocab(), token, buffer.as_mut_ptr().cast(), room, special) }
        };
        let mut length = call(&mut buffer);
        if length < 0 {
            buffer.resize(length.unsigned_abs() as usize, 0);
            length = call(&mut buffer);
        }
        buffer.truncate(usize::try_from(length).unwrap_or(0));
        buffer
    }
}

/// The reason why a decode failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecodeFailure {
    /// No room in the KV cache.
    NoRoom,
    /// Stopped by [`crate::interrupt::request`].
    Interrupted,
    /// The batch was decoded, but positions that should be hidden from single heads were visible.
    NotHidden,
    /// Anything else, with llama.cpp's code.
    Code(i32),
}

/// Owns a `llama_context` and the tap it calls, if it has one.
pub(super) struct RawContext {
    context: NonNull<sys::llama_context>,
    tap: Option<RawTap>,
}

// SAFETY: a context may move between threads; `&mut` on every call that changes it keeps use exclusive.
unsafe impl Send for RawContext {}

impl Drop for RawContext {
    fn drop(&mut self) {
        // SAFETY: the handle is owned.
        unsafe { sys::llama_free(self.ptr()) }
    }
}

impl RawContext {
    /// The caller keeps `model` alive longer than the context (`Context` holds an `Arc`).
    pub(super) fn new(model: &RawModel, settings: &ContextSettings) -> Option<Self> {
        // SAFETY: plain data.
        let mut params = unsafe { sys::llama_context_default_params() };
        let threads = i32::try_from(settings.threads).unwrap_or(i32::MAX);
        params.n_ctx = if settings.streams { settings.n_ctx.saturating_mul(settings.n_seq) } else { settings.n_ctx };
        // A batch holds a chunk of a prompt, or one token of each sequence; it is never split.
        params.n_batch = settings.n_batch.max(settings.n_seq);
        params.n_ubatch = params.n_batch;
        params.n_seq_max = settings.n_seq;
        params.n_outputs_max = settings.n_seq.max(1); // one row of logits a sequence
        params.n_threads = threads;
        params.n_threads_batch = threads;
        params.flash_attn_type = match settings.flash_attn {
            FlashAttn::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttn::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttn::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        params.type_k = ggml_type(settings.kv_type.k);
        params.type_v = ggml_type(settings.kv_type.v);
        params.swa_full = settings.swa_full;
        params.kv_unified = !settings.streams;
        params.no_perf = true;
        params.abort_callback = Some(stop);
        // Without a tap, llama.cpp computes its graphs without a callback.
        let tap = settings.tap.then(RawTap::new);
        if let Some(tap) = &tap {
            params.cb_eval = Some(kvtap::kvtap_eval);
            params.cb_eval_user_data = tap.ptr().cast();
        }
        // SAFETY: valid model handle and settings; a failure gives NULL.
        let context = NonNull::new(unsafe { kvtap::kvtap_context(model.0.as_ptr(), &raw const params) })?;
        Some(Self { context, tap })
    }

    fn ptr(&self) -> *mut sys::llama_context {
        self.context.as_ptr()
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: valid handle; the memory lives as long as the context.
        unsafe { sys::llama_get_memory(self.ptr()) }
    }

    /// Number of positions of one sequence.
    pub(super) fn n_ctx(&self) -> u32 {
        // SAFETY: getter.
        unsafe { sys::llama_n_ctx_seq(self.ptr()) }
    }

    /// Decodes one batch. `Context` has checked its length (`n_batch`), tokens, sequence ids and positions.
    pub(super) fn decode(&mut self, slots: &[Slot]) -> Result<(), DecodeFailure> {
        let mut tokens: Vec<_> = slots.iter().map(|slot| slot.token).collect();
        let mut positions: Vec<_> = slots.iter().map(|slot| slot.pos).collect();
        let mut counts = vec![1i32; slots.len()];
        let mut ids: Vec<_> = slots.iter().map(|slot| slot.seq).collect();
        let mut id_pointers: Vec<_> = ids.iter_mut().map(|id| &raw mut *id).collect();
        let mut wanted: Vec<_> = slots.iter().map(|slot| i8::from(slot.logits)).collect();
        let batch = sys::llama_batch {
            n_tokens: i32::try_from(slots.len()).expect("a batch is at most n_batch long"),
            token: tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: positions.as_mut_ptr(),
            n_seq_id: counts.as_mut_ptr(),
            seq_id: id_pointers.as_mut_ptr(),
            logits: wanted.as_mut_ptr(),
        };
        if let Some(tap) = &self.tap {
            // SAFETY: valid handle; arrays of the length passed, which are copied.
            unsafe { kvtap::kvtap_before(tap.ptr(), ids.as_ptr(), positions.as_ptr(), slots.len()) }
        }
        // SAFETY: all arrays are as long as n_tokens and outlive the call.
        let code = unsafe { kvtap::kvtap_decode(self.ptr(), &raw const batch) };
        // Without logits, llama.cpp leaves out the last part of the graph.
        if code == 0 && slots.iter().any(|slot| slot.logits) {
            model_works();
        }
        match code {
            // SAFETY: valid handle.
            0 if self.tap.as_ref().is_none_or(|tap| unsafe { kvtap::kvtap_after(tap.ptr()) }) => Ok(()),
            0 => Err(DecodeFailure::NotHidden),
            1 => Err(DecodeFailure::NoRoom),
            2 => Err(DecodeFailure::Interrupted),
            code => Err(DecodeFailure::Code(code)),
        }
    }

    /// The logits of batch entry `index`, which was decoded with `logits: true`.
    pub(super) fn logits(&self, index: usize, n_vocab: usize) -> Option<&[f32]> {
        let index = i32::try_from(index).ok()?;
        // SAFETY: waits for the backend; returns NULL for an entry without logits, otherwise n_vocab
        // floats that stay valid until the next decode, which needs `&mut self`.
        unsafe {
            let row = sys::llama_get_logits_ith(self.ptr(), index);
            (!row.is_null()).then(|| std::slice::from_raw_parts(row, n_vocab))
        }
    }

    /// Removes positions `[from, to)` of a sequence; `false` if the memory refuses.
    pub(super) fn seq_rm(&mut self, seq: i32, from: i32, to: i32) -> bool {
        // SAFETY: valid handle; `Context` checked the id.
        unsafe { sys::llama_memory_seq_rm(self.memory(), seq, from, to) }
    }

    /// Shares all cells of `source` with the empty sequence `target`, or copies them into its stream.
    pub(super) fn seq_cp(&mut self, source: i32, target: i32) {
        // SAFETY: valid handle; `Context` checked the ids.
        unsafe { sys::llama_memory_seq_cp(self.memory(), source, target, -1, -1) }
    }

    /// Removes the positions `p` of a sequence where `evicted[p] != 0`, in the caches of global and local layers;
    /// `false` if the memory has no such caches.
    pub(super) fn seq_rm_all(&mut self, (global, local): (bool, bool), seq: i32, evicted: &[u8]) -> bool {
        // SAFETY: valid handle; `Context` checked the id; the array has the length passed.
        unsafe { kvtap::kvtap_seq_rm_all(self.ptr(), global, local, seq, evicted.as_ptr(), evicted.len()) }
    }

    /// Replaces `target_seq` of `target` by the positions `p` of `seq` where `keep[p] != 0`; `false` if that fails.
    pub(super) fn gather(&self, seq: i32, keep: &[u8], whole: bool, target: &mut Self, target_seq: i32) -> bool {
        // SAFETY: valid handles of two contexts over one model; `Context` checked the ids; the array has the length
        // passed. The source is only read.
        unsafe { kvtap::kvtap_gather(self.ptr(), seq, target.ptr(), target_seq, keep.as_ptr(), keep.len(), whole) }
    }

    /// Moves positions `[from, to)` of a sequence by `delta`.
    pub(super) fn seq_add(&mut self, seq: i32, from: i32, to: i32, delta: i32) {
        // SAFETY: valid handle; `Context` checked the id and that the memory can shift.
        unsafe { sys::llama_memory_seq_add(self.memory(), seq, from, to, delta) }
    }

    pub(super) fn can_shift(&self) -> bool {
        // SAFETY: getter.
        unsafe { kvtap::kvtap_can_shift(self.ptr()) }
    }

    pub(super) fn clear(&mut self) {
        // SAFETY: valid handle.
        unsafe { sys::llama_memory_clear(self.memory(), true) }
    }

    pub(super) fn pos_max(&self, seq: i32) -> Option<u32> {
        // SAFETY: getter; -1 means empty.
        u32::try_from(unsafe { sys::llama_memory_seq_pos_max(self.memory(), seq) }).ok()
    }

    pub(super) fn cells(&self, seq: i32) -> Option<Cells> {
        let mut raw = kvtap::kvtap_cells { size: 0, used: 0, seq: 0 };
        // SAFETY: valid handle and out pointer.
        let known = unsafe { kvtap::kvtap_cells_of(self.ptr(), seq, &raw mut raw) };
        known.then_some(Cells { size: raw.size, used: raw.used, sequence: raw.seq })
    }

    pub(super) fn memory_use(&self) -> MemoryUse {
        let zero = kvtap::kvtap_memory { model: 0, context: 0, compute: 0 };
        let (mut host, mut device) = (zero, zero);
        // SAFETY: valid handle and out pointers.
        unsafe { kvtap::kvtap_memory_of(self.ptr(), &raw mut host, &raw mut device) };
        let side =
            |raw: kvtap::kvtap_memory| Memory { weights: raw.model, kv_cache: raw.context, compute: raw.compute };
        MemoryUse { host: side(host), device: side(device) }
    }
}

/// Owns a `llama_sampler` that knows which tokens a grammar allows next.
pub(super) struct RawGrammar(NonNull<sys::llama_sampler>);

// SAFETY: the sampler is owned, used through `&mut` alone, and shares nothing but the vocabulary, which is only read.
unsafe impl Send for RawGrammar {}

impl Drop for RawGrammar {
    fn drop(&mut self) {
        // SAFETY: the handle is owned and in no chain.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) }
    }
}

impl RawGrammar {
    /// Parses a GBNF grammar with the symbol `root`; `None` if it cannot be parsed. The caller keeps `model` alive
    /// longer (`Grammar` holds an `Arc`).
    pub(super) fn new(model: &RawModel, grammar: &str) -> Option<Self> {
        let grammar = CString::new(grammar).ok()?;
        // SAFETY: valid vocabulary, NUL-terminated strings; a grammar that does not parse gives NULL.
        let raw = unsafe { kvtap::kvtap_grammar(model.vocab(), grammar.as_ptr()) };
        NonNull::new(raw).map(Self)
    }

    /// For each of `tokens`, all of this vocabulary, whether it may come next.
    pub(super) fn allows(&mut self, tokens: &[Token]) -> Vec<bool> {
        let mut data: Vec<_> = tokens.iter().map(|&id| sys::llama_token_data { id, logit: 0.0, p: 0.0 }).collect();
        let mut candidates =
            sys::llama_token_data_array { data: data.as_mut_ptr(), size: data.len(), selected: -1, sorted: false };
        // SAFETY: the array outlives the call; a grammar changes logits in place, and neither order nor size.
        unsafe { sys::llama_sampler_apply(self.0.as_ptr(), &raw mut candidates) };
        data.iter().map(|candidate| candidate.logit == 0.0).collect()
    }

    /// Accepts a token that [`RawGrammar::allows`] and that does not end the text; for other tokens llama.cpp throws.
    pub(super) fn accept(&mut self, token: Token) {
        // SAFETY: valid handle; the token was allowed.
        unsafe { sys::llama_sampler_accept(self.0.as_ptr(), token) }
    }
}

/// The bytes of `n` elements of a ggml type; `None` if there is no such type, or if they are no whole blocks.
pub(super) fn bytes_of(kind: u32, n: usize) -> Option<usize> {
    let traits = type_traits(kind)?;
    let block = usize::try_from(traits.blck_size).ok().filter(|&block| block > 0 && n.is_multiple_of(block))?;
    (n / block).checked_mul(traits.type_size).filter(|&size| size > 0)
}

/// `n` elements of a ggml type as float32; `None` if `bytes` are not as many as [`bytes_of`] says, or if ggml has no
/// conversion.
pub(super) fn floats(kind: u32, bytes: &[u8], n: usize) -> Option<Vec<f32>> {
    if bytes_of(kind, n) != Some(bytes.len()) {
        return None;
    }
    if kind == sys::GGML_TYPE_F32 {
        return Some(
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect(),
        );
    }
    let convert = type_traits(kind)?.to_float?;
    let mut floats = vec![0.0f32; n];
    // SAFETY: source and target have the sizes of `n` elements; the source is a whole allocation, so it is aligned.
    unsafe { convert(bytes.as_ptr().cast(), floats.as_mut_ptr(), i64::try_from(n).ok()?) };
    Some(floats)
}

fn type_traits(kind: u32) -> Option<sys::ggml_type_traits> {
    if kind >= sys::GGML_TYPE_COUNT {
        return None;
    }
    // SAFETY: the type is below the count; the table is static.
    Some(unsafe { *sys::ggml_get_type_traits(kind as sys::ggml_type) })
}

fn ggml_type(kv_type: KvType) -> sys::ggml_type {
    match kv_type {
        KvType::F32 => sys::GGML_TYPE_F32,
        KvType::F16 => sys::GGML_TYPE_F16,
        KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        KvType::Q4_0 => sys::GGML_TYPE_Q4_0,
    }
}
