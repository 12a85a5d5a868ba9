//! Sequences in a KV cache.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ffi::{self, DecodeFailure, RawContext, take_error};
use super::weights::projected;
use super::{Cells, ContextSettings, FlashAttn, MemoryUse, Model, Token};
use crate::evict::{HeadKeeps, Layer, Layers, Needs};
use crate::{Error, Result, threads};

/// One entry of a decoded batch.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// The token.
    pub token: Token,
    /// Its position in its sequence.
    pub pos: i32,
    /// The sequence.
    pub seq: i32,
    /// Whether to compute its logits.
    pub logits: bool,
}

/// A KV cache with up to `n_seq` sequences over one model.
///
/// The cache is unified: a forked sequence shares the cells of its source until it evicts them, and an eviction in one
/// sequence leaves the cells to the others. With [`ContextSettings::streams`] each sequence has its own cells instead.
pub struct Context {
    raw: RawContext,
    model: Arc<Model>,
    settings: ContextSettings,
    /// What the tap reads, by sequence.
    observed: BTreeMap<i32, Needs>,
    computing: Cell<Duration>,
}

/// Limit for threads: ggml aborts the process if there are more (`GGML_MAX_N_THREADS`).
const MAX_THREADS: u32 = 512;

impl Context {
    /// Makes a context.
    ///
    /// # Errors
    /// If the settings exclude each other or there is too little memory.
    pub fn new(model: &Arc<Model>, settings: ContextSettings) -> Result<Self> {
        if settings.kv_type.v.is_quantized() && settings.flash_attn == FlashAttn::Off {
            return Err(Error::input(format!(
                "values of type {} need flash attention; leave --flash-attn at auto or choose --kv-type f16",
                settings.kv_type.v
            )));
        }
        if settings.n_ctx == 0 || settings.n_batch == 0 || !(1..=256).contains(&settings.n_seq) {
            return Err(Error::input("a context needs positions, a batch size, and 1 to 256 sequences"));
        }
        if !(1..=MAX_THREADS).contains(&settings.threads) {
            return Err(Error::input(format!("{} threads: a context takes 1 to {MAX_THREADS}", settings.threads)));
        }
        // Where the system refuses one of its threads, OpenMP ends the process.
        threads::can_start(settings.threads).map_err(|error| error.at(&format!("--threads {}", settings.threads)))?;
        match RawContext::new(&model.raw, &settings) {
            Some(raw) => Ok(Context {
                raw,
                model: Arc::clone(model),
                settings,
                observed: BTreeMap::new(),
                computing: Cell::default(),
            }),
            None => Err(Error::failed(format!(
                "llama.cpp could not make a context of {} positions: {}; a smaller --ctx, another --kv-type or fewer \
                 --gpu-layers may fit (`kvllama doctor` predicts the memory)",
                settings.n_ctx,
                take_error()
            ))),
        }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Number of positions that the cache can hold for one sequence.
    pub fn n_ctx(&self) -> usize {
        self.raw.n_ctx() as usize
    }

    /// Whether layers with a sliding window, if there are any, keep the positions outside it.
    pub fn keeps_all_positions(&self) -> bool {
        self.settings.swa_full || self.model.facts().sliding_window == 0
    }

    fn has(&self, seq: i32) -> bool {
        (0..self.settings.n_seq as i32).contains(&seq)
    }

    fn check_sequence(&self, seq: i32) -> Result<()> {
        if self.has(seq) {
            return Ok(());
        }
        Err(Error::failed(format!("there is no sequence {seq} in a context of {}", self.settings.n_seq)))
    }

    /// The position the next token of a sequence must have; 0 for a sequence that the context does not have.
    pub fn next_pos(&self, seq: i32) -> usize {
        if !self.has(seq) {
            return 0;
        }
        self.raw.pos_max(seq).map_or(0, |max| max as usize + 1)
    }

    /// Reads `tokens` into a sequence from position `first` on, in batches of `n_batch`. With `logits`,
    /// [`Context::logits`] then returns those of the last token.
    ///
    /// # Errors
    /// If the cache is too small, if `first` is not the next position of the sequence, or if interrupted.
    pub fn read(&mut self, seq: i32, tokens: &[Token], first: usize, logits: bool) -> Result<()> {
        self.check_sequence(seq)?;
        let next = self.next_pos(seq);
        if first != next {
            return Err(Error::failed(format!("sequence {seq} goes on at position {next}, not {first}")));
        }
        let (size, last) = (self.n_ctx(), tokens.len().saturating_sub(1));
        // Positions beyond the size are allowed if evictions have freed enough cells.
        let free = || self.cells(seq).map_or(0, |cells| (cells.size - cells.used) as usize);
        if tokens.len() > size - first.min(size) && tokens.len() > free() {
            return Err(Error::input(format!(
                "{} tokens at position {first} do not fit a context of {size} positions; raise --ctx or shorten the prompt",
                tokens.len()
            )));
        }
        for (index, chunk) in tokens.chunks(self.settings.n_batch as usize).enumerate() {
            let offset = index * self.settings.n_batch as usize;
            let slots: Vec<_> = chunk
                .iter()
                .enumerate()
                .map(|(at, &token)| Slot {
                    token,
                    pos: pos(first + offset + at),
                    seq,
                    logits: logits && offset + at == last,
                })
                .collect();
            self.decode(&slots)?;
        }
        Ok(())
    }

    /// Decodes one batch of at most `n_batch` entries (or one entry per sequence), whose positions continue their
    /// sequences.
    ///
    /// # Errors
    /// If the batch is too long, an entry has an invalid token, sequence or position, the cache is full, or if
    /// interrupted. The tap then loses what it has [observed](Context::observe).
    pub fn decode(&mut self, slots: &[Slot]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let room = self.settings.n_batch.max(self.settings.n_seq) as usize;
        if slots.len() > room {
            return Err(Error::failed(format!("a batch of {} entries exceeds the {room} it may have", slots.len())));
        }
        for slot in slots {
            self.check_sequence(slot.seq)?;
            if slot.pos < 0 || usize::try_from(slot.token).map_or(true, |id| id >= self.model.n_vocab()) {
                return Err(Error::failed(format!(
                    "a batch cannot hold token {} at position {} of sequence {}",
                    slot.token, slot.pos, slot.seq
                )));
            }
        }
        let start = Instant::now();
        let decoded = self.raw.decode(slots);
        self.computing.set(self.computing.get() + start.elapsed());
        if decoded.is_err() {
            self.look_away(); // half a batch was seen
        }
        decoded.map_err(|failure| match failure {
            DecodeFailure::Interrupted => Error::Interrupted,
            DecodeFailure::NoRoom => Error::failed(format!(
                "the KV cache of {} cells is full; raise --ctx or run fewer conditions in parallel",
                self.n_ctx()
            )),
            DecodeFailure::NotHidden => Error::input(format!(
                "the attention of {} cannot be changed head by head here; --granularity layer and head need \
                 --flash-attn off and a plain attention graph",
                self.model.name()
            )),
            DecodeFailure::Code(code) => {
                ffi::error(|reason| Error::failed(format!("llama.cpp could not decode (code {code}): {reason}")))
            }
        })
    }

    /// The logits of entry `index` of the last batch.
    pub fn logits(&self, index: usize) -> Result<&[f32]> {
        let start = Instant::now(); // a GPU is waited for here
        let logits = self.raw.logits(index, self.model.n_vocab());
        self.computing.set(self.computing.get() + start.elapsed());
        logits.ok_or_else(|| Error::failed(format!("entry {index} of the last batch has no logits")))
    }

    /// Time that llama.cpp has spent decoding so far.
    pub fn time_computing(&self) -> Duration {
        self.computing.get()
    }

    /// Whether each sequence has its own cells.
    pub fn has_streams(&self) -> bool {
        self.settings.streams
    }

    /// Empties the sequence `target` and makes it share all cells of `source`, or, with streams, hold a copy of them.
    ///
    /// # Errors
    /// If they are not two sequences of this context.
    pub fn fork(&mut self, source: i32, target: i32) -> Result<()> {
        self.check_sequence(source)?;
        self.check_sequence(target)?;
        if source == target {
            return Err(Error::failed(format!("sequence {source} cannot be forked into itself")));
        }
        self.forget_sequence(target); // cells of a non-empty target would merge
        self.raw.seq_cp(source, target);
        Ok(())
    }

    /// Removes ranges of positions from a sequence, in the caches of these layers. The ranges must not contain the
    /// highest position.
    ///
    /// # Errors
    /// If they contain it, if a range is empty or invalid, or if llama.cpp refuses.
    pub fn evict(&mut self, seq: i32, ranges: &[Range<usize>], layers: Layers) -> Result<()> {
        self.check_sequence(seq)?;
        let next = self.next_pos(seq);
        let mut evicted = vec![0u8; next];
        for range in ranges {
            if range.end >= next || range.start > range.end {
                return Err(Error::failed(format!(
                    "cannot evict {}..{} from a sequence of {next} positions: the last must survive",
                    range.start, range.end
                )));
            }
            evicted[range.clone()].fill(1);
        }
        // llama.cpp walks over all cells for each range, kvtap once for all. Only llama.cpp then looks for free cells
        // from the first freed one on, so it removes the first range.
        let halves = (layers != Layers::Local, layers != Layers::Global);
        let removed = match ranges.first() {
            None => true,
            Some(first) if halves == (true, true) && !self.raw.seq_rm(seq, pos(first.start), pos(first.end)) => false,
            Some(_) => self.raw.seq_rm_all(halves, seq, &evicted),
        };
        if removed { Ok(()) } else { Err(Error::failed(format!("llama.cpp refused to evict from sequence {seq}"))) }
    }

    /// Replaces the sequence `target_seq` of another context by copies of the positions `kept` of `seq`, in adjacent
    /// cells: decoding then costs as much as what is kept. Positions that `seq` lacks are ignored. Unless `whole`,
    /// positions outside the sliding window are left out in layers that have one; `whole` is needed for a later
    /// [`Context::compact`].
    ///
    /// # Errors
    /// If a context has no such sequence, if the contexts differ in model, types or flash attention, if this one has
    /// streams, if the target has too few cells, or if the rotation of keys depends on the size of a context.
    pub fn gather(
        &self,
        seq: i32,
        kept: &[Range<usize>],
        whole: bool,
        target: &mut Context,
        target_seq: i32,
    ) -> Result<()> {
        self.check_sequence(seq)?;
        target.check_sequence(target_seq)?;
        let same = Arc::ptr_eq(&self.model, &target.model)
            && self.settings.kv_type == target.settings.kv_type
            && self.settings.flash_attn == target.settings.flash_attn;
        if !same || self.settings.streams || self.model.rope_depends_on_size() {
            return Err(Error::failed("positions can only be gathered into a context of the same kind"));
        }
        let mut keep = vec![0u8; self.next_pos(seq)];
        for range in kept {
            let range = range.start.min(keep.len())..range.end.min(keep.len());
            keep.get_mut(range).unwrap_or_default().fill(1);
        }
        let n_kept = keep.iter().filter(|&&kept| kept != 0).count();
        if n_kept == 0 || n_kept > target.n_ctx() {
            return Err(Error::failed(format!("{n_kept} positions do not fit a sequence of {}", target.n_ctx())));
        }
        target.forget_sequence(target_seq);
        if self.raw.gather(seq, &keep, whole, &mut target.raw, target_seq) {
            return Ok(());
        }
        Err(Error::failed(format!("llama.cpp could not gather {n_kept} positions: {}", take_error())))
    }

    /// Moves a sequence of a context with streams to another id, whose sequence is lost. The cells are copied by the
    /// next decode; until then, nothing else may be put into `source`.
    pub(crate) fn rename(&mut self, source: i32, target: i32) -> Result<()> {
        self.fork(source, target)?;
        self.forget_sequence(source);
        Ok(())
    }

    /// Moves the surviving ranges of a sequence together, to positions from 0 on, and rotates their keys. The sequence
    /// must not share its cells: a cell has only one position.
    ///
    /// # Errors
    /// If the ranges do not ascend within the sequence, or if the model's positions cannot be moved.
    pub fn compact(&mut self, seq: i32, kept: &[Range<usize>]) -> Result<()> {
        self.check_sequence(seq)?;
        let ends = std::iter::once(0).chain(kept.iter().map(|range| range.end));
        let ascend = kept.iter().zip(ends).all(|(range, before)| before <= range.start && range.start < range.end);
        if !ascend || kept.last().is_some_and(|range| range.end > self.next_pos(seq)) {
            return Err(Error::failed(format!("what is kept of sequence {seq} does not ascend within it")));
        }
        // Without a full sliding-window cache, llama.cpp would shift keys wrongly and give no error.
        if !self.raw.can_shift() || !self.settings.swa_full {
            return Err(Error::input(
                "--positions compact cannot be had here: --swa-full is off, or this model's positions cannot be moved (with \
                 quantized keys only those of heads with a multiple of 64 dimensions can)",
            ));
        }
        let mut target = 0;
        for range in kept {
            if range.start != target {
                self.raw.seq_add(seq, pos(range.start), pos(range.end), pos(target) - pos(range.start));
            }
            target += range.len();
        }
        Ok(())
    }

    /// Removes all positions of a sequence from `len` on, and returns its next position: `len`, or 0 if llama.cpp can
    /// only empty the whole sequence.
    ///
    /// # Errors
    /// If the context has no such sequence.
    pub fn truncate(&mut self, seq: i32, len: usize) -> Result<usize> {
        self.check_sequence(seq)?;
        let next = self.next_pos(seq);
        if len < next && !self.raw.seq_rm(seq, pos(len), -1) {
            self.forget_sequence(seq);
        }
        Ok(self.next_pos(seq))
    }

    /// Hides from each head of a sequence the positions that it does not keep, until the sequence is emptied. The cells
    /// stay in use.
    ///
    /// # Errors
    /// If the context has no tap or computes flash attention, or if the model lacks these layers or heads.
    pub fn hide(&mut self, seq: i32, heads: &HeadKeeps) -> Result<()> {
        if !self.raw.has_tap() || self.settings.flash_attn != FlashAttn::Off {
            return Err(Error::failed("hiding positions from single heads needs a tap, and flash attention off"));
        }
        self.check_sequence(seq)?;
        let known = self.model.kv_layers();
        for (layer, keeps) in &heads.layers {
            if !known.iter().any(|known| known.index == *layer && known.heads == keeps.len()) {
                return Err(Error::failed(format!("the model has no layer {layer} of {} KV heads", keeps.len())));
            }
        }
        for (layer, keeps) in &heads.layers {
            for (head, keep) in keeps.iter().enumerate() {
                let hidden: Vec<bool> = (0..keep.len()).map(|at| !keep.contains(at)).collect();
                self.raw.hide(seq, *layer, head, &hidden);
            }
        }
        Ok(())
    }

    /// Lets the tap read the tensors of this sequence from the next decode on, until [`Context::look_away`] or a decode
    /// that fails.
    ///
    /// Under flash attention the graph holds no attention weights; the tap then computes those of the requested queries
    /// from the same queries, keys and mask.
    ///
    /// # Errors
    /// If the context has no tap.
    pub fn observe(&mut self, seq: i32, needs: &Needs) -> Result<()> {
        if !self.raw.has_tap() {
            return Err(Error::failed("looking at tensors needs a tap"));
        }
        self.check_sequence(seq)?;
        check_ascending(&needs.attention_from)?;
        self.raw.observe(seq, needs);
        self.observed.insert(seq, needs.clone());
        Ok(())
    }

    /// Passes what the tap has read of a sequence since [`Context::observe`], in all layers, to `show`. `needs` are the observed
    /// ones; attention sums are named by the positions in `needs`, in the same order.
    ///
    /// # Errors
    /// If nothing or something else is observed, or if the model's graph lacks the requested tensors.
    pub fn seen<T>(&mut self, seq: i32, needs: &Needs, show: impl FnOnce(&[Layer]) -> T) -> Result<T> {
        let observed = self.observed.get(&seq).ok_or_else(not_observed)?;
        if observed.attention_from.len() != needs.attention_from.len() {
            return Err(Error::failed("what is to be shown is not what is observed"));
        }
        let model = &self.model;
        let shown = self.raw.seen(seq, needs, |layers| {
            if !needs.projected {
                return Ok(show(layers));
            }
            let mut layers = layers.to_vec();
            for layer in &mut layers {
                let weights = model.weights.matrix(&format!("blk.{}.attn_output.weight", layer.index))?;
                layer.projected = projected(layer, &weights)?;
            }
            Ok(show(&layers))
        });
        shown.unwrap_or_else(|| {
            Err(Error::input(format!(
                "{} does not show what this policy looks at (attention, keys, values or queries under llama.cpp's usual \
                 names); choose a policy without scores: none, streaming or random",
                model.name()
            )))
        })
    }

    /// Keeps only the positions `kept` of what the tap has read of a sequence, and restarts the attention sums at
    /// `attention_from`; a sum over all queries (from 0) goes on. `moved_to` are the positions at which the kept ones are now, if they
    /// were moved: the keys that the tap has read stay rotated for their old positions.
    ///
    /// # Errors
    /// If nothing is observed, if a list does not ascend, or if `moved_to` is shorter or longer than `kept`.
    pub fn retain_seen(&mut self, seq: i32, kept: &[i32], moved_to: &[i32], attention_from: &[i32]) -> Result<()> {
        check_ascending(kept)?;
        check_ascending(moved_to)?;
        check_ascending(attention_from)?;
        if kept.len() != moved_to.len() {
            return Err(Error::failed("every position that is kept is moved somewhere"));
        }
        let needs = self.observed.get_mut(&seq).ok_or_else(not_observed)?;
        attention_from.clone_into(&mut needs.attention_from);
        self.raw.retain(seq, kept, moved_to, attention_from);
        Ok(())
    }

    /// Stops the tap and discards what it has read.
    pub fn look_away(&mut self) {
        for seq in std::mem::take(&mut self.observed).into_keys() {
            self.raw.look_away(seq);
        }
    }

    /// Empties one sequence.
    pub fn forget_sequence(&mut self, seq: i32) {
        if !self.has(seq) {
            return;
        }
        self.raw.show_all(seq);
        self.raw.seq_rm(seq, -1, -1); // removing a whole sequence never fails
    }

    /// Empties the cache.
    pub fn clear(&mut self) {
        (0..self.settings.n_seq as i32).for_each(|seq| self.raw.show_all(seq));
        self.raw.clear();
    }

    /// Cells in the cache of the global layers; `None` if the model's memory has no such cache, or the context no such
    /// sequence.
    pub fn cells(&self, seq: i32) -> Option<Cells> {
        if self.has(seq) { self.raw.cells(seq) } else { None }
    }

    /// Memory held by model and context.
    pub fn memory_use(&self) -> MemoryUse {
        self.raw.memory_use()
    }

    /// Bytes of keys and values of one position, over all layers.
    pub fn kv_bytes_per_position(&self) -> u64 {
        let memory = self.memory_use();
        let streams = if self.settings.streams { self.settings.n_seq } else { 1 };
        let cells = self.cells(0).map_or(self.raw.n_ctx(), |cells| cells.size) * streams;
        (memory.host.kv_cache + memory.device.kv_cache) / u64::from(cells.max(1))
    }
}

fn not_observed() -> Error {
    Error::failed("nothing is being looked at: the decode failed, or `Context::observe` was not called")
}

fn check_ascending(positions: &[i32]) -> Result<()> {
    if positions.first().is_some_and(|&first| first < 0) || !positions.is_sorted_by(|a, b| a < b) {
        return Err(Error::failed("positions to look at must ascend from 0 on"));
    }
    Ok(())
}

fn pos(position: usize) -> i32 {
    i32::try_from(position).expect("contexts are smaller than 2^31 positions")
}
