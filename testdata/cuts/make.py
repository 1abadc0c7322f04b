#!/usr/bin/env python3
"""Makes the golden cuts in this folder: a second implementation of docs/format/cutting.md.

    python3 testdata/cuts/make.py          writes NAME.head (a file's first bytes) and cuts.json
    python3 testdata/cuts/make.py --check  fails if what it would write is not what is there

Uses the standard library alone, and shares no code with the Rust side on purpose.
"""
import hashlib
import json
import math
import struct
import sys
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).parent
MIB = 1 << 20
MAX = 16 * MIB

SAFETENSORS = {"BF16": (1, 2), "F32": (1, 4), "I64": (1, 8), "U8": (1, 1), "F8_E4M3": (1, 1),
               "F4": (2, 1), "F6_E2M3": (4, 3), "F64": (1, 8)}
GGUF = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_K": (12, 256, 144),
        "Q6_K": (14, 256, 210), "I8": (24, 1, 1), "BF16": (30, 1, 2), "MXFP4": (39, 32, 17)}


# --- tensors/1 -----------------------------------------------------------------------------------

def layer_of(name):
    for part in name.split("."):
        if 1 <= len(part) <= 9 and all(c in "0123456789" for c in part):
            return int(part)
    return None


def cut_part(shape, size, bits_per_element):
    """Lengths of the chunks of a tensor of at least 1 MiB."""
    if len(shape) >= 3 and size % shape[0] == 0 and size // shape[0] >= MIB:
        return shape[0] * cut_part(shape[1:], size // shape[0], bits_per_element)
    rows = math.prod(shape[:-1])
    row_bits = (shape[-1] if shape else 1) * bits_per_element
    together = next(n for n in (1, 2, 4) if n * row_bits % 8 == 0)
    row = int(together * row_bits / 8)
    rows //= together
    assert rows * row == size
    out = []
    if row <= MAX:
        step = MAX // row
        while rows:
            now = min(step, rows)
            out.append(now * row)
            rows -= now
    else:
        for _ in range(rows):
            left = row
            while left:
                out.append(min(left, MAX))
                left -= out[-1]
    return out


def tensor_cuts(head_len, tensors, file_len):
    """tensors: (name, shape, start, end, bits per element), by offset."""
    out = []
    left = head_len
    while left:
        out.append(min(left, MAX))
        left -= out[-1]
    end = head_len
    run = None  # (start, layer) while the last chunk is an open run
    for name, shape, start, stop, bits in tensors:
        if start == stop:
            continue
        padding = start - end
        if padding:
            if out[-1] + padding > MAX:
                out.append(padding)
            else:
                out[-1] += padding
        size = stop - start
        layer = layer_of(name)
        if size < MIB:
            if run is not None and run[1] == layer and stop - run[0] <= 4 * MIB:
                out[-1] += size
            else:
                out.append(size)
                run = (start, layer)
        else:
            run = None
            out += cut_part(shape, size, bits)
        end = stop
    padding = file_len - end
    if padding:
        if out[-1] + padding > MAX:
            out.append(padding)
        else:
            out[-1] += padding
    assert sum(out) == file_len and all(1 <= n <= MAX for n in out)
    return out


def safetensors_file(tensors, metadata=None):
    """tensors: (name, dtype, shape) in the order of the data. Gives head, placed tensors, file length."""
    header, at, sizes = {}, 0, []
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, shape in tensors:
        elements, size = SAFETENSORS[dtype]
        count = math.prod(shape)
        assert count % elements == 0
        n = count // elements * size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        sizes.append((name, shape, at, at + n, Fraction(8 * size, elements)))
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    placed = [(name, shape, len(head) + a, len(head) + b, bits) for name, shape, a, b, bits in sizes]
    return head, placed, len(head) + at


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_file(tensors, alignment=None, last_padding=True, version=3):
    """tensors: (name, type, shape outermost first). Infos are written in reverse order on purpose."""
    entries = [gguf_text("general.architecture") + struct.pack("<I", 8) + gguf_text("llama"),
               gguf_text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2)
               + gguf_text("a") + gguf_text("bc")]
    if alignment:
        entries.append(gguf_text("general.alignment") + struct.pack("<II", 4, alignment))
    alignment = alignment or 32
    infos, placed, at = [], [], 0
    for name, dtype, shape in tensors:
        type_id, elements, size = GGUF[dtype]
        assert (shape[-1] if shape else 1) % elements == 0
        n = math.prod(shape) // elements * size
        infos.append(gguf_text(name) + struct.pack("<I", len(shape))
                     + b"".join(struct.pack("<Q", d) for d in reversed(shape))
                     + struct.pack("<IQ", type_id, at))
        placed.append((name, shape, at, at + n, Fraction(8 * size, elements)))
        at = -(-(at + n) // alignment) * alignment
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries)
    head += b"".join(reversed(infos))
    head += b"\0" * (-len(head) % alignment)
    placed = [(name, shape, len(head) + a, len(head) + b, bits) for name, shape, a, b, bits in placed]
    file_len = len(head) + at if last_padding else placed[-1][3]
    return head, placed, file_len


