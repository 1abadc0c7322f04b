//! What `config.json` says of a model, as far as its GGUF file needs it.
//!
//! Everything is checked here once: counts are positive and bounded, so that later products cannot overflow, and what
//! llama.cpp would compute otherwise than the model means (another activation, another kind of rotary scaling) is
//! refused by the name of its key. Defaults are those of the model classes in `transformers`.

use serde_json::{Map, Value};

use super::rope::{Llama3, Scaling, Yarn};
use crate::limits::{CONFIG_COUNT_MAX, LAYERS_MAX, TOKENS_MAX};
use crate::variant::LayoutError;

/// The name of the file.
pub(super) const FILE: &str = "config.json";

/// Architectures that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
}

/// The names in `architectures`, and what they are.
const ARCHITECTURES: &[(&str, Family)] = &[
    ("LlamaForCausalLM", Family::Llama),
    ("MistralForCausalLM", Family::Llama),
    ("Qwen2ForCausalLM", Family::Qwen2),
    ("Qwen3ForCausalLM", Family::Qwen3),
    ("Gemma3ForCausalLM", Family::Gemma3),
];

impl Family {
    fn named(name: &str) -> Result<Self, LayoutError> {
        let found = ARCHITECTURES.iter().find(|(known, _)| *known == name);
        found
            .map(|&(_, family)| family)
            .ok_or_else(|| LayoutError::Architecture {
                found: name.chars().take(SHOWN_CHARS).collect(),
                supported: ARCHITECTURES
                    .iter()
                    .map(|&(name, _)| name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// `general.architecture`, which is also what the keys of the architecture begin with.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// What the converter reads of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub(super) family: Family,
    pub(super) layers: u32,
    /// Tokens that the model was made for.
    pub(super) context: u32,
    pub(super) embedding: u32,
    pub(super) feed_forward: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    /// Rows of one head; even.
    pub(super) head_dim: u32,
    pub(super) rms_epsilon: f32,
    pub(super) rope_base: f64,
    /// Of the layers that see a window alone.
    pub(super) rope_base_window: Option<f32>,
    pub(super) scaling: Scaling,
    /// Tokens that most layers of gemma3 see.
    pub(super) window: Option<u32>,
    pub(super) final_softcap: Option<f32>,
    pub(super) vocab: u32,
    /// Whether the embedding is the output matrix too.
    pub(super) tied: bool,
    /// Ids of special tokens, by the name that stands before `_token_id`.
    pub(super) special: Vec<(String, u32)>,
}

/// Characters of a stranger's text that an error shows.
const SHOWN_CHARS: usize = 64;

impl Config {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LayoutError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| wrong(&error))?;
        let Value::Object(object) = value else {
            return Err(wrong(&"it is no JSON object"));
        };
        let fields = Fields(&object);
        let architecture = fields
            .0
            .get("architectures")
            .and_then(|names| names.get(0)?.as_str());
        let family = Family::named(architecture.ok_or_else(|| missing("architectures"))?)?;
        let gemma = family == Family::Gemma3;
        fields.refuse_unknown_arithmetic(family)?;

        let layers = fields.count("num_hidden_layers", LAYERS_MAX)?;
        let layers = layers.ok_or_else(|| missing("num_hidden_layers"))?;
        let embedding = fields.needed("hidden_size")?;
        let heads = match fields.whole("num_attention_heads")? {
            None if gemma => 8,
            found => found.ok_or_else(|| missing("num_attention_heads"))?,
        };
        let kv_heads =
            fields
                .whole("num_key_value_heads")?
                .unwrap_or(if gemma { 4 } else { heads });
        if !heads.is_multiple_of(kv_heads) {
            return Err(wrong(
                &"num_attention_heads is no multiple of num_key_value_heads",
            ));
        }
        let head_dim = match (fields.whole("head_dim")?, family) {
            (Some(dim), _) => dim,
            (None, Family::Qwen3) => 128,
            (None, Family::Gemma3) => 256,
            (None, _) if embedding.is_multiple_of(heads) => embedding / heads,
            (None, _) => {
                return Err(wrong(&"hidden_size is no multiple of num_attention_heads"));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(wrong(&"head_dim is odd"));
        }
        let vocab = fields.count("vocab_size", TOKENS_MAX)?;
        let rope = fields.rope(family, head_dim)?;
        Ok(Self {
            family,
            layers,
            context: fields
                .whole("max_position_embeddings")?
                .unwrap_or(match family {
                    Family::Llama => 2048,
                    Family::Qwen2 | Family::Qwen3 => 32_768,
                    Family::Gemma3 => 131_072,
                }),
            embedding,
            feed_forward: fields.needed("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            rms_epsilon: single(fields.positive("rms_norm_eps")?.unwrap_or(1e-6)),
            rope_base: rope.base,
            rope_base_window: rope.base_window,
            scaling: rope.scaling,
            window: if gemma { fields.window(layers)? } else { None },
            final_softcap: match fields.number("final_logit_softcapping")? {
                Some(cap) if gemma && cap != 0.0 => Some(single(cap)),
                _ => None,
            },
            vocab: vocab.ok_or_else(|| missing("vocab_size"))?,
            tied: fields.flag("tie_word_embeddings")?.unwrap_or(gemma),
            special: fields.special(),
        })
    }
}

/// An error of this file.
pub(super) fn wrong(cause: &dyn ToString) -> LayoutError {
    LayoutError::File {
        path: FILE.to_owned(),
        cause: cause.to_string(),
    }
}

fn missing(key: &str) -> LayoutError {
    wrong(&format!("{key:?} is missing"))
}

/// Rounds as the header's own type does.
#[allow(clippy::cast_possible_truncation)] // meant
pub(super) fn single(value: f64) -> f32 {
    value as f32
}

/// What a model says of its rotary embedding.
struct Rope {
    base: f64,
    base_window: Option<f32>,
    scaling: Scaling,
}

/// A JSON object whose values are read with a check. A value of `null` is as good as none.
struct Fields<'v>(&'v Map<String, Value>);

impl<'v> Fields<'v> {
    fn get(&self, key: &str) -> Option<&'v Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A positive whole number.
    fn whole(&self, key: &str) -> Result<Option<u32>, LayoutError> {
        self.count(key, CONFIG_COUNT_MAX)
    }

    fn count(&self, key: &str, max: u32) -> Result<Option<u32>, LayoutError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let found = value.as_u64().and_then(|count| u32::try_from(count).ok());
        match found {
            Some(count) if (1..=max).contains(&count) => Ok(Some(count)),
            _ => Err(wrong(&format!(
                "{key:?} is no whole number from 1 to {max}"
            ))),
        }
    }

    fn needed(&self, key: &str) -> Result<u32, LayoutError> {
        self.whole(key)?.ok_or_else(|| missing(key))
    }

    /// A number that a single can hold.
    fn number(&self, key: &str) -> Result<Option<f64>, LayoutError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if single(number).is_finite() => Ok(Some(number)),
            _ => Err(wrong(&format!("{key:?} is no number"))),
        }
    }

