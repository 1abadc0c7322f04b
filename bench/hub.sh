#!/usr/bin/env bash
# A model of 2 GB by an unmodified `hf download`: from a local node beside nginx that serves the same answers and the
# same bytes (sendfile), in one run and in turns; then the time to a file's first byte, by curl.
# usage: bench/hub.sh [GIB=2] [RUNS=3]   Work folder: LODE_BENCH_DIR or a temporary one. Needs nginx, curl and scripts/setup.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-2} runs=${2:-3}
command -v nginx >/dev/null || { echo "nginx is not installed: apt-get install nginx-light" >&2; exit 2; }
hf=$PWD/.cache/hub-2.4.0/bin/hf
[ -x "$hf" ] || { echo "no $hf: run scripts/setup" >&2; exit 2; }
work=${LODE_BENCH_DIR:-$(mktemp -d)}
mkdir -p "$work/hub"
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release -q --manifest-path bench/Cargo.toml
lode=$PWD/target/release/lode
bins=${CARGO_TARGET_DIR:-$PWD/bench/target}/release
model=$work/hub/model
[ -d "$model" ] || "$bins/make-model" --size "${gib}GiB" --shards 2 "$model"
export LODE_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 HF_HUB_DISABLE_TELEMETRY=1
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
rm -rf "$work/hub/home"
"$lode" --home "$work/hub/home" -q push "$model" bench/model --in-place >/dev/null
"$lode" --home "$work/hub/home" serve --http 127.0.0.1:7171 --listen 127.0.0.1:0 2>"$work/hub/serve.log" &
pids+=($!)
until curl -sf -o /dev/null http://127.0.0.1:7171/readyz; do sleep 0.2; done
# What the node says is what nginx says: its lists as files, its headers as they are.
api=http://127.0.0.1:7171/api/models/bench/model
mkdir -p "$work/hub/said"
curl -sf "$api/revision/main" >"$work/hub/said/revision.json"
commit=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["sha"])' "$work/hub/said/revision.json")
curl -sf "$api/tree/$commit?recursive=true" >"$work/hub/said/tree.json"
python3 - "$work/hub" "$model" "$commit" >"$work/hub/nginx.conf" <<'PY'
import json, pathlib, sys
work, model, commit = sys.argv[1:]
print(f"daemon off; pid {work}/nginx.pid; error_log {work}/nginx.log; worker_processes 2; events {{}}")
print("http { access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;")
print("".join(f"{kind}_temp_path {work}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")))
print("server { listen 127.0.0.1:7172;")
for path, said in ((f"revision/main", "revision"), (f"tree/{commit}", "tree")):
    print(f"location = /api/models/bench/model/{path} {{ default_type application/json; alias {work}/said/{said}.json; }}")
for row in json.loads(pathlib.Path(work, "said/tree.json").read_text()):
    if row["type"] == "file":
        tag = row.get("lfs", row)["oid"]
        print(f"location = /bench/model/resolve/{commit}/{row['path']} {{ alias {model}/{row['path']}; add_header X-Repo-Commit {commit};"
              f" add_header X-Linked-ETag '\"{tag}\"'; add_header X-Linked-Size {row['size']}; }}")
print("} }")
PY
nginx -c "$work/hub/nginx.conf" &
pids+=($!)
until curl -s -o /dev/null http://127.0.0.1:7172/; do sleep 0.2; done
file=$(cd "$model" && ls -S | head -n 1)
python3 - "$work/hub" "$model" "$runs" "$hf" "/bench/model/resolve/$commit/$file" <<'PY'
import filecmp, os, pathlib, shutil, statistics, subprocess, sys, time
work, model, runs, hf, path = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]
servers = {"nginx": "http://127.0.0.1:7172", "lode": "http://127.0.0.1:7171"}
size = sum(file.stat().st_size for file in model.iterdir())

def download(server):
    for folder in ("out", "hf"):
        shutil.rmtree(work / folder, ignore_errors=True)
    environment = {**os.environ, "HF_ENDPOINT": server, "HF_HOME": str(work / "hf")}
    start = time.monotonic()
    subprocess.run([hf, "download", "bench/model", "--local-dir", work / "out"], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start

times = {name: [] for name in servers}
for run in range(runs + 1):
    for name, server in servers.items():
        seconds = download(server)
        if run == 0:  # The first one warms the page cache, and is looked at.
            for file in model.iterdir():
                assert filecmp.cmp(file, work / "out" / file.name, shallow=False), file
        else:
            times[name].append(seconds)
middle = {name: statistics.median(values) for name, values in times.items()}
for name, seconds in middle.items():
    print(f"hf download  {name:6} {seconds:6.2f} s  {size / seconds / 1e9:5.2f} GB/s  rate to nginx's {middle['nginx'] / seconds:.2f}")

def first_byte(url):
    out = subprocess.check_output(["curl", "-sf", "-o", "/dev/null", "-w", "%{time_starttransfer}", url, "-r", "0-1048575"])
    return float(out) * 1e3

firsts = {name: statistics.median(first_byte(server + path) for _ in range(51)) for name, server in servers.items()}
for name, milliseconds in firsts.items():
    print(f"first byte   {name:6} {milliseconds:6.2f} ms  {milliseconds / firsts['nginx']:.2f} times nginx's")
for folder in ("out", "hf"):
    shutil.rmtree(work / folder, ignore_errors=True)
PY
