//! What the header of a GGUF file says that its clients are told beside it.

use std::sync::Arc;

use lode_tensors::{Header, Metadata, Value};
use serde_json::{Map, Value as Json};

use super::image::{At, Image};
use crate::answer::Problem;

/// What is known of a GGUF file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts {
    /// Its architecture, such as `llama`.
    pub(super) architecture: Option<String>,
    /// Elements of all tensors.
    pub(super) parameters: u64,
    /// Its precision as its makers write it, such as `Q4_K_M`.
    pub(super) precision: Option<String>,
    /// How its maker wants it sampled, by Ollama's names, as JSON; empty when the header says nothing.
    pub(super) sampling: String,
}

impl Image {
    /// What the header of its GGUF file says; nothing when it is no such file.
    ///
    /// # Errors
    /// The header is nowhere to be had.
    pub(super) async fn facts(&self) -> Result<Option<Facts>, Problem> {
        let Some(file) = self.gguf() else {
            return Ok(None);
        };
        let opener = self.version.opener();
        let header = match (file.at, &self.variant) {
            (At::Stored(at), _) => opener.stored_header(at).await?,
            (At::Made(_, position), Some(variant)) => {
                let reader = Arc::new(opener.reader(variant, position).await?);
                Some(reader.header().await?.0)
            }
            (At::Made(..), None) => None,
        };
        Ok(header.map(|header| Facts::of(&header)))
    }
}

impl Facts {
    fn of(header: &Header) -> Self {
        let metadata = &header.metadata;
        let file_type = metadata.entry("general.file_type");
        let file_type = file_type.and_then(|entry| entry.value.as_u64());
        Self {
            architecture: metadata.architecture().map(str::to_owned),
            parameters: header.parameter_count(),
            precision: file_type.and_then(precision).map(str::to_owned),
            sampling: sampling(metadata),
        }
    }

    /// The number of parameters as people write it: `134.5M`, `7B`.
    pub(super) fn size(&self) -> String {
        const UNITS: [(u64, &str); 4] = [
            (1_000_000_000_000, "T"),
            (1_000_000_000, "B"),
            (1_000_000, "M"),
            (1000, "K"),
        ];
        let count = self.parameters;
        let Some((unit, name)) = UNITS.iter().find(|(unit, _)| count >= *unit) else {
            return count.to_string();
        };
        let tenths = count / (unit / 10);
        match tenths % 10 {
            0 => format!("{}{name}", tenths / 10),
            tenth => format!("{}.{tenth}{name}", tenths / 10),
        }
    }
}

/// What llama.cpp calls a file of this type (`general.file_type`).
fn precision(file_type: u64) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        38 => "MXFP4",
        _ => return None,
    })
}

/// The keys under which GGUF headers keep a sampler's settings, and Ollama's names of them.
const SAMPLING: [(&str, &str); 6] = [
    ("general.sampling.penalty_last_n", "repeat_last_n"),
    ("general.sampling.penalty_repeat", "repeat_penalty"),
    ("general.sampling.min_p", "min_p"),
    ("general.sampling.temp", "temperature"),
    ("general.sampling.top_k", "top_k"),
    ("general.sampling.top_p", "top_p"),
];

fn sampling(metadata: &Metadata) -> String {
    let mut found: Vec<(&str, Json)> = SAMPLING
        .iter()
        .filter_map(|(key, name)| Some((*name, number(&metadata.entry(key)?.value)?)))
        .collect();
    if found.is_empty() {
        return String::new();
    }
    found.sort_by_key(|(name, _)| *name);
    let found = found
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Json::Object(found.collect::<Map<_, _>>()).to_string()
}

/// A finite number as JSON.
fn number(value: &Value) -> Option<Json> {
    match *value {
        // As it is written for people, not as the nearest double: 0.6, not 0.6000000238.
        Value::F32(n) if n.is_finite() => serde_json::from_str(&n.to_string()).ok(),
        Value::F64(n) => serde_json::Number::from_f64(n).map(Json::Number),
        Value::U8(_) | Value::U16(_) | Value::U32(_) | Value::U64(_) => {
            value.as_u64().map(Json::from)
        }
        Value::I8(n) => Some(n.into()),
        Value::I16(n) => Some(n.into()),
        Value::I32(n) => Some(n.into()),
        Value::I64(n) => Some(n.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lode_tensors::{ByteRange, Entry};

    use super::*;

    #[test]
    fn parameters_are_counted_as_people_do() {
        for (parameters, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1K"),
            (134_515_008, "134.5M"),
            (7_000_000_000, "7B"),
            (8_030_261_248, "8B"),
            (1_100_048_384, "1.1B"),
            (u64::MAX, "18446744T"),
        ] {
            let facts = Facts {
                parameters,
                ..Facts::default()
            };
            assert_eq!(facts.size(), text);
        }
    }

    #[test]
    fn a_samplers_settings_have_ollamas_names() {
        let entry = |key: &str, value| Entry {
            key: key.to_owned(),
            value,
            range: ByteRange { start: 0, end: 0 },
        };
        let entries = vec![
            entry("general.sampling.top_k", Value::I32(-1)),
            entry("general.sampling.temp", Value::F32(0.6)),
            entry("general.sampling.top_p", Value::F32(f32::NAN)),
            entry("general.sampling.min_p", Value::Text("0.1".to_owned())),
            entry("general.name", Value::Text("x".to_owned())),
        ];
        let found = sampling(&Metadata::Gguf(entries));
        assert_eq!(found, r#"{"temperature":0.6,"top_k":-1}"#);
        assert_eq!(sampling(&Metadata::Gguf(Vec::new())), "");
    }
}