    /// A number above zero.
    fn positive(&self, key: &str) -> Result<Option<f64>, LayoutError> {
        match self.number(key)? {
            Some(number) if single(number) <= 0.0 => {
                Err(wrong(&format!("{key:?} is not above zero")))
            }
            number => Ok(number),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, LayoutError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(wrong(&format!("{key:?} is neither true nor false"))),
        }
    }

    fn object(&self, key: &str) -> Option<Fields<'v>> {
        self.get(key)?.as_object().map(Fields)
    }

    /// Refuses what llama.cpp would compute in another way than the model means.
    fn refuse_unknown_arithmetic(&self, family: Family) -> Result<(), LayoutError> {
        if self.get("quantization_config").is_some() {
            return Err(LayoutError::NotOffered(
                "config.json has a quantization_config: weights that are quantized already are not converted to GGUF"
                    .to_owned(),
            ));
        }
        let (key, known): (_, &[&str]) = if family == Family::Gemma3 {
            ("hidden_activation", &["gelu_pytorch_tanh"])
        } else {
            ("hidden_act", &["silu", "swish"])
        };
        let activation = self.get(key).and_then(Value::as_str);
        if activation.is_some_and(|name| !known.contains(&name)) {
            return Err(not_converted(key, self.get(key)));
        }
        for key in ["attn_logit_softcapping", "mrope_section"] {
            if self.get(key).is_some() {
                return Err(not_converted(key, self.get(key)));
            }
        }
        if self
            .number("partial_rotary_factor")?
            .is_some_and(|part| part != 1.0)
        {
            let key = "partial_rotary_factor";
            return Err(not_converted(key, self.get(key)));
        }
        Ok(())
    }

    fn rope(&self, family: Family, head_dim: u32) -> Result<Rope, LayoutError> {
        let gemma = family == Family::Gemma3;
        let none = Map::new();
        let all = self
            .object("rope_parameters")
            .or_else(|| self.object("rope_scaling"))
            .unwrap_or(Fields(&none));
        let full = all.object("full_attention").unwrap_or(Fields(all.0));
        let base = match full.positive("rope_theta")? {
            Some(base) => Some(base),
            None => self.positive("rope_theta")?,
        };
        let base = base.unwrap_or(if gemma { 1_000_000.0 } else { 10_000.0 });
        let base_window = match all.object("sliding_attention") {
            Some(window) => window.positive("rope_theta")?,
            None => self.positive("rope_local_base_freq")?,
        };
        Ok(Rope {
            base,
            base_window: gemma.then(|| single(base_window.unwrap_or(10_000.0))),
            scaling: full.scaling(self, family, base, head_dim)?,
        })
    }

    /// The scaling that these rotary parameters of the config `root` name.
    fn scaling(
        &self,
        root: &Fields<'_>,
        family: Family,
        base: f64,
        head_dim: u32,
    ) -> Result<Scaling, LayoutError> {
        let named = self.get("rope_type").or_else(|| self.get("type"));
        let factor = || self.positive("factor");
        let needed = |value: Option<f64>, key: &str| value.ok_or_else(|| missing(key));
        let original = || match self.whole("original_max_position_embeddings")? {
            Some(original) => Ok(Some(original)),
            None => root.whole("original_max_position_embeddings"),
        };
        self.refuse_sections()?;
        match named.map(|name| name.as_str().unwrap_or_default()) {
            None | Some("default") => Ok(Scaling::None),
            Some("linear") => Ok(Scaling::Linear {
                factor: single(needed(factor()?, "factor")?),
            }),
            Some("yarn") => Ok(Scaling::Yarn(Yarn {
                factor: single(needed(factor()?, "factor")?),
                original_context: original()?
                    .ok_or_else(|| missing("original_max_position_embeddings"))?,
                extrapolation: self.number("extrapolation_factor")?.map(single),
                attention: match self.number("attention_factor")? {
                    Some(factor) => Some(single(factor)),
                    None => self.number("attn_factor")?.map(single),
                },
                beta_fast: self.number("beta_fast")?.map(single),
                beta_slow: self.number("beta_slow")?.map(single),
            })),
            Some("llama3") if family == Family::Llama => {
                let scaling = Llama3 {
                    base,
                    head_dim,
                    factor: factor()?.unwrap_or(8.0),
                    low: self.positive("low_freq_factor")?.unwrap_or(1.0),
                    high: self.positive("high_freq_factor")?.unwrap_or(4.0),
                    original_context: original()?.unwrap_or(8192),
                };
                if scaling.low >= scaling.high {
                    return Err(wrong(&"low_freq_factor is not below high_freq_factor"));
                }
                Ok(Scaling::Llama3(scaling))
            }
            Some(_) => Err(not_converted("rope_type", named)),
        }
    }

    fn refuse_sections(&self) -> Result<(), LayoutError> {
        let key = "mrope_section";
        match self.get(key) {
            None => Ok(()),
            found => Err(not_converted(key, found)),
        }
    }

    /// Tokens that most layers of gemma3 see. llama.cpp lets every sixth layer see all.
    fn window(&self, layers: u32) -> Result<Option<u32>, LayoutError> {
        const EVERY: u32 = 6;
        let key = if self.get("_sliding_window_pattern").is_some() {
            "_sliding_window_pattern"
        } else {
            "sliding_window_pattern"
        };
        let every = self.whole(key)?.unwrap_or(EVERY);
        if every != 1 && every != EVERY {
            return Err(not_converted(key, self.get(key)));
        }
        if let Some(types) = self.get("layer_types") {
            let expected = (1..=layers).map(|layer| {
                if layer.is_multiple_of(every) {
                    "full_attention"
                } else {
                    "sliding_attention"
                }
            });
            let found = types.as_array().map_or(&[][..], Vec::as_slice);
            if !found.iter().map(Value::as_str).eq(expected.map(Some)) {
                return Err(not_converted("layer_types", None));
            }
        }
        if every == 1 {
            return Ok(None);
        }
        self.needed("sliding_window").map(Some)
    }

    fn special(&self) -> Vec<(String, u32)> {
        let ids = self.0.iter().filter_map(|(key, value)| {
            let name = key.strip_suffix("_token_id")?;
            let id = u32::try_from(value.as_u64()?).ok()?;
            Some((name.to_owned(), id))
        });
        ids.collect()
    }
}

fn not_converted(key: &str, value: Option<&Value>) -> LayoutError {
    let shown = value.map_or_else(String::new, |value| {
        let text: String = value.to_string().chars().take(SHOWN_CHARS).collect();
        format!(" {text}")
    });
    LayoutError::NotOffered(format!(
        "config.json: {key}{shown} is not converted to GGUF"
    ))
}
