#!/bin/sh
# What chats forget: facts and languages of the system turn on SmolLM2 135M Instruct, and rules on the embedded model,
# under policies that cut the cache before each answer. Results go to results/study/; interrupted, run it again.
set -eu
cd "$(dirname "$0")/.."
kvllama=${KVLLAMA:-target/release/kvllama}
out=results/study
limit=${LIMIT:-30}

"$kvllama" exp --data chats-demo --policy streaming,random,snapkv,h2o --ratio 0.3,0.5,0.7 --n-predict 64 --parallel 1 \
    --out "$out/chats-demo"
"$kvllama" report "$out/chats-demo"

"$kvllama" exp --model smollm2-135m-instruct-q4_1 --data chats-small --limit "$limit" --policy streaming,h2o --ratio 0.5 \
    --n-predict 32 --parallel 1 --out "$out/chats-smollm2"
"$kvllama" report "$out/chats-smollm2"
