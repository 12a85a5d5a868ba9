#include "kvtap.h"

#include "llama.h"
#include "llama-ext.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-model.h"

// The cache of the global layers: the whole one, or the base half of an interleaved sliding-window cache.
static const llama_kv_cache * global_cache(const llama_context * ctx) {
    const auto * memory = llama_get_memory(ctx);
    if (const auto * iswa = dynamic_cast<const llama_kv_cache_iswa *>(memory)) {
        return iswa->get_base();
    }
    return dynamic_cast<const llama_kv_cache *>(memory);
}

bool kvtap_cells_of(const llama_context * ctx, int32_t seq, kvtap_cells * out) {
    const llama_kv_cache * cache = global_cache(ctx);
    if (cache == nullptr) {
        return false;
    }
    const llama_kv_cells & cells = cache->get_cells(seq);
    *out = { cells.size(), cells.get_used(), 0 };
    for (uint32_t i = 0; i < cells.size(); ++i) {
        out->seq += !cells.is_empty(i) && cells.seq_has(i, seq);
    }
    return true;
}

static bool can_shift(const llama_kv_cache & cache) {
    if (!ggml_is_quantized(cache.type_k())) {
        return cache.get_can_shift();
    }
    // The graph that moves positions undoes the rotation of quantized keys, and does not ask whether there is one.
    ggml_context * scratch = ggml_init({ ggml_tensor_overhead(), nullptr, true });
    const bool rotated = scratch != nullptr && cache.build_input_k_rot(scratch) != nullptr;
    ggml_free(scratch);
    return rotated && cache.get_can_shift();
}

bool kvtap_can_shift(const llama_context * ctx) {
    const auto * memory = llama_get_memory(ctx);
    if (const auto * iswa = dynamic_cast<const llama_kv_cache_iswa *>(memory)) {
        return iswa->get_can_shift() && can_shift(*iswa->get_base()) && can_shift(*iswa->get_swa());
    }
    const auto * plain = dynamic_cast<const llama_kv_cache *>(memory);
    return plain != nullptr && can_shift(*plain);
}

void kvtap_memory_of(const llama_context * ctx, kvtap_memory * host, kvtap_memory * device) {
    *host = *device = { 0, 0, 0 };
    for (const auto & [buft, data] : llama_get_memory_breakdown(ctx)) {
        const ggml_backend_dev_t dev = ggml_backend_buft_get_device(buft);
        const bool on_host = ggml_backend_buft_is_host(buft) || dev == nullptr ||
                             ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU;
        kvtap_memory * side = on_host ? host : device;
        side->model   += data.model;
        side->context += data.context;
        side->compute += data.compute;
    }
}

int32_t kvtap_kv_heads(const llama_model * model, int32_t layer, bool * local) {
    *local = model->hparams.is_swa(layer);
    return model->hparams.has_kv(layer) ? model->hparams.n_head_kv(layer) : 0;
}
