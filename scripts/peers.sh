#!/bin/sh
# Builds the programs that `kvllama bench --peers DIR` runs beside kvllama: llama.cpp's own
# llama-bench, llama-batched-bench and llama-completion, from the source distribution of
# llama-cpp-python on PyPI, with the flags of kvllama's CPU build (see .cargo/config.toml and the features in Cargo.toml).
#
#   scripts/peers.sh DIR [VERSION of llama-cpp-python] [JOBS, default 1]
set -eu
dir=${1:?usage: scripts/peers.sh DIR [VERSION] [JOBS]}
version=${2:-}
jobs=${3:-1}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$dir/source
mkdir -p "$work"

ls "$work"/llama_cpp_python-*.tar.gz >/dev/null 2>&1 || python3 -m pip download --quiet \
    --no-deps --no-binary llama-cpp-python --dest "$work" "llama-cpp-python${version:+==$version}"
tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work" --strip-components 1

flags=
case $(uname -m) in x86_64 | amd64) flags="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" ;; esac
openmp=OFF
test "$(uname -s)" = Linux && openmp=ON
cmake -S "$work/vendor/llama.cpp" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" -DGGML_NATIVE=ON -DGGML_OPENMP=$openmp \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_WEBUI=OFF >"$work/cmake.log"
# Older versions call the plain completion program llama-cli.
completion=llama-completion
test -d "$work/vendor/llama.cpp/tools/completion" || completion=llama-cli
cmake --build "$work/build" --parallel "$jobs" --target llama-bench llama-batched-bench $completion
cp "$work/build/bin/llama-bench" "$work/build/bin/llama-batched-bench" "$dir/"
cp "$work/build/bin/$completion" "$dir/llama-completion"
basename "$work"/llama_cpp_python-*.tar.gz .tar.gz >"$dir/VERSION"
echo "built from $(cat "$dir/VERSION"): $dir"
