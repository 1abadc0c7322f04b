#!/usr/bin/env bash
# Peak anonymous memory of push, serve, pull, verify and scrub of one model.
# usage: bench/memory.sh [GIB=20]   Work folder: LODE_BENCH_DIR or a temporary one.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-20}
work=${LODE_BENCH_DIR:-$(mktemp -d)}
mkdir -p "$work"
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release -q --manifest-path bench/Cargo.toml
lode=$PWD/target/release/lode
bins=${CARGO_TARGET_DIR:-$PWD/bench/target}/release
model=$work/model-memory
[ -d "$model" ] || "$bins/make-model" --size "${gib}GiB" "$model"
export LODE_OFFLINE=1
rm -rf "$work/ma" "$work/mb" "$work/mout"
row() { printf '%-8s %s\n' "$1" "$2"; }
row push "$(python3 bench/measure.py -- "$lode" --home "$work/ma" push "$model" bench/model --in-place --public)"
"$lode" --home "$work/ma" serve --http 127.0.0.1:0 --listen 127.0.0.1:0 2>"$work/serve.log" &
node=$!
trap 'kill $node 2>/dev/null || true' EXIT
until grep -q ^ready "$work/serve.log"; do sleep 0.1; done
ticket=$("$lode" --home "$work/ma" share bench/model)
row pull "$(python3 bench/measure.py --pid "$node" -- "$lode" --home "$work/mb" pull bench/model --from "$ticket" --to "$work/mout")"
echo "         (watched_* is the serving node)"
row verify "$(python3 bench/measure.py -- "$lode" --home "$work/mb" verify bench/model)"
row scrub "$(python3 bench/measure.py -- "$lode" --home "$work/mb" scrub)"
