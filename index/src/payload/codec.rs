//! The bytes of payloads: a tag, then the value; objects and arrays say how many bytes they take.
//!
//! docs/format/payload.md draws them. Keys of an object ascend, integers take the narrowest form and lengths
//! the shortest, so that equal JSON has equal bytes, and a reader steps over what it does not look for.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::PayloadError;
use crate::{
    bytes::{read_varint, write_varint},
    limits::{PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX},
};

/// An object without keys.
pub(super) const EMPTY_OBJECT: [u8; 2] = [tag::OBJECT, 0];

mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INTEGER: u8 = 3;
    pub(super) const UNSIGNED: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const STRING: u8 = 6;
    pub(super) const ARRAY: u8 = 7;
    pub(super) const OBJECT: u8 = 8;
}

/// Appends a value.
pub(super) fn encode(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), PayloadError> {
    if depth > PAYLOAD_DEPTH_MAX {
        return Err(PayloadError::TooDeep);
    }
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Bool(false) => out.push(tag::FALSE),
        Value::Bool(true) => out.push(tag::TRUE),
        Value::Number(number) => {
            if let Some(integer) = number.as_i64() {
                out.push(tag::INTEGER);
                out.extend_from_slice(&integer.to_le_bytes());
            } else if let Some(unsigned) = number.as_u64() {
                out.push(tag::UNSIGNED);
                out.extend_from_slice(&unsigned.to_le_bytes());
            } else {
                let float = number.as_f64().unwrap_or_default();
                out.push(tag::FLOAT);
                out.extend_from_slice(&float.to_le_bytes());
            }
        }
        Value::String(text) => {
            out.push(tag::STRING);
            write_text(text, out);
        }
        Value::Array(items) => {
            let start = out.len();
            for item in items {
                encode(item, out, depth + 1)?;
            }
            put_head(tag::ARRAY, start, out);
        }
        Value::Object(map) => {
            let start = out.len();
            let mut entries: Vec<_> = map.iter().collect();
            // sorted already, unless another part of the program made maps keep their order
            entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            for (key, item) in entries {
                write_text(key, out);
                encode(item, out, depth + 1)?;
            }
            put_head(tag::OBJECT, start, out);
        }
    }
    if out.len() > PAYLOAD_BYTES_MAX {
        return Err(PayloadError::TooLong { bytes: out.len() });
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Puts tag and length before what was written since `start`.
fn put_head(tag: u8, start: usize, out: &mut Vec<u8>) {
    let mut head = vec![tag];
    write_varint((out.len() - start) as u64, &mut head);
    out.splice(start..start, head);
}

/// Checks that bytes are one object and nothing else.
pub(super) fn check_object(bytes: &[u8]) -> Result<(), PayloadError> {
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(PayloadError::TooLong { bytes: bytes.len() });
    }
    if bytes.first() != Some(&tag::OBJECT) {
        return Err(PayloadError::Corrupt("no object"));
    }
    match check(bytes, 0)? {
        [] => Ok(()),
        _ => Err(PayloadError::Corrupt("bytes after the object")),
    }
}

/// Checks the value at the start; what follows it.
fn check(bytes: &[u8], depth: usize) -> Result<&[u8], PayloadError> {
    if depth > PAYLOAD_DEPTH_MAX {
        return Err(PayloadError::TooDeep);
    }
    let short = PayloadError::Corrupt("cut short");
    let (&tag, rest) = bytes.split_first().ok_or(short.clone())?;
    match tag {
        tag::NULL | tag::FALSE | tag::TRUE => Ok(rest),
        tag::INTEGER | tag::UNSIGNED | tag::FLOAT => {
            let (number, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
            if tag == tag::UNSIGNED && i64::try_from(u64::from_le_bytes(*number)).is_ok() {
                return Err(PayloadError::Corrupt("an integer in the wider form"));
            }
            if tag == tag::FLOAT && !f64::from_le_bytes(*number).is_finite() {
                return Err(PayloadError::Corrupt("a number that is not finite"));
            }
            Ok(rest)
        }
        tag::STRING => Ok(check_text(rest)?.1),
        tag::ARRAY | tag::OBJECT => {
            let (mut inside, after) = take_sized(rest).ok_or(short)?;
            let mut last: Option<&str> = None;
            while !inside.is_empty() {
                if tag == tag::OBJECT {
                    let (key, after_key) = check_text(inside)?;
                    if last.is_some_and(|last| last.as_bytes() >= key.as_bytes()) {
                        return Err(PayloadError::Corrupt("keys out of order"));
                    }
                    last = Some(key);
                    inside = after_key;
                }
                inside = check(inside, depth + 1)?;
            }
            Ok(after)
        }
        _ => Err(PayloadError::Corrupt("unknown tag")),
    }
}

fn check_text(bytes: &[u8]) -> Result<(&str, &[u8]), PayloadError> {
    let (text, rest) = take_sized(bytes).ok_or(PayloadError::Corrupt("cut short"))?;
    let text = std::str::from_utf8(text).map_err(|_| PayloadError::Corrupt("text is not UTF-8"))?;
    Ok((text, rest))
}

/// A length and as many bytes; then what follows.
fn take_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = read_varint(bytes)?;
    let len = usize::try_from(len).ok()?;
    rest.split_at_checked(len)
}

