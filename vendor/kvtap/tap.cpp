// The tap: llama.cpp calls it between the nodes of a compute graph (cb_eval).
//
// What policies need of attention, keys, queries and values is reduced here, next to the data: no attention matrix
// leaves this file. The tensors are known by the names that llama.cpp's graphs give them (llm_graph_context::cb).

#include "kvtap.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama-context.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-model.h"

namespace {

// A tensor's bytes on the host: in place where they are there, else copied from the device.
struct host_view {
    const uint8_t * data;
    std::vector<uint8_t> copy;

    explicit host_view(const ggml_tensor * t) {
        const ggml_backend_buffer_t buffer = t->view_src ? t->view_src->buffer : t->buffer;
        if (buffer == nullptr || ggml_backend_buffer_is_host(buffer)) {
            data = static_cast<const uint8_t *>(t->data);
        } else {
            copy.resize(ggml_nbytes(t));
            ggml_backend_tensor_get(t, copy.data(), 0, copy.size());
            data = copy.data();
        }
    }

    const float * row(const ggml_tensor * t, int64_t i1, int64_t i2) const {
        return reinterpret_cast<const float *>(data + i1 * t->nb[1] + i2 * t->nb[2]);
    }
};

// Keys, values or queries of one batch: [rows][heads][d].
struct rows_of {
    std::vector<float> data;
    bool seen = false;
};

struct layer_state {
    int32_t layer = 0, n_head = 0, n_head_kv = 0, d_k = 0, d_v = 0, window = 0;
    float scale = 0.0f, softcap = 0.0f;
    bool attention_seen = false, rotated = false, key_rotated = false; // in this batch
    bool complete = true;
    rows_of key_rows, raw_key_rows, value_rows, query_rows, raw_query_rows;

    std::vector<std::vector<std::vector<double>>> sums, maxima; // [sum][kv head][entry]
    std::vector<float> keys, raw_keys, values, rows, raw_rows;
    int64_t n_queries = 0;
    std::vector<double> query_sum, query_outer;
    kvtap_rope rope = {};
    std::vector<float> freq_factors;

    std::vector<double> flat_sums, flat_maxima, query_mean, query_covariance; // made by kvtap_seen
};

// Positions of the cells of one cache, as far as they belong to a sequence asked for.
using cell_positions = std::vector<int32_t>;

// What is seen of one sequence.
struct sight {
    int32_t seq = 0;
    std::vector<int32_t> sums_from;
    int32_t replay_from = -1, queries_from = -1, rows_from = -1;
    bool rotated_queries = false, maxima = false, raw_rows = false, keys = false, raw_keys = false, values = false;
    std::vector<int32_t> entries; // positions, ascending
    std::vector<layer_state> layers;

    layer_state * layer(int32_t il) {
        const auto it = std::find_if(layers.begin(), layers.end(), [&](const auto & l) { return l.layer == il; });
        return it == layers.end() ? nullptr : &*it;
    }
};

struct hidden_heads {
    std::map<int32_t, std::map<int32_t, std::vector<uint8_t>>> layers; // layer -> kv head -> position -> hidden
    std::map<int32_t, bool> applied;                                   // layer -> in this batch
};

} // namespace

struct kvtap_tap {
    const llama_context * ctx = nullptr;

    std::map<int32_t, sight> sights;        // by sequence
    std::map<int32_t, hidden_heads> hidden; // by sequence

    std::vector<int32_t> row_seq, row_pos; // of the batch that is being decoded
    bool active = false;                   // anything to do in this batch?

    const llama_hparams & hparams() const { return ctx->get_model().hparams; }

    sight * sight_of(int32_t seq) {
        const auto it = sights.find(seq);
        return it == sights.end() ? nullptr : &it->second;
    }

    const llama_kv_cells & cells(bool local) const {
        const auto * memory = ctx->get_memory();
        if (const auto * iswa = dynamic_cast<const llama_kv_cache_iswa *>(memory)) {
            return (local ? iswa->get_swa() : iswa->get_base())->get_cells(0);
        }
        return dynamic_cast<const llama_kv_cache *>(memory)->get_cells(0);
    }

