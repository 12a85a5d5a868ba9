#!/usr/bin/env bash
# The study behind docs/findings.md: two small real models, ten policies, five ratios, and what the modes change. A few
# hours on two cores; interrupted, it goes on where it stopped. Rows stay under DIR (ignored by git), and what is worth
# keeping (summary.csv, stats.json, manifest.json, figures) goes to results/study.
#     scripts/study.sh [DIR] [PART..]        default: study recall modes ifeval
# Environment: KVLLAMA (the binary, default: cargo run), LIMIT (examples a part, default 120), THREADS (a process, default 1:
# the two models run beside each other), IFEVAL (input_data.jsonl of IFEval; without it that part is left out).
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
dir=${1:-study}
shift || true
parts=${*:-recall modes ifeval}
limit=${LIMIT:-120}
kvllama=${KVLLAMA:-target/release/kvllama}
[ -n "${KVLLAMA:-}" ] || cargo build --release --quiet
scripts/real-models.sh
mkdir -p "$dir"

smollm=(--model smollm2-135m-instruct-q4_1)
gemma=(--model gemma-3-270m-q4_k_m --chat-template raw)
policies=streaming,random,snapkv:window=16,snapkv:window=64,tova,h2o,expected-attention,keydiff,knorm,lagkv
common=(--n-predict 32 --limit "$limit" --threads "${THREADS:-1}" --quiet)

# exp NAME OPTIONS..: one run, gone on with where it stopped.
run() {
    local name=$1
    shift
    echo "$(date +%H:%M) $name"
    "$kvllama" exp "${common[@]}" "$@" --out "$dir/$name" > "$dir/$name.log" 2>&1
}

# keep NAME: what is worth keeping of a run.
keep() {
    local out=results/study/$1
    "$kvllama" report "$dir/$1" --figures "$dir/$1/figures" > "$dir/$1.txt"
    mkdir -p "$out/figures"
    cp "$dir/$1"/{summary.csv,stats.json,manifest.json} "$out"
    cp "$dir/$1"/figures/*.svg "$out/figures"
    cp "$dir/$1.txt" "$out/report.txt"
}

both() { # both NAME OPTIONS..: the same on both models, beside each other
    local name=$1
    shift
    run "smollm2-$name" "${smollm[@]}" --data recall "$@" &
    local other=$!
    run "gemma-$name" "${gemma[@]}" --data recall-completion "$@"
    wait "$other"
    keep "smollm2-$name"
    keep "gemma-$name"
}

for part in $parts; do
    case $part in
        recall) both recall --policy "$policies" --ratio 0.1,0.25,0.5,0.75,0.9 ;;
        modes)
            modes=(--policy random,streaming,snapkv:window=16 --ratio 0.25,0.5)
            both modes "${modes[@]}" --memory kv,text --positions keep,compact
            both heads --policy snapkv:window=16,tova,h2o,keydiff --ratio 0.25,0.5 --granularity token,head
            both scope --policy snapkv:window=16,tova,keydiff --ratio 0.25,0.5,0.75 --scope prompt,context
            ;;
        ifeval)
            [ -n "${IFEVAL:-}" ] || { echo "IFEVAL is not set: that part is left out" >&2; continue; }
            "$kvllama" data import-ifeval "$IFEVAL" --out "$dir/ifeval.jsonl" --quiet
            run smollm2-ifeval "${smollm[@]}" --data "$dir/ifeval.jsonl" --n-predict 192 --stop-loops \
                --policy streaming,random,snapkv:window=16 --ratio 0.25,0.5,0.75
            keep smollm2-ifeval
            ;;
        *) echo "no part is called $part: recall, modes, ifeval" >&2; exit 2 ;;
    esac
done
