//! What `config.json` says of a model's shape.
//!
//! Source: the configuration classes of transformers 4.57; of a `Gemma3ForConditionalGeneration` the text
//! model's part (`text_config`), which leaves out what is the class's default.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::limits;

/// Models whose tensors are named and laid out alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Llama, Mistral, Qwen2: separate projections; with or without biases.
    Llama,
    /// Qwen3, Gemma 3: also norms of queries and keys.
    QkNorm,
    /// Gemma 2: more norms.
    Gemma2,
    /// Phi-3: fused `qkv_proj` and `gate_up_proj`.
    Phi3,
    /// Mixtral: `block_sparse_moe`.
    Mixtral,
    /// Qwen2-MoE, Qwen3-MoE: `mlp.experts`, with or without a shared one.
    QwenMoe,
}

/// Names in `architectures`, the `model_type` of each, and its family.
const KNOWN: &[(&str, &str, Family)] = &[
    ("LlamaForCausalLM", "llama", Family::Llama),
    ("MistralForCausalLM", "mistral", Family::Llama),
    ("Qwen2ForCausalLM", "qwen2", Family::Llama),
    ("Qwen3ForCausalLM", "qwen3", Family::QkNorm),
    ("GemmaForCausalLM", "gemma", Family::Llama),
    ("Gemma2ForCausalLM", "gemma2", Family::Gemma2),
    ("Gemma3ForCausalLM", "gemma3_text", Family::QkNorm),
    ("Gemma3ForConditionalGeneration", "gemma3", Family::QkNorm),
    ("Phi3ForCausalLM", "phi3", Family::Phi3),
    ("MixtralForCausalLM", "mixtral", Family::Mixtral),
    ("Qwen2MoeForCausalLM", "qwen2_moe", Family::QwenMoe),
    ("Qwen3MoeForCausalLM", "qwen3_moe", Family::QwenMoe),
];

/// The shape of a model, as far as slices need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// The name in `architectures`, or the `model_type`.
    pub name: String,
    /// How its tensors are laid out.
    pub family: Family,
    /// `num_hidden_layers`.
    pub layers: u64,
    /// `num_attention_heads`.
    pub heads: u64,
    /// `num_key_value_heads`; as many as `heads` where it is not said.
    pub kv_heads: u64,
    /// `head_dim`, else `hidden_size / num_attention_heads`.
    pub head_dim: u64,
    /// `num_local_experts` or `num_experts`.
    pub experts: Option<u64>,
    /// `tie_word_embeddings`; absent means what the class says.
    pub tied: Option<bool>,
}

/// Why no architecture came out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// Longer than [`limits::CONFIG_BYTES_MAX`].
    #[error("config.json has {0} bytes, more than {max}", max = limits::CONFIG_BYTES_MAX)]
    TooLong(usize),
    /// Not the JSON that a configuration is.
    #[error("config.json is not valid: {0}")]
    Json(String),
    /// An architecture whose layout is not known here.
    #[error("slices of {found} are not supported; supported are {}", supported())]
    Unsupported {
        /// What `config.json` names.
        found: String,
    },
    /// Weights that are packed with scales, which no rule here knows to cut.
    #[error("slices of quantized checkpoints (`quantization_config`) are not supported")]
    Quantized,
    /// A number that is needed is not there, or is zero.
    #[error("config.json has no usable {0}")]
    Missing(&'static str),
}

fn supported() -> String {
    let names: Vec<&str> = KNOWN.iter().map(|(name, ..)| *name).collect();
    names.join(", ")
}

#[derive(Deserialize)]
struct Config {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    text_config: Option<Text>,
    quantization_config: Option<IgnoredAny>,
    #[serde(flatten)]
    text: Text,
}

#[derive(Deserialize)]
struct Text {
    num_hidden_layers: Option<u64>,
    hidden_size: Option<u64>,
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    num_local_experts: Option<u64>,
    num_experts: Option<u64>,
    tie_word_embeddings: Option<bool>,
}

