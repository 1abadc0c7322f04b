#!/usr/bin/env python3
"""Vector search beside faiss, hnswlib, usearch, Qdrant's engine and hnsw_rs: queries a CPU second at equal recall.

    python3 -m venv .cache/vectors && .cache/vectors/bin/pip install numpy faiss-cpu hnswlib usearch qdrant-edge-py
    cargo build --release --locked --manifest-path bench/vectors/Cargo.toml
    .cache/vectors/bin/python bench/vectors.py --data FILE.safetensors [--filters] [--rounds 3] [--svg OUT.svg]
    .cache/vectors/bin/python bench/vectors.py --synthetic 200000 [--engines lode,hnswlib] ..

The method is that of ann-benchmarks: the same vectors, M=16 and efConstruction=100 for all, truth from exact search, a curve of
recall@10 over the breadth of a search, and what it has at 0.95, 0.97 and 0.99 (log-linear between points). Each engine is a process of
its own, pinned to one core while it searches; rounds are interleaved, and medians taken. Time is CPU time of the process. Engines in
C++ get all queries in one call; lode and hnsw_rs one at a time. FILE has `embeddings` and `queries`, singles or halves, which are
normalised. --synthetic makes clustered vectors of 128 components, compared by Euclidean distance. `lode-hnsw_rs` is Lode's
search over a graph that hnsw_rs built of Lode's codes. Work folder: LODE_BENCH_DIR or a temporary one.
"""
import argparse
import json
import math
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RUNNER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "bench/vectors/target")) / "release/lode-bench-vectors"
K, M, CONSTRUCTION = 10, 16, 100
BREADTHS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)
RECALLS = (0.95, 0.97, 0.99)
SHARES = (0.01, 0.1, 0.5)
ENGINES = ("lode", "faiss-hnsw", "faiss-sq8-refine", "hnswlib", "usearch", "qdrant-edge", "hnsw_rs")
RUST = ("lode", "lode-hnsw_rs", "hnsw_rs")


def values(rows):
    """A number from 0 to 999 for each row: payloads that filters choose by. The runner has the same."""
    with np.errstate(over="ignore"):
        x = np.arange(rows, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((x ^ (x >> np.uint64(31))) % np.uint64(1000)).astype(np.int64)


class Faiss:
    def __init__(self, base, metric, refine):
        import faiss
        self.faiss = faiss
        faiss.omp_set_num_threads(2)
        kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2
        dim = base.shape[1]
        if refine:
            self.hnsw = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, M, kind)
            self.hnsw.hnsw.efConstruction = CONSTRUCTION
            self.index = faiss.IndexRefineFlat(self.hnsw)
            self.index.k_factor = 3
            self.index.train(base)
        else:
            self.index = self.hnsw = faiss.IndexHNSWFlat(dim, M, kind)
            self.hnsw.hnsw.efConstruction = CONSTRUCTION
        self.index.add(base)
        faiss.omp_set_num_threads(1)

    def search(self, queries, breadth):
        self.hnsw.hnsw.efSearch = breadth
        return self.index.search(queries, K)[1]

    def size(self, folder):
        self.faiss.write_index(self.index, str(folder / "faiss"))
        return (folder / "faiss").stat().st_size


class Hnswlib:
    def __init__(self, base, metric):
        import hnswlib
        self.index = hnswlib.Index(space=metric, dim=base.shape[1])
        self.index.init_index(max_elements=len(base), M=M, ef_construction=CONSTRUCTION)
        self.index.add_items(base, np.arange(len(base)), num_threads=2)

    def search(self, queries, breadth):
        self.index.set_ef(max(breadth, K))
        return self.index.knn_query(queries, k=K, num_threads=1)[0]

    def size(self, folder):
        self.index.save_index(str(folder / "hnswlib"))
        return (folder / "hnswlib").stat().st_size


class Usearch:
    def __init__(self, base, metric):
        from usearch.index import Index
        self.index = Index(ndim=base.shape[1], metric="ip" if metric == "ip" else "l2sq", dtype="f32", connectivity=M,
                           expansion_add=CONSTRUCTION)
        self.index.add(np.arange(len(base)), base, threads=2)

    def search(self, queries, breadth):
        self.index.expansion_search = breadth
        return self.index.search(queries, K, threads=1).keys

    def size(self, folder):
        self.index.save(str(folder / "usearch"))
        return (folder / "usearch").stat().st_size


