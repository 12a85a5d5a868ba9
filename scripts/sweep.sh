#!/usr/bin/env bash
# Policies x ratios on one model, into one run directory, and a line per condition at the end.
#
# usage: scripts/sweep.sh [OUT [MODEL [DATA]]]
#   OUT     run directory           (default results/sweep)
#   MODEL   as for kvllama --model  (default: the embedded model)
#   DATA    as for kvllama --data   (default: what suits the model)
# POLICIES, RATIOS, REPEATS and SEED may be set in the environment.
#
# Safe to interrupt and to run again: finished trials are kept, the rest is done.
set -euo pipefail

case "${1:-}" in
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

out=${1:-results/sweep}
arguments=(
    --policy "${POLICIES:-streaming,random}"
    --ratio "${RATIOS:-0.1,0.25,0.5,0.75,0.9}"
    --repeats "${REPEATS:-1}"
    --seed "${SEED:-1}"
    --out "$out"
)
[ -n "${2:-}" ] && arguments+=(--model "$2")
[ -n "${3:-}" ] && arguments+=(--data "$3")

kvllama=(cargo run --release --quiet --)
command -v kvllama >/dev/null 2>&1 && kvllama=(kvllama)
exec "${kvllama[@]}" exp "${arguments[@]}"