    // Whether a row of the batch belongs to this sight, and is no replay.
    bool counts(const sight & of, size_t row) const {
        return row_seq[row] == of.seq && (of.replay_from < 0 || row_pos[row] < of.replay_from);
    }

    bool in_batch(int32_t s) const { return std::find(row_seq.begin(), row_seq.end(), s) != row_seq.end(); }

    // Whether this batch has a query of the sequence at this position or later.
    bool reaches(int32_t s, int32_t from) const {
        for (size_t r = 0; r < row_seq.size(); ++r) {
            if (row_seq[r] == s && row_pos[r] >= from) {
                return true;
            }
        }
        return false;
    }

    bool wants_attention(const sight & of) const { return !of.sums_from.empty() && reaches(of.seq, of.sums_from.front()); }
    bool wants_rows(const sight & of) const { return of.rows_from >= 0 && reaches(of.seq, of.rows_from); }

    // Of each of the first n cells: the position it holds for sequence s, or -1.
    cell_positions positions(bool local, int32_t s, int64_t n) const {
        const llama_kv_cells & all = cells(local);
        cell_positions result(n, -1);
        for (int64_t i = 0; i < n && i < all.size(); ++i) {
            if (!all.is_empty(i) && all.seq_has(i, s)) {
                result[i] = all.pos_get(i);
            }
        }
        return result;
    }

    // Name of the attention logits just before the softmax.
    const char * logits_name() const {
        if (hparams().attn_soft_cap) {
            return "kq_scaled_2";
        }
        return ctx->get_model().arch == LLM_ARCH_GROK ? "kq_scaled" : "kq";
    }
};

// Splits "name-12" into "name" and 12.
static bool split_name(const ggml_tensor * t, std::string & name, int32_t & layer) {
    const char * dash = strrchr(t->name, '-');
    if (dash == nullptr || dash[1] < '0' || dash[1] > '9') {
        return false;
    }
    name.assign(t->name, dash - t->name);
    layer = atoi(dash + 1);
    return true;
}

// The attention weights of one query: how flash attention computes them, from the queries, keys and mask that it got.
// Cells that the mask hides get 0.
struct flash_weights {
    const ggml_tensor * q, * k, * mask, * sinks;
    const host_view q_host, k_host;
    const std::unique_ptr<host_view> mask_host, sinks_host;
    const ggml_type_traits_cpu * k_traits = ggml_get_type_traits_cpu(k->type);
    float scale, max_bias, softcap;
    std::vector<uint8_t> query;

    explicit flash_weights(const ggml_tensor * t)
        : q(t->src[0]), k(t->src[1]), mask(t->src[3]), sinks(t->src[4]), q_host(q), k_host(k),
          mask_host(mask ? new host_view(mask) : nullptr), sinks_host(sinks ? new host_view(sinks) : nullptr) {
        const float * params = reinterpret_cast<const float *>(t->op_params);
        scale    = params[0];
        max_bias = params[1];
        softcap  = params[2];
        query.resize(ggml_row_size(k_traits->vec_dot_type, q->ne[0]));
    }

    float slope(int64_t h) const {
        if (max_bias <= 0.0f) {
            return 1.0f;
        }
        const int64_t n = int64_t(1) << int64_t(floor(log2(double(q->ne[2]))));
        return h < n ? powf(powf(2.0f, -max_bias / n), h + 1) : powf(powf(2.0f, -max_bias / 2.0f / n), 2 * (h - n) + 1);
    }

