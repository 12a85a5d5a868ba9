//! The tap: a callback in llama.cpp's compute graph that reads tensors such as attention weights
//! (`vendor/kvtap/tap.cpp`).

use std::ptr::NonNull;

use super::{RawContext, kvtap};
use crate::evict::{Attention, Layer, Needs, Queries, Rope};

/// Owns a tap. The context's callback holds its address, so the tap outlives the context.
pub(in crate::llama) struct RawTap(NonNull<kvtap::kvtap_tap>);

// SAFETY: the tap is owned; llama.cpp calls it only during a decode, which holds the context by `&mut`.
unsafe impl Send for RawTap {}

impl Drop for RawTap {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and the context that calls it is freed before (`RawContext`).
        unsafe { kvtap::kvtap_tap_free(self.0.as_ptr()) }
    }
}

impl RawTap {
    pub(super) fn new() -> Self {
        // SAFETY: allocates.
        Self(NonNull::new(unsafe { kvtap::kvtap_tap_new() }).expect("C++ new throws rather than return NULL"))
    }

    pub(super) fn ptr(&self) -> *mut kvtap::kvtap_tap {
        self.0.as_ptr()
    }
}

impl RawContext {
    /// Whether this context was made with a tap.
    pub(in crate::llama) fn has_tap(&self) -> bool {
        self.tap.is_some()
    }

    fn tap(&self) -> *mut kvtap::kvtap_tap {
        self.tap.as_ref().expect("`Context` checks that there is a tap").ptr()
    }

    /// Reads the tensors of a sequence from the next decode on.
    pub(in crate::llama) fn observe(&mut self, seq: i32, needs: &Needs) {
        let wants = kvtap::kvtap_wants {
            sums_from: needs.attention_from.as_ptr(),
            n_sums: needs.attention_from.len(),
            maxima: needs.attention_maxima,
            replay_from: needs.replay_from.unwrap_or(-1),
            queries_from: needs.queries_from.unwrap_or(-1),
            rotated_queries: needs.rotated_queries,
            rows_from: needs.query_rows_from.unwrap_or(-1),
            raw_rows: needs.raw_query_rows,
            keys: needs.keys,
            raw_keys: needs.raw_keys,
            values: needs.values,
        };
        // SAFETY: valid handles; the array outlives the call.
        unsafe { kvtap::kvtap_observe(self.tap(), self.ptr(), seq, &raw const wants) }
    }

    /// Stops reading a sequence and discards what was read of it.
    pub(in crate::llama) fn look_away(&mut self, seq: i32) {
        // SAFETY: valid handles.
        unsafe { kvtap::kvtap_observe(self.tap(), self.ptr(), seq, std::ptr::null()) }
    }

    /// Discards all entries of a sequence except those at `kept`, which are now at `moved_to` (as many), and restarts its
    /// attention sums, apart from one over all queries.
    pub(in crate::llama) fn retain(&mut self, seq: i32, kept: &[i32], moved_to: &[i32], attention_from: &[i32]) {
        let n_kept = kept.len().min(moved_to.len());
        let (kept, moved_to) = (kept.as_ptr(), moved_to.as_ptr());
        // SAFETY: arrays are passed with their lengths and outlive the call.
        unsafe {
            kvtap::kvtap_retain(self.tap(), seq, kept, moved_to, n_kept, attention_from.as_ptr(), attention_from.len());
        }
    }

    /// Passes what was read of a sequence, in all layers, to `show`; `None` if the graph lacked a requested tensor.
    pub(in crate::llama) fn seen<T>(&mut self, seq: i32, needs: &Needs, show: impl FnOnce(&[Layer]) -> T) -> Option<T> {
        let mut layers = Vec::new();
        for index in 0.. {
            let (mut raw, mut complete) = (kvtap::kvtap_layer::default(), true);
            // SAFETY: valid handle and out pointers.
            if !unsafe { kvtap::kvtap_seen(self.tap(), seq, index, &raw mut raw, &raw mut complete) } {
                break;
            }
            if !complete {
                return None;
            }
            layers.push(layer(&raw, needs));
        }
        Some(show(&layers))
    }

