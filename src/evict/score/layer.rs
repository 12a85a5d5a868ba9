//! The data of a layer from which a score is computed.

use std::ops::Range;

/// Which tensors to read from the graph while a sequence is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// First positions of attention sums, ascending: one sum for each, over the queries at that position and later.
    pub attention_from: Vec<i32>,
    /// With each sum also the largest attention that any of these queries pays.
    pub attention_maxima: bool,
    /// The position from which on tokens are a replay of those before it: only their attention counts, and they are not
    /// scored.
    pub replay_from: Option<i32>,
    /// Query statistics over the queries from this position on.
    pub queries_from: Option<i32>,
    /// Whether these are queries as attention uses them (after RoPE), rather than before RoPE.
    pub rotated_queries: bool,
    /// The queries themselves from this position on, as attention uses them (after RoPE).
    pub query_rows_from: Option<i32>,
    /// These queries before RoPE too.
    pub raw_query_rows: bool,
    /// Keys.
    pub keys: bool,
    /// Keys before RoPE.
    pub raw_keys: bool,
    /// Values.
    pub values: bool,
    /// How large values are behind the attention output's weights.
    pub projected: bool,
}

impl Needs {
    /// The attention of the queries from position `from` on.
    pub fn attention(from: usize) -> Self {
        Needs { attention_from: vec![position(from)], ..Needs::default() }
    }

    /// The attention of the queries from each of these positions on.
    pub(super) fn attention_at(positions: impl IntoIterator<Item = usize>) -> Self {
        let mut attention_from: Vec<i32> = positions.into_iter().map(position).collect();
        attention_from.sort_unstable();
        attention_from.dedup();
        Needs { attention_from, ..Needs::default() }
    }

    /// The largest attention that a replay behind `len` positions pays each of them.
    pub(super) fn replay(len: usize) -> Self {
        Needs { attention_maxima: true, replay_from: Some(position(len)), ..Needs::attention(len) }
    }

    /// Keys alone.
    pub fn keys() -> Self {
        Needs { keys: true, ..Needs::default() }
    }

    /// The statistics of all queries as attention uses them (after RoPE).
    pub fn rotated_queries() -> Self {
        Needs { queries_from: Some(0), rotated_queries: true, ..Needs::default() }
    }

    /// Query statistics from position `from` on.
    pub(in crate::evict) fn queries(self, from: usize) -> Self {
        Needs { queries_from: Some(position(from)), ..self }
    }

    /// Values too.
    pub(super) fn and_values(self) -> Self {
        Needs { values: true, ..self }
    }

    /// Whether one reading of the prompt can serve both: there is one kind of query statistics in it, and what a replay
    /// reads is not part of the prompt.
    pub fn go_with(&self, other: &Needs) -> bool {
        let queries = |needs: &Needs| needs.queries_from.map(|from| (from, needs.rotated_queries));
        let same_queries = queries(self).is_none() || queries(other).is_none() || queries(self) == queries(other);
        same_queries && self.replay_from.is_none() && other.replay_from.is_none()
    }

    /// The needs of both, which [go](Needs::go_with) with each other.
    pub fn union(mut self, other: &Needs) -> Self {
        self.attention_from.extend(&other.attention_from);
        self.attention_from.sort_unstable();
        self.attention_from.dedup();
        self.queries_from = self.queries_from.or(other.queries_from);
        self.rotated_queries |= other.rotated_queries;
        self.query_rows_from = match (self.query_rows_from, other.query_rows_from) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.replay_from = self.replay_from.or(other.replay_from);
        self.attention_maxima |= other.attention_maxima;
        self.raw_query_rows |= other.raw_query_rows;
        self.keys |= other.keys;
        self.raw_keys |= other.raw_keys;
        self.values |= other.values;
        self.projected |= other.projected;
        self
    }

    /// Whether the attention of all queries is needed. Without flash attention it costs least.
    pub fn whole_attention(&self) -> bool {
        self.attention_from.first() == Some(&0)
    }
}

fn position(at: usize) -> i32 {
    i32::try_from(at).expect("contexts are smaller than 2^31 positions")
}

/// The tensors of one layer, read while `len` positions were decoded.
#[derive(Debug, Clone, Default)]
pub struct Layer<'a> {
    /// Number of the layer in the model.
    pub index: u32,
    /// Length of its sliding window; `None` for a global layer.
    pub window: Option<usize>,
    /// Positions that are scored.
    pub len: usize,
    /// Their positions in the sequence, ascending: `0..len` unless some were evicted before.
    pub positions: &'a [i32],
    /// For each of them the number of queries since it was read, its own included; empty if the positions tell, because
    /// none was moved.
    pub queries_since: &'a [usize],
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
    /// Keys as cached (after RoPE): `[len][kv_heads][d_k]`; empty if not requested.
    pub keys: &'a [f32],
    /// Keys before RoPE: `[len][kv_heads][d_k]`; empty if not requested.
    pub raw_keys: &'a [f32],
    /// Values: `[len][kv_heads][d_v]`; empty if not requested.
    pub values: &'a [f32],
    /// For each KV head and position: the L1 norm of the value times the attention output's weights, averaged over the
    /// query heads of the group; empty if not requested.
    pub projected: Vec<Vec<f64>>,
    /// Statistics of the queries.
    pub queries: Option<Queries<'a>>,
    /// The last queries as attention uses them (after RoPE): `[queries][heads][d_k]`; empty if not requested.
    pub query_rows: &'a [f32],
    /// The same queries before RoPE; empty if not requested.
    pub raw_query_rows: &'a [f32],
    /// Attention logits are this factor times the product of query and key.
    pub scale: f64,
    /// If not 0: a logit `x` becomes `softcap * tanh(x / softcap)`.
    pub softcap: f64,
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

    /// The attention of the queries from position `from` on, for each KV head; requested by [`Needs::attention`], and
    /// empty otherwise.
    pub fn attention_from(&self, from: usize) -> &[&[f64]] {
        self.weights_from(from).map_or(&[], |weights| &weights.sums)
    }

    /// The attention of the queries in a range, for each KV head; both ends were requested by [`Needs::attention_at`].
    pub(super) fn attention_within(&self, queries: &Range<usize>) -> Vec<Vec<f64>> {
        let later = self.attention_from(queries.end);
        let of_head = |(head, sums): (usize, &&[f64])| {
            let later = |at: usize| later.get(head).map_or(0.0, |later| later[at]);
            sums.iter().enumerate().map(|(at, sum)| sum - later(at)).collect()
        };
        self.attention_from(queries.start).iter().enumerate().map(of_head).collect()
    }

    /// Sums and maxima of the weights of these queries.
    pub fn weights_from(&self, from: usize) -> Option<&Attention<'_>> {
        self.attention.iter().find(|attention| attention.from == position(from))
    }

    /// How many queries could attend to a position.
    pub fn seen_by(&self, at: usize) -> usize {
        // Only what lies within the window is moved again and again.
        if let Some(&queries) = self.queries_since.get(at) {
            return queries;
        }
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
#[derive(Debug, Clone)]
pub struct Attention<'a> {
    /// Position of the first query.
    pub from: i32,
    /// For each KV head and position: the sum, averaged over the query heads of the group.
    pub sums: Vec<&'a [f64]>,
    /// For each KV head and position: the largest weight of any query and head of the group; empty if not requested.
    pub maxima: Vec<&'a [f64]>,
}

/// Statistics of the queries before RoPE, or after it ([`Needs::rotated_queries`]), for each query head.
#[derive(Debug, Clone)]
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
