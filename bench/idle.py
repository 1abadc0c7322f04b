#!/usr/bin/env python3
"""What idle connections cost a node, and what a long download does to short reads beside it.

    bench/idle.py [--lode target/release/lode] [--connections 5000] [--gib 10] [--dir /dev/shm]

Prints JSON: resident and anonymous memory of `lode serve` before and with so many keep-alive connections, each of which was
answered once; and the 50th and 99th percentile of reads of 4 KiB over one connection, alone and while curl downloads a file
of 1 GiB again and again until it has so many GiB. Client and node share the machine.
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


def reads(port, seconds):
    """Milliseconds of reads of 4 KiB, one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took, end, at = [], time.monotonic() + seconds, 0
    while time.monotonic() < end:
        at = (at + 7_654_321) % (2**30 - 4096)
        start = time.perf_counter()
        connection.request("GET", FILE, headers={"Range": f"bytes={at}-{at + 4095}"})
        body = connection.getresponse().read()
        took.append((time.perf_counter() - start) * 1000)
        assert len(body) == 4096
    took.sort()
    return {"reads": len(took), "p50_ms": took[len(took) // 2], "p99_ms": took[len(took) * 99 // 100]}


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
    node = None
    try:
        home, big = os.path.join(folder, "home"), os.path.join(folder, "big.bin")
        with open(big, "wb") as file:
            block = os.urandom(1 << 20)
            for number in range(1024):
                file.write(number.to_bytes(8, "little") + block[8:])
        push = [asked.lode, "--home", home, "push", big, "acme/big"]
        subprocess.run(push, check=True, env={"LODE_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
        os.remove(big)
        node, port = serve(asked.lode, home)
        found = {"idle": idle(port, node.pid, asked.connections)}
        reads(port, 1)
        found["alone"] = reads(port, asked.seconds)
        url = f"http://127.0.0.1:{port}{FILE}"
        times = asked.gib
        start = time.monotonic()
        load = subprocess.Popen(["curl", "-sSf", *["-o", "/dev/null", url] * times])
        time.sleep(0.2)
        beside = []
        while load.poll() is None:
            beside.append(reads(port, 1))
        seconds = time.monotonic() - start
        assert load.returncode == 0
        beside.sort(key=lambda row: row["p99_ms"])
        found["beside"] = beside[len(beside) // 2]
        found["download"] = {"gib": times, "gib_a_second": times / seconds, "windows": len(beside)}
        found["p99_ratio"] = found["beside"]["p99_ms"] / found["alone"]["p99_ms"]
        found["after_mib"] = memory(node.pid)
        print(json.dumps(found, indent=1))
    finally:
        if node:
            node.send_signal(signal.SIGTERM)
            node.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
