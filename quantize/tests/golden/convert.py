#!/usr/bin/env python3
"""Holds GGUF variants of safetensors checkpoints to convert_hf_to_gguf.py of llama.cpp.

    convert.py LLAMA_CPP SMOLLM2_HF VARIANT_PROGRAM [LLAMA_COMPLETION]

Makes small checkpoints of random weights of every architecture that is converted, beside SmolLM2; converts each with
LLAMA_CPP/convert_hf_to_gguf.py and with VARIANT_PROGRAM (quantize/examples/variant.rs), both as bf16; all tensors must be
equal byte for byte (the factors of llama 3 to a few units in the last place), all keys that both write must have equal
values, and no key of the tokenizer may be in one alone. With LLAMA_COMPLETION, q4_k_m of each must load there and
generate. Needs torch, transformers and sentencepiece, with which it was last run: 2.15, 5.23, 0.2.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

LLAMA_CPP, SMOLLM2, VARIANT = map(Path, sys.argv[1:4])
COMPLETION = sys.argv[4] if len(sys.argv) > 4 else None
sys.path.insert(0, str(LLAMA_CPP / "gguf-py"))
from gguf import GGUFReader  # noqa: E402

SMOLLM2_VOCAB = 49152
PIECES = 600
TEMPLATE = "{{ messages[0]['content'] }}"


def small(architecture, vocab, **more):
    return {"architectures": [architecture], "model_type": architecture.split("For")[0].lower(), "hidden_size": 256,
            "intermediate_size": 512, "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "vocab_size": vocab, "torch_dtype": "bfloat16", **more}


def tensors(config, biases=(), head_norms=False, gemma=False, dtype=torch.bfloat16):
    """Random weights of a checkpoint."""
    random = torch.Generator().manual_seed(7)
    embedding, hidden = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim", embedding // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head

    def weights(*shape):
        return (torch.randn(*shape, generator=random) / 16).to(dtype)
    out = {"model.embed_tokens.weight": weights(config["vocab_size"], embedding), "model.norm.weight": weights(embedding)}
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = weights(config["vocab_size"], embedding)
    shapes = {"self_attn.q_proj": (queries, embedding), "self_attn.k_proj": (keys, embedding),
              "self_attn.v_proj": (keys, embedding), "self_attn.o_proj": (embedding, queries),
              "mlp.gate_proj": (hidden, embedding), "mlp.up_proj": (hidden, embedding),
              "mlp.down_proj": (embedding, hidden), "input_layernorm": (embedding,),
              "post_attention_layernorm": (embedding,)}
    if head_norms:
        shapes |= {"self_attn.q_norm": (head,), "self_attn.k_norm": (head,)}
    if gemma:
        shapes |= {"pre_feedforward_layernorm": (embedding,), "post_feedforward_layernorm": (embedding,)}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in shapes.items():
            out[f"model.layers.{layer}.{name}.weight"] = weights(*shape)
            if any(name.endswith(bias) for bias in biases):
                out[f"model.layers.{layer}.{name}.bias"] = weights(shape[0])
    return out


def byte_level(folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(SMOLLM2 / name, folder)


def template_tokenizer(folder):
    """SmolLM2's with its merges as pairs and its chat template in a file of its own."""
    byte_level(folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"] = [m.split(" ") if isinstance(m, str) else m for m in tokenizer["model"]["merges"]]
    path.write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings))


