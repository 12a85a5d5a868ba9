// llama.cpp's calls that may throw. An exception that reaches Rust ends the process; here it becomes an error code and a
// line in llama.cpp's log, where kvllama takes the cause from. The other calls of llama.cpp throw only if there is no
// memory for a small vector; then the process says so and ends.

#include "kvtap.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>

#include "llama-impl.h"
#include "llama.h"

namespace {

// Whether this thread is in a guarded call.
thread_local bool is_guarded = false;

const char * no_memory_sentence;

void no_memory() {
    if (is_guarded) {
        throw std::bad_alloc();
    }
    fputs(no_memory_sentence, stderr);
    kvtap_exit(1);
}

template <typename Call, typename Result> Result guarded(const char * name, Result failed, Call call) {
    is_guarded = true;
    try {
        const Result result = call();
        is_guarded = false;
        return result;
    } catch (const std::bad_alloc &) {
        LLAMA_LOG_ERROR("%s: out of memory\n", name);
    } catch (const std::exception & error) {
        LLAMA_LOG_ERROR("%s: %s\n", name, error.what());
    } catch (...) {
        LLAMA_LOG_ERROR("%s: failed\n", name);
    }
    is_guarded = false;
    return failed;
}

} // namespace

void kvtap_on_no_memory(const char * sentence) {
    no_memory_sentence = sentence;
    std::set_new_handler(no_memory);
}

void kvtap_exit(int32_t code) {
    fflush(stderr);
    _Exit(code);
}

llama_model * kvtap_model_from_memory(const void * data, size_t size, const llama_model_params * params) {
    // A stream opened for reading never writes, so the cast away of const is harmless.
    std::unique_ptr<FILE, int (*)(FILE *)> file(fmemopen(const_cast<void *>(data), size, "rb"), fclose);
    return guarded("load", static_cast<llama_model *>(nullptr), [&] {
        return file ? llama_model_load_from_file_ptr(file.get(), *params) : nullptr;
    });
}

llama_model * kvtap_load(const char * path, const llama_model_params * params) {
    return guarded("load", static_cast<llama_model *>(nullptr), [&] { return llama_model_load_from_file(path, *params); });
}

llama_context * kvtap_context(llama_model * model, const llama_context_params * params) {
    return guarded("context", static_cast<llama_context *>(nullptr), [&] { return llama_init_from_model(model, *params); });
}

int32_t kvtap_decode(llama_context * ctx, const llama_batch * batch) {
    return guarded("decode", KVTAP_THREW, [&] { return llama_decode(ctx, *batch); });
}

int32_t kvtap_tokenize(const llama_vocab * vocab, const char * text, int32_t length, int32_t * tokens, int32_t room,
                       bool add_special, bool parse_special) {
    return guarded("tokenize", KVTAP_THREW, [&] {
        return llama_tokenize(vocab, text, length, tokens, room, add_special, parse_special);
    });
}

int32_t kvtap_piece(const llama_vocab * vocab, int32_t token, char * text, int32_t room, bool special) {
    return guarded("token_to_piece", 0, [&] { return llama_token_to_piece(vocab, token, text, room, 0, special); });
}

llama_sampler * kvtap_grammar(const llama_vocab * vocab, const char * grammar) {
    return guarded("grammar", static_cast<llama_sampler *>(nullptr), [&] {
        return llama_sampler_init_grammar(vocab, grammar, "root");
    });
}
