#!/usr/bin/env bash
# Archives of the command for this platform, with completions, manual pages, licence and SHA-256, in dist/.
#
#   scripts/release.sh                        kvllama-VERSION-x86_64-linux.tar.gz (CPU of the build: x86-64-v3)
#   CPU=native scripts/release.sh             for this machine's CPU alone
#   FEATURES=metal scripts/release.sh         on a Mac
#
# Further arguments go to `cargo build`.
set -euo pipefail
cd "$(dirname "$0")/.."

case "$(uname -m)" in
    x86_64 | amd64) cpu=${CPU:-x86-64-v3} ;;
    *) cpu=${CPU:-native} ;;
esac
target=${CARGO_TARGET_DIR:-target/wheel}
CARGO_TARGET_DIR=$target RUSTFLAGS="-C target-cpu=$cpu" cargo build --release --locked ${FEATURES:+--features "$FEATURES"} "$@"
binary=$target/release/kvllama

version=$("$binary" --version | cut -d' ' -f2)
name=kvllama-$version-$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')${FEATURES:+-$FEATURES}
rm -rf "dist/$name"
mkdir -p "dist/$name/completions" "dist/$name/man"
cp "$binary" LICENSE README.md CHANGELOG.md "dist/$name/"
for shell in bash zsh fish elvish powershell; do
    "$binary" completions "$shell" > "dist/$name/completions/kvllama.$shell"
done
"$binary" man "dist/$name/man" > /dev/null
tar -C dist -czf "dist/$name.tar.gz" "$name"
rm -r "dist/$name"
(
    cd dist
    if command -v sha256sum > /dev/null; then sha256sum "$name.tar.gz"; else shasum -a 256 "$name.tar.gz"; fi
) | tee "dist/$name.tar.gz.sha256"
