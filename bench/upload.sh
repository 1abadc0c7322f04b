#!/usr/bin/env bash
# `hf upload` of one large file to a node, beside the reference storage of Xet (crate xet-client, feature simulation), in one run.
# usage: bench/upload.sh [MIB=2048] [RUNS=3]   Work folder: LODE_BENCH_DIR or a temporary one. LODE_BENCH_REFERENCE=none leaves the
# reference out, which takes a quarter of an hour to build.
set -euo pipefail
cd "$(dirname "$0")/.."
mib=${1:-2048} runs=${2:-3}
work=${LODE_BENCH_DIR:-$(mktemp -d)}
mkdir -p "$work"
venv=$PWD/.cache/hub-2.4.0
[ -x "$venv/bin/hf" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q 'huggingface_hub==2.4.0'; }
reference=${LODE_BENCH_REFERENCE:-}
if [ -z "$reference" ]; then
  cargo build --release -q --manifest-path bench/upload-cas/Cargo.toml --target-dir .cache/bench/upload-cas
  reference=$PWD/.cache/bench/upload-cas/release/upload-cas
fi
[ -n "${LODE_BENCH_BUILT:-}" ] || cargo build --release --locked -q -p lode-cli
file=$work/model.safetensors
python3 - "$file" "$mib" <<'PY'
import json, random, struct, sys
path, mib = sys.argv[1], int(sys.argv[2])
source = random.Random(1)
tensors, each = {}, 32 << 20
for at in range(-(-mib // 32)):
    end = min((at + 1) * each, mib << 20)
    shape = [(end - at * each) // 8192, 4096]
    tensors[f"model.layers.{at}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at * each, end]}
header = json.dumps(tensors).encode()
header += b" " * (-len(header) % 8)
with open(path, "wb") as out:
    out.write(struct.pack("<Q", len(header)) + header)
    for _ in range(mib):
        # Halves like those of bfloat16 weights: one byte of two is noise, the other is one of few.
        low, high = source.randbytes(1 << 19), source.randbytes(1 << 19).translate(bytes(0x3b + byte % 4 for byte in range(256)))
        pair = bytearray(1 << 20)
        pair[0::2], pair[1::2] = low, high
        out.write(pair)
PY
cat "$file" >/dev/null
python3 bench/upload.py "${LODE:-$PWD/target/release/lode}" "$reference" "$venv" "$file" "$work" "$runs"
rm -f "$file"