def pieces(folder, gemma=False):
    """A small SentencePiece model of BPE with a fallback to bytes."""
    import sentencepiece
    text = folder / "text"
    text.write_text("\n".join(path.read_text() for path in sorted((LLAMA_CPP / "docs").glob("*.md"))))
    special = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3} if gemma else {}
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), model_type="bpe", vocab_size=PIECES - 8,
        byte_fallback=True, num_threads=1, user_defined_symbols=["\u2581\u2581", "<start_of_turn>"] if gemma else [],
        **special)
    (folder / "tokenizer.vocab").unlink()
    text.unlink()
    model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    ids = {name: getattr(model, f"{name}_id")() for name in ("bos", "eos", "unk")}
    added = {str(i): {"content": model.IdToPiece(i), "special": True} for i in ids.values()}
    if gemma:
        added |= {str(i): {"content": p, "special": False} for i in range(PIECES - 8)
                  if (p := model.IdToPiece(i)) in ("\u2581\u2581", "<start_of_turn>")}
    added[str(PIECES - 8)] = {"content": "<|call|>", "special": False}
    settings = {"add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added,
                "chat_template": [{"name": "other", "template": "no"}, {"name": "default", "template": TEMPLATE}],
                **{f"{name}_token": model.IdToPiece(i) for name, i in ids.items()}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return {f"{name}_token_id": i for name, i in ids.items()}


def checkpoints(root):
    """Folders of small checkpoints."""
    def make(name, config, tokenizer, **more):
        folder = root / name
        folder.mkdir()
        config |= tokenizer(folder) or {}
        (folder / "config.json").write_text(json.dumps(config))
        save_file(tensors(config, **more), folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    linears = ("q_proj", "k_proj", "v_proj", "o_proj")
    tied, apart = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}
    yield make("llama3", small("LlamaForCausalLM", SMOLLM2_VOCAB, rope_theta=500000.0, rope_scaling=scaling, head_dim=64,
                               attention_bias=True, **apart), template_tokenizer, biases=linears)
    yield make("llama-f32", small("LlamaForCausalLM", SMOLLM2_VOCAB, rope_theta=10000.0, **tied), byte_level,
               dtype=torch.float32)
    yield make("llama-f16", small("LlamaForCausalLM", SMOLLM2_VOCAB, rope_theta=10000.0,
                                  rope_scaling={"type": "linear", "factor": 2.0}, **tied), byte_level, dtype=torch.float16)
    yield make("mistral", small("MistralForCausalLM", PIECES, rope_theta=10000.0, sliding_window=128, **apart), pieces)
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    # With its own model type, transformers would put qwen2's pre-tokenizer in the place of the file's.
    yield make("qwen2", small("Qwen2ForCausalLM", SMOLLM2_VOCAB, model_type="qwen3", head_dim=64, rope_theta=1000000.0,
                              rope_scaling=yarn, **apart), byte_level, biases=linears[:3])
    yield make("qwen3", small("Qwen3ForCausalLM", SMOLLM2_VOCAB + 64, rope_theta=1000000.0, head_dim=128, **tied),
               byte_level, head_norms=True)
    yield make("gemma3", small("Gemma3ForCausalLM", PIECES, model_type="gemma3_text", head_dim=128, sliding_window=64,
                               rope_theta=1000000.0, rope_local_base_freq=10000.0,
                               hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=128, **tied),
               lambda folder: pieces(folder, gemma=True), head_norms=True, gemma=True)


def variant(folder, name, scratch):
    out = scratch / f"{folder.name}-{name}"
    done = subprocess.run([VARIANT, folder, name, out], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{done.stdout} {done.stderr}")
    return out / "model.gguf"


def compare(name, ours, theirs):
    """Prints what differs; gives whether that is a fault."""
    ours, theirs = GGUFReader(ours), GGUFReader(theirs)
    mine, other = ({t.name: t for t in reader.tensors} for reader in (ours, theirs))
    wrong = sorted(mine.keys() ^ other.keys())
    for tensor in sorted(mine.keys() & other.keys()):
        a, b = mine[tensor], other[tensor]
        if a.tensor_type != b.tensor_type or list(a.shape) != list(b.shape):
            print(f"{name}: {tensor}: {a.tensor_type} {b.tensor_type} {a.shape} {b.shape}")
            wrong.append(tensor)
        elif tensor == "rope_freqs.weight":
            worst = float(np.max(np.abs(a.data / b.data - 1)))
            print(f"{name}: {tensor} differs by {worst:.1e}")
            if worst > 1e-5:
                wrong.append(tensor)
        elif not np.array_equal(a.data.view(np.uint8), b.data.view(np.uint8)):
            wrong.append(tensor)
    keys = ours.fields.keys() | theirs.fields.keys()
    for key in sorted(keys):
        if key.startswith("GGUF."):
            continue
        a, b = (reader.fields.get(key) for reader in (ours, theirs))
        if a is None or b is None:
            print(f"{name}: {key} is in {'ours' if b is None else 'theirs'} alone:", str((a or b).contents())[:60])
            # Byte-level tokenizers never put a space before a text, whether this key says so or not.
            said = key == "tokenizer.ggml.add_space_prefix" and not (a or b).contents()
            if key.startswith("tokenizer.") and "chat_template" not in key and not said:
                wrong.append(key)
        elif a.contents() != b.contents() or a.types != b.types:
            print(f"{name}: {key} differs: {str(a.contents())[:80]} and {str(b.contents())[:80]}")
            wrong.append(key)
    print(f"{name}: {len(mine)} tensors and {len(keys)} keys compared:", wrong or "equal")
    return bool(wrong)


def main():
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for folder in [SMOLLM2, *checkpoints(scratch)]:
            theirs = scratch / "theirs.gguf"
            try:
                ours = variant(folder, "gguf-bf16", scratch)
            except ValueError as error:
                print(f"{folder.name}: {error}")
                failed = True
                continue
            done = subprocess.run([sys.executable, LLAMA_CPP / "convert_hf_to_gguf.py", folder, "--outtype", "bf16",
                                   "--outfile", theirs], capture_output=True, text=True)
            if done.returncode:
                print(f"{folder.name}: {done.stderr[-1500:]}")
                failed = True
                continue
            failed |= compare(folder.name, ours, theirs)
            if COMPLETION:
                quantized = variant(folder, "q4_k_m", scratch)
                done = subprocess.run([COMPLETION, "-m", quantized, "-p", "The capital of France", "-n", "4", "--temp", "0",
                                       "-no-cnv", "-t", "2", "--no-warmup"], capture_output=True, stdin=subprocess.DEVNULL)
                if done.returncode:
                    print(f"{folder.name}: {done.stderr.decode(errors='replace')[-1500:]}")
                failed |= done.returncode != 0
                print(f"{folder.name}: q4_k_m generates", repr(done.stdout.decode(errors="replace")[:80]))
    sys.exit(failed)


main()
