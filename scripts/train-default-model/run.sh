#!/usr/bin/env bash
# Trains the default model from nothing and writes its GGUF files and the demo set to a folder.
#     scripts/train-default-model/run.sh [FOLDER]        default: target/default-model
# Interrupted, the same command goes on from the last checkpoint. THREADS=2 uses two cores.
set -euo pipefail

case "${1:-}" in
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../target/default-model}
threads=${THREADS:-1}
mkdir -p "$out"

python=$out/venv/bin/python
if [ ! -x "$python" ]; then
    python3 -m venv "$out/venv"
    "$python" -m pip install --quiet --requirement "$here/requirements.txt"
fi

# Without these, glibc gives every temporary tensor back to the system, and a third of the time goes into page faults.
export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
export OMP_NUM_THREADS=$threads

cd "$here"
[ -e "$out/tokenizer.model" ] || "$python" tokenizer.py "$out/tokenizer.model"
"$python" train.py --out "$out" --threads "$threads"
"$python" export.py --out "$out"
"$python" demo.py --out "$out" "$out/demo.jsonl"
