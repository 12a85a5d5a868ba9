// Workers: other processes that hold a part of a model and compute it, through llama.cpp's RPC backend. Built with the
// Cargo feature `rpc`.

#include "kvtap.h"

#include <vector>

#include "ggml-backend.h"
#include "ggml-rpc.h"

bool kvtap_use_worker(const char * endpoint) {
    const ggml_backend_reg_t worker = ggml_backend_rpc_add_server(endpoint);
    if (worker != nullptr) {
        ggml_backend_register(worker);
    }
    return worker != nullptr;
}

void kvtap_serve(const char * endpoint, size_t n_threads) {
    std::vector<ggml_backend_dev_t> gpus, cpus;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        const ggml_backend_dev_t device = ggml_backend_dev_get(i);
        const auto type = ggml_backend_dev_type(device);
        if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) {
            gpus.push_back(device);
        } else if (type == GGML_BACKEND_DEVICE_TYPE_CPU) {
            cpus.push_back(device);
        }
    }
    auto & devices = gpus.empty() ? cpus : gpus;
    ggml_backend_rpc_start_server(endpoint, nullptr, n_threads, devices.size(), devices.data());
}
