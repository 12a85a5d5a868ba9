#!/usr/bin/env bash
# Fuzzes what reads files and replies of strangers: scripts/fuzz.sh MINUTES [TARGET...]
#
# Each target of fuzz/ runs for MINUTES with libFuzzer, from the corpus in fuzz/corpus; `fuzz/found/TARGET` collects what it
# finds new, and an input that crashes, hangs or is refused otherwise than with exit code 2 stays in `fuzz/artifacts`. Needs
# neither a nightly compiler nor cargo-fuzz: kvllama alone is instrumented, through RUSTC_WRAPPER.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?how many minutes for each target}
shift
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(ls fuzz/corpus)

folder=${CARGO_TARGET_DIR:-fuzz/target}
mkdir -p "$folder"
cat >"$folder/instrumented" <<'WRAPPER'
#!/bin/sh
case " $* " in
*" --crate-name kvllama "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-trace-compares \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cdebug-assertions -Ccodegen-units=1
    ;;
esac
exec "$@"
WRAPPER
chmod +x "$folder/instrumented"
RUSTC_WRAPPER=$(realpath "$folder/instrumented") cargo ${CARGO_FLAGS:-} build --release --manifest-path fuzz/Cargo.toml \
    --target-dir "$folder"

for target in "${targets[@]}"; do
    mkdir -p "fuzz/found/$target" "fuzz/artifacts/$target"
    echo "== $target"
    # A template that needs too much memory ends the program with a sentence; here there is only the fuzzer's own limit.
    "$folder/release/$target" "fuzz/found/$target" "fuzz/corpus/$target" -artifact_prefix="fuzz/artifacts/$target/" \
        -max_total_time=$((minutes * 60)) -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=16384 \
        -print_final_stats=1 -verbosity=0
done