    /// Hides positions from one layer and KV head of a sequence.
    pub(in crate::llama) fn hide(&mut self, seq: i32, layer: u32, head: usize, hidden: &[bool]) {
        let (layer, head) = (i32::try_from(layer).unwrap_or(-1), i32::try_from(head).unwrap_or(-1));
        // SAFETY: a bool is one byte, 0 or 1; the array is copied.
        unsafe { kvtap::kvtap_hide(self.tap(), self.ptr(), seq, layer, head, hidden.as_ptr().cast(), hidden.len()) }
    }

    /// Ends all hiding in a sequence.
    pub(in crate::llama) fn show_all(&mut self, seq: i32) {
        if let Some(tap) = &self.tap {
            // SAFETY: valid handle.
            unsafe { kvtap::kvtap_show(tap.ptr(), seq) }
        }
    }
}

/// The tap's data of a layer, borrowed from the tap.
fn layer<'a>(raw: &kvtap::kvtap_layer, needs: &'a Needs) -> Layer<'a> {
    let size = |value: i32| usize::try_from(value).unwrap_or(0);
    let (heads, kv_heads, d_k, d_v) = (size(raw.n_head), size(raw.n_head_kv), size(raw.d_k), size(raw.d_v));
    let n = raw.n_entries;
    // SAFETY (of all uses): kvtap.h gives these lengths; the tap sees nothing more while the layer is borrowed,
    // because `seen` holds the context by `&mut`.
    let doubles =
        |ptr: *const f64, len: usize| if len == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(ptr, len) } };
    let floats = |ptr: *const f32, len: usize| {
        if ptr.is_null() || len == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(ptr, len) } }
    };
    let sums = doubles(raw.sums, needs.attention_from.len() * kv_heads * n);
    let maxima = doubles(raw.maxima, if raw.maxima.is_null() { 0 } else { sums.len() });
    let attention = needs.attention_from.iter().enumerate().map(|(index, &from)| {
        let start = index * kv_heads * n;
        let heads = |all: &'a [f64]| all.get(start..start + kv_heads * n).unwrap_or(&[]).chunks(n.max(1)).collect();
        Attention { from, sums: heads(sums), maxima: heads(maxima) }
    });
    let rope = raw.rope;
    Layer {
        index: u32::try_from(raw.layer).unwrap_or(0),
        window: (raw.window > 0).then(|| size(raw.window)),
        len: n,
        queries_since: &[],
        positions: if n == 0 { &[] } else { unsafe { std::slice::from_raw_parts(raw.positions, n) } },
        heads,
        kv_heads,
        d_k,
        d_v,
        attention: attention.collect(),
        keys: floats(raw.keys, n * kv_heads * d_k),
        raw_keys: floats(raw.raw_keys, n * kv_heads * d_k),
        values: floats(raw.values, n * kv_heads * d_v),
        query_rows: floats(raw.rows, raw.n_rows * heads * d_k),
        raw_query_rows: floats(raw.raw_rows, raw.n_rows * heads * d_k),
        scale: f64::from(raw.scale),
        softcap: f64::from(raw.softcap),
        projected: Vec::new(),
        queries: (raw.n_queries > 0).then(|| Queries {
            mean: doubles(raw.query_mean, heads * d_k),
            covariance: doubles(raw.query_covariance, heads * d_k * d_k),
        }),
        rope: (rope.n_dims > 0).then(|| Rope {
            n_dims: size(rope.n_dims),
            neox: rope.mode & 2 != 0,
            freq_base: f64::from(rope.freq_base),
            freq_scale: f64::from(rope.freq_scale),
            attn_factor: f64::from(rope.attn_factor),
            freq_factors: floats(rope.freq_factors, size(rope.n_dims) / 2),
        }),
    }
}
