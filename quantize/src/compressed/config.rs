//! The `config.json` of a variant.
//!
//! Its members are those of the source in their order, each value with the text that it has there; what is new comes
//! last. Between members stand line ends and two spaces. So the bytes follow from the source's alone, and no number is
//! read and printed again.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The member that says how a model is quantized.
const QUANTIZATION: &str = "quantization_config";
/// The same of older files.
const COMPRESSION: &str = "compression_config";
/// Members that name the type of weights, of newer and older files.
const DTYPES: [&str; 2] = ["dtype", "torch_dtype"];

/// The members of a configuration, in order.
#[derive(Debug)]
pub(super) struct Config<'a>(Vec<(String, Cow<'a, RawValue>)>);

impl<'de> Deserialize<'de> for Config<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Config<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration of a model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        let mut names = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("{name:?} is there twice")));
            }
            members.push((name, Cow::Borrowed(value)));
        }
        Ok(Config(members))
    }
}

impl<'a> Config<'a> {
    /// Reads a configuration.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// A member that is text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        serde_json::from_str(value.get()).ok()
    }

    /// Whether it says that the weights are quantized.
    pub(super) fn is_quantized(&self) -> bool {
        self.0.iter().any(|(name, value)| {
            (name == QUANTIZATION || name == COMPRESSION) && value.get() != "null"
        })
    }

    /// The same configuration of a quantized model.
    pub(super) fn quantized(mut self, how: &Quantization) -> Vec<u8> {
        self.0.retain(|(name, _)| name != QUANTIZATION);
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"  ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
        how.serialize(&mut serializer)
            .expect("texts and numbers are JSON");
        let text = String::from_utf8(text).expect("JSON is text");
        let text = text.replace('\n', "\n  ");
        self.write(Some((QUANTIZATION, &text)))
    }

    /// The same configuration of a model whose weights have another type, by the name that torch gives it.
    pub(super) fn cast(mut self, dtype: &str) -> Vec<u8> {
        let text = serde_json::to_string(dtype).expect("a text is JSON");
        let value = RawValue::from_string(text.clone()).expect("it was just written");
        let mut found = false;
        for (name, old) in &mut self.0 {
            if DTYPES.contains(&name.as_str()) {
                *old = Cow::Owned(value.clone());
                found = true;
            }
        }
        self.write((!found).then_some((DTYPES[1], &text)))
    }

    fn write(&self, last: Option<(&str, &str)>) -> Vec<u8> {
        let own = self.0.iter().map(|(name, value)| (&name[..], value.get()));
        let members = own.chain(last).map(|(name, value)| {
            let name = serde_json::to_string(name).expect("a text is JSON");
            format!("  {name}: {value}")
        });
        let members = members.collect::<Vec<_>>().join(",\n");
        format!("{{\n{members}\n}}\n").into_bytes()
    }
}

/// What `quantization_config` says.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Quantization {
    /// compressed-tensors.
    Compressed {
        config_groups: ConfigGroups,
        format: &'static str,
        ignore: Vec<String>,
        kv_cache_scheme: (),
        quant_method: &'static str,
        quantization_status: &'static str,
    },
    /// Squares of 8-bit floats, as DeepSeek's models have.
    Squares {
        activation_scheme: &'static str,
        fmt: &'static str,
        modules_to_not_convert: Vec<String>,
        quant_method: &'static str,
        weight_block_size: [u64; 2],
    },
}

/// All linear layers are of one group.
#[derive(Debug, Serialize)]
pub(super) struct ConfigGroups {
    group_0: ConfigGroup,
}

#[derive(Debug, Serialize)]
struct ConfigGroup {
    format: &'static str,
    input_activations: Option<Numbers>,
    output_activations: (),
    targets: [&'static str; 1],
    weights: Numbers,
}

/// How weights or activations are quantized.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Numbers {
    pub(super) dynamic: bool,
    pub(super) group_size: Option<u64>,
    pub(super) num_bits: u32,
    pub(super) strategy: &'static str,
    pub(super) symmetric: bool,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

impl Quantization {
    /// Of compressed-tensors, in this format.
    pub(super) fn compressed(
        format: &'static str,
        weights: Numbers,
        input_activations: Option<Numbers>,
        ignore: Vec<String>,
    ) -> Self {
        let group_0 = ConfigGroup {
            format,
            input_activations,
            output_activations: (),
            targets: ["Linear"],
            weights,
        };
        Self::Compressed {
            config_groups: ConfigGroups { group_0 },
            format,
            ignore,
            kv_cache_scheme: (),
            quant_method: "compressed-tensors",
            quantization_status: "compressed",
        }
    }

    /// Of squares with this side.
    pub(super) fn squares(side: u64, ignore: Vec<String>) -> Self {
        Self::Squares {
            activation_scheme: "dynamic",
            fmt: "e4m3",
            modules_to_not_convert: ignore,
            quant_method: "fp8",
            weight_block_size: [side, side],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"{"z": 1e-05, "torch_dtype":"float32", "a": [1.0,
  2],"big":123456789012345678901234567890, "quantization_config": null}"#;

    #[test]
    fn members_keep_their_order_and_their_text() {
        let config = Config::parse(SOURCE.as_bytes()).unwrap();
        assert!(!config.is_quantized());
        let how = Quantization::squares(128, vec!["lm_head".to_owned()]);
        let text = String::from_utf8(config.quantized(&how)).unwrap();
        let expected = r#"{
  "z": 1e-05,
  "torch_dtype": "float32",
  "a": [1.0,
  2],
  "big": 123456789012345678901234567890,
  "quantization_config": {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "modules_to_not_convert": [
      "lm_head"
    ],
    "quant_method": "fp8",
    "weight_block_size": [
      128,
      128
    ]
  }
}
"#;
        assert_eq!(text, expected);
        let again = Config::parse(text.as_bytes()).unwrap();
        assert!(again.is_quantized());
    }

    #[test]
    fn a_cast_changes_the_type_alone() {
        let cast = |text: &str| {
            let config = Config::parse(text.as_bytes()).unwrap();
            String::from_utf8(config.cast("bfloat16")).unwrap()
        };
        let text = cast(SOURCE);
        assert!(
            text.contains("  \"torch_dtype\": \"bfloat16\",\n"),
            "{text}"
        );
        assert_eq!(
            cast(r#"{"dtype": "float16"}"#),
            "{\n  \"dtype\": \"bfloat16\"\n}\n"
        );
        assert_eq!(cast("{}"), "{\n  \"torch_dtype\": \"bfloat16\"\n}\n");
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for text in ["", "[]", "{", r#"{"a":1,"a":2}"#, "{}{}"] {
            assert!(Config::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
