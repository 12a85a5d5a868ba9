// Drives vendor/kvtap, compiled with AddressSanitizer and UndefinedBehaviorSanitizer, on a tiny model: each of its calls,
// again and again, with what a run does between them. Exits with 0 if no access was invalid and nothing leaked.

#include "kvtap.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "llama.h"

#define CHECK(what) \
    if (!(what)) { \
        fprintf(stderr, "shim.cpp:%d: not %s\n", __LINE__, #what); \
        exit(1); \
    }

static int32_t decode(llama_context * ctx, kvtap_tap * tap, llama_seq_id seq, llama_pos first, int32_t n) {
    std::vector<llama_token> tokens(n, 20);
    std::vector<llama_pos> positions(n);
    std::vector<int32_t> counts(n, 1);
    std::vector<llama_seq_id> seqs(n, seq);
    std::vector<llama_seq_id *> pointers(n);
    std::vector<int8_t> logits(n, 0);
    for (int32_t i = 0; i < n; ++i) {
        tokens[i] = 20 + (first + i) % 50;
        positions[i] = first + i;
        pointers[i] = &seqs[i];
    }
    logits[n - 1] = 1;
    const llama_batch batch = { n, tokens.data(), nullptr, positions.data(), counts.data(), pointers.data(), logits.data() };
    kvtap_before(tap, seqs.data(), positions.data(), n);
    const int32_t code = kvtap_decode(ctx, &batch);
    CHECK(code != 0 || kvtap_after(tap));
    return code;
}

// Everything that is seen, so that a pointer to too little memory is found.
static double sum(kvtap_tap * tap, size_t n_sums) {
    double total = 0;
    bool complete = false;
    kvtap_layer layer;
    size_t n_layers = 0;
    for (; kvtap_seen(tap, 0, n_layers, &layer, &complete); ++n_layers) {
        const auto add = [&](const auto * values, size_t n) {
            for (size_t i = 0; values != nullptr && i < n; ++i) {
                total += values[i];
            }
        };
        const size_t n = layer.n_entries, kv = layer.n_head_kv, heads = layer.n_head, d = layer.d_k;
        add(layer.positions, n);
        add(layer.sums, n_sums * kv * n);
        add(layer.maxima, n_sums * kv * n);
        add(layer.keys, n * kv * d);
        add(layer.raw_keys, n * kv * d);
        add(layer.values, n * kv * layer.d_v);
        add(layer.query_mean, heads * d);
        add(layer.query_covariance, heads * d * d);
        add(layer.rows, layer.n_rows * heads * d);
        add(layer.raw_rows, layer.n_rows * heads * d);
    }
    CHECK(n_layers > 0 && complete);
    return total;
}

int main(int, char ** argv) {
    const std::string path = argv[1];
    const int rounds = atoi(argv[2]);
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    kvtap_on_no_memory("no memory\n");

    llama_model_params model_params = llama_model_default_params();
    model_params.load_mode = LLAMA_LOAD_MODE_NONE;
    CHECK(kvtap_load("/nowhere.gguf", &model_params) == nullptr);
    CHECK(kvtap_model_from_memory("GGUFx", 5, &model_params) == nullptr);
    llama_model * model = kvtap_load(path.c_str(), &model_params);
    CHECK(model != nullptr);
    const llama_vocab * vocab = llama_model_get_vocab(model);

    for (int round = 0; round < rounds; ++round) {
        const bool flash = round % 2 == 1;
        kvtap_tap * tap = kvtap_tap_new();
        llama_context_params params = llama_context_default_params();
        params.n_ctx = 128;
        params.n_batch = params.n_ubatch = 32;
        params.n_seq_max = 3;
        params.n_threads = params.n_threads_batch = 1;
        params.kv_unified = true;
        params.swa_full = true;
        params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        params.cb_eval = kvtap_eval;
        params.cb_eval_user_data = tap;
        llama_context * ctx = kvtap_context(model, &params);
        CHECK(ctx != nullptr);

        // Two batches are looked at; the second is replayed, as kvzip does.
        const int32_t from[] = { 0, 20 };
        kvtap_wants wants = {};
        wants.sums_from = from;
        wants.n_sums = 2;
        wants.maxima = true;
        wants.replay_from = round % 3 == 2 ? 32 : -1;
        wants.queries_from = 8;
        wants.rows_from = 20;
        wants.raw_rows = wants.keys = wants.raw_keys = wants.values = true;
        kvtap_observe(tap, ctx, 0, &wants);
        CHECK(decode(ctx, tap, 0, 0, 32) == 0 && decode(ctx, tap, 0, 32, 16) == 0);
        CHECK(sum(tap, 2) != 0);
        const int32_t kept[] = { 0, 3, 4, 30 }, moved[] = { 0, 1, 2, 3 }, anew[] = { 48 };
        kvtap_retain(tap, 0, kept, moved, 4, anew, 1);
        kvtap_observe(tap, ctx, 0, nullptr);

        // A fork is cut, some heads of it see less, and it answers.
        llama_memory_seq_cp(llama_get_memory(ctx), 0, 1, -1, -1);
        std::vector<uint8_t> evicted(48, 0);
        for (size_t p = 5; p < 40; p += 2) {
            evicted[p] = 1;
        }
        CHECK(kvtap_seq_rm_all(ctx, true, round % 2 == 0, 1, evicted.data(), evicted.size()));
        if (!flash) {
            kvtap_hide(tap, ctx, 1, 0, 1, evicted.data(), evicted.size());
            kvtap_hide(tap, ctx, 1, 3, 0, evicted.data(), evicted.size());
        }
        CHECK(decode(ctx, tap, 1, 48, 1) == 0 && decode(ctx, tap, 1, 49, 1) == 0);
        CHECK(llama_get_logits_ith(ctx, -1) != nullptr);
        kvtap_show(tap, 1);
        kvtap_cells cells;
        kvtap_memory host, device;
        CHECK(kvtap_cells_of(ctx, 1, &cells) && cells.used > 0);
        kvtap_memory_of(ctx, &host, &device);
        CHECK(host.context > 0 && kvtap_can_shift(ctx) && !kvtap_rope_depends_on_size(model));

        // What is kept moves into a small cache of its own.
        llama_context_params dense = params;
        dense.cb_eval = nullptr;
        dense.kv_unified = false;
        dense.n_ctx = 3 * 256;
        llama_context * lanes = kvtap_context(model, &dense);
        CHECK(lanes != nullptr);
        std::vector<uint8_t> keep(48, 0);
        keep[0] = keep[1] = keep[20] = keep[47] = 1;
        CHECK(kvtap_gather(ctx, 0, lanes, 2, keep.data(), keep.size(), round % 2 == 0));
        std::vector<uint8_t> too_many(4000, 1);
        kvtap_gather(ctx, 0, lanes, 1, too_many.data(), too_many.size(), true);
        CHECK(decode(ctx, tap, 0, 200, 1) != 0); // no position that continues the sequence

        bool local = false;
        CHECK(kvtap_kv_heads(model, 0, &local) > 0);
        llama_token tokens[4];
        const char * text = "An owl and the sea.";
        CHECK(kvtap_tokenize(vocab, text, int32_t(strlen(text)), tokens, 4, false, true) < 0); // more than fit
        char piece[4];
        kvtap_piece(vocab, 20, piece, sizeof(piece), true);
        CHECK(kvtap_grammar(vocab, "root ::= (") == nullptr);
        llama_sampler * grammar = kvtap_grammar(vocab, "root ::= \"a\" [b-z]{0,9}");
        CHECK(grammar != nullptr);
        llama_sampler_free(grammar);
        llama_free(lanes);
        llama_free(ctx);
        kvtap_tap_free(tap);
    }
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
