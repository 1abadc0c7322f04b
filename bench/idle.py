#!/usr/bin/env python3
"""What idle connections cost a node, and what a long download does to short reads beside it.

    bench/idle.py [--lode target/release/lode] [--connections 5000] [--gib 10] [--dir /dev/shm]

Prints JSON: resident and anonymous memory of `lode serve` before and with so many keep-alive connections, each of which was
answered once; and the 50th and 99th percentile of reads of 4 KiB over one connection, alone and while curl downloads a file
of 1 GiB again and again until it has so many GiB; those of nginx with the same file, where it is installed. Clients and server share the machine.
"""
import argparse
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time


def memory(pid):
    """Resident and anonymous MiB of a process."""
    with open(f"/proc/{pid}/status") as status:
        rows = dict(line.split(":", 1) for line in status)
    return {name: int(rows[key].split()[0]) / 1024 for name, key in (("resident", "VmRSS"), ("anonymous", "RssAnon"))}


def serve(lode, home):
    node = subprocess.Popen(
        [lode, "--home", home, "serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
        stderr=subprocess.PIPE, text=True, env={"LODE_OFFLINE": "1"},
    )
    port = None
    for line in node.stderr:
        if line.startswith("http "):
            port = int(line.rsplit(":", 1)[1])
        if line.startswith("ready"):
            return node, port
    sys.exit("the node did not start")


def idle(port, pid, connections):
    before = memory(pid)
    request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held = []
    for _ in range(connections):
        stream = socket.create_connection(("127.0.0.1", port))
        stream.sendall(request)
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        held.append(stream)
    with_them = memory(pid)
    for stream in held[:: max(1, connections // 100)]:
        stream.sendall(request)
        assert stream.recv(4096).startswith(b"HTTP/1.1 200"), "an idle connection is still served"
    for stream in held:
        stream.close()
    return {"connections": connections, "before_mib": before, "with_mib": with_them}


def reads(port, path, seconds):
    """Milliseconds of reads of 4 KiB, one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took, end, at = [], time.monotonic() + seconds, 0
    while time.monotonic() < end:
        at = (at + 7_654_321) % (2**30 - 4096)
        start = time.perf_counter()
        connection.request("GET", path, headers={"Range": f"bytes={at}-{at + 4095}"})
        body = connection.getresponse().read()
        took.append((time.perf_counter() - start) * 1000)
        assert len(body) == 4096
    took.sort()
    return {"reads": len(took), "p50_ms": took[len(took) // 2], "p99_ms": took[len(took) * 99 // 100]}


def beside(port, path, seconds, gib):
    """Reads alone, and while curl downloads the file again and again."""
    reads(port, path, 1)
    found = {"alone": reads(port, path, seconds)}
    start = time.monotonic()
    load = subprocess.Popen(["curl", "-sSf", *["-o", "/dev/null", f"http://127.0.0.1:{port}{path}"] * gib])
    time.sleep(0.2)
    rows = []
    while load.poll() is None:
        rows.append(reads(port, path, 1))
    took = time.monotonic() - start
    assert load.returncode == 0
    rows.sort(key=lambda row: row["p99_ms"])
    found["beside"] = rows[len(rows) // 2]
    found["download"] = {"gib": gib, "gib_a_second": gib / took, "windows": len(rows)}
    found["p99_ratio"] = found["beside"]["p99_ms"] / found["alone"]["p99_ms"]
    return found


def nginx(folder, port):
    with open(os.path.join(folder, "nginx.conf"), "w") as out:
        places = "".join(f"{kind}_temp_path {folder}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        out.write(f"daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 2; events {{}}\n"
                  f"http {{ access_log off; sendfile on; tcp_nopush on; {places} server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n")
    server = subprocess.Popen(["nginx", "-c", os.path.join(folder, "nginx.conf")])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except ConnectionRefusedError:
            time.sleep(0.05)


FILE = "/lode/v1/models/acme/big/main/files/big.bin"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lode", default="target/release/lode")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--gib", type=int, default=10)
    parser.add_argument("--dir", default="/dev/shm")
    parser.add_argument("--seconds", type=float, default=8)
    asked = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = tempfile.mkdtemp(prefix="lode-idle-", dir=asked.dir)
    node = peer = None
    try:
        home, big = os.path.join(folder, "home"), os.path.join(folder, "big.bin")
        with open(big, "wb") as file:
            block = os.urandom(1 << 20)
            for number in range(1024):
                file.write(number.to_bytes(8, "little") + block[8:])
        push = [asked.lode, "--home", home, "push", big, "acme/big"]
        subprocess.run(push, check=True, env={"LODE_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
        node, port = serve(asked.lode, home)
        found = {"idle": idle(port, node.pid, asked.connections)}
        found |= beside(port, FILE, asked.seconds, asked.gib)
        found["after_mib"] = memory(node.pid)
        if shutil.which("nginx"):
            peer = nginx(folder, 7174)
            found["nginx"] = beside(7174, "/big.bin", asked.seconds, asked.gib)
        print(json.dumps(found, indent=1))
    finally:
        if peer:
            peer.terminate()
            peer.wait()
        if node:
            node.send_signal(signal.SIGTERM)
            node.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
