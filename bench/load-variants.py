#!/usr/bin/env python3
"""Makes safetensors variants, loads each with transformers and compressed-tensors, and measures perplexity.

    bench/load-variants.py [--models DIR] [--text FILE] [--out DIR] [--only NAME,..]

Needs a python with torch, transformers, compressed-tensors, accelerate and safetensors (CPU is enough):

    pip install torch==2.15.0 transformers==5.23.0 compressed-tensors==0.20.0 accelerate

and the folders of scripts/fetch-models and scripts/derive-models. The variants are written by
quantize/examples/variant.rs. Of each one: every quantized matrix is made again by torch's own arithmetic and held to
the file's bytes; the folder is loaded, a few tokens are generated, and the perplexity of a text that never changes
(windows of 512 tokens) is printed beside the source's. Of a model that makes no text, how alike its output is.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TQDM_DISABLE"] = "1"

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, FineGrainedFP8Config

ROOT = Path(__file__).resolve().parent.parent
# folder -> variants
RUNS = {
    "derived/smollm2-hf": ("f16", "fp8", "int8", "int4"),
    "derived/smollm2-hf-sharded": ("int4",),
    "derived/smollm2-hf-wide": ("fp8", "fp8-block"),
    # BERT, in singles: its output is compared.
    "all-minilm-l6-v2": ("bf16", "f16", "fp8", "int8", "fp8-block", "int4"),
}
WINDOW, TOKENS = 512, 4096


def make(example, source, name, out):
    shutil.rmtree(out, ignore_errors=True)
    started = time.monotonic()
    subprocess.run([example, source, name, out], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found.update({name: file.get_tensor(name) for name in file.keys()})
    return found


def hold_to_torch(source, variant):
    """Makes every quantized matrix again; gives how many there were."""
    before, after = tensors(source), tensors(variant)
    least, count = torch.finfo(torch.float32).tiny, 0
    for name, old in before.items():
        module, w = name.removesuffix(".weight"), old.float()
        new = after.get(name)
        if f"{module}.weight_scale_inv" in after:
            rows, columns = w.shape
            squares = w.reshape(rows // 128, 128, columns // 128, 128)
            scale = (squares.abs().amax((1, 3)) / 448).clamp(min=least)
            assert torch.equal(scale, after[f"{module}.weight_scale_inv"]), name
            codes = (squares / scale[:, None, :, None]).clamp(-448, 448).reshape(rows, columns)
            same = torch.equal(codes.to(torch.float8_e4m3fn).view(torch.uint8), new.view(torch.uint8))
        elif f"{module}.weight_packed" in after:
            assert after[f"{module}.weight_shape"].tolist() == list(w.shape), name
            scale = after[f"{module}.weight_scale"]
            groups = w.reshape(*scale.shape, -1)
            largest = groups.abs().amax(2)
            made = (largest / 8).clamp(min=least).bfloat16()
            made = torch.where((groups.amax(2) == largest) & (largest > 0), -made, made)
            assert torch.equal(made, scale), name
            codes = (groups / scale.float()[..., None]).round().clamp(-8, 7).reshape(w.shape)
            same = torch.equal(pack_to_int32(codes.to(torch.int8), 4), after[f"{module}.weight_packed"])
        elif f"{module}.weight_scale" in after:
            scale, floats = after[f"{module}.weight_scale"], new.dtype == torch.float8_e4m3fn
            made = (w.abs().amax(1, keepdim=True) / (448 if floats else 127.5)).clamp(min=least).bfloat16()
            assert torch.equal(made, scale), name
            codes = w / scale.float()
            codes = codes.clamp(-448, 448).to(new.dtype) if floats else codes.round().clamp(-128, 127).to(new.dtype)
            same = torch.equal(codes.view(torch.uint8), new.view(torch.uint8))
        elif new.dtype != old.dtype:
            same = torch.equal(old.to(new.dtype), new)
        else:
            assert torch.equal(old, new), f"{name} changed"
            continue
        assert same, f"{name}: other bytes than torch's"
        count += 1
    assert count, "no tensor was made anew"
    return count


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    how = config.get("quantization_config", {})
    # Without a GPU the squares are read back to floats.
    extra = {"quantization_config": FineGrainedFP8Config(dequantize=True)} if how.get("quant_method") == "fp8" else {}
    kind = AutoModelForCausalLM if config["architectures"][0].endswith("CausalLM") else AutoModel
    return kind.from_pretrained(folder, dtype="auto", **extra).eval()


@torch.inference_mode()
def perplexity(model, tokens):
    total, count = 0.0, 0
    for window in tokens.split(WINDOW):
        logits = model(window[None]).logits[0].float()
        total += torch.nn.functional.cross_entropy(logits[:-1], window[1:], reduction="sum").item()
        count += len(window) - 1
    return math.exp(total / count)


@torch.inference_mode()
def output(model, tokens):
    return model(tokens[None, :WINDOW]).last_hidden_state[0].float()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, default=ROOT / ".cache/models")
    parser.add_argument("--text", type=Path, default=ROOT / "LICENSE-APACHE")
    parser.add_argument("--out", type=Path, default=ROOT / "target/load-variants")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    build = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "lode-quantize", "--example", "variant"]
    subprocess.run(build, check=True, cwd=ROOT)
    example = ROOT / "target/release/examples/variant"
    wrong = 0
    for folder, names in RUNS.items():
        source = options.models / folder
        if not source.exists():
            sys.exit(f"{source} is missing: scripts/fetch-models and scripts/derive-models make it")
        tokenizer = AutoTokenizer.from_pretrained(source)
        tokens = tokenizer(options.text.read_text(), return_tensors="pt").input_ids[0, :TOKENS]
        plain = load(source)
        speaks = plain.can_generate()
        base = perplexity(plain, tokens) if speaks else output(plain, tokens)
        print(f"{source.name}: {f'perplexity {base:.3f} of ' if speaks else ''}{len(tokens)} tokens", flush=True)
        for name in names:
            if options.only and name not in options.only.split(","):
                continue
            out = options.out / f"{source.name}-{name}"
            seconds = make(example, source, name, out)
            size = sum(path.stat().st_size for path in out.iterdir())
            count = hold_to_torch(source, out)
            model = load(out)
            if speaks:
                found = perplexity(model, tokens)
                prompt = tokenizer("The capital of France is", return_tensors="pt")
                text = tokenizer.decode(model.generate(**prompt, max_new_tokens=8, do_sample=False)[0])
                result = f"perplexity {found:.3f} ({found / base - 1:+.2%}), {text!r}"
                wrong += not found < base * 1.6
            else:
                alike = torch.cosine_similarity(base, output(model, tokens), dim=-1).mean().item()
                result = f"output alike to {alike:.4f}"
                wrong += not alike > 0.9
            print(f"  {name:10} {size:>11,} bytes in {seconds:.2f} s, {count} tensors as torch makes them, {result}",
                  flush=True)
            shutil.rmtree(out)
    if wrong:
        sys.exit(f"{wrong} variants are far from their source")


if __name__ == "__main__":
    main()
