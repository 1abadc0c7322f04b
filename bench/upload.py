"""`hf upload` of one file to a node, and to the reference storage of Xet behind a stub of the Hub, in one run.

usage: upload.py LODE REFERENCE VENV FILE WORK RUNS      (REFERENCE may be `none`)

Client and server share the machine: the time is that of both. Each run uploads bytes that neither has seen, with a cache of the
client's own, to a fresh home or folder.
"""
import http.server
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

LODE, REFERENCE, VENV, FILE, WORK, RUNS = sys.argv[1:7]
WORK = pathlib.Path(WORK)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(address):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=1).read()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{address} does not answer")


class Hub(http.server.BaseHTTPRequestHandler):
    """What a client asks of the Hub around an upload by Xet; the commit is only said to be done."""

    storage = ""

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        if isinstance(value, dict) and "casUrl" in value:
            self.send_header("x-xet-cas-url", value["casUrl"])
            self.send_header("x-xet-access-token", value["accessToken"])
            self.send_header("x-xet-token-expiration", str(value["exp"]))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"casUrl": self.storage, "accessToken": "t", "exp": int(time.time()) + 3600, "id": "a/b", "sha": "0" * 40})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self.answer({"files": [{"path": file["path"], "uploadMode": "lfs", "shouldIgnore": False} for file in files]})
        elif "/commit/" in self.path:
            base = f"http://{self.headers['host']}"
            self.answer({
                "success": True, "commitOid": "0" * 40, "commitUrl": f"{base}/a/b/commit/{'0' * 40}", "hookOutput": "",
                "pullRequestUrl": None,
            })
        else:
            self.answer({"url": f"http://{self.headers['host']}/a/b"})

    def log_message(self, *_):
        pass


def upload(endpoint, cache):
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_TOKEN": "hf_" + "a" * 36,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    start = time.monotonic()
    subprocess.run(
        [f"{VENV}/bin/hf", "upload", "a/b", FILE, pathlib.Path(FILE).name],
        env=environment, check=True, stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - start


def cpu(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lode(folder):
    port = free_port()
    environment = {**os.environ, "LODE_HOME": str(folder / "home"), "LODE_OFFLINE": "1"}
    process = subprocess.Popen(
        [LODE, "serve", "--http", f"127.0.0.1:{port}", "--listen", "127.0.0.1:0"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    wait_for(f"http://127.0.0.1:{port}/readyz")
    return process, f"http://127.0.0.1:{port}"


def reference(folder):
    port = free_port()
    process = subprocess.Popen([REFERENCE, folder / "cas", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(f"http://127.0.0.1:{port}/health")
    Hub.storage = f"http://127.0.0.1:{port}"
    hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    return process, f"http://127.0.0.1:{hub.server_address[1]}"


def main():
    sides = {"lode": lode, **({} if REFERENCE == "none" else {"reference": reference})}
    rows = {label: [] for label in sides}
    for _ in range(int(RUNS)):
        for label, start in sides.items():
            folder = WORK / "run"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            process, endpoint = start(folder)
            try:
                wall = upload(endpoint, folder / "cache")
                rows[label].append((wall, cpu(process)))
            finally:
                process.kill()
                process.wait()
    shutil.rmtree(WORK / "run", ignore_errors=True)
    size = os.path.getsize(FILE)
    print("| server | seconds (median) | GB/s | server's CPU s |\n|---|---|---|---|")
    median = {}
    for label, found in rows.items():
        wall, used = (statistics.median(column) for column in zip(*found))
        median[label] = wall
        print(f"| {label} | {wall:.2f} | {size / wall / 1e9:.3f} | {used:.2f} |")
    if "reference" in median:
        print(f"\nlode / reference throughput: {median['reference'] / median['lode']:.2f} (bar 1.0)")


main()
