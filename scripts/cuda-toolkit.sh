#!/bin/sh
# What `--features cuda` needs to compile, from PyPI, where no CUDA toolkit is installed (and none can be, without root):
# NVIDIA's compiler, headers and cuBLAS. It takes 1.3 GB. To run, the NVIDIA driver is still needed.
#
#   scripts/cuda-toolkit.sh DIR [CUDA version, default 13.0] [architecture, default native; 90 is Hopper, 89 Ada, 86 Ampere]
#   cargo build --release --features cuda --config DIR/cargo.toml
set -eu
dir=${1:?usage: scripts/cuda-toolkit.sh DIR [VERSION] [ARCHITECTURE]}
version=${2:-13.0}
architecture=${3:-native}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
python3 -m venv "$dir/venv"
set --
for package in nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cublas; do
    set -- "$@" "$package==$version.*"
done
"$dir/venv/bin/pip" install --quiet --no-deps "$@"
root=$(echo "$dir"/venv/lib/python3*/site-packages/nvidia/cu*)
test -x "$root/bin/nvcc" || { echo "no nvcc in $root" >&2; exit 1; }

# The wheels lack the names that linkers look for.
ln -sfn lib "$root/lib64"
for library in cublas cublasLt cudart; do
    ln -sf "$(basename "$root"/lib/lib$library.so.*)" "$root/lib/lib$library.so"
done
# llama-cpp-sys-2 asks for static archives, which the wheels leave out: empty ones let the shared libraries stand in.
for library in cublas_static cublasLt_static culibos; do
    rm -f "$root/lib/lib$library.a" && ar rcs "$root/lib/lib$library.a"
done
# The driver's library comes with the driver; to link, its symbols suffice.
test -e /usr/lib/x86_64-linux-gnu/libcuda.so && ln -sf /usr/lib/x86_64-linux-gnu/libcuda.so "$root/lib/" || {
    for symbol in cuDeviceGet cuDeviceGetAttribute cuGetErrorString cuMemAddressFree cuMemAddressReserve cuMemCreate \
        cuMemGetAllocationGranularity cuMemMap cuMemRelease cuMemSetAccess cuMemUnmap; do
        echo "int $symbol(void) { return 100; }"
    done | cc -shared -fPIC -Wl,-soname,libcuda.so.1 -x c - -o "$root/lib/libcuda.so"
}

cat >"$dir/cargo.toml" <<END
[env]
CUDA_PATH = "$root"
CUDA_LIBRARY_PATH = "$root"
CUDAToolkit_ROOT = "$root"
CUDACXX = "$root/bin/nvcc"
CMAKE_CUDA_ARCHITECTURES = "$architecture"

[build]
rustflags = ["-L", "native=$root/lib", "-l", "dylib=cublas", "-l", "dylib=cublasLt", "-C", "link-arg=-Wl,-rpath,$root/lib"]
END
"$root/bin/nvcc" --version | tail -n 2
echo "cargo build --release --features cuda --config $dir/cargo.toml"