    void of(int64_t row, int64_t head, std::vector<float> & weights) {
        const int64_t d = q->ne[0], kv_head = head / (q->ne[2] / k->ne[2]);
        const float * of_head = q_host.row(q, row, head);
        if (k_traits->vec_dot_type == GGML_TYPE_F32) {
            memcpy(query.data(), of_head, d * sizeof(float));
        } else {
            ggml_get_type_traits_cpu(k_traits->vec_dot_type)->from_float(of_head, query.data(), d);
        }
        const auto * hidden = mask ? reinterpret_cast<const ggml_fp16_t *>(
                                         mask_host->data + row * mask->nb[1] + (head % mask->ne[2]) * mask->nb[2])
                                   : nullptr;
        const float bias = slope(head);
        float max = sinks ? reinterpret_cast<const float *>(sinks_host->data)[head] : -INFINITY;
        const float sink = max;
        for (size_t c = 0; c < weights.size(); ++c) {
            const float masked = hidden ? ggml_fp16_to_fp32(hidden[c]) : 0.0f;
            if (masked == -INFINITY) {
                weights[c] = -INFINITY;
                continue;
            }
            float logit;
            k_traits->vec_dot(d, &logit, 0, k_host.data + c * k->nb[1] + kv_head * k->nb[2], 0, query.data(), 0, 1);
            logit *= scale;
            weights[c] = (softcap != 0.0f ? softcap * tanhf(logit / softcap) : logit) + bias * masked;
            max = std::max(max, weights[c]);
        }
        double total = sinks ? exp(double(sink) - max) : 0.0;
        for (float & weight : weights) {
            weight = weight == -INFINITY ? 0.0f : expf(weight - max);
            total += weight;
        }
        for (float & weight : weights) {
            weight = float(weight / total);
        }
    }
};

// Adds the attention weights of this batch to the sums. `weights_of` gives those of a row and a head, by cell.
template <typename F>
static void add_attention(const kvtap_tap & tap, const sight & of, layer_state & layer, int64_t n_cells, int64_t n_head, F weights_of) {
    const cell_positions positions = tap.positions(layer.window != 0, of.seq, n_cells);
    std::vector<int64_t> entry(n_cells, -1);
    for (int64_t c = 0; c < n_cells; ++c) {
        const auto it = std::lower_bound(of.entries.begin(), of.entries.end(), positions[c]);
        if (positions[c] >= 0 && it != of.entries.end() && *it == positions[c]) {
            entry[c] = it - of.entries.begin();
        }
    }
    const int64_t group = n_head / layer.n_head_kv;
    const size_t n_sums = of.sums_from.size();
    std::vector<std::vector<float>> sums(n_sums), maxima(n_sums);
    for (int64_t h = 0; h < n_head; ++h) {
        for (size_t s = 0; s < n_sums; ++s) {
            sums[s].assign(n_cells, 0.0f);
            maxima[s].assign(of.maxima ? n_cells : 0, 0.0f);
        }
        for (size_t r = 0; r < tap.row_seq.size(); ++r) {
            if (tap.row_seq[r] != of.seq || tap.row_pos[r] < of.sums_from.front()) {
                continue;
            }
            const float * weights = weights_of(r, h);
            for (size_t s = 0; s < n_sums && tap.row_pos[r] >= of.sums_from[s]; ++s) {
                float * sum = sums[s].data();
                for (int64_t c = 0; c < n_cells; ++c) {
                    sum[c] += weights[c];
                }
                for (size_t c = 0; c < maxima[s].size(); ++c) {
                    maxima[s][c] = std::max(maxima[s][c], weights[c]);
                }
            }
        }
        for (size_t s = 0; s < n_sums; ++s) {
            auto & total = layer.sums[s][h / group];
            for (int64_t c = 0; c < n_cells; ++c) {
                if (entry[c] >= 0) {
                    total[entry[c]] += double(sums[s][c]) / group;
                }
            }
            for (size_t c = 0; c < maxima[s].size(); ++c) {
                if (entry[c] >= 0) {
                    double & largest = layer.maxima[s][h / group][entry[c]];
                    largest = std::max(largest, double(maxima[s][c]));
                }
            }
        }
    }
    layer.attention_seen = true;
}

// The weights that the graph itself holds, [cells][rows][heads].
static void add_attention(const kvtap_tap & tap, const sight & of, layer_state & layer, const ggml_tensor * t) {
    const host_view host(t);
    add_attention(tap, of, layer, t->ne[0], t->ne[2], [&](int64_t r, int64_t h) { return host.row(t, r, h); });
}