class Qdrant:
    def __init__(self, base, metric, folder):
        import qdrant_edge as q
        self.q, self.folder = q, folder / "qdrant"
        self.folder.mkdir()
        distance = q.Distance.Cosine if metric == "ip" else q.Distance.Euclid
        hnsw = q.HnswIndexConfig(m=M, ef_construct=CONSTRUCTION, full_scan_threshold=100, max_indexing_threads=2)
        optimizers = q.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1000,
                                            max_segment_size=10_000_000)
        config = q.EdgeConfig(vectors=q.EdgeVectorParams(size=base.shape[1], distance=distance), hnsw_config=hnsw,
                              optimizers=optimizers, max_search_threads=1)
        self.shard = q.EdgeShard.create(str(self.folder), config)
        payloads = values(len(base)).tolist()
        self.insert_cpu = -time.process_time()
        for start in range(0, len(base), 1000):
            rows = base[start:start + 1000].tolist()
            self.shard.update(q.UpdateOperation.upsert_points(
                [q.Point(start + at, row, {"value": payloads[start + at]}) for at, row in enumerate(rows)]))
        self.insert_cpu += time.process_time()
        self.shard.update(q.UpdateOperation.create_field_index("value", q.PayloadSchemaType.Integer))
        self.shard.optimize()
        self.shard.flush()

    def search(self, queries, breadth, share=None):
        q = self.q
        params = q.SearchParams(hnsw_ef=breadth)
        only = None
        if share is not None:
            only = q.Filter(must=[q.FieldCondition(key="value", range=q.RangeFloat(lt=share * 1000))])
        requests = [q.QueryRequest(limit=K, query=q.Query.Nearest(row), params=params, filter=only)
                    for row in queries.tolist()]
        self.cpu = -time.process_time()
        found = self.shard.query_batch(q.QueryBatchRequest(requests))
        self.cpu += time.process_time()
        return [[point.id for point in points] for points in found]

    def size(self, folder):
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def engine(name, base, metric, folder):
    if name.startswith("faiss"):
        return Faiss(base, metric, name == "faiss-sq8-refine")
    if name == "hnswlib":
        return Hnswlib(base, metric)
    if name == "usearch":
        return Usearch(base, metric)
    return Qdrant(base, metric, folder)


def serve(name, metric, dim, base, queries, truth, folder):
    """What bench/vectors is for Rust: answers the same commands for a peer."""
    base = np.fromfile(base, dtype=np.float32).reshape(-1, dim)
    queries = np.fromfile(queries, dtype=np.float32).reshape(-1, dim)
    truth = np.fromfile(truth, dtype=np.uint32).reshape(-1, K)
    start, wall = time.process_time(), time.time()
    peer = engine(name, base, metric, folder)
    told = {"build_cpu_s": time.process_time() - start, "build_wall_s": time.time() - wall, "bytes": peer.size(folder)}
    if name == "qdrant-edge":
        told["insert_cpu_s"] = peer.insert_cpu
    told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told), flush=True)
    for line in sys.stdin:
        command, breadth, *rest = line.split()
        start, wanted = time.process_time(), truth
        if command == "filter":
            wanted = np.fromfile(rest[1], dtype=np.uint32).reshape(-1, K)
            found = peer.search(queries, int(breadth), float(rest[0]))
        else:
            found = peer.search(queries, int(breadth))
        seconds = time.process_time() - start
        if name == "qdrant-edge":
            seconds = peer.cpu  # without making its requests
        hits = sum(len(set(map(int, row)) & set(right.tolist())) for row, right in zip(found, wanted))
        print(json.dumps({"recall": hits / wanted.size, "cpu_s": seconds, "queries": len(queries)}), flush=True)


def nearest(base, queries, metric, rows=None):
    """The ten nearest rows of each query, by exact search."""
    rows = np.arange(len(base)) if rows is None else rows
    some = base[rows]
    best = []
    for start in range(0, len(queries), 50):
        keys = -(queries[start:start + 50] @ some.T)
        if metric == "l2":
            keys = 2 * keys + (some * some).sum(1)
        near = np.argpartition(keys, K, axis=1)[:, :K]
        best.append(rows[near])
    return np.concatenate(best).astype(np.uint32)


