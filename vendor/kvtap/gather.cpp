// Copies chosen entries of a sequence from one context's KV cache into another's.
//
// llama.cpp can save a sequence and restore it elsewhere, but a saved sequence has all its entries inside the window,
// and nothing outside it. Here llama.cpp restores from a reader that makes up the saved form on the fly: it names only
// the chosen cells and takes their data straight from the tensors of the other cache. So nothing is copied twice, and
// types, transposed values and placement stay llama.cpp's own business.

#include "kvtap.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <vector>

#include "ggml-backend.h"
#include "llama-ext.h"
#include "llama-hparams.h"
#include "llama-io.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-model.h"
#include "llama.h"

namespace {

bool on_host(const ggml_tensor * tensor) {
    const ggml_tensor * owner = tensor->view_src ? tensor->view_src : tensor;
    return ggml_backend_buffer_is_host(owner->buffer);
}

// Takes what llama_kv_cache::state_write writes: the bytes, and the tensors, but not their data.
class recorder : public llama_io_write_i {
public:
    std::vector<uint8_t> bytes;
    std::vector<ggml_tensor *> tensors;

    void write(const void * src, size_t size) override {
        const auto * from = static_cast<const uint8_t *>(src);
        bytes.insert(bytes.end(), from, from + size);
    }
    void write_tensor(ggml_tensor * tensor, size_t, size_t) override {
        if (tensors.empty() || tensors.back() != tensor) {
            tensors.push_back(tensor);
        }
    }
    size_t n_bytes() override {
        return bytes.size();
    }
};

// The bytes before the data of each tensor: its type, and its row size (or, transposed, element size and rows).
constexpr size_t TENSOR_HEADER = 12;
// Before the first of them: whether values are transposed, the number of layers, and two rotations.
constexpr size_t DATA_HEADER = 16;

// Gives llama_kv_cache::state_read the chosen cells of another cache.
class gatherer : public llama_io_read_i {
public:
    // `cells` of the stream of `seq` in `source`, which has one stream, for a cache of `n_stream` streams.
    gatherer(const llama_kv_cache & source, llama_seq_id seq, std::vector<uint32_t> cells, uint32_t n_stream) :
        cells(std::move(cells)), source_size(source.get_size()) {
        recorder saved;
        source.state_write(saved, seq, 0);
        tensors = std::move(saved.tensors);

        uint32_t n_saved;
        std::memcpy(&n_saved, &saved.bytes[sizeof(uint32_t)], sizeof(n_saved));
        const bool has_ext = source.has_cell_ext();
        const size_t of_cell = sizeof(llama_pos) + 2 * sizeof(uint32_t) + (has_ext ? sizeof(llama_kv_cell_ext) : 0);
        const size_t data = 2 * sizeof(uint32_t) + n_saved * of_cell;
        std::memcpy(&transposed, &saved.bytes[data], sizeof(transposed));
        std::memcpy(&n_layer, &saved.bytes[data + sizeof(uint32_t)], sizeof(n_layer));

        add(n_stream);
        add(uint32_t(this->cells.size()));
        const llama_kv_cells & of = source.get_cells(seq);
        for (const uint32_t cell : this->cells) {
            add(of.pos_get(cell));
            add(uint32_t(1));
            if (has_ext) {
                add(of.ext_get(cell));
            }
            add(seq);
        }
        headers = bytes.size() + DATA_HEADER;
        bytes.insert(bytes.end(), saved.bytes.begin() + data, saved.bytes.end());
    }

    // Behind the recorded bytes all streams are empty.
    void read(void * target, size_t size) override {
        const size_t there = std::min(size, bytes.size() - at);
        std::memcpy(target, bytes.data() + at, there);
        std::memset(static_cast<uint8_t *>(target) + there, 0, size - there);
        at += there;
    }

    // The data of the next cells of the current tensor.
    void read_tensor(ggml_tensor * target, size_t offset, size_t size) override {
        ggml_tensor * source = tensors.at(tensor);
        const uint8_t * header = &bytes[headers + tensor * TENSOR_HEADER];
        uint64_t unit; // bytes of a cell in a row
        uint32_t n_rows = 1;
        if (transposed && tensor >= n_layer) {
            uint32_t of_element;
            std::memcpy(&of_element, header + 4, sizeof(of_element));
            std::memcpy(&n_rows, header + 8, sizeof(n_rows));
            unit = of_element;
        } else {
            std::memcpy(&unit, header + 4, sizeof(unit));
        }
        const uint8_t * from = static_cast<const uint8_t *>(source->data);
        if (!on_host(source)) {
            if (row == 0 && cell == 0) {
                staged.resize(size_t(source_size) * n_rows * unit);
                ggml_backend_tensor_get(source, staged.data(), 0, staged.size());
            }
            from = staged.data();
        }
        const bool direct = on_host(target);
        if (!direct) {
            gathered.resize(size);
        }
        uint8_t * to = direct ? static_cast<uint8_t *>(target->data) + offset : gathered.data();
        from += size_t(row) * source_size * unit;
        const size_t n = size / unit;
        for (size_t i = 0; i < n;) {
            size_t run = 1;
            while (i + run < n && cells[cell + i + run] == cells[cell + i] + run) {
                ++run;
            }
            std::memcpy(to + i * unit, from + cells[cell + i] * unit, run * unit);
            i += run;
        }
        if (!direct) {
            ggml_backend_tensor_set(target, gathered.data(), offset, size);
        }
        done += size;
        cell += n;
        if (cell == cells.size()) {
            cell = 0;
            if (++row == n_rows) {
                row = 0;
                ++tensor;
            }
        }
    }
    size_t n_bytes() override {
        return at + done;
    }

private:
    const std::vector<uint32_t> cells;
    const uint32_t source_size;
    std::vector<ggml_tensor *> tensors; // keys of all layers, then values
    uint32_t transposed = 0;
    uint32_t n_layer = 0;

