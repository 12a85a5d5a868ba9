//! The data of a layer from which a score is computed.

/// Which tensors to read from the graph while a sequence is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// First positions of attention sums, ascending: one sum for each, over the queries at that position and later.
    pub attention_from: Vec<i32>,
    /// The position from which on tokens are a replay of those before it; their queries alone count for
    /// [`Layer::maxima`], and they are not scored.
    pub replay_from: Option<i32>,
    /// Query statistics over the queries from this position on.
    pub queries_from: Option<i32>,
    /// Keys.
    pub keys: bool,
    /// Values.
    pub values: bool,
}

impl Needs {
    /// The attention of the queries from position `from` on.
    pub fn attention(from: usize) -> Self {
        Needs { attention_from: vec![position(from)], ..Needs::default() }
    }

    /// The largest attention of the queries of a replay of the first `len` positions.
    pub fn replay(len: usize) -> Self {
        Needs { replay_from: Some(position(len)), ..Needs::default() }
    }

    /// Keys alone.
    pub fn keys() -> Self {
        Needs { keys: true, ..Needs::default() }
    }

    /// Query statistics from position `from` on.
    pub(super) fn queries(self, from: usize) -> Self {
        Needs { queries_from: Some(position(from)), ..self }
    }

    /// Values too.
    pub(super) fn and_values(self) -> Self {
        Needs { values: true, ..self }
    }

    /// The needs of both. Query statistics can start at one position only, so those of the first are used; no two
    /// policies differ in it.
    pub fn union(mut self, other: &Needs) -> Self {
        self.attention_from.extend(&other.attention_from);
        self.attention_from.sort_unstable();
        self.attention_from.dedup();
        debug_assert!(
            self.queries_from.is_none() || other.queries_from.is_none_or(|from| Some(from) == self.queries_from)
        );
        self.queries_from = self.queries_from.or(other.queries_from);
        self.replay_from = self.replay_from.or(other.replay_from);
        self.keys |= other.keys;
        self.values |= other.values;
        self
    }

    /// Whether attention weights are needed; they do not exist with flash attention.
    pub fn weights(&self) -> bool {
        !self.attention_from.is_empty() || self.replay_from.is_some()
    }
}

fn position(at: usize) -> i32 {
    i32::try_from(at).expect("contexts are smaller than 2^31 positions")
}

/// The tensors of one layer, read while `len` positions were decoded.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Number of the layer in the model.
    pub index: u32,
    /// Length of its sliding window; `None` for a global layer.
    pub window: Option<usize>,
    /// Positions that are scored.
    pub len: usize,
    /// Their positions in the sequence, ascending: `0..len` unless some were evicted before.
    pub positions: &'a [i32],
    /// Query heads.
    pub heads: usize,
    /// KV heads. Query head `h` reads KV head `h * kv_heads / heads`.
    pub kv_heads: usize,
    /// Length of a key, and of a query.
    pub d_k: usize,
    /// Length of a value.
    pub d_v: usize,
    /// The requested attention sums.
    pub attention: Vec<Attention<'a>>,
    /// For each KV head and position: the largest attention of any replayed query; empty if not requested.
    pub maxima: Vec<&'a [f32]>,
    /// Keys as cached (after RoPE): `[len][kv_heads][d_k]`; empty if not requested.
    pub keys: &'a [f32],
    /// Values: `[len][kv_heads][d_v]`; empty if not requested.
    pub values: &'a [f32],
    /// Statistics of the queries.
    pub queries: Option<Queries<'a>>,
    /// Rotary embedding, if the layer has one and queries were requested.
    pub rope: Option<Rope<'a>>,
}

impl Layer<'_> {
    /// The key of a position.
    pub fn key(&self, head: usize, at: usize) -> &[f32] {
        let start = (at * self.kv_heads + head) * self.d_k;
        &self.keys[start..start + self.d_k]
    }

    /// The value of a position.
    pub fn value(&self, head: usize, at: usize) -> &[f32] {
        let start = (at * self.kv_heads + head) * self.d_v;
        &self.values[start..start + self.d_v]
    }

    /// The attention of the queries from position `from` on, for each KV head; requested by [`Needs::attention`].
    pub fn attention_from(&self, from: usize) -> &[&[f64]] {
        let found = self.attention.iter().find(|attention| attention.from == position(from));
        &found.expect("the policy asked for it").sums
    }

    /// How many queries could attend to a position.
    pub fn seen_by(&self, at: usize) -> usize {
        let next = self.next_position();
        let queries = next - self.positions[at].unsigned_abs() as usize;
        queries.min(self.window.unwrap_or(usize::MAX))
    }

    /// The position that comes next in the sequence.
    pub fn next_position(&self) -> usize {
        self.positions.last().map_or(0, |&last| last.unsigned_abs() as usize + 1)
    }

    /// A score for each KV head.
    pub fn per_head(&self, score: impl FnMut(usize) -> Vec<f64>) -> Vec<Vec<f64>> {
        (0..self.kv_heads).map(score).collect()
    }
}

/// Attention weights summed over queries.
#[derive(Debug)]
pub struct Attention<'a> {
    /// Position of the first query.
    pub from: i32,
    /// For each KV head and position: the sum, averaged over the query heads of the group.
    pub sums: Vec<&'a [f64]>,
}

/// Statistics of the queries before RoPE, for each query head.
#[derive(Debug)]
pub struct Queries<'a> {
    /// Mean: `[heads][d_k]`.
    pub mean: &'a [f64],
    /// Covariance: `[heads][d_k][d_k]`, divided by the number of queries.
    pub covariance: &'a [f64],
}

/// Rotary embedding, as llama.cpp applies it (`ggml_rope_ext`).
#[derive(Debug, Clone, Copy)]
pub struct Rope<'a> {
    /// Number of rotated dimensions.
    pub n_dims: usize,
    /// Dimension `i` is paired with `i + n_dims / 2`; otherwise `2i` with `2i + 1`.
    pub neox: bool,
    /// Base of the frequencies.
    pub freq_base: f64,
    /// Factor on the position.
    pub freq_scale: f64,
    /// Factor on the rotated values.
    pub attn_factor: f64,
    /// Divisors of the frequencies: `n_dims / 2` values, or none.
    pub freq_factors: &'a [f32],
}

impl Rope<'_> {
    /// The angle by which pair `pair` is rotated at a position, in radians, without YaRN's mixing of frequencies.
    pub fn angle(&self, position: usize, pair: usize) -> f64 {
        let exponent = -2.0 * pair as f64 / self.n_dims as f64;
        let factor = self.freq_factors.get(pair).map_or(1.0, |&factor| f64::from(factor));
        position as f64 * self.freq_scale * self.freq_base.powf(exponent) / factor
    }

    /// The two dimensions of a pair.
    pub fn pair(&self, pair: usize) -> (usize, usize) {
        if self.neox { (pair, pair + self.n_dims / 2) } else { (2 * pair, 2 * pair + 1) }
    }
}