// With flash attention the graph holds no weights: they are computed again for the queries asked for.
static void add_flash_attention(const kvtap_tap & tap, const sight & of, layer_state & layer, const ggml_tensor * t) {
    flash_weights flash(t);
    std::vector<float> weights(t->src[1]->ne[1]);
    add_attention(tap, of, layer, weights.size(), t->src[0]->ne[2], [&](int64_t r, int64_t h) {
        flash.of(r, h, weights);
        return weights.data();
    });
}

// The flash attention whose result, reshaped, is "kqv_out"; NULL if there is none.
static const ggml_tensor * flash_of(const ggml_tensor * t) {
    const ggml_tensor * flash = t->src[0];
    return flash != nullptr && flash->op == GGML_OP_FLASH_ATTN_EXT && flash->src[1]->ne[3] == 1 ? flash : nullptr;
}

// Copies [d][heads][rows] to [rows][heads][d]. A later tensor of the same name replaces an earlier one: the last is
// what attention uses.
static void take_rows(const kvtap_tap & tap, rows_of & rows, const ggml_tensor * t, int32_t d, int32_t heads) {
    const int64_t n_rows = tap.row_seq.size();
    if (t->type != GGML_TYPE_F32 || t->ne[0] != d || t->ne[1] != heads || t->ne[2] != n_rows) {
        return;
    }
    const host_view host(t);
    rows.data.resize(size_t(n_rows) * heads * d);
    float * out = rows.data.data();
    for (int64_t r = 0; r < n_rows; ++r) {
        for (int32_t h = 0; h < heads; ++h, out += d) {
            memcpy(out, host.row(t, h, r), d * sizeof(float));
        }
    }
    rows.seen = true;
}

static void take_rope(layer_state & layer, const ggml_tensor * t) {
    const int32_t * params = t->op_params;
    layer.rope.n_dims = params[1];
    layer.rope.mode = params[2];
    memcpy(&layer.rope.freq_base, params + 5, sizeof(float));
    memcpy(&layer.rope.freq_scale, params + 6, sizeof(float));
    memcpy(&layer.rope.ext_factor, params + 7, sizeof(float));
    memcpy(&layer.rope.attn_factor, params + 8, sizeof(float));
    if (t->src[2] != nullptr && layer.freq_factors.empty()) {
        layer.freq_factors.resize(layer.rope.n_dims / 2);
        ggml_backend_tensor_get(t->src[2], layer.freq_factors.data(), 0, layer.freq_factors.size() * sizeof(float));
    }
}

// Writes -inf over the logits, [cells][rows][heads], that hidden positions would get.
static void hide(kvtap_tap & tap, int32_t il, bool local, int32_t n_head_kv, ggml_tensor * t) {
    const int64_t n_cells = t->ne[0], n_rows = t->ne[1], n_head = t->ne[2];
    const ggml_backend_buffer_t buffer = t->view_src ? t->view_src->buffer : t->buffer;
    const bool on_host = buffer == nullptr || ggml_backend_buffer_is_host(buffer);
    std::vector<uint8_t> copy;
    uint8_t * data = static_cast<uint8_t *>(t->data);
    if (!on_host) {
        copy.resize(ggml_nbytes(t));
        ggml_backend_tensor_get(t, copy.data(), 0, copy.size());
        data = copy.data();
    }
    for (auto & [seq, heads] : tap.hidden) {
        const auto found = heads.layers.find(il);
        if (found == heads.layers.end() || !tap.in_batch(seq)) {
            continue;
        }
        const cell_positions positions = tap.positions(local, seq, n_cells);
        for (const auto & [head, hidden] : found->second) {
            std::vector<int64_t> cells;
            for (int64_t c = 0; c < n_cells; ++c) {
                if (positions[c] >= 0 && size_t(positions[c]) < hidden.size() && hidden[positions[c]]) {
                    cells.push_back(c);
                }
            }
            const int64_t group = n_head / n_head_kv;
            for (int64_t h = head * group; h < (head + 1) * group; ++h) {
                for (int64_t r = 0; r < n_rows; ++r) {
                    if (tap.row_seq[r] == seq) {
                        float * row = reinterpret_cast<float *>(data + r * t->nb[1] + h * t->nb[2]);
                        for (const int64_t c : cells) {
                            row[c] = -INFINITY;
                        }
                    }
                }
            }
        }
        heads.applied[il] = true;
    }
    if (!on_host) {
        ggml_backend_tensor_set(t, copy.data(), 0, copy.size());
    }
}

