#!/usr/bin/env python3
"""Compares CPU seconds of quantizing real weights with ggml's own C code, at equal bytes.

    pip install libggml-python==0.20.2.post1          # prebuilt ggml
    cargo build --release --locked -p lode-quantize --example measure
    bench/quantize.py [--library LIBGGML_BASE] [--repeats 5] [TYPE..]

Weights are the matrices of all-MiniLM-L6-v2 (scripts/fetch-models), rounded to brain floats: ggml reads them as
singles, which is all it takes, Lode as the brain floats that a model holds. One thread each; the least of the
repeats counts. Each pair of outputs is compared byte for byte.
"""
import argparse
import array
import ctypes
import importlib.util
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "quantize/tests/golden"))
from make import TYPES  # noqa: E402

ROW = 4096
# How many times less CPU Lode has to use.
BARS = {"Q8_0": 10, "Q4_0": 2, "Q4_K": 8, "Q5_K": 8, "Q6_K": 8}


def brain_floats(path):
    """The matrices of a safetensors file, rounded half to even to brain floats, as many as fill rows."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    out = array.array("H")
    for name, tensor in sorted(header.items()):
        if name == "__metadata__" or len(tensor["shape"]) != 2 or tensor["dtype"] != "F32":
            continue
        start, end = tensor["data_offsets"]
        words = array.array("I", data[start:end])
        out.extend((word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in words)
    del out[len(out) // ROW * ROW:]
    return out


def measure_ggml(ggml, name, singles, repeats):
    number, per_block, size, _ = TYPES[name]
    out = ctypes.create_string_buffer(len(singles) // per_block * size)
    source = (ctypes.c_float * len(singles)).from_buffer(singles)
    least = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        ggml.ggml_quantize_chunk(number, source, out, ctypes.c_int64(0), ctypes.c_int64(len(singles) // ROW),
                                 ctypes.c_int64(ROW), None)
        least = min(least, time.process_time() - start)
    return least, out.raw


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library")
    parser.add_argument("--model", default=ROOT / ".cache/models/all-minilm-l6-v2/model.safetensors")
    parser.add_argument("--measure", default=ROOT / "target/release/examples/measure")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--path", default="avx2")
    parser.add_argument("types", nargs="*", default=list(TYPES))
    arguments = parser.parse_args()
    if arguments.library is None:
        package = importlib.util.find_spec("libggml").submodule_search_locations[0]
        arguments.library = Path(package) / "lib64/libggml-base.so"
    ggml = ctypes.CDLL(str(arguments.library))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    half = brain_floats(arguments.model)
    singles = array.array("f", b"".join(b"\0\0" + half[at:at + 1].tobytes() for at in range(len(half))))
    missed = []
    print(f"{len(half) / 1e6:.1f} M weights; GB/s of brain floats per CPU second")
    print("| type | ggml | Lode | times | bytes |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "in", Path(folder) / "out"
        source.write_bytes(half.tobytes())
        for name in arguments.types or TYPES:
            theirs, expected = measure_ggml(ggml, name, singles, max(1, arguments.repeats // 2))
            ours = float(subprocess.check_output([arguments.measure, arguments.path, "BF16", name, source, made,
                                                  str(arguments.repeats)]))
            equal = made.read_bytes() == expected
            times = theirs / ours
            rate = len(half) * 2 / 1e9
            print(f"| {name} | {rate / theirs:.3f} | {rate / ours:.3f} | {times:.1f} | {'equal' if equal else 'DIFFER'} |",
                  flush=True)
            if not equal or times < BARS.get(name, 0):
                missed.append(name)
    if missed:
        sys.exit(f"bars missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
