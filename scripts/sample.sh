#!/usr/bin/env bash
# Remakes results/sample with the embedded model: a run, its report, and the figures that README and docs show.
#     scripts/sample.sh [FOLDER]        default: results/sample
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
out=${1:-results/sample}
kvllama=(cargo run --release --quiet --)

rm -rf "$out"
"${kvllama[@]}" exp --policy random,streaming,snapkv --ratio 0.1,0.25,0.5,0.75,0.9 --fidelity --out "$out"
# The same keep sets, never heard instead of forgotten.
"${kvllama[@]}" exp --policy random,streaming,snapkv --ratio 0.5 --memory text --fidelity --out "$out"
"${kvllama[@]}" report "$out" --figures "$out/figures"
rm -f "$out"/figures/*.png "$out/.lock"
