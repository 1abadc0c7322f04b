#!/usr/bin/env python3
"""Vectors by themselves: from how many on a graph pays, what sketches are worth, how long those take that are in no segment yet, and how fast a
segment answers that is not in memory.

    python3 -m venv .cache/vectors && .cache/vectors/bin/pip install numpy
    cargo build --release --locked --manifest-path bench/vectors/Cargo.toml
    .cache/vectors/bin/python bench/segments.py graph-from --data FILE.safetensors
    .cache/vectors/bin/python bench/segments.py graph-from --synthetic 130000
    .cache/vectors/bin/python bench/segments.py sketch --data FILE.safetensors (or --synthetic, --uniform 130000) [--dim 64]
    .cache/vectors/bin/python bench/segments.py live --data FILE.safetensors (or --synthetic, --uniform 20000)
    .cache/vectors/bin/python bench/segments.py cold --synthetic 1048576 [--runs 20]

Data are those of bench/vectors.py; with --dim their first components. Work folder: LODE_BENCH_DIR or a temporary one; `cold` wants a disk, not a memory file system.
"""
import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from vectors import RUNNER, synthetic, tensors


def uniform(rows):
    """Vectors without any structure, and 500 queries."""
    numbers = np.random.default_rng(1).standard_normal((rows + 500, 128), dtype=np.float32)
    return np.ascontiguousarray(numbers[:-500]), np.ascontiguousarray(numbers[-500:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("graph-from", "sketch", "live", "cold"))
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data")
    source.add_argument("--synthetic", type=int)
    source.add_argument("--uniform", type=int)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--dim", type=int)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lode-segments-", dir=os.environ.get("LODE_BENCH_DIR")))
    try:
        base, queries = tensors(args.data) if args.data else uniform(args.uniform) if args.uniform else synthetic(args.synthetic)
        base, queries = (np.ascontiguousarray(some[:, :args.dim]) for some in (base, queries))
        metric, dim = "ip" if args.data else "l2", str(base.shape[1])
        base.tofile(folder / "base"), queries.tofile(folder / "queries")
        base, queries = folder / "base", folder / "queries"
        program = RUNNER.with_name(args.what)
        if args.what != "cold":
            to = [] if args.what == "live" else [folder / "segment"]
            subprocess.run(["taskset", "-c", "1", program, metric, dim, base, queries, *to], check=True)
            return
        collection = folder / "collection"
        subprocess.run([program, "make", metric, dim, base, collection], check=True)
        subprocess.run([program, "open", dim, queries, collection, str(args.runs)], check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
