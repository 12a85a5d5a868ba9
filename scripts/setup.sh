#!/usr/bin/env bash
# Makes sure everything a build of kvllama needs is here: a C++ compiler, cmake, libclang, Rust.
# Installs what is missing on Debian/Ubuntu (apt) and macOS (Homebrew); elsewhere it names it.
# Safe to run again: it does nothing when nothing is missing.
set -euo pipefail

case "${1:-}" in
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    "") ;;
    *) echo "usage: $0 [--help]" >&2; exit 2 ;;
esac

have() { command -v "$1" >/dev/null 2>&1; }

have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    case "$(uname -s)" in
        Darwin) xcode-select -p >/dev/null 2>&1 ;; # ships libclang
        *) compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
            compgen -G '/usr/lib*/libclang*.so*' >/dev/null ||
            compgen -G '/usr/lib/*/libclang*.so*' >/dev/null ;;
    esac
}

missing=()
have c++ || missing+=(compiler)
have cmake || missing+=(cmake)
have git || missing+=(git)
have_libclang || missing+=(libclang)

if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}" >&2
    if have apt-get; then
        sudo=""
        if [ "$(id -u)" -ne 0 ]; then
            have sudo || { echo "not root and no sudo; run as root: apt-get install build-essential cmake git libclang-dev" >&2; exit 1; }
            sudo=sudo
        fi
        $sudo apt-get update -qq
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq build-essential cmake git libclang-dev
    elif [ "$(uname -s)" = Darwin ]; then
        xcode-select -p >/dev/null 2>&1 || { echo "install Apple's command line tools first: xcode-select --install" >&2; exit 1; }
        have cmake || { have brew && brew install cmake; } || { echo "install cmake: https://cmake.org/download" >&2; exit 1; }
    else
        echo "install a C++17 compiler, cmake, git and libclang with your package manager, then run this again" >&2
        exit 1
    fi
fi

# The build is tuned for this CPU, less Intel's AMX tiles, which crash (.cargo/config.toml).
if [ "$(uname -sm)" = "Linux x86_64" ] && ! c++ -mno-amx-tile -x c++ -fsyntax-only /dev/null 2>/dev/null; then
    echo "the C++ compiler is too old; GCC 11 or clang 12 is needed (set CC and CXX to one)" >&2
    exit 1
fi

if ! have cargo; then
    echo "Rust is missing; install it from https://rustup.rs, then run this again" >&2
    exit 1
fi
