#!/usr/bin/env python3
"""Makes golden.txt: what llama.cpp's reference code gives for inputs that tests/inputs/mod.rs makes too.

    pip install libggml-python==0.20.2.post1        # prebuilt ggml, its base library without fused operations
    python3 quantize/tests/golden/make.py [LIBGGML_BASE] [--model all-minilm-l6-v2/model.safetensors] > golden.txt

Lines are `quantize TYPE INPUT HASH` and `dequantize TYPE INPUT HASH`; a hash is the first 16 hex digits of the
SHA-256 of the blocks, or of the weights as little-endian singles. `block TYPE HEX` is the first block of input
`bell`, to see where a difference starts.
"""
import argparse
import array
import ctypes
import hashlib
import importlib.util
import json
import os
import struct

# name -> (id in GGUF, weights and bytes of a block, places of its half-precision scales)
TYPES = {
    "Q4_0": (2, 32, 18, [0]), "Q4_1": (3, 32, 20, [0, 2]), "Q5_0": (6, 32, 22, [0]), "Q5_1": (7, 32, 24, [0, 2]),
    "Q8_0": (8, 32, 34, [0]), "Q2_K": (10, 256, 84, [80, 82]), "Q3_K": (11, 256, 110, [108]),
    "Q4_K": (12, 256, 144, [0, 2]), "Q5_K": (13, 256, 176, [0, 2]), "Q6_K": (14, 256, 210, [208]),
    "IQ4_NL": (20, 32, 18, [0]), "IQ4_XS": (23, 256, 136, [0]), "MXFP4": (39, 32, 17, []),
}
WEIGHTS = 4096
MASK = (1 << 64) - 1


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return z ^ z >> 31

    def signed(self, bits):
        """A whole number of so many bits, sign included."""
        return (self.next() >> (64 - bits)) - (1 << (bits - 1))

    def bell(self):
        return sum(self.signed(22) for _ in range(4))


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def brain(value):
    """Cut to a brain float."""
    return struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", value))[0] & 0xFFFF0000))[0]


# Each weight is a whole number times a power of two that a single holds exactly.
INPUTS = {
    "uniform": lambda r, at: r.signed(24) * 2.0**-23,
    "bell": lambda r, at: r.bell() * 2.0**-26,
    "brain": lambda r, at: brain(r.bell() * 2.0**-26),
    "half": lambda r, at: r.signed(11) * 2.0**-12,
    "zeros": lambda r, at: 0.0,
    "minus-zeros": lambda r, at: -0.0,
    "constant": lambda r, at: 0.25,
    "minus-constant": lambda r, at: -0.25,
    "alternating": lambda r, at: 1.0 if at % 2 else -1.0,
    "positive": lambda r, at: (r.signed(23) + 2**23) * 2.0**-23,
    "negative": lambda r, at: -(r.signed(23) + 2**23) * 2.0**-23,
    "ties": lambda r, at: r.signed(6) * 0.5,
    "outliers": lambda r, at: r.bell() * (2.0**-20 if at % 37 == 5 else 2.0**-28),
    "mixed": lambda r, at: r.signed(24) * 2.0 ** (r.next() % 50 - 63),
    "sparse": lambda r, at: r.signed(24) * 2.0**-23 * (r.next() % 8 == 0),
    "lone": lambda r, at: r.signed(24) * 2.0**-23 * (at % 256 == 77),
    "zero-parts": lambda r, at: r.bell() * 2.0**-26 * (at // 32 % 3 != 0),
    "zero-blocks": lambda r, at: r.bell() * 2.0**-26 * (at // 256 % 2),
    "equal-parts": lambda r, at: ((at // 16 * 2654435761) % 2**16 - 2**15) * 2.0**-18,
    "steps": lambda r, at: (at % 256) * 2.0**-8,
    "faint-parts": lambda r, at: r.bell() * 2.0 ** (-26 - 10 * (at // 32 % 4)),
    "faint": lambda r, at: r.bell() * 2.0**-86,
    "denormal": lambda r, at: r.signed(22) * 2.0**-149,
}


def inputs():
    for index, (name, weight) in enumerate(INPUTS.items()):
        random = Random(index + 1)
        yield name, array.array("f", (single(weight(random, at)) for at in range(WEIGHTS)))


def model_weights(path):
    """One tensor of a real model."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start, end = header["encoder.layer.0.output.dense.weight"]["data_offsets"]
        file.seek(start, os.SEEK_CUR)
        return array.array("f", file.read(end - start))


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library", nargs="?")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    library = arguments.library
    if library is None:
        package = importlib.util.find_spec("libggml").submodule_search_locations[0]
        library = os.path.join(package, "lib64", "libggml-base.so")
    ggml = ctypes.CDLL(library)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t

    def quantize(name, weights):
        number, per_block, size, _ = TYPES[name]
        out = ctypes.create_string_buffer(len(weights) // per_block * size)
        source = (ctypes.c_float * len(weights)).from_buffer(weights)
        made = ggml.ggml_quantize_chunk(number, source, out, ctypes.c_int64(0), ctypes.c_int64(1),
                                        ctypes.c_int64(len(weights)), None)
        assert made == len(out), (name, made)
        return out.raw

    def dequantize(name, blocks):
        _, per_block, size, _ = TYPES[name]
        out = (ctypes.c_float * (len(blocks) // size * per_block))()
        lower = name[:-1].lower() + "K" if name.endswith("_K") else name.lower()
        getattr(ggml, f"dequantize_row_{lower}")(blocks, out, ctypes.c_int64(len(out)))
        return bytes(out)

    all_inputs = list(inputs())
    if arguments.model:
        all_inputs.append(("all-minilm-l6-v2", model_weights(arguments.model)))
    print("# Made by make.py from ggml 0.20.2 (x86-64).")
    for name, (_, _, size, scales) in TYPES.items():
        for source, weights in all_inputs:
            blocks = quantize(name, weights)
            print("quantize", name, source, digest(blocks))
            if source == "bell":
                print("block", name, blocks[:size].hex())
                print("dequantize", name, source, digest(dequantize(name, blocks)))
        random = Random(1000)
        blocks = bytearray(random.next() & 255 for _ in range(64 * size))
        for start in range(0, len(blocks), size):
            for at in scales:
                blocks[start + at + 1] &= 0xBF  # no scale is infinite
        print("dequantize", name, "random", digest(dequantize(name, bytes(blocks))))


if __name__ == "__main__":
    main()
