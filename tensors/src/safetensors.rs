//! safetensors headers: `u64 length, JSON of that length, tensor data`, little endian.
//!
//! Held to at least what the `safetensors` crate 0.8 demands: tensors cover the data exactly, in
//! offset order, without gap, overlap or trailing byte. Beyond it: names and keys appear once, the
//! JSON begins with `{`, and everything counted is bounded while it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::header::{checked_elements, first_duplicate};
use crate::{
    ByteRange, Dtype, Format, Header, Invalid, Metadata, ParseError, Tensor, Unsupported, limits,
};

/// Bytes of the length before the JSON.
pub(crate) const LENGTH_BYTES: usize = 8;
/// The key that is no tensor.
pub(crate) const METADATA_KEY: &str = "__metadata__";

/// Whether a file that starts so is meant as safetensors: a length below 4 GiB, then `{`.
pub(crate) fn looks_like(start: &[u8; limits::SNIFF_BYTES]) -> bool {
    start[8] == b'{' && start[4..8] == [0; 4]
}

fn invalid(cause: Invalid) -> ParseError {
    ParseError::Invalid {
        format: "safetensors",
        cause,
    }
}

pub(crate) fn parse(prefix: &[u8], file_len: u64) -> Result<Header, ParseError> {
    let Some(length) = prefix.first_chunk::<8>() else {
        return Err(ParseError::NotATensorFile);
    };
    let json_len = u64::from_le_bytes(*length);
    if json_len > limits::HEADER_BYTES_MAX {
        let (found, max) = (json_len, limits::HEADER_BYTES_MAX);
        return Err(invalid(Invalid::OverLimit {
            what: "header length",
            found,
            max,
        }));
    }
    let len = LENGTH_BYTES as u64 + json_len;
    if len > file_len {
        return Err(invalid(Invalid::Truncated {
            needed: len,
            file_len,
        }));
    }
    let json = match (ByteRange {
        start: LENGTH_BYTES as u64,
        end: len,
    }
    .of(prefix))
    {
        Some(json) => json,
        None => return Err(ParseError::NeedMore { bytes: len }),
    };
    let Ok(json) = std::str::from_utf8(json) else {
        return Err(invalid(Invalid::NotUtf8 { what: "header" }));
    };
    let raw = read_json(json).map_err(|error| invalid(Invalid::Json(error.to_string())))?;
    let tensors = check(raw.tensors, len, file_len)?;
    let metadata = Metadata::Safetensors(raw.metadata.unwrap_or_default());
    Ok(Header {
        format: Format::Safetensors,
        len,
        tensors,
        metadata,
    })
}

/// Places the tensors in the file and holds them to the rules.
fn check(mut raw: Vec<RawTensor>, len: u64, file_len: u64) -> Result<Vec<Tensor>, ParseError> {
    if let Some(name) = first_duplicate(raw.iter().map(|t| t.name.as_str()).collect()) {
        return Err(invalid(Invalid::Duplicate {
            what: "tensor",
            name: name.to_owned(),
        }));
    }
    raw.sort_unstable_by(|a, b| (a.offsets, &a.name).cmp(&(b.offsets, &b.name)));
    let data_len = file_len - len;
    let mut expected = 0;
    let mut tensors = Vec::with_capacity(raw.len());
    for RawTensor {
        name,
        dtype,
        shape,
        offsets: (start, end),
    } in raw
    {
        let dtype = match dtype {
            Ok(dtype) => dtype,
            Err(dtype) => {
                return Err(Unsupported::Dtype {
                    tensor: name,
                    dtype,
                }
                .into());
            }
        };
        if end < start {
            return Err(invalid(Invalid::Backwards { tensor: name }));
        }
        if start < expected {
            return Err(invalid(Invalid::Overlap { tensor: name }));
        }
        if start > expected {
            return Err(invalid(Invalid::Gap {
                tensor: name,
                bytes: start - expected,
            }));
        }
        expected = end;
        let Some(elements) = checked_elements(&shape) else {
            return Err(invalid(Invalid::Overflow { tensor: name }));
        };
        let Some(bytes) = dtype.bytes_of(elements) else {
            return Err(invalid(Invalid::PartialBlock {
                tensor: name,
                dtype,
            }));
        };
        if end - start != bytes {
            let (expected, found) = (bytes, end - start);
            return Err(invalid(Invalid::SizeMismatch {
                tensor: name,
                expected,
                found,
            }));
        }
        if end > data_len {
            let end = end.saturating_add(len);
            return Err(invalid(Invalid::OutOfFile {
                tensor: name,
                end,
                file_len,
            }));
        }
        let range = ByteRange {
            start: len + start,
            end: len + end,
        };
        tensors.push(Tensor {
            name,
            dtype,
            shape,
            range,
        });
    }
    if expected != data_len {
        return Err(invalid(Invalid::TrailingBytes {
            bytes: data_len - expected,
        }));
    }
    Ok(tensors)
}

