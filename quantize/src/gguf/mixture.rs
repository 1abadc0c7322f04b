//! Which type each tensor of a GGUF variant gets: the mixtures of `llama-quantize`.
//!
//! The rules are those of `llama-quant.cpp` in the llama.cpp of October 2026, without importance matrix. They change
//! between versions of llama.cpp, so a recipe names them: [`RULES`]. A tensor whose rows the blocks do not divide falls
//! back to a type with smaller blocks.

use std::cmp::Ordering;

use crate::block::BlockType;

/// The name of these rules in a recipe.
pub(crate) const RULES: &str = "llama.cpp-2026-10";

macro_rules! mixtures {
    ($($(#[$doc:meta])* $variant:ident $name:literal $file_type:literal $default:ident;)*) => {
        /// A precision of a whole GGUF file, named as `llama-quantize` names it, in small letters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types, missing_docs)]
        #[non_exhaustive]
        pub enum Mixture { $($(#[$doc])* $variant,)* }

        impl Mixture {
            /// All, from the most bits a weight to the fewest.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The mixture of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|mixture| mixture.name() == name)
            }

            /// Its number in `general.file_type`.
            pub(crate) const fn file_type(self) -> u32 {
                match self { $(Self::$variant => $file_type,)* }
            }

            /// What a tensor becomes without a rule of its own.
            pub(crate) const fn default_type(self) -> BlockType {
                match self { $(Self::$variant => BlockType::$default,)* }
            }
        }
    };
}

mixtures! {
    BF16 "bf16" 32 BF16;
    F16 "f16" 1 F16;
    Q8_0 "q8_0" 7 Q8_0;
    Q6_K "q6_k" 18 Q6_K;
    Q5_1 "q5_1" 9 Q5_1;
    Q5_K_M "q5_k_m" 17 Q5_K;
    Q5_K_S "q5_k_s" 16 Q5_K;
    Q5_0 "q5_0" 8 Q5_0;
    Q4_1 "q4_1" 3 Q4_1;
    Q4_K_M "q4_k_m" 15 Q4_K;
    Q4_K_S "q4_k_s" 14 Q4_K;
    IQ4_NL "iq4_nl" 25 IQ4_NL;
    Q4_0 "q4_0" 2 Q4_0;
    IQ4_XS "iq4_xs" 30 IQ4_XS;
    Q3_K_L "q3_k_l" 13 Q3_K;
    Q3_K_M "q3_k_m" 12 Q3_K;
    Q3_K_S "q3_k_s" 11 Q3_K;
    Q2_K "q2_k" 10 Q2_K;
}

/// What the rules ask of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// `general.architecture`.
    pub(crate) architecture: String,
    /// Layers, those that predict further tokens among them.
    pub(crate) layers: u64,
    /// Experts of a layer; 0 without any.
    pub(crate) experts: u64,
    /// Query heads, and heads that hold keys and values, in the first layer.
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
}

impl Shape {
    /// Query heads that share one of keys and values.
    fn sharing(&self) -> u64 {
        self.heads.checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Whether llama.cpp takes it for a model of 70B parameters, in which 8 query heads share one.
    fn is_70b(&self) -> bool {
        match self.architecture.as_str() {
            "llama" => self.layers == 80 && self.heads != self.kv_heads,
            "qwen2" | "deci" | "olmo" => self.layers == 80,
            "jais2" => self.layers == 68,
            _ => false,
        }
    }
}

/// A tensor as the rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a str,
    /// Its dimensions, outermost first.
    pub(crate) shape: &'a [u64],
    /// Its type in the source; nothing when that is none that can be read.
    pub(crate) from: Option<BlockType>,
}

/// The order in which the file holds its tensors: by layer, those of none first, then by the bytes of the name.
pub(crate) fn order(a: &str, b: &str) -> Ordering {
    (layer(a), a.as_bytes()).cmp(&(layer(b), b.as_bytes()))
}

/// The number after `blk.`; -1 without one.
fn layer(name: &str) -> i64 {
    let Some(rest) = name.strip_prefix("blk.") else {
        return -1;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().unwrap_or(-1)
}

/// The type that each tensor gets, in the same order; nothing for those that stay as they are. `tensors` are in the
/// [`order`] of the file.
pub(crate) fn types(
    mixture: Mixture,
    shape: &Shape,
    tensors: &[Candidate<'_>],
) -> Vec<Option<BlockType>> {
    let mut rules = Rules {
        mixture,
        shape,
        tied: !tensors.iter().any(|tensor| tensor.name == "output.weight"),
        values: tensors
            .iter()
            .filter(|tensor| Part::of(tensor.name).is_value())
            .count() as u64,
        value: 0,
        down: 0,
    };
    tensors.iter().map(|tensor| rules.type_of(tensor)).collect()
}

/// What a tensor is for, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Embedding,
    Query,
    Value,
    Key,
    Fused,
    LatentKeyValue,
    AttentionOutput,
    Down,
    Output,
    Other,
}

impl Part {
    fn of(name: &str) -> Self {
        match name {
            "output.weight" => return Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => return Self::Embedding,
            _ => {}
        }
        [
            ("attn_qkv.weight", Self::Fused),
            ("attn_kv_b.weight", Self::LatentKeyValue),
            ("attn_v.weight", Self::Value),
            ("attn_k.weight", Self::Key),
            ("attn_q.weight", Self::Query),
            ("attn_output.weight", Self::AttentionOutput),
            ("ffn_up", Self::Other),
            ("ffn_gate", Self::Other),
            ("ffn_down", Self::Down),
        ]
        .into_iter()
        .find(|(part, _)| name.contains(part))
        .map_or(Self::Other, |(_, part)| part)
    }

    /// Whether it is as sensitive as the value matrix.
    fn is_value(self) -> bool {
        matches!(self, Self::Value | Self::Fused | Self::LatentKeyValue)
    }
}

/// Parts of names that stay as they are: norms, and matrices that are small or steer others.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// The same, of one architecture alone.
const KEPT_GLM5: &[&str] = &[
    "hc_",
    "indexer.attn_q_b",
    "indexer.attn_k",
    "indexer.proj",
    "indexer_compressor_gate",
    "indexer_compressor_ape",
    "ssm_f_a.weight",
    "ssm_f_b.weight",
    "ssm_g_a.weight",
    "ssm_g_b.weight",
    "ssm_beta.weight",
    "attn_kv_a_mqa.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
];
const GLM5: &str = "glm5-next";

fn is_quantized(architecture: &str, tensor: &Candidate<'_>) -> bool {
    // Dimensions of one at the outside do not count.
    let rank = tensor.shape.iter().skip_while(|&&dim| dim == 1).count();
    let name = tensor.name;
    rank >= 2
        && name.ends_with("weight")
        && !matches!(name, "position_embd.weight" | "token_types.weight")
        && !KEPT.iter().any(|part| name.contains(part))
        && !(architecture == GLM5 && KEPT_GLM5.iter().any(|part| name.contains(part)))
}

struct Rules<'a> {
    mixture: Mixture,
    shape: &'a Shape,
    /// Whether the embedding is the output matrix too.
    tied: bool,
    /// Value matrices in the file, and those met so far.
    values: u64,
    value: u64,
    /// Down projections met so far.
    down: u64,
}

/// Whether the matrix of layer `at` of `count` gets more bits than most.
fn use_more_bits(at: u64, count: u64) -> bool {
    at < count / 8 || at >= 7 * count / 8 || (at - count / 8) % 3 == 2
}

impl Rules<'_> {
    fn type_of(&mut self, tensor: &Candidate<'_>) -> Option<BlockType> {
        if !is_quantized(&self.shape.architecture, tensor) {
            return None;
        }
        let default = self.mixture.default_type();
        let row = tensor.shape.last().copied().unwrap_or(1);
        let chosen = match default {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => default,
            _ => fallback(self.choose(tensor.name, row, default), row),
        };
        (tensor.from != Some(chosen)).then_some(chosen)
    }

    fn choose(&mut self, name: &str, row: u64, default: BlockType) -> BlockType {
        use Mixture as M;
        let falcon = self.shape.architecture == "falcon";
        if self.shape.architecture == GLM5
            && ["attn_q_a", "attn_q_b", "nextn.eh_proj"]
                .iter()
                .any(|part| name.contains(part))
        {
            return BlockType::Q8_0;
        }
        let part = Part::of(name);
        let sharing = self.shape.sharing();
        match part {
            Part::Output | Part::Embedding if part == Part::Output || self.tied => {
                if falcon || !row.is_multiple_of(default.weights() as u64) {
                    BlockType::Q8_0
                } else if default == BlockType::Q8_0 {
                    default
                } else {
                    BlockType::Q6_K
                }
            }
            _ if part.is_value() => {
                let (at, count) = (self.value, self.values);
                self.value += 1;
                let chosen = match self.mixture {
                    M::Q2_K if sharing >= 4 => BlockType::Q4_K,
                    M::Q2_K => BlockType::Q3_K,
                    M::Q3_K_M if at < 2 => BlockType::Q5_K,
                    M::Q3_K_M => BlockType::Q4_K,
                    M::Q3_K_L => BlockType::Q5_K,
                    M::IQ4_NL | M::IQ4_XS if sharing >= 4 => BlockType::Q5_K,
                    M::Q4_K_M | M::Q5_K_M if use_more_bits(at, count) => BlockType::Q6_K,
                    M::Q4_K_S if at < 4 => BlockType::Q5_K,
                    _ => default,
                };
                if self.shape.experts == 8 {
                    BlockType::Q8_0
                } else if self.shape.is_70b() && matches!(chosen, BlockType::Q3_K | BlockType::Q4_K)
                {
                    BlockType::Q5_K
                } else {
                    chosen
                }
            }
            Part::Key if self.shape.experts == 8 => BlockType::Q8_0,
            Part::Down => {
                // Experts are not met in the order of their layers, so their names count.
                let at = match self.shape.experts {
                    0 | 1 => self.down,
                    _ => u64::try_from(layer(name)).unwrap_or(0),
                };
                self.down += 1;
                self.down_type(at, falcon, default)
            }
            Part::AttentionOutput => match self.mixture {
                M::Q3_K_L if falcon => BlockType::Q4_K,
                _ if falcon => default,
                M::Q2_K | M::Q3_K_S | M::Q3_K_M | M::IQ4_NL | M::Q4_K_S | M::Q4_K_M | M::IQ4_XS
                    if self.shape.experts == 8 =>
                {
                    BlockType::Q5_K
                }
                _ if self.shape.experts == 8 => default,
                M::Q2_K => BlockType::Q3_K,
                M::Q3_K_M => BlockType::Q4_K,
                M::Q3_K_L => BlockType::Q5_K,
                _ => default,
            },
            _ => default,
        }
    }

    fn down_type(&self, at: u64, falcon: bool, default: BlockType) -> BlockType {
        use Mixture as M;
        let count = self.shape.layers;
        let more = use_more_bits(at, count);
        match self.mixture {
            M::Q2_K => BlockType::Q3_K,
            M::Q3_K_M if at < count / 16 => BlockType::Q5_K,
            M::Q3_K_M if !falcon || more => BlockType::Q4_K,
            M::Q3_K_M => BlockType::Q3_K,
            M::Q3_K_L if falcon => BlockType::Q4_K,
            M::Q3_K_L => BlockType::Q5_K,
            M::Q4_K_M if falcon && at < count / 16 => BlockType::Q6_K,
            M::Q4_K_M if falcon && more => BlockType::Q5_K,
            M::Q4_K_M if falcon => BlockType::Q4_K,
            M::Q4_K_M if more => BlockType::Q6_K,
            M::IQ4_NL | M::IQ4_XS if at < count / 8 => BlockType::Q5_K,
            M::Q5_K_M if more => BlockType::Q6_K,
            M::Q4_K_S if !falcon && at < count / 8 => BlockType::Q5_K,
            _ => default,
        }
    }
}

/// The type itself, or what stands for it where its blocks do not divide the row.
fn fallback(ty: BlockType, row: u64) -> BlockType {
    let divides = |ty: BlockType| row.is_multiple_of(ty.weights() as u64);
    if divides(ty) {
        return ty;
    }
    let smaller = match ty {
        BlockType::IQ4_XS => BlockType::IQ4_NL,
        BlockType::Q2_K | BlockType::Q3_K => BlockType::Q4_0,
        BlockType::Q4_K => BlockType::Q5_0,
        BlockType::Q5_K => BlockType::Q5_1,
        BlockType::Q6_K => BlockType::Q8_0,
        other => other,
    };
    if divides(smaller) {
        smaller
    } else {
        BlockType::F16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_stand_by_layer_and_then_by_name() {
        let mut names = [
            "blk.10.a",
            "blk.2.b",
            "output.weight",
            "blk.2.a",
            "a",
            "blk.x",
        ];
        names.sort_unstable_by(|a, b| order(a, b));
        assert_eq!(
            names,
            [
                "a",
                "blk.x",
                "output.weight",
                "blk.2.a",
                "blk.2.b",
                "blk.10.a"
            ]
        );
    }

    #[test]
    fn rows_that_no_block_divides_fall_back() {
        assert_eq!(fallback(BlockType::Q4_K, 512), BlockType::Q4_K);
        assert_eq!(fallback(BlockType::Q4_K, 576), BlockType::Q5_0);
        assert_eq!(fallback(BlockType::IQ4_XS, 576), BlockType::IQ4_NL);
        assert_eq!(fallback(BlockType::Q6_K, 100), BlockType::F16);
        assert_eq!(fallback(BlockType::Q8_0, 100), BlockType::F16);
    }

    #[test]
    fn more_bits_go_to_the_ends_and_each_third_layer() {
        let more: Vec<_> = (0..16).filter(|&at| use_more_bits(at, 16)).collect();
        assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
    }
}
