#!/usr/bin/env python3
"""Variants beside llama-quantize: CPU of a whole file, of short ranges, of streaming over HTTP, and of opening.

    quantize/tests/golden/llama-quantize.py says how llama-quantize is built
    cargo build --release --locked -p lode-cli && cargo build --release --locked -p lode-quantize --example variant
    bench/variants.py build/bin/llama-quantize [--mib 1024] [--model FILE.gguf] [--variants q4_k_m,..] [--served]

Without --model it is a synthetic llama in BF16 whose weights are bell-shaped; files are compared byte for byte.
CPU is user and system time. Work folder: LODE_BENCH_DIR or a temporary one; it takes four times the model.
"""
import argparse
import array
import filecmp
import http.client
import json
import os
import random
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target/release"
BARS = {"q4_k_m": 6}
BF16, F32, U32, TEXT, ARRAY = 30, 0, 4, 8, 9
ROW, DOWN, KV = 2048, 5632, 512
MODEL = "/lode/v1/models/bench/model/main"


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def header(layers, row, down, kv, vocabulary, words):
    """A GGUF header of a llama in BF16, and the bytes of its data section."""
    keys = [entry("general.architecture", TEXT, text("llama")), entry("general.file_type", U32, struct.pack("<I", 32))]
    for key, value in (("block_count", layers), ("context_length", 4096), ("embedding_length", row),
                       ("feed_forward_length", down), ("attention.head_count", row // 64),
                       ("attention.head_count_kv", kv // 64), ("vocab_size", vocabulary)):
        keys.append(entry("llama." + key, U32, struct.pack("<I", value)))
    keys.append(entry("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)))
    keys.append(entry("tokenizer.ggml.model", TEXT, text("gpt2")))
    tokens = b"".join(text(f"word{at}") for at in range(words))
    keys.append(entry("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", TEXT, words) + tokens))
    tensors = [("token_embd.weight", (vocabulary, row), BF16), ("output_norm.weight", (row,), F32)]
    for layer in range(layers):
        matrices = (("attn_q", row, row), ("attn_k", kv, row), ("attn_v", kv, row), ("attn_output", row, row),
                    ("ffn_gate", down, row), ("ffn_up", down, row), ("ffn_down", row, down))
        tensors += [(f"blk.{layer}.{name}.weight", (rows, columns), BF16) for name, rows, columns in matrices]
        tensors += [(f"blk.{layer}.{name}_norm.weight", (row,), F32) for name in ("attn", "ffn")]
    infos, offset = b"", 0
    for name, shape, kind in tensors:
        infos += text(name) + struct.pack("<I", len(shape))
        infos += b"".join(struct.pack("<Q", dim) for dim in reversed(shape)) + struct.pack("<IQ", kind, offset)
        size = (2 if kind == BF16 else 4)
        for dim in shape:
            size *= dim
        offset += -(-size // 32) * 32
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    return out + bytes(-len(out) % 32), offset


def make_model(path, mib):
    layers = max(1, round((mib * (1 << 20) - 32000 * ROW * 2) / (2 * (2 * ROW * ROW + 2 * KV * ROW + 3 * ROW * DOWN))))
    head, size = header(layers, ROW, DOWN, KV, 32000, 32000)
    generator = random.Random(20261126)
    singles = array.array("f", (generator.gauss(0, 0.02) for _ in range(1 << 20)))
    words = memoryview(singles.tobytes()).cast("H")
    block = array.array("H", words[1::2].tolist()).tobytes()
    with open(path, "wb") as file:
        file.write(head)
        left = size
        while left:
            file.write(block[:min(left, len(block))])
            left -= min(left, len(block))


def run(*command):
    """Wall and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(done.stdout.decode()[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.time() - start, cpu, done.stdout.decode()


def served_cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def anonymous_peak(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) / 1024


def whole_files(quantize, model, work, variants):
    print(f"{'whole file':10} {'llama-quantize':>26} {'lode, 1 thread':>18} {'lode, 2 threads':>18}  CPU ratio")
    for name in variants:
        source = next(model.iterdir())
        wall, peer, _ = run(quantize, source, work / "peer.gguf", name.upper(), 2)
        _, one, _ = run(RELEASE / "examples/variant", model, name, work / "own", 1)
        wall2, two, _ = run(RELEASE / "examples/variant", model, name, work / "own", 2)
        if not filecmp.cmp(work / "peer.gguf", work / "own/model.gguf", shallow=False):
            sys.exit(f"{name}: the files differ")
        bar = BARS.get(name)
        verdict = "" if bar is None else f"  (bar {bar}: {'met' if peer / two >= bar else 'MISSED'})"
        print(f"{name:10} {peer:9.2f} s CPU {wall:7.2f} s {one:11.2f} s CPU {two:9.2f} s {wall2:5.2f} s"
              f"  {peer / two:6.1f}{verdict}")


def over_http(model, work, variants):
    home = work / "home"
    lode = [RELEASE / "lode", "--home", home, "--no-relay"]
    run(*lode, "push", model, "bench/model")
    for name in variants[:1]:
        wall, cpu, _ = run(*lode, "pull", f"bench/model:{name}", "--to", work / "pulled")
        print(f"\npull :{name} --to, hashed and kept too: {cpu:.2f} s CPU, {wall:.2f} s")
    log = open(work / "serve.log", "wb")
    node = subprocess.Popen([str(part) for part in lode] + ["serve", "--http", "127.0.0.1:7178", "--listen", "127.0.0.1:0"],
                            stdout=log, stderr=log)
    try:
        while True:
            try:
                client = http.client.HTTPConnection("127.0.0.1", 7178, timeout=60)
                client.request("GET", "/readyz")
                client.getresponse().read()
                break
            except OSError:
                if node.poll() is not None:
                    sys.exit((work / "serve.log").read_text())
                time.sleep(0.1)
        stream(node, model, work, variants)
        # A connection that was idle for long was closed.
        short_ranges(node, http.client.HTTPConnection("127.0.0.1", 7178, timeout=60), variants)
        print(f"anonymous memory of the node at the end: {anonymous_peak(node.pid):.0f} MiB")
    finally:
        node.terminate()
        node.wait()


def sending_alone(length):
    """CPU seconds to hand this many bytes to a loopback socket in pieces of 512 KiB, and nothing else."""
    piece = memoryview(os.urandom(48 << 20))
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = "import socket, sys\nc = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\nb = bytearray(1 << 17)\n"
        reader += "while c.recv_into(b):\n    pass\n"
        child = subprocess.Popen([sys.executable, "-c", reader, str(server.getsockname()[1])])
        with server.accept()[0] as client:
            before = time.process_time()
            for start in range(0, length, 512 << 10):
                at = start % len(piece)
                client.sendall(piece[at:at + min(512 << 10, length - start)])
            spent = time.process_time() - before
        child.wait()
    return spent


def length_of(client, path):
    client.request("HEAD", path)
    answer = client.getresponse()
    answer.read()
    return int(answer.headers["content-length"])


def stream(node, model, work, variants):
    print("\nstreamed over HTTP, beside the quantizer's own speed (one thread and two, nothing written); medians of 3;")
    print("the ceiling is what a server would reach that only hands what the quantizer made to the socket")
    for name in variants:
        url = f"http://127.0.0.1:7178{MODEL}:{name}/files/model.gguf"
        one, two, streamed, own_cpu, node_cpu, sending = [], [], [], [], [], []
        length = length_of(http.client.HTTPConnection("127.0.0.1", 7178, timeout=60), f"{MODEL}:{name}/files/model.gguf")
        for _ in range(3):
            wall, cpu, _ = run(RELEASE / "examples/variant", model, name, "-", 1)
            one.append(wall)
            own_cpu.append(cpu)
            two.append(run(RELEASE / "examples/variant", model, name, "-", 2)[0])
            before = served_cpu(node.pid)
            streamed.append(run("curl", "-sf", "-o", "/dev/null", url)[0])
            node_cpu.append(served_cpu(node.pid) - before)
            sending.append(sending_alone(length))
        one, two, streamed, own_cpu, node_cpu, sending = map(
            statistics.median, (one, two, streamed, own_cpu, node_cpu, sending))
        print(f"{name:10} {one:6.2f} s, {two:6.2f} s   HTTP {streamed:6.2f} s   {one / streamed:5.2f} of one thread (bar 0.8), "
              f"{two / streamed:5.2f} of two   CPU s: own {own_cpu:.2f}, node {node_cpu:.2f}, ratio {own_cpu / node_cpu:.2f},"
              f" ceiling {own_cpu / (own_cpu + sending):.2f}")


def short_ranges(node, client, variants):
    print("\n4 KiB at random places over HTTP, CPU of the node a request")
    generator = random.Random(4)
    base = f"{MODEL}/files/model-bf16.gguf"
    for name, path in [("the base", base)] + [(name, f"{MODEL}:{name}/files/model.gguf") for name in variants]:
        length = length_of(client, path)
        count, before = 2000, served_cpu(node.pid)
        for _ in range(count):
            start = generator.randrange(length - 4096)
            client.request("GET", path, headers={"Range": f"bytes={start}-{start + 4095}"})
            answer = client.getresponse()
            assert answer.status == 206 and len(answer.read()) == 4096
        print(f"{name:10} {(served_cpu(node.pid) - before) / count * 1e6:6.0f} us")


def opening(work):
    print("\nopening a variant, headers alone: sparse files of 80 layers")
    folder = work / "sparse"
    folder.mkdir(exist_ok=True)
    head, size = header(80, 8192, 28672, 1024, 128256, 128256)
    with open(folder / "model.gguf", "wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    _, _, out = run(RELEASE / "examples/variant", folder, "q4_k_m", "-", 0)
    print(f"GGUF of {(len(head) + size) / 1e9:.0f} GB: {out.splitlines()[0]} (bar 50 ms)")
    shutil.rmtree(folder)
    size, shards = sparse_checkpoint(folder, 80, 8192, 28672, 1024, 128256)
    for name in ("fp8", "int4"):
        _, _, out = run(RELEASE / "examples/variant", folder, name, "-", 0)
        print(f"{name} of safetensors of {size / 1e9:.0f} GB in {shards} shards: {out.splitlines()[0]} (bar 50 ms)")


def sparse_checkpoint(folder, layers, row, down, kv, vocabulary):
    """A llama in BF16 without its bytes: two layers a shard, with an index."""
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": row}
    (folder / "config.json").write_text(json.dumps(config))
    ends = [("model.embed_tokens.weight", (vocabulary, row)), ("model.norm.weight", (row,)),
            ("lm_head.weight", (vocabulary, row))]
    groups = [ends]
    for layer in range(layers):
        if layer % 2 == 0:
            groups.append([])
        begin = f"model.layers.{layer}."
        parts = (("self_attn.q_proj", (row, row)), ("self_attn.k_proj", (kv, row)), ("self_attn.v_proj", (kv, row)),
                 ("self_attn.o_proj", (row, row)), ("mlp.gate_proj", (down, row)), ("mlp.up_proj", (down, row)),
                 ("mlp.down_proj", (row, down)), ("input_layernorm", (row,)), ("post_attention_layernorm", (row,)))
        groups[-1] += [(f"{begin}{name}.weight", shape) for name, shape in parts]
    total, places = 0, {}
    for number, group in enumerate(groups):
        name, entries, offset = f"model-{number + 1:05}-of-{len(groups):05}.safetensors", {}, 0
        for tensor, shape in group:
            size = 2
            for dim in shape:
                size *= dim
            entries[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
            places[tensor] = name
        head = json.dumps(entries).encode()
        with open(folder / name, "wb") as file:
            file.write(struct.pack("<Q", len(head)) + head)
            file.truncate(8 + len(head) + offset)
        total += offset
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total, len(groups)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("quantize")
    parser.add_argument("--variants", default="q4_k_m,q6_k,q8_0,q4_0")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--model", type=Path, help="a GGUF file of real weights")
    parser.add_argument("--served", action="store_true", help="leaves llama-quantize out")
    args = parser.parse_args()
    args.variants = args.variants.split(",")
    work = Path(os.environ.get("LODE_BENCH_DIR") or tempfile.mkdtemp()) / "variants"
    shutil.rmtree(work, ignore_errors=True)
    (work / "model").mkdir(parents=True)
    try:
        if args.model:
            shutil.copyfile(args.model, work / "model/model-bf16.gguf")
        else:
            make_model(work / "model/model-bf16.gguf", args.mib)
        if not args.served:
            whole_files(args.quantize, work / "model", work, args.variants)
        over_http(work / "model", work, args.variants)
        opening(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
