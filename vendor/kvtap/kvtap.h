// kvtap: the few things kvllama needs from inside llama.cpp that its C API does not give.
// Built by build.rs against the llama.cpp source that ships in the llama-cpp-sys-2 crate.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_tensor;
struct llama_context;
struct llama_model;
struct llama_model_params;
struct llama_context_params;
struct llama_batch;
struct llama_sampler;
struct llama_vocab;

// ---- Calls that may throw (guard.cpp): as llama.cpp's own, but an exception becomes NULL or this code, and a line in the log.

#define KVTAP_THREW INT32_MIN

struct llama_model * kvtap_load(const char * path, const struct llama_model_params * params);
// Loads a GGUF held in memory, which must outlive the call only.
struct llama_model * kvtap_model_from_memory(const void * data, size_t size, const struct llama_model_params * params);
struct llama_context * kvtap_context(struct llama_model * model, const struct llama_context_params * params);
int32_t kvtap_decode(struct llama_context * ctx, const struct llama_batch * batch);
int32_t kvtap_tokenize(const struct llama_vocab * vocab, const char * text, int32_t length, int32_t * tokens, int32_t room,
                       bool add_special, bool parse_special);
int32_t kvtap_piece(const struct llama_vocab * vocab, int32_t token, char * text, int32_t room, bool special);
struct llama_sampler * kvtap_grammar(const struct llama_vocab * vocab, const char * grammar);

// From now on, where a call that is not guarded gets no memory, the process prints `sentence` and exits with 1.
void kvtap_on_no_memory(const char * sentence);

// Ends the process without running destructors.
void kvtap_exit(int32_t code);

// Cells of the KV cache of the global layers.
struct kvtap_cells {
    uint32_t size; // cells in the cache
    uint32_t used; // cells that hold a position of any sequence
    uint32_t seq;  // cells that hold a position of the sequence asked for
};

// Bytes held on one kind of memory.
struct kvtap_memory {
    uint64_t model;   // weights
    uint64_t context; // KV cache
    uint64_t compute; // scratch of the compute graph
};

// Counts cells. Returns false if the context has no plain KV cache (recurrent or hybrid memory).
bool kvtap_cells_of(const struct llama_context * ctx, int32_t seq, struct kvtap_cells * out);

// Memory of the context and its model; host and device (GPU) memory apart.
void kvtap_memory_of(const struct llama_context * ctx, struct kvtap_memory * host, struct kvtap_memory * device);

// Removes the positions p < n where evicted[p] != 0 from a sequence, in the caches of the global and local layers, in one
// pass over the cells; llama_memory_seq_rm makes one pass for each range. False if there is no such cache.
bool kvtap_seq_rm_all(struct llama_context * ctx, bool global, bool local, int32_t seq, const uint8_t * evicted, size_t n);

// Replaces the sequence `target_seq` of one context by the positions p < n of `source_seq` of another where
// keep[p] != 0, in adjacent cells. Unless `whole`, positions outside the sliding window are left out in layers that have
// one. The contexts have the same model and settings; the source has no streams. False if the target has no room, or if
// this is no plain KV cache.
bool kvtap_gather(struct llama_context * source, int32_t source_seq, struct llama_context * target, int32_t target_seq,
                  const uint8_t * keep, size_t n, bool whole);

// Whether the positions of the context's cells can be moved. llama.cpp says so of quantized keys even where it then
// crashes: their heads must have a multiple of 64 dimensions.
bool kvtap_can_shift(const struct llama_context * ctx);

// Whether the rotation of keys depends on the size of the context (the long and short factors of LongRoPE).
bool kvtap_rope_depends_on_size(const struct llama_model * model);

// KV heads of a layer's own cache (0: it has none), and whether it has a sliding window.
int32_t kvtap_kv_heads(const struct llama_model * model, int32_t layer, bool * local);

// ---- Workers (rpc.cpp, feature `rpc`).

// Makes the devices of the worker at `endpoint` ours; false if it has none. Somebody must listen there.
bool kvtap_use_worker(const char * endpoint);

// Serves this machine's devices at `endpoint`; returns only if that fails.
void kvtap_serve(const char * endpoint, size_t n_threads);

// ---- The tap (tap.cpp): looks at attention, keys, queries and values while they are computed, and can hide positions
// from single heads. Its callback goes into llama_context_params::cb_eval, itself into cb_eval_user_data.

typedef struct kvtap_tap kvtap_tap;

