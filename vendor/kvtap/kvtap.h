// kvtap: the few things kvllama needs from inside llama.cpp that its C API does not give.
// Built by build.rs against the llama.cpp source that ships in the llama-cpp-sys-2 crate.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct llama_context;
struct llama_model;
struct llama_model_params;

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

// Loads a GGUF held in memory. NULL on failure. The bytes must outlive the call only.
struct llama_model * kvtap_model_from_memory(const void * data, size_t size, const struct llama_model_params * params);

// Counts cells. Returns false if the context has no plain KV cache (recurrent or hybrid memory).
bool kvtap_cells_of(const struct llama_context * ctx, int32_t seq, struct kvtap_cells * out);

// Memory of the context and its model; host and device (GPU) memory apart.
void kvtap_memory_of(const struct llama_context * ctx, struct kvtap_memory * host, struct kvtap_memory * device);

// llama.cpp aborts the process when one of its invariants breaks. With this handler it
// says so in one line and exits with `code` instead of dumping core.
void kvtap_on_abort(int code);

// Ask every running llama_decode to stop at its next graph node (0 = go on).
void kvtap_interrupt(bool stop);

// The callback to put into llama_context_params::abort_callback: tells what kvtap_interrupt set.
bool kvtap_interrupted(void * unused);

#ifdef __cplusplus
}
#endif
