#!/usr/bin/env bash
# Push of one large file beside its peers, in one run: openssl (SHA-256 alone), iroh-blobs FsStore import by reference, cp.
# usage: bench/push.sh [GIB=4] [RUNS=3]   Work folder: LODE_BENCH_DIR or a temporary one.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-4} runs=${2:-3}
work=${LODE_BENCH_DIR:-$(mktemp -d)}
mkdir -p "$work"
tools=$PWD/.cache/bench
[ -x "$tools/bin/b3sum" ] || cargo install -q b3sum --version 1.8.7 --locked --root "$tools"
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release -q --manifest-path bench/Cargo.toml
lode=$PWD/target/release/lode
bins=${CARGO_TARGET_DIR:-$PWD/bench/target}/release
model=$work/model
[ -d "$model" ] || "$bins/make-model" --size "${gib}GiB" --shards 1 "$model"
file=$(ls -S "$model"/*.safetensors | head -n 1)
cat "$file" >/dev/null

seconds() { # label, command..
  local label=$1; shift
  local row; row=$(python3 bench/measure.py -- "$@" 2>/dev/null) || { echo "$label failed" >&2; exit 1; }
  printf '%s %s\n' "$label" "$row" >>"$work/rows"
}
rm -f "$work/rows"
export LODE_OFFLINE=1
for _ in $(seq "$runs"); do
  seconds openssl openssl dgst -sha256 "$file"
  seconds b3sum "$tools/bin/b3sum" --no-mmap --num-threads 2 "$file"
  seconds cut-hash "$bins/cut-hash" --threads 2 "$file"
  rm -rf "$work/home"; seconds push-in-place "$lode" --home "$work/home" push "$model" bench/model --in-place
  rm -rf "$work/fs"; seconds fsstore-reference "$bins/fsstore-import" "$work/fs" "$file"
  rm -rf "$work/copy"; sync; seconds cp-sync bash -c "cp '$file' '$work/copy' && sync -f '$work/copy'"
  rm -rf "$work/copy" "$work/home"; sync; seconds push-copy "$lode" --home "$work/home" push "$model" bench/model
  rm -rf "$work/home" "$work/fs"
done
python3 - "$work/rows" "$file" <<'PY'
import json, os, statistics, sys
rows = {}
for line in open(sys.argv[1]):
    label, row = line.split(" ", 1)
    rows.setdefault(label, []).append(json.loads(row))
size = os.path.getsize(sys.argv[2])
wall = {label: statistics.median(r["wall_s"] for r in found) for label, found in rows.items()}
print(f"| what | seconds (median of {len(rows['openssl'])}) | GB/s | CPU s | peak anonymous MiB |\n|---|---|---|---|---|")
for label, found in rows.items():
    cpu = statistics.median(r["cpu_s"] for r in found)
    peak = max(r["peak_anon_bytes"] for r in found) / 2**20
    print(f"| {label} | {wall[label]:.2f} | {size / wall[label] / 1e9:.2f} | {cpu:.2f} | {peak:.0f} |")
print(f"\npush in place / openssl throughput: {wall['openssl'] / wall['push-in-place']:.2f} (bar 0.8)")
print(f"cutting and BLAKE3 / b3sum throughput: {wall['b3sum'] / wall['cut-hash']:.2f} (bar 0.8)")
print(f"push in place / FsStore by reference: {wall['fsstore-reference'] / wall['push-in-place']:.2f} (bar 1.5)")
print(f"push with copy / (cp and sync) time: {wall['push-copy'] / wall['cp-sync']:.2f} (bar at most 1.3)")
PY
