#!/usr/bin/env bash
# One file over HTTP on loopback: `lode serve` beside nginx with sendfile, in one run and in turns: read by curl
# (whole, and one long range), and by wrk in ranges of 16 KiB at random places, with the processor time that each takes.
# usage: bench/http.sh [GIB=1] [RUNS=5]   Work folder: LODE_BENCH_DIR or a temporary one. Needs nginx, curl, wrk.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-1} runs=${2:-5}
command -v nginx >/dev/null || { echo "nginx is not installed: apt-get install nginx-light" >&2; exit 2; }
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 2; }
work=${LODE_BENCH_DIR:-$(mktemp -d)}
mkdir -p "$work/http"
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release -q --manifest-path bench/Cargo.toml
lode=$PWD/target/release/lode
bins=${CARGO_TARGET_DIR:-$PWD/bench/target}/release
model=$work/http/model
[ -d "$model" ] || "$bins/make-model" --size "${gib}GiB" --shards 1 "$model"
file=$(ls -S "$model" | head -n 1)
export LODE_OFFLINE=1
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
# A home each, since what a home owns is read before files of its user.
serve() { # home, port, options of push..
  rm -rf "$work/http/$1"
  "$lode" --home "$work/http/$1" -q push "$model" bench/model "${@:3}" >/dev/null
  "$lode" --home "$work/http/$1" serve --http "127.0.0.1:$2" --listen 127.0.0.1:0 2>"$work/http/$1.log" &
  pids+=($!)
  until curl -sf -o /dev/null "http://127.0.0.1:$2/readyz"; do sleep 0.2; done
}
serve copied 7171
serve outside 7173 --in-place
cat >"$work/http/nginx.conf" <<CONF
daemon off; pid $work/http/nginx.pid; error_log $work/http/nginx.log; worker_processes 2;
events {}
http { access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  client_body_temp_path $work/http; proxy_temp_path $work/http; fastcgi_temp_path $work/http; uwsgi_temp_path $work/http; scgi_temp_path $work/http;
  server { listen 127.0.0.1:7172; root $model; } }
CONF
nginx -c "$work/http/nginx.conf" &
pids+=($!)
until curl -s -o /dev/null http://127.0.0.1:7172/; do sleep 0.2; done
path=lode/v1/models/bench/model/main/files/$file
python3 - "$runs" "$(stat -c %s "$model/$file")" "${pids[2]} ${pids[0]} ${pids[1]}" "http://127.0.0.1:7172/$file" "http://127.0.0.1:7171/$path" "http://127.0.0.1:7173/$path" <<'PY'
import glob, os, re, resource, statistics, subprocess, sys
NAMES = ("nginx", "lode", "lode in place")
runs, length, urls = int(sys.argv[1]), sys.argv[2], dict(zip(NAMES, sys.argv[4:]))
servers = dict(zip(NAMES, sys.argv[3].split()))

def ticks(server):
    """Processor time of a process and its children so far, in ticks of the kernel."""
    total = 0
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(path).read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if server in (path.split("/")[2], fields[1]):
            total += int(fields[11]) + int(fields[12])
    return total

def spent():
    """Processor time of clients that have ended, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

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

# Two cores carry client and server alike: one thread of wrk, eight connections.
MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
found = {name: [] for name in urls}
for _ in range(runs):
    for name, url in urls.items():
        command = ["wrk", "-t1", "-c8", "-d4s", "--latency", "-s", "bench/ranges.lua", url, "--", length]
        before, client = ticks(servers[name]), spent()
        out = subprocess.check_output(command, text=True)
        server = (ticks(servers[name]) - before) / os.sysconf("SC_CLK_TCK")
        if "Non-2xx" in out or "Socket errors" in out:
            sys.exit(f"{name}: {out}")
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
        count = int(re.search(r"(\d+) requests in", out).group(1))
        each = [1e6 * seconds / count for seconds in (server, spent() - client)]
        found[name].append((rate, float(value) * MILLISECONDS[unit], *each))
middle = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in found.items()}
for name, (rate, late, server, client) in middle.items():
    rates, lates = rate / middle["nginx"][0], late / middle["nginx"][1]
    print(f"16 KiB {name:14} {rate:8.0f} requests/s ({rates:.2f})  p99 {late:.2f} ms ({lates:.2f})"
          f"  processor {server:.1f} us a request, wrk {client:.1f}")
PY