// Takes from a tensor of a layer what is to be seen of a sequence; with `ask` only tells whether that is anything.
static bool look(const kvtap_tap & tap, sight & of, layer_state & layer, const std::string & name, bool scaled, bool ask,
                 const ggml_tensor * t) {
    const ggml_tensor * flash = name == "kqv_out" ? flash_of(t) : nullptr;
    const bool weights = name == "kq_soft_max";
    if (flash != nullptr || weights) {
        memcpy(&layer.scale, (weights ? t : flash)->op_params, sizeof(float));
    }
    const bool attention = (flash != nullptr || weights) && tap.wants_attention(of);
    const bool key = (of.keys || of.raw_keys) && name.rfind("Kcur", 0) == 0;
    const bool value = of.values && name.rfind("Vcur", 0) == 0;
    const bool query = (of.queries_from >= 0 || tap.wants_rows(of)) && name.rfind("Qcur", 0) == 0;
    if (ask) {
        return attention || key || value || query;
    }
    if (attention && weights) {
        add_attention(tap, of, layer, t);
    } else if (attention) {
        add_flash_attention(tap, of, layer, flash);
    } else if (key) {
        layer.key_rotated = layer.key_rotated || t->op == GGML_OP_ROPE;
        if (of.keys) {
            take_rows(tap, layer.key_rows, t, layer.d_k, layer.n_head_kv);
        }
        if (of.raw_keys && !layer.key_rotated) {
            take_rows(tap, layer.raw_key_rows, t, layer.d_k, layer.n_head_kv);
        }
    } else if (value) {
        take_rows(tap, layer.value_rows, t, layer.d_v, layer.n_head_kv);
    } else if (query) {
        if (t->op == GGML_OP_ROPE) {
            take_rope(layer, t);
            layer.rotated = true;
        }
        if (!layer.rotated && !scaled) {
            take_rows(tap, layer.raw_query_rows, t, layer.d_k, layer.n_head);
        }
        if (tap.wants_rows(of) || of.rotated_queries) {
            take_rows(tap, layer.query_rows, t, layer.d_k, layer.n_head);
        }
    }
    return true;
}

bool kvtap_eval(ggml_tensor * t, bool ask, void * user_data) {
    kvtap_tap & tap = *static_cast<kvtap_tap *>(user_data);
    if (!tap.active) {
        return !ask;
    }
    std::string name;
    int32_t il = 0;
    // Some graphs (Gemma) scale the queries after they have named them; attention uses the scaled ones.
    const bool scaled = t->op == GGML_OP_SCALE && t->src[0] != nullptr && strncmp(t->src[0]->name, "Qcur-", 5) == 0 &&
                        strncmp(t->name, "Qcur-", 5) != 0;
    if (!split_name(scaled ? t->src[0] : t, name, il)) {
        return !ask;
    }
    const bool hides = !tap.hidden.empty() && name == tap.logits_name();
    if (hides && !ask) {
        const auto & hparams = tap.hparams();
        hide(tap, il, hparams.is_swa(il), hparams.n_head_kv(il), t);
    }
    bool wanted = hides;
    for (auto & [seq, of] : tap.sights) {
        layer_state * layer = tap.in_batch(seq) ? of.layer(il) : nullptr;
        wanted = (layer != nullptr && look(tap, of, *layer, name, scaled, ask, t)) || wanted;
    }
    return !ask || wanted;
}

kvtap_tap * kvtap_tap_new(void) {
    return new kvtap_tap();
}

void kvtap_tap_free(kvtap_tap * tap) {
    delete tap;
}

