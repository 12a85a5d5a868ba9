#!/usr/bin/env bash
# The study this tool was made for: Gemma 3 12B (Q4_0, quantization-aware trained) under StreamingLLM
# and random eviction, with the text control beside. Needs about 9 GB of memory or GPU memory.
#
# usage: scripts/gemma12b.sh [OUT]     (default results/gemma12b)
# MODEL, RATIOS, REPEATS and EXTRA (more options for kvllama exp) may be set in the environment.
#
# Safe to interrupt and to run again: a half download and finished trials are kept.
set -euo pipefail

case "${1:-}" in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

out=${1:-results/gemma12b}
model=${MODEL:-gemma-3-12b-it-q4_0}

kvllama=(cargo run --release --quiet --)
command -v kvllama >/dev/null 2>&1 && kvllama=(kvllama)

case "$model" in
    *.gguf) ;; # a file of your own
    *) "${kvllama[@]}" pull "$model" ;;
esac
"${kvllama[@]}" doctor --model "$model" --ctx 2048
# EXTRA is split into words on purpose.
# shellcheck disable=SC2086
"${kvllama[@]}" exp --model "$model" --data multi \
    --policy streaming,random --ratio "${RATIOS:-0.1,0.25,0.5,0.75,0.9}" --memory kv,text \
    --repeats "${REPEATS:-1}" --out "$out" ${EXTRA:-}