/// A value inside a payload, not unpacked. Bytes that nobody checked read as null or end early.
#[derive(Debug, Clone, Copy)]
pub struct ValueRef<'a>(&'a [u8]);

/// A value that has no values inside, or the values inside.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number that fits into 64 bits with a sign.
    Integer(i64),
    /// An integer past [`i64::MAX`].
    Unsigned(u64),
    /// Any other number; finite.
    Float(f64),
    /// Text.
    String(&'a str),
    /// Values in order.
    Array(Items<'a>),
    /// Values by name, ascending.
    Object(Items<'a>),
}

/// The values of an array or an object, from first to last; their keys are empty in an array.
#[derive(Debug, Clone, Copy)]
pub struct Items<'a> {
    bytes: &'a [u8],
    keyed: bool,
}

impl<'a> ValueRef<'a> {
    /// The value at the start of bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What it is.
    pub fn kind(self) -> Kind<'a> {
        self.read().unwrap_or(Kind::Null)
    }

    fn read(self) -> Option<Kind<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let number = || rest.first_chunk::<8>().copied();
        let items = |keyed| {
            let (bytes, _) = take_sized(rest)?;
            Some(Items { bytes, keyed })
        };
        Some(match tag {
            tag::FALSE => Kind::Bool(false),
            tag::TRUE => Kind::Bool(true),
            tag::INTEGER => Kind::Integer(i64::from_le_bytes(number()?)),
            tag::UNSIGNED => Kind::Unsigned(u64::from_le_bytes(number()?)),
            tag::FLOAT => Kind::Float(f64::from_le_bytes(number()?)),
            tag::STRING => Kind::String(std::str::from_utf8(take_sized(rest)?.0).ok()?),
            tag::ARRAY => Kind::Array(items(false)?),
            tag::OBJECT => Kind::Object(items(true)?),
            _ => Kind::Null,
        })
    }

    /// The value of a key, if this is an object that has it.
    pub fn field(self, key: &str) -> Option<ValueRef<'a>> {
        let Kind::Object(items) = self.kind() else {
            return None;
        };
        for (name, value) in items {
            match name.as_bytes().cmp(key.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The number, as the nearest of 64-bit floats.
    #[expect(clippy::cast_precision_loss, reason = "ranges compare as Qdrant does")]
    pub fn as_f64(self) -> Option<f64> {
        match self.kind() {
            Kind::Integer(integer) => Some(integer as f64),
            Kind::Unsigned(unsigned) => Some(unsigned as f64),
            Kind::Float(float) => Some(float),
            _ => None,
        }
    }

    /// The value as JSON.
    pub fn to_json(self) -> Value {
        match self.kind() {
            Kind::Null => Value::Null,
            Kind::Bool(value) => value.into(),
            Kind::Integer(integer) => integer.into(),
            Kind::Unsigned(unsigned) => unsigned.into(),
            Kind::Float(float) => Number::from_f64(float).map_or(Value::Null, Value::Number),
            Kind::String(text) => text.into(),
            Kind::Array(items) => items.map(|(_, value)| value.to_json()).collect(),
            Kind::Object(items) => {
                let entries = items.map(|(key, value)| (key.to_owned(), value.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

impl Items<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = (&'a str, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut key = "";
        let mut at = self.bytes;
        if self.keyed {
            let (text, rest) = take_sized(at)?;
            key = std::str::from_utf8(text).ok()?;
            at = rest;
        }
        let rest = skip(at)?;
        self.bytes = rest;
        Some((key, ValueRef(at)))
    }
}

/// What follows the value at the start.
fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = bytes.split_first()?;
    match tag {
        tag::NULL | tag::FALSE | tag::TRUE => Some(rest),
        tag::INTEGER | tag::UNSIGNED | tag::FLOAT => rest.get(8..),
        tag::STRING | tag::ARRAY | tag::OBJECT => Some(take_sized(rest)?.1),
        _ => None,
    }
}
