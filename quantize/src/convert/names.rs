//! Which tensor of a GGUF file a tensor of a checkpoint becomes, and which shape it must have.
//!
//! The table is that of llama.cpp's own converter for these architectures. A tensor that it does not know is refused,
//! but for leftovers that no loader reads.

use super::config::{Config, Family};

/// What happens to the weights of a tensor on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// Rows of each head in pairs, as the llama family needs them.
    PairedHalves,
    /// One is added: gemma stores its norms as the distance from it.
    PlusOne,
}

/// What a tensor becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    /// Its dimensions, outermost first.
    pub(super) shape: Vec<u64>,
    pub(super) change: Change,
}

/// A tensor of every layer, by what stands after `model.layers.N.`.
struct Part {
    from: &'static str,
    to: &'static str,
    shape: Shape,
}

#[derive(Clone, Copy)]
enum Shape {
    /// As long as the embedding.
    Norm,
    /// As long as a head.
    HeadNorm,
    Query,
    /// Keys and values.
    Key,
    Value,
    AttentionOutput,
    Up,
    Down,
}

const fn part(from: &'static str, to: &'static str, shape: Shape) -> Part {
    Part { from, to, shape }
}

const MATRICES: &[Part] = &[
    part("self_attn.q_proj", "attn_q", Shape::Query),
    part("self_attn.k_proj", "attn_k", Shape::Key),
    part("self_attn.v_proj", "attn_v", Shape::Value),
    part("self_attn.o_proj", "attn_output", Shape::AttentionOutput),
    part("mlp.gate_proj", "ffn_gate", Shape::Up),
    part("mlp.up_proj", "ffn_up", Shape::Up),
    part("mlp.down_proj", "ffn_down", Shape::Down),
];

const NORMS: &[Part] = &[
    part("input_layernorm", "attn_norm", Shape::Norm),
    part("post_attention_layernorm", "ffn_norm", Shape::Norm),
];

const HEAD_NORMS: &[Part] = &[
    part("self_attn.q_norm", "attn_q_norm", Shape::HeadNorm),
    part("self_attn.k_norm", "attn_k_norm", Shape::HeadNorm),
];

const NORMS_GEMMA: &[Part] = &[
    part("input_layernorm", "attn_norm", Shape::Norm),
    part(
        "post_attention_layernorm",
        "post_attention_norm",
        Shape::Norm,
    ),
    part("pre_feedforward_layernorm", "ffn_norm", Shape::Norm),
    part("post_feedforward_layernorm", "post_ffw_norm", Shape::Norm),
];

const LAYER: &str = "model.layers.";
const EMBEDDING: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";
const OUTPUT_NORM: &str = "model.norm.weight";

/// Ends of names that no loader reads.
const LEFTOVERS: &[&str] = &[
    ".rotary_emb.inv_freq",
    ".attention.masked_bias",
    ".attention.bias",
];

/// Whether a tensor is left out.
pub(super) fn is_leftover(name: &str) -> bool {
    LEFTOVERS.iter().any(|end| name.ends_with(end))
}

/// The weights of a layer that must be there.
fn needed(family: Family) -> impl Iterator<Item = &'static Part> {
    let norms: [&[Part]; 2] = match family {
        Family::Llama | Family::Qwen2 => [NORMS, &[]],
        Family::Qwen3 => [NORMS, HEAD_NORMS],
        Family::Gemma3 => [NORMS_GEMMA, HEAD_NORMS],
    };
    MATRICES.iter().chain(norms.into_iter().flatten())
}

/// Whether llama.cpp reads a bias of this part.
fn has_bias(family: Family, shape: Shape) -> bool {
    match shape {
        Shape::Norm | Shape::HeadNorm => false,
        Shape::Query | Shape::Key | Shape::Value => true,
        Shape::AttentionOutput | Shape::Up | Shape::Down => family == Family::Llama,
    }
}

impl Shape {
    /// Rows and the length of each; norms are one row.
    fn dims(self, config: &Config) -> (u64, u64) {
        let [embedding, feed_forward, head] =
            [config.embedding, config.feed_forward, config.head_dim].map(u64::from);
        let queries = u64::from(config.heads) * head;
        let keys = u64::from(config.kv_heads) * head;
        match self {
            Self::Norm => (1, embedding),
            Self::HeadNorm => (1, head),
            Self::Query => (queries, embedding),
            Self::Key | Self::Value => (keys, embedding),
            Self::AttentionOutput => (embedding, queries),
            Self::Up => (feed_forward, embedding),
            Self::Down => (embedding, feed_forward),
        }
    }

    fn change(self, family: Family) -> Change {
        match (self, family) {
            (Self::Query | Self::Key, Family::Llama) => Change::PairedHalves,
            (Self::Norm | Self::HeadNorm, Family::Gemma3) => Change::PlusOne,
            _ => Change::None,
        }
    }
}

/// What the tensor of this name becomes; nothing for one that is not known.
pub(super) fn target(name: &str, config: &Config) -> Option<Target> {
    let family = config.family;
    let [vocab, embedding] = [config.vocab, config.embedding].map(u64::from);
    let (to, shape, change) = match name {
        EMBEDDING => ("token_embd.weight", vec![vocab, embedding], Change::None),
        OUTPUT => ("output.weight", vec![vocab, embedding], Change::None),
        OUTPUT_NORM => {
            let change = Shape::Norm.change(family);
            ("output_norm.weight", vec![embedding], change)
        }
        _ => return layer_target(name, config),
    };
    Some(Target {
        name: to.to_owned(),
        shape,
        change,
    })
}

fn layer_target(name: &str, config: &Config) -> Option<Target> {
    let (layer, rest) = name.strip_prefix(LAYER)?.split_once('.')?;
    let number: u32 = layer.parse().ok()?;
    // Other spellings of a number would be a second name of the same tensor.
    if number >= config.layers || number.to_string() != layer {
        return None;
    }
    let (from, kind) = rest.rsplit_once('.')?;
    let part = needed(config.family).find(|part| part.from == from)?;
    let (rows, row) = part.shape.dims(config);
    let is_norm = matches!(part.shape, Shape::Norm | Shape::HeadNorm);
    let shape = match kind {
        "weight" if is_norm => vec![row],
        "weight" => vec![rows, row],
        "bias" if has_bias(config.family, part.shape) => vec![rows],
        _ => return None,
    };
    Some(Target {
        name: format!("blk.{number}.{}.{kind}", part.to),
        shape,
        change: part.shape.change(config.family),
    })
}

/// The names of all tensors that a checkpoint must hold.
pub(super) fn all_needed(config: &Config) -> impl Iterator<Item = String> {
    let output = (!config.tied).then_some(OUTPUT);
    let ends = [EMBEDDING, OUTPUT_NORM].into_iter().chain(output);
    let family = config.family;
    let layers = (0..config.layers).flat_map(move |layer| {
        needed(family).map(move |part| format!("{LAYER}{layer}.{}.weight", part.from))
    });
    ends.map(str::to_owned).chain(layers)
}
