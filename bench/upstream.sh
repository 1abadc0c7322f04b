#!/usr/bin/env bash
# Nodes in network namespaces that find each other by multicast DNS and are asked for one commit of another hub at once:
# how much the hub sends, against the size of the model (issue 5: at most 1.2 times). The hub is a node too, behind an
# uplink of RATE. Each node is asked by huggingface_hub if HUB_PYTHON names a Python that has it, else by `lode pull`.
# usage: bench/upstream.sh [NODES [MIB [RATE]]]    default: 8 nodes, 512 MiB in 4 files, 400mbit
# Needs root and iproute2. Work folder: LODE_BENCH_DIR or a temporary one; (NODES + 2) times the model (twice that with
# huggingface_hub), removed at the end with all namespaces and processes. LODE=PATH names another binary.
set -euo pipefail
cd "$(dirname "$0")/.."
nodes=${1:-8} mib=${2:-512} rate=${3:-400mbit}
work=${LODE_BENCH_DIR:-$(mktemp -d)}/upstream$$
mkdir -p "$work"
lode=${LODE:-$PWD/target/release/lode}
[ -n "${LODE:-}" ] || [ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
export LODE_OFFLINE=1
tag=lup$$
cleanup() {
  for space in $(ip netns list | awk -v tag="$tag-" 'index($1, tag) == 1 { print $1 }'); do
    for pid in $(ip netns pids "$space"); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns del "$space" || true
  done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
if ! ip netns add "$tag-net" 2>/dev/null; then
  echo "skipped: no network namespaces here (they need root and iproute2)"
  exit 0
fi
ip -n "$tag-net" link add br0 type bridge
ip -n "$tag-net" link set br0 up
# One namespace by number: 1 is the hub.
join() {
  ip netns add "$tag-$1"
  ip link add "v$1" netns "$tag-net" type veth peer name eth0 netns "$tag-$1"
  ip -n "$tag-net" link set "v$1" master br0 up
  ip -n "$tag-$1" addr add "10.77.0.$1/24" brd + dev eth0
  ip -n "$tag-$1" link set eth0 up
  ip -n "$tag-$1" link set lo up
  ip -n "$tag-$1" route add default dev eth0
}
in_space() { ip netns exec "$tag-$1" "${@:2}"; }
for ((at = 1; at <= nodes + 1; at++)); do join "$at"; done
in_space 1 tc qdisc add dev eth0 root tbf rate "$rate" burst 1mb latency 200ms
mkdir "$work/model"
for ((at = 1; at <= 4; at++)); do head -c "$((mib / 4))M" /dev/urandom >"$work/model/part-$at.bin"; done
echo '{"model_type":"llama"}' >"$work/model/config.json"
export LODE_HOME=$work/hub
"$lode" -q push "$work/model" acme/tiny --public >"$work/out"
"$lode" -q token create --scope read --name any >"$work/out"
in_space 1 "$lode" serve --http 10.77.0.1:7070 --rate-anonymous 0 2>"$work/hub.log" &
wait_for() { for _ in $(seq 300); do in_space "$1" curl -sf "$2" -o "$work/out" && return; sleep 0.1; done; cat "$work"/*.log; return 1; }
wait_for 1 http://10.77.0.1:7070/healthz
for ((at = 2; at <= nodes + 1; at++)); do
  LODE_HOME=$work/node$at in_space "$at" "$lode" --mdns serve --http 127.0.0.1:7070 \
    --upstream http://10.77.0.1:7070 --upstream-private 2>"$work/node$at.log" &
done
for ((at = 2; at <= nodes + 1; at++)); do wait_for "$at" http://127.0.0.1:7070/healthz; done
sleep 3 # for mDNS
sent() { in_space 1 cat /sys/class/net/eth0/statistics/tx_bytes; }
before=$(sent) start=$(date +%s.%N)
pids=()
for ((at = 2; at <= nodes + 1; at++)); do
  if [ -n "${HUB_PYTHON:-}" ]; then
    HF_ENDPOINT=http://127.0.0.1:7070 HF_HOME=$work/hf$at HF_HUB_DISABLE_PROGRESS_BARS=1 in_space "$at" "$HUB_PYTHON" -c \
      "from huggingface_hub import snapshot_download as s; print(s('acme/tiny'))" >"$work/got$at" &
  else
    LODE_HOME=$work/node$at in_space "$at" "$lode" -q pull hf:acme/tiny >"$work/got$at" &
  fi
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
end=$(date +%s.%N) after=$(sent)
if [ -n "${HUB_PYTHON:-}" ]; then
  for ((at = 2; at <= nodes + 1; at++)); do diff -r "$work/model" "$(cat "$work/got$at")"; done
else
  for ((at = 2; at <= nodes + 1; at++)); do LODE_HOME=$work/node$at "$lode" -q verify hf:acme/tiny >"$work/out"; done
fi
size=$(du -bc "$work"/model/* | tail -1 | cut -f1)
python3 - "$nodes" "$size" "$((after - before))" "$start" "$end" "$rate" <<'PY'
import sys
nodes, size, sent, start, end, rate = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]), sys.argv[6]
print("| nodes | model, MiB | uplink of the hub | time, s | the hub sent, MiB (frames and all) | of the model |\n|---|---|---|---|---|---|")
print(f"| {nodes} | {size / 2**20:.0f} | {rate} | {end - start:.1f} | {sent / 2**20:.0f} | {sent / size:.2f} |")
PY
