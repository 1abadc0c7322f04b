"""Slices of whole models in numpy: the rules of docs/format/slice.md a second time, and small models to try them on.

Tensors are taken apart by heads, halves and equal parts, and put together again; nothing here knows bytes or files.
"""
import re

import numpy


def families():
    """Small models: name, config, shapes of all tensors. Every layout and every rule is in one of them."""
    base = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
            "head_dim": 32, "intermediate_size": 352}
    attention = {
        "self_attn.q_proj.weight": (256, 128), "self_attn.k_proj.weight": (64, 128),
        "self_attn.v_proj.weight": (64, 128), "self_attn.o_proj.weight": (128, 256),
        "input_layernorm.weight": (128,), "post_attention_layernorm.weight": (128,),
    }
    biases = {"self_attn.q_proj.bias": (256,), "self_attn.k_proj.bias": (64,), "self_attn.v_proj.bias": (64,)}
    norms = {"self_attn.q_norm.weight": (32,), "self_attn.k_norm.weight": (32,)}

    def mlp(prefix, width, gate="gate_proj", up="up_proj", down="down_proj"):
        return {f"{prefix}{gate}.weight": (width, 128), f"{prefix}{up}.weight": (width, 128),
                f"{prefix}{down}.weight": (128, width)}

    def model(layer, vocab=1000, head=True, prefix="model."):
        shapes = {f"{prefix}embed_tokens.weight": (vocab, 128), f"{prefix}norm.weight": (128,)}
        for number in range(2):
            shapes.update({f"{prefix}layers.{number}.{name}": shape for name, shape in layer.items()})
        if head:
            shapes["lm_head.weight"] = (vocab, 128)
        return shapes

    experts = {}
    for expert in range(4):
        experts.update(mlp(f"mlp.experts.{expert}.", 96))
    mixtral = {"block_sparse_moe.gate.weight": (4, 128)}
    for expert in range(4):
        mixtral.update(mlp(f"block_sparse_moe.experts.{expert}.", 352, "w1", "w3", "w2"))
    llama = {**attention, **mlp("mlp.", 352)}
    full = {"self_attn.o_proj.bias": (128,), "mlp.gate_proj.bias": (352,), "mlp.up_proj.bias": (352,),
            "mlp.down_proj.bias": (128,)}
    phi = {name: shape for name, shape in attention.items() if "q_proj" not in name and "k_proj" not in name
           and "v_proj" not in name}
    phi.update({"self_attn.qkv_proj.weight": (384, 128), "mlp.gate_up_proj.weight": (704, 128),
                "mlp.down_proj.weight": (128, 352)})
    feedforward = {"pre_feedforward_layernorm.weight": (128,), "post_feedforward_layernorm.weight": (128,)}
    gemma3 = model({**llama, **norms, **feedforward}, 1000, False, "language_model.model.")
    gemma3.update({"vision_tower.vision_model.post_layernorm.weight": (64,),
                   "multi_modal_projector.mm_input_projection_weight": (64, 128)})
    return [
        ("LlamaForCausalLM", {**base}, model({**llama, **full})),
        # 1001 tokens are padded to 1024
        ("MistralForCausalLM", {**base}, model(llama, 1001)),
        ("Qwen2ForCausalLM", {**base, "tie_word_embeddings": True}, model({**llama, **biases}, 1000, False)),
        ("Qwen3ForCausalLM", {**base}, model({**llama, **norms})),
        ("GemmaForCausalLM", {**base}, model(llama, 1000, False)),
        ("Gemma2ForCausalLM", {**base}, model({**llama, **feedforward}, 1000, False)),
        ("Gemma3ForConditionalGeneration", {"text_config": base}, gemma3),
        ("Phi3ForCausalLM", {**base}, model(phi)),
        ("MixtralForCausalLM", {**base, "num_local_experts": 4}, model({**attention, **mixtral})),
        ("Qwen2MoeForCausalLM", {**base, "num_experts": 4}, model({
            **attention, **biases, **experts, **mlp("mlp.shared_expert.", 352), "mlp.gate.weight": (4, 128),
            "mlp.shared_expert_gate.weight": (1, 128)})),
        ("Qwen3MoeForCausalLM", {**base, "num_experts": 4}, model({
            **attention, **norms, **experts, "mlp.gate.weight": (4, 128)})),
    ]


class Slicer:
    def __init__(self, config, names, tp=(0, 1), layers=None, experts=None):
        text = config.get("text_config", config)
        self.heads, self.kv, self.dim = (
            text["num_attention_heads"], text["num_key_value_heads"], text["head_dim"])
        self.layers = range(*(layers or (0, text["num_hidden_layers"])))
        self.count = text["num_hidden_layers"]
        self.experts = experts and range(*experts)
        self.rank, self.of = tp
        self.tied = config.get("tie_word_embeddings", False) or not any(n.endswith("lm_head.weight") for n in names)

    def of_model(self, tensors):
        cut = {name: self.cut(name, value) for name, value in tensors.items()}
        return {name: value for name, value in cut.items() if value is not None}

    def cut(self, name, value):
        """What of a tensor the slice has; None when it has nothing of it."""
        name = name.removeprefix("language_model.")
        first, last = self.layers.start == 0, self.layers.stop == self.count
        if name.startswith(("vision_tower.", "multi_modal_projector.")):
            return value if first else None
        if name == "model.embed_tokens.weight":
            return self.vocab(value) if first or (self.tied and last) else None
        if name == "model.norm.weight":
            return value if last else None
        if name == "lm_head.weight":
            return self.vocab(value) if last else None
        layer, rest = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name).groups()
        if int(layer) not in self.layers:
            return None
        expert = re.search(r"\.experts\.(\d+)\.", rest)
        if expert and self.experts and int(expert[1]) not in self.experts:
            return None
        module, kind = rest.rsplit(".", 1)
        module = module.rsplit(".", 1)[-1]
        if module == "q_proj":
            return self.head_rows(value, self.heads)
        if module in ("k_proj", "v_proj"):
            return self.head_rows(value, self.kv)
        if module == "qkv_proj":
            q, kv = self.heads * self.dim, self.kv * self.dim
            q, k, v = numpy.split(value, [q, q + kv])
            return numpy.concatenate([self.head_rows(q, self.heads), self.head_rows(k, self.kv),
                                      self.head_rows(v, self.kv)])
        if module in ("gate_proj", "up_proj", "w1", "w3"):
            return self.part(value, 0)
        if module == "gate_up_proj":
            return numpy.concatenate([self.part(half, 0) for half in numpy.split(value, 2)])
        if module in ("o_proj", "down_proj", "w2") and kind == "weight":
            return self.part(value, 1)
        return value

    def part(self, value, axis):
        return numpy.split(value, self.of, axis)[self.rank]

    def head_rows(self, value, heads):
        by_head = value.reshape(heads, self.dim, *value.shape[1:])
        if heads < self.of:
            by_head = numpy.repeat(by_head, self.of // heads, axis=0)
        part = self.part(by_head, 0)
        return part.reshape(-1, *value.shape[1:])

    def vocab(self, value):
        if len(value) % self.of == 0:
            return self.part(value, 0)
        padding = -len(value) % 64
        padded = numpy.concatenate([numpy.arange(len(value)), numpy.full(padding, -1)])
        rows = numpy.split(padded, self.of)[self.rank]
        return value[rows[rows >= 0]]
