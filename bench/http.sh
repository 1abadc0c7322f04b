#!/usr/bin/env bash
# One file over HTTP on loopback: `lode serve` beside nginx with sendfile, both read by curl in one run.
# usage: bench/http.sh [GIB=1] [RUNS=5]   Work folder: LODE_BENCH_DIR or a temporary one. Needs nginx and curl.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-1} runs=${2:-5}
command -v nginx >/dev/null || { echo "nginx is not installed: apt-get install nginx-light" >&2; exit 2; }
work=${LODE_BENCH_DIR:-$(mktemp -d)}
mkdir -p "$work/http"
cargo build --release --locked -q -p lode-cli
cargo build --release -q --manifest-path bench/Cargo.toml
lode=$PWD/target/release/lode
bins=${CARGO_TARGET_DIR:-$PWD/bench/target}/release
model=$work/http/model
[ -d "$model" ] || "$bins/make-model" --size "${gib}GiB" --shards 1 "$model"
file=$(ls -S "$model" | head -n 1)
export LODE_OFFLINE=1 LODE_HOME=$work/http/home
rm -rf "$LODE_HOME"
"$lode" push "$model" bench/copied
"$lode" push "$model" bench/outside --in-place
"$lode" serve --http 127.0.0.1:7171 --listen 127.0.0.1:0 2>"$work/http/serve.log" &
pids=($!)
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
cat >"$work/http/nginx.conf" <<CONF
daemon off; pid $work/http/nginx.pid; error_log $work/http/nginx.log; worker_processes 2;
events {}
http { access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  client_body_temp_path $work/http; proxy_temp_path $work/http; fastcgi_temp_path $work/http; uwsgi_temp_path $work/http; scgi_temp_path $work/http;
  server { listen 127.0.0.1:7172; root $model; } }
CONF
nginx -c "$work/http/nginx.conf" &
pids+=($!)
until curl -sf -o /dev/null http://127.0.0.1:7171/readyz && curl -s -o /dev/null http://127.0.0.1:7172/; do sleep 0.2; done
base=http://127.0.0.1:7171/lode/v1/models/bench
python3 - "$runs" "http://127.0.0.1:7172/$file" "$base/copied/main/files/$file" "$base/outside/main/files/$file" <<'PY'
import statistics, subprocess, sys
runs, urls = int(sys.argv[1]), dict(zip(("nginx", "lode", "lode in place"), sys.argv[2:]))

def rate(url, *more):
    out = subprocess.check_output(["curl", "-sf", "-o", "/dev/null", "-w", "%{speed_download}", *more, url])
    return float(out) / 1e9

for what, more in (("whole", ()), ("range", ("-r", "1048577-536870912"))):
    rates = {name: [] for name in urls}
    for name, url in urls.items():
        rate(url, *more)
    for _ in range(runs):
        for name, url in urls.items():
            rates[name].append(rate(url, *more))
    peer = statistics.median(rates["nginx"])
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{what:6} {name:14} {middle:6.2f} GB/s  ratio to nginx {middle / peer:.2f}")
PY
