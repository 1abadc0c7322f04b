#!/usr/bin/env bash
# Latency of verified ranges of a file that another node has, over loopback, one at a time: `lode serve` and our receiver
# beside an iroh-blobs FsStore and its client, and beside streams of iroh whose bytes nobody verifies, at the same random
# places, in turns of 25, one after another and then each after a rest; then what `curl -r` sees of a gateway that holds
# nothing of the file.
# usage: bench/ranges.sh [GIB=1] [COUNT=500]   Work folder: LODE_BENCH_DIR or a temporary one, removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-1} count=${2:-500}
work=${LODE_BENCH_DIR:-$(mktemp -d)}/ranges
mkdir -p "$work"
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q --manifest-path bench/Cargo.toml
lode=${LODE:-$PWD/target/release/lode}
bins=${LODE_BENCH_BINS:-${CARGO_TARGET_DIR:-$PWD/bench/target}/release}
export LODE_OFFLINE=1
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
"$bins/make-model" --size "${gib}GiB" --shards 1 "$work/model" >/dev/null
file=$(ls -S "$work/model"/*.safetensors | head -n 1)

mkfifo "$work/input"
"$bins/sync-peer" fsstore-serve "$work/fs" "$file" <"$work/input" >"$work/fsstore" &
exec {input}>"$work/input"
mkfifo "$work/input-raw"
"$bins/sync-peer" raw-serve --memory "$file" <"$work/input-raw" >"$work/raw" &
exec {raw_input}>"$work/input-raw"
"$lode" --home "$work/a" -q push "$work/model" bench/model --public >/dev/null
"$lode" --home "$work/a" serve --listen 127.0.0.1:0 --http 127.0.0.1:0 2>"$work/a.log" &
until grep -q ^ready "$work/a.log" && [ -s "$work/fsstore" ] && [ -s "$work/raw" ]; do sleep 0.1; done
ticket=$("$lode" --home "$work/a" -q share bench/model)
# A push leaves nothing in the page cache, and an import of an FsStore all: both are read before.
find "$work/a/containers" "$work/fs" -type f -exec cat {} + >/dev/null
for pause in 0 10; do
  echo "$pause ms of rest before each range:"
  "$bins/range-read" "$file" "$ticket" $(cat "$work/fsstore") $(cat "$work/raw") --count "$count" --pause "$pause"
done
kill %1 %2

publisher=$("$lode" --home "$work/a" -q key show 2>/dev/null)
"$lode" --home "$work/b" -q peers add "$ticket" >/dev/null
"$lode" --home "$work/b" serve --listen 127.0.0.1:0 --http 127.0.0.1:7181 2>"$work/b.log" &
until grep -q ^ready "$work/b.log"; do sleep 0.1; done
python3 - "$file" "http://127.0.0.1:7181/lode/v1/models/$publisher/model/main/files/$(basename "$file")" "$count" <<'PY'
import os, random, statistics, subprocess, sys
file, url, count = open(sys.argv[1], "rb"), sys.argv[2], int(sys.argv[3]) // 5
length, places = os.fstat(file.fileno()).st_size, random.Random(1)
print("| range | curl through a gateway, p50 ms | p99 ms |\n|---|---|---|")
for label, size in (("1 MiB", 1 << 20), ("16 KiB", 16 << 10)):
    times = []
    for _ in range(count + 5):
        start = places.randrange(length - size)
        more = ["-r", f"{start}-{start + size - 1}", "-o", "-", "-w", "%{stderr}%{time_total}"]
        done = subprocess.run(["curl", "-sf", *more, url], capture_output=True, check=True)
        assert done.stdout == os.pread(file.fileno(), size, start), f"other bytes at {start}"
        times.append(float(done.stderr) * 1e3)
    times = sorted(times[5:])
    print(f"| {label} | {statistics.median(times):.2f} | {times[len(times) * 99 // 100]:.2f} |")
PY
