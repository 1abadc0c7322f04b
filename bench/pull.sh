#!/usr/bin/env bash
# `lode pull` over loopback from one provider, by iroh and by the LAN path, beside an iroh-blobs FsStore pair, raw iroh
# streams, and curl from nginx into a file (if nginx is there), in one run and in turns; then a second version with a tenth
# of its tensors changed. usage: bench/pull.sh [GIB=4] [RUNS=3]
# Work folder: LODE_BENCH_DIR or a temporary one, removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-4} runs=${2:-3}
work=${LODE_BENCH_DIR:-$(mktemp -d)}/pull
mkdir -p "$work"
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release -q --manifest-path bench/Cargo.toml
lode=$PWD/target/release/lode
bins=${CARGO_TARGET_DIR:-$PWD/bench/target}/release
export LODE_OFFLINE=1
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
"$bins/make-model" --size "${gib}GiB" --shards 1 "$work/model" >/dev/null
file=$(ls -S "$work/model"/*.safetensors | head -n 1)
size=$(stat -c %s "$file")

serve() { # name, command..: starts it and leaves its first line in $said
  local name=$1; shift
  rm -f "$work/$name.in" "$work/$name.out"
  mkfifo "$work/$name.in"
  "$@" <"$work/$name.in" >"$work/$name.out" &
  exec {input}>"$work/$name.in"
  until [ -s "$work/$name.out" ]; do sleep 0.05; done
  said=$(head -n 1 "$work/$name.out")
}
serve fsstore "$bins/sync-peer" fsstore-serve "$work/fs" "$file"; fsstore=$said
serve raw "$bins/sync-peer" raw-serve "$file"; raw=$said
"$lode" --home "$work/a" -q push "$work/model" bench/model --public --tag v1 >/dev/null
"$lode" --home "$work/a" serve --http 127.0.0.1:0 --listen 127.0.0.1:0 2>"$work/serve.log" &
until grep -q ^ready "$work/serve.log"; do sleep 0.1; done
ticket=$("$lode" --home "$work/a" -q share bench/model)

nginx=$(command -v nginx || ls /usr/sbin/nginx 2>/dev/null || true)
if [ -n "$nginx" ]; then
  cat >"$work/nginx.conf" <<CONF
worker_processes 2; daemon off; pid $work/nginx.pid; error_log $work/nginx.log;
events {}
http { access_log off; sendfile on; client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work; uwsgi_temp_path $work;
  scgi_temp_path $work; server { listen 127.0.0.1:7471; root $work/model; } }
CONF
  "$nginx" -c "$work/nginx.conf" &
  until curl -sfo /dev/null -r 0-0 "http://127.0.0.1:7471/$(basename "$file")"; do sleep 0.1; done
fi
fresh() { # a virtual machine may have given freed memory back to its host: it is taken again before each run
  rm -rf "$work/got" "$work/out"
  head -c "$size" /dev/zero >"$work/warm"; rm "$work/warm"
}
lode_pull() { # label, options..
  local label=$1 start; shift
  fresh
  start=$(date +%s.%N)
  "$lode" --home "$work/got" -q pull bench/model@v1 --from "$ticket" --to "$work/out" "$@" >/dev/null
  echo "$label $(python3 -c "print($(date +%s.%N) - $start)")" >>"$work/rows"
  cmp "$file" "$work/out/$(basename "$file")"
}

for _ in $(seq "$runs"); do
  fresh; echo "fsstore $("$bins/sync-peer" fsstore-pull "$work/got" $fsstore)" >>"$work/rows"
  # noq ends a connection now and then with "too many gaps in stream buffer": such a run does not count
  fresh; if seconds=$(timeout 60 "$bins/sync-peer" raw-pull "$work/got" $raw); then echo "raw $seconds" >>"$work/rows"; fi
  lode_pull lode-iroh --no-lan
  lode_pull lode-lan
  fresh
  [ -z "$nginx" ] || { echo -n "curl-nginx "; curl -sf -o "$work/got" -w '%{time_total}\n' "http://127.0.0.1:7471/$(basename "$file")"; } >>"$work/rows"
done
python3 - "$work/rows" "$size" <<'PY'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    name, seconds = line.split()
    rows.setdefault(name, []).append(float(seconds))
size, middle = int(sys.argv[2]), {name: statistics.median(found) for name, found in rows.items()}
print(f"| what | seconds (median of {len(rows['raw'])}) | GB/s |\n|---|---|---|")
for name, seconds in middle.items():
    print(f"| {name} | {seconds:.2f} | {size / seconds / 1e9:.2f} |")
print(f"\nlode pull by iroh / FsStore pair: {middle['fsstore'] / middle['lode-iroh']:.2f} (bars 1.3 and 1.5)")
print(f"lode pull by iroh / raw iroh, four streams, synced: {middle['raw'] / middle['lode-iroh']:.2f} (bar 0.8)")
if "curl-nginx" in middle:
    print(f"lode pull by the LAN path / curl from nginx: {middle['curl-nginx'] / middle['lode-lan']:.2f} (bar 0.8)")
PY

rm -rf "$work/got" "$work/out"
"$lode" --home "$work/b" -q pull bench/model@v1 --from "$ticket" >/dev/null
"$bins/make-model" --size "${gib}GiB" --shards 1 --change 0.1 "$work/model2" >/dev/null
before=$(du -s --block-size=1 "$work/b" | cut -f1)
"$lode" --home "$work/a" -q push "$work/model2" bench/model -m 'a tenth changed' >/dev/null
"$lode" --home "$work/b" --json -q pull bench/model --from "$ticket" >"$work/second.json"
after=$(du -s --block-size=1 "$work/b" | cut -f1)
python3 - "$work/second.json" "$size" $((after - before)) <<'PY'
import json, sys
pulled = json.loads(open(sys.argv[1]).read().splitlines()[-1])
size = int(sys.argv[2])
print(f"\nsecond version, 10 % of the bytes changed: {pulled['size_fetched'] / size:.1%} of the bytes sent, "
      f"{int(sys.argv[3]) / size:.1%} stored (bar 11 %)")
PY