def tensors(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    for name in ("embeddings", "queries"):
        start, end = header[name]["data_offsets"]
        kind = {"F16": np.float16, "F32": np.float32}[header[name]["dtype"]]
        rows = np.frombuffer(data[8 + length + start:8 + length + end], dtype=kind).reshape(header[name]["shape"])
        rows = rows.astype(np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def synthetic(rows, queries=500, dim=128, inner=24, clusters=2000):
    """Vectors of 24 true dimensions in clusters of very different sizes, with a little noise."""
    random = np.random.default_rng(1)
    weights = random.normal(size=(dim, inner)) / math.sqrt(inner)
    centres = random.normal(size=(clusters, inner))
    shares = 1 / np.arange(1, clusters + 1) ** 0.7
    chosen = random.choice(clusters, size=rows + queries, p=shares / shares.sum())
    made = np.empty((rows + queries, dim), dtype=np.float32)
    for start in range(0, rows + queries, 50_000):
        some = centres[chosen[start:start + 50_000]]
        inside = some + 0.7 * random.normal(size=some.shape)
        made[start:start + 50_000] = inside @ weights.T + 0.1 * random.normal(size=(len(some), dim))
    return made[queries:], made[:queries]


def at_recall(curve, recall):
    """Queries a second where a curve reaches a recall, the logarithm of both linear in between."""
    curve = sorted(curve)
    for (low, slow), (high, fast) in zip(curve, curve[1:]):
        if low <= recall <= high and high > low:
            part = (math.log(1 - recall) - math.log(1 - low)) / (math.log(max(1 - high, 1e-6)) - math.log(1 - low))
            return math.exp(math.log(slow) + part * (math.log(fast) - math.log(slow)))
    return None


def svg(curves, title):
    """Recall to the right (as nines), queries a CPU second upwards, both logarithmic."""
    width, height, left, low, high = 760, 430, 70, 0.85, 0.9995
    points = [qps for curve in curves.values() for recall, qps in curve if recall >= low]
    bottom, top = math.log(min(points) * 0.8), math.log(max(points) * 1.25)
    place_x = lambda r: left + (math.log(1 - low) - math.log(1 - min(r, high))) / (math.log(1 - low) - math.log(1 - high)) * 480
    place_y = lambda q: height - 50 - (math.log(q) - bottom) / (top - bottom) * (height - 90)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{left}" y="20" font-weight="bold">{title}</text>',
           f'<text x="{left}" y="{height - 12}">recall@10</text>',
           f'<text x="{left}" y="36" fill="#555">queries a CPU second, one core</text>']
    for recall in (0.9, 0.95, 0.97, 0.99, 0.999):
        x = place_x(recall)
        out.append(f'<line x1="{x:.1f}" y1="40" x2="{x:.1f}" y2="{height - 50}" stroke="#ddd"/>')
        out.append(f'<text x="{x:.1f}" y="{height - 34}" text-anchor="middle">{recall:g}</text>')
    for tick in (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000):
        if bottom <= math.log(tick) <= top:
            y = place_y(tick)
            out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + 480}" y2="{y:.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    colours = ("#2a6fb0", "#c0392b", "#e08e0b", "#2e8b57", "#7d5ba6", "#d0508a", "#777777")
    for at, (name, curve) in enumerate(curves.items()):
        line = " ".join(f"{place_x(r):.1f},{place_y(q):.1f}" for r, q in sorted(curve) if r >= low)
        colour, wide = colours[at % len(colours)], 3 if name == "lode" else 1.5
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
        out.append(f'<text x="{left + 495}" y="{60 + 18 * at}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def cell(value):
    return "-" if value is None else f"{value:.0f}"


def curve_table(curves):
    print(f"| engine | {' | '.join(f'QPS at {recall}' for recall in RECALLS)} |")
    print("|---" * (len(RECALLS) + 1) + "|")
    for name, curve in curves.items():
        print(f"| {name} | {' | '.join(cell(at_recall(curve, recall)) for recall in RECALLS)} |")


def main():
    if sys.argv[1:2] == ["serve"]:
        name, metric, dim, base, queries, truth, folder = sys.argv[2:]
        serve(name, metric, int(dim), base, queries, truth, Path(folder))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data")
    source.add_argument("--synthetic", type=int)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--filters", action="store_true")
    parser.add_argument("--prepared", help="a program that is run when all indexes are built, before any is measured")
    parser.add_argument("--svg")
    args = parser.parse_args()
    names = args.engines.split(",")
    folder = Path(tempfile.mkdtemp(prefix="lode-vectors-", dir=os.environ.get("LODE_BENCH_DIR")))
    processes = {}
    try:
        metric = "ip" if args.data else "l2"
        base, queries = tensors(args.data) if args.data else synthetic(args.synthetic)
        base.tofile(folder / "base"), queries.tofile(folder / "queries")
        nearest(base, queries, metric).tofile(folder / "truth")
        chosen = values(len(base))
        for share in SHARES if args.filters else ():
            rows = np.flatnonzero(chosen < share * 1000)
            nearest(base, queries, metric, rows).tofile(folder / f"truth-{share}")
        shape, dim = base.shape, base.shape[1]
        print(f"{shape[0]} vectors of {dim} components, {len(queries)} queries, {metric}\n", file=sys.stderr)
        del base
        files = [str(folder / name) for name in ("base", "queries", "truth")]
        told = {}
        for name in names:
            mine = folder / name
            mine.mkdir()
            head = [str(RUNNER), name] if name in RUST else [sys.executable, __file__, "serve", name]
            last = [str(mine / "segment"), "2"] if name in RUST else [str(mine)]
            processes[name] = subprocess.Popen([*head, metric, str(dim), *files, *last], stdin=subprocess.PIPE,
                                               stdout=subprocess.PIPE, text=True)
            told[name] = json.loads(processes[name].stdout.readline())
            os.sched_setaffinity(processes[name].pid, {args.core})
            for thread in os.listdir(f"/proc/{processes[name].pid}/task"):
                os.sched_setaffinity(int(thread), {args.core})
            print(name, told[name], file=sys.stderr)

        def ask(name, line):
            processes[name].stdin.write(line + "\n")
            processes[name].stdin.flush()
            return json.loads(processes[name].stdout.readline())

        def curves(some, command):
            seen = {name: {} for name in some}
            for _ in range(args.rounds):
                for breadth in BREADTHS:
                    for name in some:
                        answer = ask(name, command(breadth))
                        seen[name].setdefault(breadth, []).append((answer["recall"], answer["queries"] / answer["cpu_s"]))
            return {name: [(points[0][0], statistics.median(qps for _, qps in points)) for points in found.values()]
                    for name, found in seen.items()}

        if args.prepared:
            subprocess.run([args.prepared], check=True)
        for name in names:
            ask(name, "search 64")
        began = time.time()
        found = curves(names, lambda breadth: f"search {breadth}")
        print("| engine | build CPU s | wall s | file MB | peak MiB |\n|---|---|---|---|---|")
        for name in names:
            size = told[name].get("bytes")
            graph = told[name].get("graph_and_codes_bytes")
            shown = "-" if size is None else f"{size / 1e6:.1f}" + (f" ({graph / 1e6:.1f} graph and codes)" if graph else "")
            print(f"| {name} | {told[name]['build_cpu_s']:.1f} | {told[name]['build_wall_s']:.1f} | {shown} | {told[name]['peak_mib']:.0f} |")
        print()
        curve_table(found)
        for name, curve in found.items():
            print(f"\n{name}: " + " ".join(f"{recall:.4f}@{qps:.0f}" for recall, qps in curve))
        if "lode" in names:
            print(f"\nopen and first result: {ask('lode', 'open')['open_and_search_s'] * 1000:.1f} ms")
        if args.svg:
            Path(args.svg).write_text(svg(found, f"{shape[0]:,} x {dim}"))
        for share in SHARES if args.filters else ():
            some = [name for name in names if name in ("lode", "qdrant-edge")]
            truth = folder / f"truth-{share}"
            found = curves(some, lambda breadth: f"filter {breadth} {share} {truth}")
            print(f"\nfilter of {share:.0%}")
            for name, curve in found.items():
                print(f"{name}: " + " ".join(f"{recall:.4f}@{qps:.0f}" for recall, qps in curve))
        print(f"\nmeasured in {time.time() - began:.0f} s", file=sys.stderr)
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait(20)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
