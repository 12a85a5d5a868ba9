#!/usr/bin/env bash
# Puts the sources of every crate, llama.cpp among them, into vendor/cargo, for builds without a network.
# Afterwards: cargo build --release --offline --config vendor/cargo/config.toml
set -euo pipefail

case "${1:-}" in
    -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
esac

cd "$(dirname "$0")/.."
mkdir -p vendor/cargo
cargo vendor --locked vendor/cargo/crates > vendor/cargo/config.toml
echo "done: cargo build --release --offline --config vendor/cargo/config.toml" >&2