impl Architecture {
    /// Reads the bytes of a `config.json`.
    ///
    /// # Errors
    /// See [`ArchitectureError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ArchitectureError> {
        if bytes.len() > limits::CONFIG_BYTES_MAX {
            return Err(ArchitectureError::TooLong(bytes.len()));
        }
        let config: Config = serde_json::from_slice(bytes)
            .map_err(|error| ArchitectureError::Json(error.to_string()))?;
        let name = config
            .architectures
            .and_then(|names| names.into_iter().next())
            .or(config.model_type)
            .unwrap_or_else(|| "a model without a name".to_owned());
        let known = KNOWN
            .iter()
            .find(|(class, model_type, _)| *class == name || *model_type == name);
        let Some(&(class, _, family)) = known else {
            let found = name.chars().take(80).collect();
            return Err(ArchitectureError::Unsupported { found });
        };
        if config.quantization_config.is_some() {
            return Err(ArchitectureError::Quantized);
        }
        let tied = config.text.tie_word_embeddings;
        let mut text = match config.text_config {
            Some(text) if class == "Gemma3ForConditionalGeneration" => text,
            _ => config.text,
        };
        if class.starts_with("Gemma3") {
            // defaults of Gemma3TextConfig, which checkpoints leave out
            text.num_attention_heads = text.num_attention_heads.or(Some(8));
            text.num_key_value_heads = text.num_key_value_heads.or(Some(4));
            text.head_dim = text.head_dim.or(Some(256));
        }
        let needed = |value: Option<u64>, what| {
            value
                .filter(|&value| value > 0)
                .ok_or(ArchitectureError::Missing(what))
        };
        let heads = needed(text.num_attention_heads, "num_attention_heads")?;
        let head_dim = match text.head_dim {
            Some(dim) => needed(Some(dim), "head_dim")?,
            None => {
                let hidden = needed(text.hidden_size, "hidden_size")?;
                needed(Some(hidden / heads), "head_dim")?
            }
        };
        let experts = text.num_local_experts.or(text.num_experts);
        Ok(Self {
            layers: needed(text.num_hidden_layers, "num_hidden_layers")?,
            heads,
            kv_heads: needed(
                text.num_key_value_heads.or(Some(heads)),
                "num_key_value_heads",
            )?,
            head_dim,
            experts: match family {
                Family::Mixtral | Family::QwenMoe => Some(needed(experts, "num_experts")?),
                _ => None,
            },
            tied: text.tie_word_embeddings.or(tied),
            name,
            family,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn parse(config: &serde_json::Value) -> Result<Architecture, ArchitectureError> {
        Architecture::parse(config.to_string().as_bytes())
    }

    #[test]
    fn what_a_config_leaves_out_is_the_default() {
        let llama = parse(
            &json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 8, "rope_scaling": {"factor": 8.0}}),
        )
        .unwrap();
        assert_eq!((llama.heads, llama.kv_heads, llama.head_dim), (8, 8, 8));
        assert_eq!((llama.tied, llama.experts), (None, None));
        let qwen = parse(
            &json!({"model_type": "qwen3_moe", "hidden_size": 64, "head_dim": 32,
            "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
            "num_experts": 16, "tie_word_embeddings": true}),
        )
        .unwrap();
        assert_eq!(
            (qwen.family, qwen.kv_heads, qwen.head_dim),
            (Family::QwenMoe, 2, 32)
        );
        assert_eq!((qwen.tied, qwen.experts), (Some(true), Some(16)));
        let gemma = parse(&json!({"architectures": ["Gemma3ForConditionalGeneration"],
            "text_config": {"hidden_size": 2560, "num_hidden_layers": 34}}))
        .unwrap();
        assert_eq!(
            (gemma.layers, gemma.heads, gemma.kv_heads, gemma.head_dim),
            (34, 8, 4, 256)
        );
    }

    #[test]
    fn every_family_is_known_by_class_and_by_type() {
        for (class, model_type, family) in KNOWN {
            for config in [
                json!({"architectures": [class]}),
                json!({"model_type": model_type}),
            ] {
                let mut config = config;
                for (key, value) in [("hidden_size", 8), ("num_hidden_layers", 1)] {
                    config[key] = value.into();
                }
                for key in ["num_attention_heads", "num_local_experts"] {
                    config[key] = 2.into();
                }
                assert_eq!(parse(&config).unwrap().family, *family, "{config}");
            }
        }
    }

    #[test]
    fn what_is_not_supported_names_what_is() {
        let error = parse(&json!({"architectures": ["GptOssForCausalLM"]})).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("GptOssForCausalLM") && text.contains("Phi3ForCausalLM"),
            "{text}"
        );
        let awq = json!({"model_type": "llama", "quantization_config": {"bits": 4}});
        assert_eq!(parse(&awq), Err(ArchitectureError::Quantized));
        let zero = json!({"model_type": "llama", "num_attention_heads": 0});
        assert_eq!(
            parse(&zero),
            Err(ArchitectureError::Missing("num_attention_heads"))
        );
        let thin = json!({"model_type": "llama", "num_attention_heads": 8, "hidden_size": 4});
        assert_eq!(parse(&thin), Err(ArchitectureError::Missing("head_dim")));
        assert!(matches!(
            Architecture::parse(b"[1"),
            Err(ArchitectureError::Json(_))
        ));
    }

    #[test]
    fn a_config_ends_at_its_limit() {
        let max = limits::CONFIG_BYTES_MAX;
        let mut config = json!({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1})
        .to_string()
        .into_bytes();
        config.resize(max, b' ');
        assert!(Architecture::parse(&config).is_ok());
        config.push(b' ');
        assert_eq!(
            Architecture::parse(&config),
            Err(ArchitectureError::TooLong(max + 1))
        );
    }
}
