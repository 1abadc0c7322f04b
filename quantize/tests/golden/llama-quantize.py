#!/usr/bin/env python3
"""Makes llama-quantize.txt: what llama-quantize writes for the small models of tests/models.

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36     # its sources hold llama.cpp of October 2026
    cmake -B build -S llama_cpp_python-0.3.36/vendor/llama.cpp -DCMAKE_BUILD_TYPE=Release -DGGML_OPENMP=OFF
    cmake --build build --target llama-quantize
    quantize/tests/golden/llama-quantize.py build/bin/llama-quantize > quantize/tests/golden/llama-quantize.txt

Lines are `MODEL VARIANT BYTES HASH`; a hash is the first 16 hex digits of the SHA-256 of the file. With `--real FILE`
it does the same for a real model and prints whole hashes.
"""
import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
VARIANTS = ("bf16 f16 q8_0 q6_k q5_1 q5_k_m q5_k_s q5_0 q4_1 q4_k_m q4_k_s iq4_nl q4_0 iq4_xs "
            "q3_k_l q3_k_m q3_k_s q2_k").split()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("quantize")
    parser.add_argument("--real", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        sources, digits = [args.real], 64
        if not args.real:
            subprocess.run(["cargo", "run", "-q", "-p", "lode-quantize", "--example", "models", "--", str(folder)],
                           cwd=ROOT, check=True)
            sources, digits = sorted(folder.glob("*.gguf")), 16
        for source in sources:
            for variant in VARIANTS:
                out = folder / "out"
                run = subprocess.run([args.quantize, str(source), str(out), variant.upper()], capture_output=True)
                if run.returncode:
                    sys.exit(f"{source.stem} {variant}: {run.stderr.decode()[-2000:]}")
                data = out.read_bytes()
                print(source.stem, variant, len(data), hashlib.sha256(data).hexdigest()[:digits])


main()