static void start_sums(sight & of, const int32_t * from, size_t n) {
    of.sums_from.assign(from, from + n);
    for (auto & layer : of.layers) {
        layer.sums.assign(n, std::vector<std::vector<double>>(layer.n_head_kv, std::vector<double>(of.entries.size(), 0.0)));
        layer.maxima = of.maxima ? layer.sums : decltype(layer.maxima)();
    }
}

void kvtap_observe(kvtap_tap * tap, const llama_context * ctx, int32_t seq, const kvtap_wants * wants) {
    tap->ctx = ctx;
    tap->sights.erase(seq);
    if (wants == nullptr) {
        return;
    }
    sight & of = tap->sights[seq];
    of.seq = seq;
    of.maxima = wants->maxima;
    of.replay_from = wants->replay_from;
    of.rows_from = wants->rows_from;
    of.raw_rows = wants->raw_rows;
    of.keys = wants->keys;
    of.raw_keys = wants->raw_keys;
    of.values = wants->values;
    of.queries_from = wants->queries_from;
    of.rotated_queries = wants->rotated_queries;
    const llama_hparams & hparams = tap->hparams();
    for (uint32_t il = 0; il < hparams.n_layer(); ++il) {
        if (!hparams.has_kv(il) || hparams.n_head_kv(il) == 0) {
            continue;
        }
        layer_state layer;
        layer.layer = il;
        layer.n_head = hparams.n_head(il);
        layer.n_head_kv = hparams.n_head_kv(il);
        layer.d_k = hparams.n_embd_head_k(il);
        layer.d_v = hparams.n_embd_head_v(il);
        layer.window = hparams.is_swa(il) ? hparams.n_swa : 0;
        layer.softcap = hparams.attn_soft_cap ? hparams.f_attn_logit_softcapping : 0.0f;
        if (of.queries_from >= 0) {
            layer.query_sum.assign(size_t(layer.n_head) * layer.d_k, 0.0);
            layer.query_outer.assign(size_t(layer.n_head) * layer.d_k * layer.d_k, 0.0);
        }
        of.layers.push_back(std::move(layer));
    }
    start_sums(of, wants->sums_from, wants->n_sums);
}

void kvtap_retain(kvtap_tap * tap, int32_t seq, const int32_t * kept, const int32_t * moved_to, size_t n_kept,
                  const int32_t * sums_from, size_t n_sums) {
    sight * found = tap->sight_of(seq);
    if (found == nullptr) {
        return;
    }
    sight & of = *found;
    std::vector<size_t> indices;
    std::vector<int32_t> entries;
    for (size_t i = 0; i < n_kept; ++i) {
        const auto it = std::lower_bound(of.entries.begin(), of.entries.end(), kept[i]);
        if (it != of.entries.end() && *it == kept[i]) {
            indices.push_back(it - of.entries.begin());
            entries.push_back(moved_to[i]);
        }
    }
    const auto retain = [&](std::vector<float> & data, size_t width) {
        if (data.empty()) {
            return;
        }
        for (size_t i = 0; i < indices.size(); ++i) {
            std::copy_n(data.begin() + indices[i] * width, width, data.begin() + i * width);
        }
        data.resize(indices.size() * width);
    };
    for (auto & layer : of.layers) {
        retain(layer.keys, size_t(layer.n_head_kv) * layer.d_k);
        retain(layer.raw_keys, size_t(layer.n_head_kv) * layer.d_k);
        retain(layer.values, size_t(layer.n_head_kv) * layer.d_v);
    }
    of.entries = std::move(entries);
    const auto before = of.sums_from;
    std::vector<decltype(layer_state::sums)> old_sums;
    for (auto & layer : of.layers) {
        old_sums.push_back(std::move(layer.sums));
    }
    start_sums(of, sums_from, n_sums);
    for (size_t l = 0; l < of.layers.size(); ++l) {
        for (size_t s = 0; s < n_sums && s < before.size(); ++s) {
            if (before[s] != 0 || sums_from[s] != 0) {
                continue;
            }
            for (size_t h = 0; h < old_sums[l][s].size(); ++h) {
                for (size_t i = 0; i < indices.size(); ++i) {
                    of.layers[l].sums[s][h][i] = old_sums[l][s][h][indices[i]];
                }
            }
        }
    }
}

