//! What a file says about itself: safetensors `__metadata__`, GGUF key-values.
//!
//! Arrays of a GGUF header (vocabularies, merges) are not copied: an entry keeps the byte range
//! where it stands in the file, which is enough to read one later or to write it into another header.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ByteRange;

/// The metadata of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Metadata {
    /// `__metadata__` of a safetensors header: text by text.
    Safetensors(BTreeMap<String, String>),
    /// Key-values of a GGUF header, in the order of the file.
    Gguf(Vec<Entry>),
}

/// One key-value of a GGUF header.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, such as `general.architecture`.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// The bytes of key, type and value in the file.
    pub range: ByteRange,
}

/// A GGUF metadata value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Text. Bytes that are not UTF-8 are shown as U+FFFD; the entry's range has them as they are.
    Text(String),
    U64(u64),
    I64(i64),
    F64(f64),
    /// An array, left where it is.
    Array {
        /// The type of its elements.
        of: ValueKind,
        /// How many it has.
        len: u64,
    },
}

/// The type of a GGUF metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ValueKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl ValueKind {
    /// The kind with this id in the file.
    pub fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// The bytes of one value, or nothing for text and arrays.
    pub fn fixed_bytes(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as an unsigned number, if it is a whole one that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::U64(n) => Some(n),
            Self::I8(n) => n.try_into().ok(),
            Self::I16(n) => n.try_into().ok(),
            Self::I32(n) => n.try_into().ok(),
            Self::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::U8(n) => n.fmt(f),
            Self::I8(n) => n.fmt(f),
            Self::U16(n) => n.fmt(f),
            Self::I16(n) => n.fmt(f),
            Self::U32(n) => n.fmt(f),
            Self::I32(n) => n.fmt(f),
            Self::U64(n) => n.fmt(f),
            Self::I64(n) => n.fmt(f),
            Self::F32(n) => n.fmt(f),
            Self::F64(n) => n.fmt(f),
            Self::Bool(b) => b.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Array { of, len } => write!(f, "[{len} x {of:?}]"),
        }
    }
}

impl Metadata {
    /// The GGUF entry with this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match self {
            Self::Gguf(entries) => entries.iter().find(|entry| entry.key == key),
            Self::Safetensors(_) => None,
        }
    }

    /// The text under this key, in either format.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Safetensors(map) => map.get(key).map(String::as_str),
            Self::Gguf(_) => self.entry(key)?.value.as_text(),
        }
    }

    /// The architecture that a GGUF file names (`general.architecture`). Safetensors files leave
    /// that to `config.json`.
    pub fn architecture(&self) -> Option<&str> {
        self.entry("general.architecture")?.value.as_text()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Safetensors(map) => map.is_empty(),
            Self::Gguf(entries) => entries.is_empty(),
        }
    }

    /// Keys and values as a person reads them, in order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (&str, String)> + '_> {
        match self {
            Self::Safetensors(map) => {
                Box::new(map.iter().map(|(key, value)| (key.as_str(), value.clone())))
            }
            Self::Gguf(entries) => Box::new(
                entries
                    .iter()
                    .map(|entry| (entry.key.as_str(), entry.value.to_string())),
            ),
        }
    }
}
