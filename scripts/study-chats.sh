#!/usr/bin/env bash
# What chats forget: facts of the system turn on SmolLM2 135M Instruct in a context of 256 positions, and standing rules on
# the embedded model. About an hour on two cores; interrupted, it goes on where it stopped. Rows stay under DIR (ignored by
# git), and what is worth keeping goes to results/study.
#     scripts/study-chats.sh [DIR]        default: study
# Environment: KVLLAMA (the binary, default: cargo run), CHATS (chats on SmolLM2, default 24), THREADS (default 1).
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
dir=${1:-study}
kvllama=${KVLLAMA:-target/release/kvllama}
[ -n "${KVLLAMA:-}" ] || cargo build --release --quiet
scripts/real-models.sh
mkdir -p "$dir"
common=(--parallel 1 --threads "${THREADS:-1}" --quiet)

keep() { # keep NAME: what is worth keeping of a run
    local out=results/study/$1
    "$kvllama" report "$dir/$1" --figures "$dir/$1/figures" > "$dir/$1.txt"
    mkdir -p "$out/figures"
    cp "$dir/$1"/{summary.csv,stats.json} "$out"
    cp "$dir/$1"/figures/*.svg "$out/figures"
    sed "s|$dir/||g" "$dir/$1.txt" > "$out/report.txt"
}

"$kvllama" exp "${common[@]}" --data chats-demo --policy streaming,random,h2o,keydiff --ratio 0.3,0.5,0.7 --n-predict 48 \
    --out "$dir/chats-demo"
keep chats-demo

"$kvllama" data generate-chats --kind facts --n "${CHATS:-24}" --turns 8 --out "$dir/facts.jsonl" --quiet
facts=(--model smollm2-135m-instruct-q4_1 --data "$dir/facts.jsonl" --n-predict 24 --keep-first 4 --keep-last 252
    --out "$dir/chats-smollm2")
# Four chats at a time under all conditions, so that an unfinished study can be read, too.
for ((n = 4; n < ${CHATS:-24} + 4; n += 4)); do
    "$kvllama" exp "${common[@]}" "${facts[@]}" --limit "$n" --policy streaming,context-shift
    "$kvllama" exp "${common[@]}" "${facts[@]}" --limit "$n" --policy streaming --protect system
done
keep chats-smollm2