    std::vector<uint8_t> bytes; // everything but data
    size_t headers;             // where those of the tensors begin
    size_t at = 0;
    size_t done = 0;
    size_t tensor = 0; // the next data: tensor, row and index into `cells`
    uint32_t row = 0;
    size_t cell = 0;
    std::vector<uint8_t> staged;
    std::vector<uint8_t> gathered;

    template <typename T> void add(const T & value) {
        const auto * from = reinterpret_cast<const uint8_t *>(&value);
        bytes.insert(bytes.end(), from, from + sizeof(value));
    }
};

bool gather(const llama_kv_cache & source, int32_t source_seq, llama_kv_cache & target, int32_t target_seq,
            const uint8_t * keep, size_t n, uint32_t window, llama_swa_type swa_type) {
    if (source.get_n_stream() != 1) {
        return false;
    }
    const llama_kv_cells & cells = source.get_cells(source_seq);
    std::vector<uint32_t> chosen;
    llama_pos last = -1;
    for (uint32_t i = 0; i < cells.size(); ++i) {
        if (!cells.is_empty(i) && cells.seq_has(i, source_seq)) {
            const llama_pos pos = cells.pos_get(i);
            if (size_t(pos) < n && keep[pos] != 0) {
                chosen.push_back(i);
                last = std::max(last, pos);
            }
        }
    }
    // No later query sees what the window has left behind.
    chosen.erase(std::remove_if(chosen.begin(), chosen.end(), [&](uint32_t i) {
        return llama_hparams::is_masked_swa(window, swa_type, cells.pos_get(i), last);
    }), chosen.end());
    std::sort(chosen.begin(), chosen.end(), [&](uint32_t a, uint32_t b) { return cells.pos_get(a) < cells.pos_get(b); });
    if (chosen.empty()) {
        return false;
    }
    gatherer reader(source, source_seq, std::move(chosen), target.get_n_stream());
    target.state_read(reader, target_seq, 0);
    return true;
}

} // namespace

bool kvtap_gather(llama_context * source, int32_t source_seq, llama_context * target, int32_t target_seq,
                  const uint8_t * keep, size_t n, bool whole) {
    llama_synchronize(source);
    llama_synchronize(target);
    try {
        auto * from = llama_get_memory(source);
        auto * to = llama_get_memory(target);
        const auto * from_iswa = dynamic_cast<const llama_kv_cache_iswa *>(from);
        auto * to_iswa = dynamic_cast<llama_kv_cache_iswa *>(to);
        if (from_iswa != nullptr && to_iswa != nullptr) {
            const llama_hparams & hparams = llama_get_model(source)->hparams;
            const auto swa_type = whole ? LLAMA_SWA_TYPE_NONE : hparams.swa_type;
            return gather(*from_iswa->get_base(), source_seq, *to_iswa->get_base(), target_seq, keep, n, 0, LLAMA_SWA_TYPE_NONE) &&
                   gather(*from_iswa->get_swa(), source_seq, *to_iswa->get_swa(), target_seq, keep, n, hparams.n_swa, swa_type);
        }
        const auto * from_plain = dynamic_cast<const llama_kv_cache *>(from);
        auto * to_plain = dynamic_cast<llama_kv_cache *>(to);
        return from_plain != nullptr && to_plain != nullptr &&
               gather(*from_plain, source_seq, *to_plain, target_seq, keep, n, 0, LLAMA_SWA_TYPE_NONE);
    } catch (const std::exception &) {
        return false;
    }
}

bool kvtap_rope_depends_on_size(const llama_model * model) {
    return std::any_of(model->layers.begin(), model->layers.end(), [](const llama_layer & layer) {
        return layer.rope_long != nullptr || layer.rope_short != nullptr;
    });
}

static void seq_rm_all(const llama_kv_cache & cache, int32_t seq, const uint8_t * evicted, size_t n) {
    // The cells belong to a cache that is not const; only its getter is.
    auto & cells = const_cast<llama_kv_cells &>(cache.get_cells(seq));
    for (uint32_t i = 0; i < cells.size(); ++i) {
        if (!cells.is_empty(i) && cells.seq_has(i, seq)) {
            const auto pos = size_t(cells.pos_get(i));
            if (pos < n && evicted[pos] != 0) {
                cells.seq_rm(i, seq);
            }
        }
    }
}

bool kvtap_seq_rm_all(llama_context * ctx, bool global, bool local, int32_t seq, const uint8_t * evicted, size_t n) {
    const auto * memory = llama_get_memory(ctx);
    if (const auto * iswa = dynamic_cast<const llama_kv_cache_iswa *>(memory)) {
        if (global) {
            seq_rm_all(*iswa->get_base(), seq, evicted, n);
        }
        if (local) {
            seq_rm_all(*iswa->get_swa(), seq, evicted, n);
        }
        return true;
    }
    const auto * plain = dynamic_cast<const llama_kv_cache *>(memory);
    if (plain == nullptr || !(global && local)) {
        return false;
    }
    seq_rm_all(*plain, seq, evicted, n);
    return true;
}
