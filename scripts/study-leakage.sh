#!/usr/bin/env bash
# What eviction does to the secret of a system prompt: SmolLM2 135M Instruct, with the defence before and behind the directive,
# with fair budgets and with a whitelist. About 20 minutes of processor time; interrupted, it goes on where it stopped. Rows stay
# under DIR (ignored by git), and what is worth keeping goes to results/study.
#     scripts/study-leakage.sh [DIR]        default: study
# Environment: KVLLAMA (the binary, default: cargo run), PROMPTS (system prompts, default 40), THREADS (default 1).
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
dir=${1:-study}
kvllama=${KVLLAMA:-target/release/kvllama}
[ -n "${KVLLAMA:-}" ] || cargo build --release --quiet
scripts/real-models.sh
mkdir -p "$dir"

for order in defence-first directive-first; do
    file=$dir/leakage-$order.jsonl
    scripts/secret-prompts.py 100 $order > "$file"
    grid=(exp --model smollm2-135m-instruct-q4_1 --data "$file" --limit "${PROMPTS:-40}" --scope system --n-predict 24
        --threads "${THREADS:-1}" --quiet --out "$dir/leakage-$order")
    "$kvllama" "${grid[@]}" --policy streaming,snapkv --ratio 0.2,0.4,0.6,0.8
    "$kvllama" "${grid[@]}" --policy streaming --fair=budget --ratio 0.2,0.4,0.6,0.8
    # At 0.8 fewer positions are left than the whitelist has.
    "$kvllama" "${grid[@]}" --policy streaming --protect instruction --ratio 0.2,0.4,0.6
done

for name in leakage-defence-first leakage-directive-first; do
    out=results/study/$name
    mkdir -p "$out/figures"
    "$kvllama" report "$dir/$name" --figures "$dir/$name/figures" > "$out/report.txt"
    cp "$dir/$name"/{summary.csv,stats.json} "$out"
    cp "$dir/$name"/figures/{leakage,defended-and-followed}-by-ratio.svg "$out/figures"
done
"$kvllama" report "$dir"/leakage-{defence,directive}-first > results/study/leakage-orders.txt
