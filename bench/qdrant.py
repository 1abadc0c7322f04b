#!/usr/bin/env python3
"""Collections over HTTP: ingest beside qdrant-edge's own upsert, and searches beside those of the engine in one process.

usage: qdrant.py LODE BENCH [--points 50000] [--seconds 10] [--rate 640] [--rounds 2]

Run by bench/qdrant.sh. The points are the sentence embeddings of ../shared/data where they are (LODE_BENCH_DATA names another
safetensors file with `embeddings` and `queries`), with disturbed copies up to the number that is asked for; else clusters of the
same size. They are sent by the real qdrant-client (upload_collection, batches of 64) once, to a recorder: what it sent is what the
node is then sent, so that the client's own time is left out. CPU seconds are those of the server's threads: those that answer, and
those that make segments and graphs in the background. Reading requests
is measured apart: the same bodies for a collection of another dimension, which are read whole and refused.
"""
import argparse
import http.server
import json
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("LODE_BENCH_DATA", ROOT.parent / "shared/data/minilm384-f16.safetensors"))
BATCH = 64


def tensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    for name in ("embeddings", "queries"):
        start, end = header[name]["data_offsets"]
        kind = {"F16": np.float16, "F32": np.float32}[header[name]["dtype"]]
        yield np.frombuffer(data[8 + length + start:8 + length + end], dtype=kind).reshape(header[name]["shape"]).astype(np.float32)


def vectors(points):
    random = np.random.default_rng(1)
    if DATA.exists():
        base, queries = tensors(DATA)
    else:
        centres = random.normal(size=(500, 384))
        base = (centres[random.integers(500, size=points)] + random.normal(size=(points, 384))).astype(np.float32)
        queries = (centres[random.integers(500, size=500)] + random.normal(size=(500, 384))).astype(np.float32)
    more = max(0, points - len(base))
    copies = base[random.integers(len(base), size=more)] + random.normal(scale=0.01, size=(more, base.shape[1]))
    base = np.concatenate([base, copies.astype(np.float32)])[:points]
    return [np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True)) for rows in (base, queries)]


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers as a server would, and keeps the bodies of upserts."""

    protocol_version = "HTTP/1.1"

    def answer(self, result):
        body = json.dumps({"result": result, "status": "ok", "time": 0}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"title": "recorder", "version": "1.20.0"})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.split("?")[0].endswith("/points"):
            self.server.bodies.append(body)
        self.answer({"operation_id": 1, "status": "acknowledged"})

    def log_message(self, *_):
        pass


def record(base, path):
    from qdrant_client import QdrantClient
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.bodies = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = QdrantClient(url=f"http://127.0.0.1:{server.server_port}", check_compatibility=False)
    payloads = ({"value": at % 1000, "source": "bench"} for at in range(len(base)))
    client.upload_collection("bench", vectors=base, payload=payloads, ids=range(len(base)), batch_size=BATCH)
    server.shutdown()
    with path.open("wb") as file:
        for body in server.bodies:
            file.write(struct.pack("<I", len(body)) + body)
    count = len(server.bodies)
    assert count == -(-len(base) // BATCH), count


def edge(base, folder):
    """CPU seconds of the engine's upserts: points and operations are made beforehand, and are not counted."""
    import qdrant_edge as q
    folder.mkdir()
    shard = q.EdgeShard.create(str(folder), q.EdgeConfig(vectors=q.EdgeVectorParams(size=base.shape[1], distance=q.Distance.Cosine)))
    making, began = 0.0, time.process_time()
    for start in range(0, len(base), BATCH):
        before = time.process_time()
        rows = base[start:start + BATCH].tolist()
        points = [q.Point(start + at, row, {"value": (start + at) % 1000, "source": "bench"}) for at, row in enumerate(rows)]
        operation = q.UpdateOperation.upsert_points(points)
        making += time.process_time() - before
        shard.update(operation)
    upsert = time.process_time() - began - making
    before = time.process_time()
    shard.optimize()
    shard.flush()
    return {"upsert": upsert, "optimize": time.process_time() - before}


class Threads:
    """CPU seconds of the threads of a process, by what they do."""

    def __init__(self, pid):
        self.pid, self.seen, self.stop = pid, {}, threading.Event()
        self.before = self.look() or {}
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def look(self):
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                name = (task / "comm").read_text().strip()
                self.seen[task.name] = (name, int((task / "schedstat").read_text().split()[0]) / 1e9)
            except OSError:
                pass
        return dict(self.seen)

    def run(self):
        while not self.stop.wait(0.1):
            self.look()

    def done(self):
        self.stop.set()
        self.thread.join()
        return self.spent()

    def spent(self):
        spent = {"answering": 0.0, "background": 0.0}
        for task, (name, seconds) in self.look().items():
            # threads that build graphs are children of the one that maintains collections, and have its name
            spent["background" if name == "collections" else "answering"] += seconds - self.before.get(task, (name, 0))[1]
        return spent


