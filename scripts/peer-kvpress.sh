#!/bin/sh
# Adds transformers with kvpress (PyPI) to the programs that `kvllama bench grid --peers DIR` runs beside kvllama.
#
#   scripts/peer-kvpress.sh DIR [VERSION of kvpress, default 0.5.5]
set -eu
dir=${1:?usage: scripts/peer-kvpress.sh DIR [VERSION]}
version=${2:-0.5.5}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
python3 -m venv "$dir/kvpress-venv"
"$dir/kvpress-venv/bin/pip" install --quiet "kvpress==$version" gguf
cp "$(dirname "$0")/bench-kvpress.py" "$dir/"
cat >"$dir/kvpress" <<END
#!/bin/sh
exec "$dir/kvpress-venv/bin/python" "$dir/bench-kvpress.py" "\$@"
END
chmod +x "$dir/kvpress"
"$dir/kvpress-venv/bin/pip" freeze | grep -E '^(kvpress|transformers|torch)=='
