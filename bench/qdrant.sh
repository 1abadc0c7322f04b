#!/usr/bin/env bash
# Collections over HTTP: ingest of 50,000 x 384 as qdrant-client sends it, beside qdrant-edge's own upsert; searches alone and while
# writing, beside those of the engine in one process. usage: bench/qdrant.sh [OPTIONS of bench/qdrant.py]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${LODE_BENCH_PYTHON:-.cache/qdrant/bin/python}
[ -x "$python" ] || { echo "no qdrant-client and qdrant-edge-py: run scripts/setup" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-target}
bench=${CARGO_TARGET_DIR:-bench/vectors/target}
if [ -z "${LODE_BENCH_BUILT:-}" ]; then
  cargo build --release --locked -q -p lode-cli
  cargo build --release --locked -q --manifest-path bench/vectors/Cargo.toml --bin collections
fi
"$python" -W ignore bench/qdrant.py "$target/release/lode" "$bench/release/collections" "$@"