class Node:
    def __init__(self, lode, home):
        self.lode, self.environment = lode, {**os.environ, "LODE_OFFLINE": "1", "LODE_HOME": str(home)}
        command = [lode, "serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.time() + 60
        self.address = None
        while not self.address:
            assert time.time() < deadline and self.process.poll() is None, "the node did not come up"
            time.sleep(0.1)
            if (home / "control.sock").exists():
                told = subprocess.run([lode, "--json", "status"], env=self.environment, capture_output=True, text=True)
                self.address = told.returncode == 0 and json.loads(told.stdout).get("http")

    def client(self):
        from qdrant_client import QdrantClient
        return QdrantClient(url=f"http://{self.address}", timeout=60)

    def settled(self):
        """Waits until nothing is done in the background."""
        threads, still = Threads(self.process.pid), 0
        before = None
        while still < 5:
            time.sleep(0.3)
            now = threads.spent()["background"]
            still = still + 1 if before is not None and now - before < 0.005 else 0
            before = now
        threads.done()

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def run(*command):
    return json.loads(subprocess.check_output([str(word) for word in command]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lode"), parser.add_argument("bench")
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=640)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--prepared", help="a program that is run when all is recorded, before anything is measured")
    args = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="lode-collections-", dir=os.environ.get("LODE_BENCH_DIR")))
    node = None
    try:
        base, queries = vectors(args.points)
        base.tofile(work / "base"), queries.tofile(work / "queries")
        record(base, work / "bodies")
        if args.prepared:
            subprocess.run([args.prepared], check=True)
        from qdrant_client import models
        params = models.VectorParams(size=base.shape[1], distance=models.Distance.COSINE)
        each = 1e6 / len(base)
        rows = {}
        note = lambda name, seconds: rows.setdefault(name, []).append(seconds * each)
        for turn in range(args.rounds):
            told = json.loads(subprocess.check_output([sys.executable, __file__, "edge", str(work / "base"), str(base.shape[1]), str(work / f"edge-{turn}")]))
            note("qdrant-edge: upsert", told["upsert"]), note("qdrant-edge: optimize", told["optimize"])
            if node:
                node.client().delete_collection("bench")
            node = node or Node(args.lode, work / "home")
            node.client().create_collection("bench", vectors_config=params)
            if turn == 0:
                node.client().create_collection("other", vectors_config=models.VectorParams(size=base.shape[1] + 1, distance=models.Distance.COSINE))
            threads = Threads(node.process.pid)
            run(args.bench, "ingest", node.address, "other", 400, work / "bodies")
            read = threads.done()["answering"]
            threads = Threads(node.process.pid)
            sent = run(args.bench, "ingest", node.address, "bench", 200, work / "bodies")
            node.settled()
            spent = threads.done()
            note("lode: answering", spent["answering"]), note("of it reading requests: HTTP and JSON", read)
            note("without reading requests", spent["answering"] - read)
            note("lode: segments and graphs", spent["background"])
            note("wall clock of the upserts", sent["wall_s"])
        print(f"{len(base)} points of {base.shape[1]} components, {sent['bytes'] / 1e6:.0f} MB of JSON in {sent['requests']} requests\n")
        print("| CPU, µs a point | median | all |\n|---|---|---|")
        for name, values in rows.items():
            print(f"| {name} | {statistics.median(values):.1f} | {', '.join(f'{value:.1f}' for value in values)} |")
        ratio = statistics.median(rows["without reading requests"]) / statistics.median(rows["qdrant-edge: upsert"])
        print(f"\nwithout reading requests / qdrant-edge: {ratio:.2f} (bar 1)\n")
        dim, found, bare = base.shape[1], {"here": [], "http": []}, []
        for turn in range(args.rounds):
            node.settled()
            # the same segments: what the engine finds in them is one thing, what asking over HTTP adds is another
            (data,) = (work / "home/collections").glob("bench.*/data")
            shutil.copytree(data, work / f"here-{turn}")
            found["here"].append(run(args.bench, "here", work / f"here-{turn}", work / "base", work / "queries", dim, args.seconds, args.rate))
            shutil.rmtree(work / f"here-{turn}")
            found["http"].append(run(args.bench, "http", node.address, work / "queries", dim, args.seconds, args.rate, work / "bodies"))
            bare.append(run(args.bench, "bare", args.seconds))
        print("| searches, ms | p50 alone | p99 alone | p50 while writing | p99 while writing | points/s written |\n|---|---|---|---|---|---|")
        middle = {}
        for name, turns in found.items():
            of = lambda when, what: statistics.median(turn[when][what] for turn in turns)
            middle[name] = {(when, what): of(when, what) for when in ("alone", "writing") for what in ("p50", "p99")}
            shown = " | ".join(f"{middle[name][when, what]:.3f}" for when in ("alone", "writing") for what in ("p50", "p99"))
            print(f"| {name} | {shown} | {statistics.median(turn['points_per_second'] for turn in turns):.0f} |")
        of = lambda what: statistics.median(turn[what] for turn in bare)
        print(f"\nan exchange of as many bytes over loopback and nothing else: p50 {of('p50'):.3f} ms, p99 {of('p99'):.3f} ms")
        for when in ("alone", "writing"):
            here, over = middle["here"], middle["http"]
            bar = 1.5 * here[when, "p50"] + 0.3
            print(f"{when}: p50 over HTTP {over[when, 'p50']:.3f} ms (bar {bar:.3f}), p99 {over[when, 'p99'] / here[when, 'p99']:.1f} times (bar 3)")
    finally:
        if node:
            node.stop()
        shutil.rmtree(work)


if __name__ == "__main__":
    if sys.argv[1:2] == ["edge"]:
        base, dim, folder = sys.argv[2:]
        print(json.dumps(edge(np.fromfile(base, dtype=np.float32).reshape(-1, int(dim)), pathlib.Path(folder))))
    else:
        main()
