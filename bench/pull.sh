#!/usr/bin/env bash
# `lode pull` over loopback from one provider, and a second version with a tenth of its tensors changed.
# The comparison with an FsStore pair in one run is the binary `sync-pair`. usage: bench/pull.sh [GIB=4]
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-4}
work=${LODE_BENCH_DIR:-$(mktemp -d)}
mkdir -p "$work"
cargo build --release --locked -q -p lode-cli
cargo build --release -q --manifest-path bench/Cargo.toml
lode=$PWD/target/release/lode
bins=${CARGO_TARGET_DIR:-$PWD/bench/target}/release
rm -rf "$work/pa" "$work/pb" "$work/pout" "$work/pout2"
[ -d "$work/model" ] || "$bins/make-model" --size "${gib}GiB" --shards 1 "$work/model"
[ -d "$work/model2" ] || "$bins/make-model" --size "${gib}GiB" --shards 1 --change 0.1 "$work/model2"
export LODE_OFFLINE=1
"$lode" --home "$work/pa" push "$work/model" bench/model --in-place --public --tag v1
"$lode" --home "$work/pa" serve --http 127.0.0.1:0 --listen 127.0.0.1:0 2>"$work/serve.log" &
node=$!
trap 'kill $node 2>/dev/null || true' EXIT
until "$lode" --home "$work/pa" status >/dev/null 2>&1; do sleep 0.2; done
ticket=$("$lode" --home "$work/pa" share bench/model)
python3 bench/measure.py --pid "$node" -- "$lode" --home "$work/pb" pull bench/model@v1 --from "$ticket"
"$lode" --home "$work/pa" --json push "$work/model2" bench/model -m 'a tenth changed'
du -sb --apparent-size "$work/pa" "$work/pb"
"$lode" --home "$work/pb" --json pull bench/model --from "$ticket" | tail -n 1
du -sb "$work/pb"