struct RawTensor {
    name: String,
    /// The name of the type where it is unknown.
    dtype: Result<Dtype, String>,
    shape: Vec<u64>,
    /// Relative to the data, as in the file.
    offsets: (u64, u64),
}

#[derive(Default)]
struct RawHeader {
    metadata: Option<BTreeMap<String, String>>,
    tensors: Vec<RawTensor>,
}

fn read_json(json: &str) -> Result<RawHeader, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let header = deserializer.deserialize_map(HeaderVisitor)?;
    deserializer.end()?;
    Ok(header)
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        while let Some(name) = map.next_key_seed(Name)? {
            if name == METADATA_KEY {
                if header.metadata.is_some() {
                    return Err(de::Error::custom(format_args!(
                        "{METADATA_KEY} appears twice"
                    )));
                }
                header.metadata = Some(map.next_value_seed(TextMap)?);
                continue;
            }
            if header.tensors.len() == limits::TENSORS_MAX {
                let max = limits::TENSORS_MAX;
                return Err(de::Error::custom(format_args!("more than {max} tensors")));
            }
            header.tensors.push(map.next_value_seed(TensorSeed(name))?);
        }
        Ok(header)
    }
}

/// A string of at most [`limits::NAME_BYTES_MAX`] bytes.
pub(crate) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let text: Cow<'de, str> = de::Deserialize::deserialize(deserializer)?;
        if text.len() > limits::NAME_BYTES_MAX {
            let max = limits::NAME_BYTES_MAX;
            return Err(de::Error::custom(format_args!(
                "a name is longer than {max} bytes"
            )));
        }
        Ok(text.into_owned())
    }
}

/// A map of text to text without a key twice.
struct TextMap;

impl<'de> DeserializeSeed<'de> for TextMap {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TextMap {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of text to text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut out = BTreeMap::new();
        while let Some(key) = map.next_key_seed(Name)? {
            if out.len() == limits::METADATA_ENTRIES_MAX {
                return Err(de::Error::custom("too many metadata entries"));
            }
            let value: String = map.next_value()?;
            if out.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "metadata key {key:?} appears twice"
                )));
            }
            out.insert(key, value);
        }
        Ok(out)
    }
}

/// `{"dtype", "shape", "data_offsets"}`: each once; others are skipped, as the crate does.
struct TensorSeed(String);

impl<'de> DeserializeSeed<'de> for TensorSeed {
    type Value = RawTensor;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawTensor, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorSeed {
    type Value = RawTensor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTensor, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key_seed(Name)? {
            let twice = match key.as_str() {
                "dtype" => {
                    let name: Cow<'de, str> = map.next_value()?;
                    let parsed = name.parse::<Dtype>().map_err(|error| error.0);
                    let parsed = match parsed {
                        Ok(dtype) if !dtype.is_safetensors() => Err(dtype.name().to_owned()),
                        other => other,
                    };
                    dtype.replace(parsed).is_some()
                }
                "shape" => shape.replace(map.next_value_seed(Shape)?).is_some(),
                "data_offsets" => offsets.replace(map.next_value::<(u64, u64)>()?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if twice {
                return Err(de::Error::custom(format_args!(
                    "{key:?} appears twice in a tensor"
                )));
            }
        }
        Ok(RawTensor {
            name: self.0,
            dtype: dtype.ok_or_else(|| de::Error::missing_field("dtype"))?,
            shape: shape.ok_or_else(|| de::Error::missing_field("shape"))?,
            offsets: offsets.ok_or_else(|| de::Error::missing_field("data_offsets"))?,
        })
    }
}

/// A list of at most [`limits::RANK_MAX`] dimensions.
struct Shape;

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut shape = Vec::new();
        while let Some(dim) = seq.next_element::<u64>()? {
            if shape.len() == limits::RANK_MAX {
                let max = limits::RANK_MAX;
                return Err(de::Error::custom(format_args!(
                    "more than {max} dimensions"
                )));
            }
            shape.push(dim);
        }
        Ok(shape)
    }
}