// What is to be seen of one sequence. Everything is kept per entry: a position of that sequence, in ascending order.
struct kvtap_wants {
    const int32_t * sums_from; // ascending: one attention sum each, over the queries at this position and later ones
    size_t n_sums;
    bool maxima;               // with each sum also the largest weight
    int32_t replay_from;       // what is read at this position and later is no entry, only its attention counts; negative: all are entries
    int32_t queries_from;      // first position whose query counts for the query statistics; negative: none are made
    bool rotated_queries;      // these statistics are of queries after RoPE
    int32_t rows_from;         // first position whose query itself is kept; negative: none is
    bool raw_rows;             // and that query before RoPE too
    bool keys;
    bool raw_keys;             // keys before RoPE
    bool values;
};

// Rotary embedding of a layer, as ggml_rope_ext got it.
struct kvtap_rope {
    int32_t n_dims; // 0: the layer has none
    int32_t mode;
    float freq_base;
    float freq_scale;
    float ext_factor;
    float attn_factor;
    const float * freq_factors; // n_dims / 2 of them, or NULL
};

// What was seen of one layer. Pointers are valid until the tap sees more.
struct kvtap_layer {
    int32_t layer;
    int32_t n_head;
    int32_t n_head_kv;
    int32_t d_k;
    int32_t d_v;
    int32_t window;            // 0: global
    size_t n_entries;
    const int32_t * positions; // [n_entries], ascending
    const double * sums;       // [n_sums][n_head_kv][n_entries]: attention weights, summed over queries, averaged over the query heads of a group
    const double * maxima;     // [n_sums][n_head_kv][n_entries]: the largest weight of any of these queries and heads, or NULL
    const float * keys;        // [n_entries][n_head_kv][d_k] after RoPE, or NULL
    const float * raw_keys;    // [n_entries][n_head_kv][d_k] before RoPE, or NULL
    const float * values;      // [n_entries][n_head_kv][d_v], or NULL
    int64_t n_queries;         // that the statistics are made of, before RoPE unless asked for otherwise
    const double * query_mean; // [n_head][d_k]
    const double * query_covariance; // [n_head][d_k][d_k]
    size_t n_rows;             // queries that are kept: those of the last n_rows entries
    const float * rows;        // [n_rows][n_head][d_k] as attention uses them, or NULL
    const float * raw_rows;    // [n_rows][n_head][d_k] before RoPE, or NULL
    float scale;               // attention logits are scale * (query . key), then capped; 0 if neither weights nor rows were asked for
    float softcap;             // 0: none
    struct kvtap_rope rope;
};

kvtap_tap * kvtap_tap_new(void);
void kvtap_tap_free(kvtap_tap * tap);

// cb_eval.
bool kvtap_eval(struct ggml_tensor * tensor, bool ask, void * tap);

// Forgets what was seen of `seq` and looks at it from the next decode on. Without `wants` it stops looking at it.
void kvtap_observe(kvtap_tap * tap, const struct llama_context * ctx, int32_t seq, const struct kvtap_wants * wants);

// Drops all entries of `seq` but those at `kept` (ascending positions), which are at `moved_to` from now on. Attention
// sums start anew, except one over all queries (from 0), which goes on.
void kvtap_retain(kvtap_tap * tap, int32_t seq, const int32_t * kept, const int32_t * moved_to, size_t n_kept,
                  const int32_t * sums_from, size_t n_sums);

// What was seen of `seq` in layer number `index`, counted over the layers that have keys and values; false if there is none.
// `complete` tells whether everything asked for was there.
bool kvtap_seen(kvtap_tap * tap, int32_t seq, size_t index, struct kvtap_layer * out, bool * complete);

// Hides from one layer and KV head of `seq` the positions p < n where hidden[p] != 0. Needs flash attention to be off.
void kvtap_hide(kvtap_tap * tap, const struct llama_context * ctx, int32_t seq, int32_t layer, int32_t head, const uint8_t * hidden, size_t n);

// Shows everything to `seq` again.
void kvtap_show(kvtap_tap * tap, int32_t seq);

// To be called before each decode: sequence and position of each entry of the batch. Batches are not split.
void kvtap_before(kvtap_tap * tap, const int32_t * seqs, const int32_t * positions, size_t n);

// To be called after each decode. False if something that was to be hidden could not be.
bool kvtap_after(kvtap_tap * tap);

#ifdef __cplusplus
}
#endif
