#!/usr/bin/env bash
# Swarms in network namespaces behind limited uplinks: three providers, twelve nodes beside libtorrent, a node that is
# killed, and a swarm with liars. Prints a markdown table and the ratio to its bar for each part.
# usage: bench/swarm.sh [PART..]    PART: three, twelve, killed, liars (all of them when none is named)
# Needs root, iproute2 with tbf, and Python with venv (libtorrent comes from PyPI; without it, its row is left out).
# Work folder: LODE_BENCH_DIR or a temporary one; about 5 GB, removed at the end with all namespaces and processes.
# LODE_SWARM_LOG=FILE keeps what the nodes say (with LODE_LOG as the filter).
set -euo pipefail
cd "$(dirname "$0")/.."
work=${LODE_BENCH_DIR:-$(mktemp -d)}/swarm$$
mkdir -p "$work"
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release -q --manifest-path bench/Cargo.toml
export LODE_OFFLINE=1 LODE=$PWD/target/release/lode
export MAKE_MODEL=${CARGO_TARGET_DIR:-$PWD/bench/target}/release/make-model
tag=lsw$$
spaces() { ip netns list | awk -v tag="$tag-" 'index($1, tag) == 1 { print $1 }'; }
cleanup() {
  for space in $(spaces); do
    for pid in $(ip netns pids "$space"); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns del "$space" || true
  done
  [ -z "${LODE_SWARM_LOG:-}" ] || cat "$work"/*.log >"$LODE_SWARM_LOG" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
if ! ip netns add "$tag-hub" 2>/dev/null; then
  echo "skipped: no network namespaces here (they need root and iproute2)"
  exit 0
fi
venv=${LODE_BENCH_VENV:-$work/venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import libtorrent' 2>/dev/null || "$venv/bin/pip" install -q libtorrent || true
for part in "${@:-three twelve killed liars}"; do
  for one in $part; do "$venv/bin/python" bench/swarm.py "$one" "$work" "$tag"; done
done