bool kvtap_seen(kvtap_tap * tap, int32_t seq, size_t index, kvtap_layer * out, bool * complete) {
    sight * of = tap->sight_of(seq);
    if (of == nullptr || index >= of->layers.size()) {
        return false;
    }
    layer_state & layer = of->layers[index];
    const auto flatten = [](const decltype(layer.sums) & all, std::vector<double> & flat) {
        flat.clear();
        for (const auto & sum : all) {
            for (const auto & head : sum) {
                flat.insert(flat.end(), head.begin(), head.end());
            }
        }
    };
    flatten(layer.sums, layer.flat_sums);
    flatten(layer.maxima, layer.flat_maxima);
    if (layer.n_queries > 0) {
        const size_t d = layer.d_k;
        const double n = double(layer.n_queries);
        layer.query_mean.resize(layer.query_sum.size());
        layer.query_covariance.resize(layer.query_outer.size());
        for (size_t i = 0; i < layer.query_sum.size(); ++i) {
            layer.query_mean[i] = layer.query_sum[i] / n;
        }
        for (size_t i = 0; i < layer.query_outer.size(); ++i) {
            const size_t head = i / (d * d), a = i / d % d, b = i % d;
            layer.query_covariance[i] =
                layer.query_outer[head * d * d + std::max(a, b) * d + std::min(a, b)] / n - layer.query_mean[head * d + a] * layer.query_mean[head * d + b];
        }
    }
    layer.rope.freq_factors = layer.freq_factors.empty() ? nullptr : layer.freq_factors.data();
    *complete = layer.complete;
    *out = {
        layer.layer,
        layer.n_head,
        layer.n_head_kv,
        layer.d_k,
        layer.d_v,
        layer.window,
        of->entries.size(),
        of->entries.data(),
        layer.flat_sums.data(),
        of->maxima ? layer.flat_maxima.data() : nullptr,
        of->keys ? layer.keys.data() : nullptr,
        of->raw_keys ? layer.raw_keys.data() : nullptr,
        of->values ? layer.values.data() : nullptr,
        layer.n_queries,
        layer.query_mean.data(),
        layer.query_covariance.data(),
        layer.rows.size() / (size_t(layer.n_head) * layer.d_k),
        layer.rows.data(),
        of->raw_rows ? layer.raw_rows.data() : nullptr,
        layer.scale,
        layer.softcap,
        layer.rope,
    };
    return true;
}

void kvtap_hide(
        kvtap_tap * tap, const llama_context * ctx, int32_t seq, int32_t layer, int32_t head, const uint8_t * hidden, size_t n) {
    tap->ctx = ctx;
    tap->hidden[seq].layers[layer][head].assign(hidden, hidden + n);
}

void kvtap_show(kvtap_tap * tap, int32_t seq) {
    tap->hidden.erase(seq);
}

void kvtap_before(kvtap_tap * tap, const int32_t * seqs, const int32_t * positions, size_t n) {
    tap->row_seq.assign(seqs, seqs + n);
    tap->row_pos.assign(positions, positions + n);
    tap->active = false;
    for (auto & [seq, heads] : tap->hidden) {
        heads.applied.clear();
        tap->active = tap->active || tap->in_batch(seq);
    }
    for (auto & [seq, of] : tap->sights) {
        if (!tap->in_batch(seq)) {
            continue;
        }
        tap->active = true;
        for (size_t r = 0; r < n; ++r) {
            if (tap->counts(of, r)) {
                of.entries.push_back(positions[r]);
            }
        }
        for (auto & layer : of.layers) {
            layer.attention_seen = layer.rotated = layer.key_rotated = false;
            for (rows_of * rows : { &layer.key_rows, &layer.raw_key_rows, &layer.value_rows, &layer.query_rows, &layer.raw_query_rows }) {
                rows->seen = false;
            }
            for (auto * all : { &layer.sums, &layer.maxima }) {
                for (auto & sum : *all) {
                    for (auto & head : sum) {
                        head.resize(of.entries.size(), 0.0);
                    }
                }
            }
        }
    }
}

