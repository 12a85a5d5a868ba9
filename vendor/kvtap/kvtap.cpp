#include "kvtap.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

#include "llama.h"
#include "llama-ext.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-model.h"

llama_model * kvtap_model_from_memory(const void * data, size_t size, const llama_model_params * params) {
    // A stream opened for reading never writes, so the cast away of const is harmless.
    std::unique_ptr<FILE, int (*)(FILE *)> file(fmemopen(const_cast<void *>(data), size, "rb"), fclose);
    try {
        return file ? llama_model_load_from_file_ptr(file.get(), *params) : nullptr;
    } catch (const std::exception &) {
        return nullptr;
    }
}

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

static std::atomic<bool> model_works{false};
static char loading[1024] = "the model";

// What ggml asserted: the message without the place in its sources.
static const char * without_place(const char * message) {
    const char * assertion = strstr(message, "GGML_ASSERT");
    if (assertion != nullptr) {
        return assertion + strlen("GGML_ASSERT");
    }
    const char * place = strstr(message, ".cpp:");
    const char * text = place != nullptr ? strstr(place, ": ") : nullptr;
    return text != nullptr ? text + 2 : message;
}

static void say_and_exit(const char * message) {
    if (model_works.load()) {
        fprintf(stderr, "error: llama.cpp gave up: %s\n", message);
    } else {
        fprintf(stderr, "error: cannot use the model %s: llama.cpp finds it inconsistent (%s); the file is broken, or newer than this build\n",
                loading, without_place(message));
    }
    fflush(stderr);
    _Exit(model_works.load() ? 1 : 2);
}

void kvtap_on_abort() {
    ggml_set_abort_callback(say_and_exit);
}

void kvtap_loading(const char * name) {
    model_works.store(false);
    snprintf(loading, sizeof(loading), "%s", name);
}

void kvtap_model_works() {
    model_works.store(true);
}

int32_t kvtap_kv_heads(const llama_model * model, int32_t layer, bool * local) {
    *local = model->hparams.is_swa(layer);
    return model->hparams.has_kv(layer) ? model->hparams.n_head_kv(layer) : 0;
}
