//! JSON of requests as values, of bounded size; and what is read out of them.
//!
//! A value takes many times the bytes of its text, so that what may be made is counted while it is read. Depth is
//! bounded by the parser (128).

use std::{cell::Cell, fmt};

use lode_index::{Filter, PointId};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{invalid, not_supported};
use crate::{answer::Problem, limits::QDRANT_VALUE_BYTES_MAX};

/// Bytes that a value takes, whatever it is.
const VALUE_BYTES: usize = 32;

/// 400: not the JSON that is wanted.
pub(super) fn format_error(what: impl fmt::Display) -> Problem {
    Problem::usage(format!("Format error in JSON body: {what}"))
}

/// The object that a body is.
///
/// # Errors
/// 400 for what is no JSON, no object, or too much of it.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let left = Cell::new(QDRANT_VALUE_BYTES_MAX);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Bounded(&left)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(format_error)?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(format_error("expected an object")),
    }
}

/// Makes values as long as there is something left.
#[derive(Clone, Copy)]
pub(super) struct Bounded<'a>(pub(super) &'a Cell<usize>);

impl Bounded<'_> {
    fn spend<E: de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(VALUE_BYTES + bytes);
        self.0.set(
            left.ok_or_else(|| {
                E::custom("more values than one request may have; send it in parts")
            })?,
        );
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number is not finite"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.spend(2 * VALUE_BYTES + key.len())?;
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// An object of which every key is looked at once: what is left over is refused.
#[derive(Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self {
            map,
            known: Vec::new(),
        }
    }

    pub(super) fn of(value: &'a Value, what: &str) -> Result<Self, Problem> {
        let map = value.as_object();
        Ok(Self::new(map.ok_or_else(|| {
            format_error(format!("{what} is no object"))
        })?))
    }

    /// The value of a key; null is as good as nothing.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Passes over keys that change no answer.
    pub(super) fn skip(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    pub(super) fn need(&mut self, key: &'static str) -> Result<&'a Value, Problem> {
        self.get(key)
            .ok_or_else(|| format_error(format!("missing field `{key}`")))
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<&'a str>, Problem> {
        let value = self.get(key);
        value
            .map(|value| value.as_str().ok_or_else(|| wrong(key, "text")))
            .transpose()
    }

    pub(super) fn bool(&mut self, key: &'static str) -> Result<Option<bool>, Problem> {
        let value = self.get(key);
        value
            .map(|value| value.as_bool().ok_or_else(|| wrong(key, "true or false")))
            .transpose()
    }

    pub(super) fn number(&mut self, key: &'static str) -> Result<Option<f64>, Problem> {
        let value = self.get(key);
        value
            .map(|value| value.as_f64().ok_or_else(|| wrong(key, "a number")))
            .transpose()
    }

    pub(super) fn size(&mut self, key: &'static str) -> Result<Option<usize>, Problem> {
        let value = self.get(key);
        let size = |value: &Value| usize::try_from(value.as_u64()?).ok();
        value
            .map(|value| size(value).ok_or_else(|| wrong(key, "an unsigned integer")))
            .transpose()
    }

    /// A size of at least one.
    pub(super) fn count(&mut self, key: &'static str) -> Result<Option<usize>, Problem> {
        match self.size(key)? {
            Some(0) => Err(invalid(format!(
                "{key}: value 0 invalid, must be 1 or larger"
            ))),
            size => Ok(size),
        }
    }

    pub(super) fn list(&mut self, key: &'static str) -> Result<Option<&'a Vec<Value>>, Problem> {
        let value = self.get(key);
        value
            .map(|value| value.as_array().ok_or_else(|| wrong(key, "a list")))
            .transpose()
    }

    pub(super) fn filter(&mut self, key: &'static str) -> Result<Option<Filter>, Problem> {
        let value = self.get(key);
        value
            .map(|value| Filter::from_json(value).map_err(format_error))
            .transpose()
    }

    /// Refuses what nobody looked at.
    pub(super) fn end(self) -> Result<(), Problem> {
        let other = self
            .map
            .iter()
            .find(|(key, value)| !value.is_null() && !self.known.contains(&key.as_str()));
        match other {
            Some((key, _)) => {
                let key: String = key.chars().take(100).collect();
                Err(not_supported(&format!("`{key}` here")))
            }
            None => Ok(()),
        }
    }
}

fn wrong(key: &str, wanted: &str) -> Problem {
    format_error(format!("`{key}` must be {wanted}"))
}

/// The id that a value is.
pub(super) fn point_id(value: &Value) -> Result<PointId, Problem> {
    PointId::from_json(value).map_err(|_| {
        let shown: String = value.to_string().chars().take(100).collect();
        format_error(format!(
            "value {shown} is not a valid point ID, valid values are either an unsigned integer or a UUID"
        ))
    })
}

/// The ids that a list is.
pub(super) fn point_ids(values: &[Value]) -> Result<Vec<PointId>, Problem> {
    values.iter().map(point_id).collect()
}

/// The texts that a list is.
pub(super) fn texts(values: &[Value], what: &str) -> Result<Vec<String>, Problem> {
    let text = |value: &Value| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| wrong(what, "a list of texts"))
    };
    values.iter().map(text).collect()
}