// Adds the outer products of the rows' queries: the triangle up to the diagonal, the rest mirrors it. float is enough within
// a batch; batches are added in double.
static void add_queries(const kvtap_tap & tap, const sight & of, layer_state & layer) {
    const rows_of & rows = of.rotated_queries ? layer.query_rows : layer.raw_query_rows;
    const size_t d = layer.d_k;
    std::vector<float> sum(d), outer(d * d);
    int64_t n = 0;
    for (int32_t h = 0; h < layer.n_head; ++h) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        std::fill(outer.begin(), outer.end(), 0.0f);
        n = 0;
        for (size_t r = 0; r < tap.row_seq.size(); ++r) {
            if (tap.row_seq[r] != of.seq || tap.row_pos[r] < of.queries_from) {
                continue;
            }
            ++n;
            const float * q = rows.data.data() + (r * layer.n_head + h) * d;
            for (size_t a = 0; a < d; ++a) {
                sum[a] += q[a];
                const float factor = q[a];
                float * row = outer.data() + a * d;
                for (size_t b = 0; b <= a; ++b) {
                    row[b] += factor * q[b];
                }
            }
        }
        for (size_t a = 0; a < d; ++a) {
            layer.query_sum[h * d + a] += sum[a];
        }
        for (size_t i = 0; i < d * d; ++i) {
            layer.query_outer[h * d * d + i] += outer[i];
        }
    }
    layer.n_queries += n;
}

// Adds what the layers of a sequence showed in this batch.
static void add_rows(const kvtap_tap & tap, sight & of) {
    const auto append = [&](const rows_of & rows, std::vector<float> & all, size_t width, int32_t from) {
        for (size_t r = 0; r < tap.row_seq.size(); ++r) {
            if (tap.counts(of, r) && tap.row_pos[r] >= from) {
                all.insert(all.end(), rows.data.begin() + r * width, rows.data.begin() + (r + 1) * width);
            }
        }
    };
    const bool wants_rows = tap.wants_rows(of);
    for (auto & layer : of.layers) {
        const bool attention = !tap.wants_attention(of) || layer.attention_seen;
        const bool keys = (!of.keys || layer.key_rows.seen) && (!of.raw_keys || layer.raw_key_rows.seen);
        const bool values = !of.values || layer.value_rows.seen;
        const bool statistics = of.queries_from < 0 || (of.rotated_queries ? layer.query_rows : layer.raw_query_rows).seen;
        const bool rows = !wants_rows || (layer.query_rows.seen && (!of.raw_rows || layer.raw_query_rows.seen));
        if (!(attention && keys && values && statistics && rows)) {
            layer.complete = false;
            continue;
        }
        const size_t key_width = size_t(layer.n_head_kv) * layer.d_k, query_width = size_t(layer.n_head) * layer.d_k;
        if (of.keys) {
            append(layer.key_rows, layer.keys, key_width, 0);
        }
        if (of.raw_keys) {
            append(layer.raw_key_rows, layer.raw_keys, key_width, 0);
        }
        if (of.values) {
            append(layer.value_rows, layer.values, size_t(layer.n_head_kv) * layer.d_v, 0);
        }
        if (of.queries_from >= 0) {
            add_queries(tap, of, layer);
        }
        if (wants_rows) {
            append(layer.query_rows, layer.rows, query_width, of.rows_from);
        }
        if (wants_rows && of.raw_rows) {
            append(layer.raw_query_rows, layer.raw_rows, query_width, of.rows_from);
        }
    }
}

bool kvtap_after(kvtap_tap * tap) {
    for (auto & [seq, of] : tap->sights) {
        if (tap->in_batch(seq)) {
            add_rows(*tap, of);
        }
    }
    bool hidden = true;
    for (const auto & [seq, heads] : tap->hidden) {
        if (tap->in_batch(seq)) {
            for (const auto & [layer, unused] : heads.layers) {
                hidden = hidden && heads.applied.count(layer) > 0;
            }
        }
    }
    return hidden;
}
