//! Which tensors are the matrices of linear layers that loaders quantize.
//!
//! Loaders put a quantized layer in place of every linear layer of a model but those that `config.json` says to
//! ignore. A header does not say what a matrix is used for, but its name does. What stays although it may be a linear
//! layer is ignored by its name, so that both sides agree; to leave one more as it is costs bytes and breaks nothing.

use lode_tensors::{Dtype, Tensor};

use crate::limits::LINEAR_COLUMNS_MAX;

/// The end of a weight's name; what stands before it is the module's.
const WEIGHT: &str = ".weight";

/// Parts of a module's name, whole, that keep it as it is when its last one is among them.
const LAST: &[&str] = &[
    // Heads: what makes the output is left in full precision.
    "lm_head",
    "embed_out",
    "output",
    "head",
    "score",
    "classifier",
    "classification_head",
    "qa_outputs",
    "seq_relationship",
    "decoder",
    // Routers of experts.
    "gate",
    "router",
    "shared_expert_gate",
    "switch",
    // Embeddings.
    "wte",
    "wpe",
    "shared",
    "relative_attention_bias",
    "codebook",
    // Their matrices are taken out of the layer and multiplied elsewhere.
    "dt_proj",
    "x_proj",
];

/// Texts that keep a module as it is, wherever they stand in its name.
const ANYWHERE: &[&str] = &[
    "embed",
    "norm",
    "conv",
    "router",
    "lora_",
    "adapter",
    "pooler",
    "predictions",
    // Eyes and ears, and what joins them to the model.
    "vision",
    "visual",
    "image",
    "audio",
    "projector",
];

/// What stands for a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'t> {
    /// The matrix of a linear layer with this name.
    Linear(&'t str),
    /// A matrix that stays, of a module with this name that might be a linear layer.
    Stays(&'t str),
    /// Nothing that a loader could mean to quantize.
    Other,
}

/// What a tensor is.
pub(super) fn role(tensor: &Tensor) -> Role<'_> {
    let Some(module) = tensor.name.strip_suffix(WEIGHT) else {
        return Role::Other;
    };
    let &[rows, columns] = &tensor.shape[..] else {
        return Role::Other;
    };
    if rows == 0 || columns == 0 || module.is_empty() {
        return Role::Other;
    }
    let lower = module.to_ascii_lowercase();
    let last = lower.rsplit('.').next().unwrap_or(&lower);
    let floats = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    let stays = !floats
        || columns > LINEAR_COLUMNS_MAX
        || LAST.contains(&last)
        || last.starts_with("ln_")
        || ANYWHERE.iter().any(|text| lower.contains(text));
    if stays {
        Role::Stays(module)
    } else {
        Role::Linear(module)
    }
}

/// Models whose `model_type` says that their layers hold matrices the other way round (`Conv1D`), which loaders do not
/// quantize.
pub(super) const TRANSPOSED: &[&str] = &["gpt2", "openai-gpt", "imagegpt", "decision_transformer"];

#[cfg(test)]
mod tests {
    use lode_tensors::ByteRange;

    use super::*;

    fn tensor(name: &str, shape: &[u64], dtype: Dtype) -> Tensor {
        Tensor {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            range: ByteRange { start: 0, end: 0 },
        }
    }

    #[test]
    fn linear_layers_are_told_from_what_stays() {
        for name in [
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.mlp.gate_proj",
            "model.layers.0.mlp.gate_up_proj",
            "model.layers.3.mlp.experts.7.down_proj",
            "model.layers.3.block_sparse_moe.experts.0.w1",
            "encoder.layer.0.attention.output.dense",
            "transformer.h.0.mlp.dense_h_to_4h",
        ] {
            let weight = tensor(&format!("{name}.weight"), &[64, 32], Dtype::BF16);
            assert_eq!(role(&weight), Role::Linear(name));
        }
        for name in [
            "lm_head",
            "output",
            "model.embed_tokens",
            "wte",
            "embeddings.token_type_embeddings",
            "model.layers.0.mlp.gate",
            "model.layers.0.block_sparse_moe.gate",
            "model.layers.0.input_layernorm",
            "model.visual.blocks.0.attn.qkv",
            "multi_modal_projector.linear_1",
            "cls.predictions.decoder",
        ] {
            let weight = tensor(&format!("{name}.weight"), &[64, 32], Dtype::BF16);
            assert_eq!(role(&weight), Role::Stays(name));
        }
        for (name, shape) in [
            ("model.norm.weight", &[64][..]),
            ("model.layers.0.self_attn.q_proj.bias", &[64]),
            ("model.layers.0.mlp.experts.gate_up_proj", &[4, 64, 32]),
            ("model.layers.0.mixer.in_proj.weight", &[4, 64, 32]),
            ("model.layers.0.self_attn.q_proj.weight", &[0, 32]),
            (".weight", &[64, 32]),
        ] {
            assert_eq!(role(&tensor(name, shape, Dtype::BF16)), Role::Other);
        }
    }

    #[test]
    fn rows_that_are_too_long_to_be_read_at_once_stay() {
        let linear = |columns, dtype| {
            let tensor = tensor("a.weight", &[2, columns], dtype);
            role(&tensor) == Role::Linear("a")
        };
        assert!(linear(LINEAR_COLUMNS_MAX, Dtype::F16));
        assert!(!linear(LINEAR_COLUMNS_MAX + 1, Dtype::F16));
        assert!(!linear(64, Dtype::F64));
    }
}