def llama(layers, hidden, ffn, vocab):
    out = [("model.embed_tokens.weight", "BF16", [vocab, hidden])]
    for n in range(layers):
        p = f"model.layers.{n}."
        out += [(p + "input_layernorm.weight", "BF16", [hidden]),
                (p + "mlp.down_proj.weight", "BF16", [hidden, ffn]),
                (p + "mlp.gate_proj.weight", "BF16", [ffn, hidden]),
                (p + "post_attention_layernorm.weight", "BF16", [hidden]),
                (p + "self_attn.k_proj.weight", "BF16", [hidden // 4, hidden]),
                (p + "self_attn.q_proj.weight", "BF16", [hidden, hidden])]
    return out + [("model.norm.weight", "BF16", [hidden])]


def cases():
    yield "llama", safetensors_file(llama(2, 576, 1536, 49152), {"format": "pt"})
    experts = [f"model.layers.0.mlp.experts.{e}.up.weight" for e in range(3)]
    yield "experts-apart", safetensors_file([(e, "BF16", [1500, 6000]) for e in experts])
    yield "experts-fused", safetensors_file([("model.layers.0.mlp.experts.up", "BF16", [3, 1500, 6000]),
                                             ("model.layers.0.mlp.pairs", "F8_E4M3", [2, 3, 1024, 1024]),
                                             ("model.layers.0.mlp.thin", "U8", [8, 1023, 1024]),
                                             ("model.layers.0.conv", "F32", [128, 256, 3, 3])])
    yield "sub-byte", safetensors_file([("a", "F4", [12000, 3001]), ("b", "F6_E2M3", [24000, 1001]),
                                        ("c", "F6_E2M3", [6, 6]), ("d", "F4", [2, 4, 700001])])
    yield "wide-rows", safetensors_file([("flat", "U8", [40 * MIB + 3]), ("two", "F64", [2, 2 * MIB + 7]),
                                         ("exact", "U8", [3, 16 * MIB])])
    small = MIB // 4
    yield "runs", safetensors_file(
        [("none", "F32", [0, 7]), ("scalar", "F64", [])]
        + [(f"blk.{n // 3}.w{n}", "U8", [small + n]) for n in range(9)]
        + [(f"tail.w{n}", "U8", [small]) for n in range(17)]
        + [("x.1234567890.y", "U8", [5]), ("x.012.y", "U8", [6]), ("x.12", "U8", [7]), ("x.12e", "U8", [8]),
           ("edge", "U8", [MIB - 1]), ("edge2", "U8", [MIB]), ("edge3", "U8", [MIB - 1])])
    yield "empty", safetensors_file([])
    names = ["token_embd.weight", "blk.0.attn_norm.weight", "blk.0.ffn_down.weight", "blk.0.ffn_up.weight",
             "blk.1.attn_norm.weight", "blk.1.ffn_down.weight", "output_norm.weight"]
    kinds = [("Q6_K", [40000, 512]), ("F32", [513]), ("Q4_K", [512, 12288]), ("Q4_0", [300, 4096]),
             ("F32", [511]), ("Q4_K", [512, 1024]), ("F32", [5])]
    tensors = [(name, *kind) for name, kind in zip(names, kinds)]
    yield "gguf", gguf_file(tensors)
    yield "gguf-v2-unpadded", gguf_file(tensors, alignment=4096, last_padding=False, version=2)
    # The last rows of a tensor fill a chunk but for 10 bytes, and 20 bytes of padding follow.
    yield "gguf-padding", gguf_file([("a", "I8", [2, 16 * MIB - 10]), ("b", "BF16", [3, 700, 1000]),
                                     ("none", "F32", [0]), ("c", "MXFP4", [64, 32])])


# --- sections/1 ----------------------------------------------------------------------------------

ALIGN = 16384


def segment(lengths):
    """The first 16 KiB of a segment of such sections; its length; size of each with what stands behind it, and without."""
    table, end, placed = b"", ALIGN, []
    for field, length in enumerate(lengths):
        start = -(-end // ALIGN) * ALIGN
        if placed:
            placed[-1][0] += start - end
        placed.append([length, length])
        end = start + length
        table += b"vec-rows".ljust(16, b"\0") + struct.pack("<IIQ", field, 0, length) + b"\0" * 32
    head = b"lode seg" + struct.pack("<IIQQ", 1, len(lengths), end, 0) + b"\0" * 32 + table
    return head.ljust(ALIGN, b"\0"), end, placed


def section_cuts(placed):
    out, run = [ALIGN], False
    for with_padding, size in placed:
        if not with_padding:
            continue
        if size >= MIB:
            run = False
            while with_padding:
                out.append(min(with_padding, MAX))
                with_padding -= out[-1]
        elif run and out[-1] + with_padding <= 4 * MIB:
            out[-1] += with_padding
        else:
            out.append(with_padding)
            run = True
    return out


def segment_cases():
    yield "segment", segment([300, 5 * MIB, 40 * MIB + 5, 20000, 70000, 1, 0, MIB])
    yield "segment-small", segment([1000000, 0, 999999, MIB - 1, 7, 1000000, 3 * MIB, 5, MIB - 16384, MIB - 16384])
    yield "segment-exact", segment([16 * MIB, 32 * MIB, MIB, 16 * MIB - 1, 0])
    yield "segment-none", segment([])


# --- cdc/1 ---------------------------------------------------------------------------------------

GEAR = [int.from_bytes(hashlib.md5(bytes([b]) * 64).digest()[:8], "big") for b in range(256)]
BELOW, ABOVE = 0x0000D91767537000, 0x0000D91707537000
CDC_MIN, CDC_AVERAGE, CDC_MAX = 256 * 1024, MIB, 4 * MIB
WORD = (1 << 64) - 1


def cdc_next(data, start):
    left = len(data) - start
    if left <= CDC_MIN:
        return left
    n = min(left, CDC_MAX)
    value = 0
    for at in range(CDC_MIN, n - 1, 2):
        mask = BELOW if at < CDC_AVERAGE else ABOVE
        value = ((value << 2) + (GEAR[data[start + at]] << 1)) & WORD
        if value & (mask << 1) == 0:
            return at
        value = (value + GEAR[data[start + at + 1]]) & WORD
        if value & mask == 0:
            return at + 1
    return n


def cdc_cuts(data):
    out, start = [], 0
    while start < len(data):
        out.append(cdc_next(data, start))
        start += out[-1]
    return out


def noise(seed, size):
    """SHA-256 of `seed:counter`, counter from 0, one after the other."""
    blocks = (hashlib.sha256(f"{seed}:{n}".encode()).digest() for n in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def cdc_vectors():
    for seed, size in [("a", 10_000_001), ("b", 3_000_000), ("c", 262_144), ("d", 262_145), ("e", 1), ("f", 0)]:
        data = noise(seed, size)
        yield {"seed": seed, "size": size, "zeroes": 0, "lengths": cdc_cuts(data)}
    # Zeroes never cut: chunks of 4 MiB.
    data = noise("g", 1000) + bytes(9_000_000)
    yield {"seed": "g", "size": 1000, "zeroes": 9_000_000, "lengths": cdc_cuts(data)}


def main():
    files = {}
    tensors = []
    for name, (head, placed, file_len) in cases():
        files[f"{name}.head"] = head
        tensors.append({"name": name, "file_len": file_len,
                        "lengths": tensor_cuts(len(head), placed, file_len)})
    sections = []
    for name, (head, file_len, placed) in segment_cases():
        files[f"{name}.head"] = head
        lengths = section_cuts(placed)
        assert sum(lengths) == file_len
        sections.append({"name": name, "file_len": file_len, "lengths": lengths})
    golden = {"tensors/1": tensors, "sections/1": sections, "cdc/1": list(cdc_vectors())}
    lines = ",\n".join(f'"{rule}": [\n' + ",\n".join(json.dumps(case) for case in listed) + "\n]"
                       for rule, listed in golden.items())
    files["cuts.json"] = f"{{\n{lines}\n}}\n".encode()
    wrong = 0
    for name, data in files.items():
        path = HERE / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_bytes() != data:
                print(f"{name} differs", file=sys.stderr)
                wrong = 1
        else:
            path.write_bytes(data)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
