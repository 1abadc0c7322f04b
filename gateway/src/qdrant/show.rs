//! Points as clients read them: payloads cut to what was asked for, vectors in the form in which they were given.

use std::collections::BTreeMap;

use lode_index::{
    Payload, Vector,
    payload::{PayloadPath, Step},
    view::{OrderValue, Record, With, WithVectors},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::{
    ask::Shown,
    json::{Fields, format_error, texts},
    wrong_input,
};
use crate::{answer::Problem, limits::QDRANT_ANSWER_BYTES_MAX};

/// What of a payload is shown.
#[derive(Debug, Clone, Default)]
pub enum WithPayload {
    /// Nothing.
    #[default]
    None,
    /// All.
    All,
    /// What is at these paths.
    Include(Vec<PayloadPath>),
    /// All but what is at these paths.
    Exclude(Vec<PayloadPath>),
}

impl WithPayload {
    pub(super) fn of(all: bool) -> Self {
        if all { Self::All } else { Self::None }
    }

    /// What `with_payload` says.
    pub(super) fn read(value: &Value) -> Result<Self, Problem> {
        let paths = |items: &[Value]| {
            let texts = texts(items, "with_payload")?;
            let path = |text: String| text.parse::<PayloadPath>().map_err(format_error);
            texts.into_iter().map(path).collect::<Result<Vec<_>, _>>()
        };
        match value {
            Value::Bool(all) => Ok(Self::of(*all)),
            Value::Array(items) => Ok(Self::Include(paths(items)?)),
            Value::Object(map) => {
                let mut fields = Fields::new(map);
                let include = fields.list("include")?;
                let exclude = fields.list("exclude")?;
                fields.end()?;
                match (include, exclude) {
                    (Some(include), None) => Ok(Self::Include(paths(include)?)),
                    (None, Some(exclude)) => Ok(Self::Exclude(paths(exclude)?)),
                    _ => Err(format_error(
                        "`with_payload` has one of include and exclude",
                    )),
                }
            }
            _ => Err(format_error("`with_payload` must be true, false or keys")),
        }
    }

    pub(super) fn cut(&self, payload: &Payload) -> Option<Value> {
        match self {
            Self::None => None,
            Self::All => Some(payload.to_json()),
            Self::Include(paths) => {
                let whole = payload.to_json();
                let steps: Vec<&[Step]> = paths.iter().map(PayloadPath::steps).collect();
                let kept = include(&whole, &steps);
                Some(kept.unwrap_or_else(|| Value::Object(Map::new())))
            }
            Self::Exclude(paths) => {
                let mut rest = payload.to_json();
                paths.iter().for_each(|path| path.remove(&mut rest));
                Some(rest)
            }
        }
    }
}

/// What of a value is at one of some paths, in its place.
fn include(value: &Value, paths: &[&[Step]]) -> Option<Value> {
    if paths.iter().any(|steps| steps.is_empty()) {
        return Some(value.clone());
    }
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter_map(|(key, value)| {
                let below: Vec<&[Step]> = paths
                    .iter()
                    .filter_map(|steps| match steps.split_first() {
                        Some((Step::Key(wanted), below)) if wanted == key => Some(below),
                        _ => None,
                    })
                    .collect();
                let kept = (!below.is_empty()).then(|| include(value, &below))??;
                Some((key.clone(), kept))
            });
            let kept: Map<String, Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(items) => {
            let kept = items.iter().enumerate().filter_map(|(at, item)| {
                let below: Vec<&[Step]> = paths
                    .iter()
                    .filter_map(|steps| match steps.split_first() {
                        Some((Step::All, below)) => Some(below),
                        Some((Step::Index(wanted), below)) if *wanted == at => Some(below),
                        _ => None,
                    })
                    .collect();
                (!below.is_empty()).then(|| include(item, &below))?
            });
            let kept: Vec<Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => None,
    }
}

impl Shown {
    /// What the engine has to read.
    pub(super) fn with(&self) -> With {
        With {
            payload: !matches!(self.payload, WithPayload::None),
            vectors: self.vectors.clone(),
        }
    }

    /// A record as clients read it.
    pub(super) fn point(&self, record: Record, score: Option<f32>) -> PointJson {
        let payload = record.payload.as_ref();
        let vectors = !matches!(self.vectors, WithVectors::None);
        PointJson {
            id: record.id.to_json(),
            version: score.map(|_| record.version),
            score,
            payload: payload.and_then(|payload| self.payload.cut(payload)),
            vector: vectors.then_some(VectorsJson(record.vectors)),
            order_value: None,
        }
    }
}

impl PointJson {
    /// The same, with the value by which it was found.
    pub(super) fn standing_at(mut self, value: OrderValue) -> Self {
        self.order_value = Some(match value {
            // integers of payloads have 64 bits, with or without sign
            OrderValue::Integer(integer) => u64::try_from(integer)
                .map(Value::from)
                .unwrap_or_else(|_| Value::from(i64::try_from(integer).unwrap_or(i64::MIN))),
            OrderValue::Float(float) => Value::from(float),
        });
        self
    }

    /// The same, as one that is read and was not searched for.
    pub(super) fn without_score(mut self) -> Self {
        (self.score, self.version) = (None, None);
        self
    }
}

/// Counts what an answer holds.
#[derive(Debug, Default)]
pub(super) struct Room(usize);

impl Room {
    /// # Errors
    /// 400 for more than one answer holds.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), Problem> {
        let vector = |vector: &Vector| match vector {
            // as text a number takes up to 12 bytes
            Vector::Dense(numbers) => 12 * numbers.len(),
            Vector::Sparse(sparse) => 24 * sparse.indices().len(),
        };
        let payload = record.payload.as_ref();
        self.0 += 64
            + payload.map_or(0, |payload| 2 * payload.as_bytes().len())
            + record.vectors.values().map(vector).sum::<usize>();
        match self.0 > QDRANT_ANSWER_BYTES_MAX {
            true => Err(wrong_input(format!(
                "the answer would have more than {QDRANT_ANSWER_BYTES_MAX} bytes: ask for fewer points at once"
            ))),
            false => Ok(()),
        }
    }
}

/// A point as clients read it.
#[derive(Debug, Serialize)]
pub(super) struct PointJson {
    id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<VectorsJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_value: Option<Value>,
}

/// The vectors of a point; the one without a name stands alone if there is no other.
#[derive(Debug)]
struct VectorsJson(BTreeMap<String, Vector>);

struct VectorJson<'a>(&'a Vector);

impl Serialize for VectorsJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0.len(), self.0.get("")) {
            (1, Some(only)) => VectorJson(only).serialize(serializer),
            _ => {
                let mut map = serializer.serialize_map(Some(self.0.len()))?;
                for (name, vector) in &self.0 {
                    map.serialize_entry(name, &VectorJson(vector))?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for VectorJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Vector::Dense(numbers) => numbers.serialize(serializer),
            Vector::Sparse(sparse) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("indices", sparse.indices())?;
                map.serialize_entry("values", sparse.values())?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_has_room_for_so_much_and_not_for_one_byte_more() {
        let text = |len: usize| Payload::from_json(&serde_json::json!({"t": "x".repeat(len)}));
        let record = |payload: Payload| Record {
            id: 1.into(),
            version: 1,
            payload: Some(payload),
            vectors: BTreeMap::new(),
        };
        // three of these leave room for another of so many bytes
        let large = record(text(10 << 20).unwrap());
        let mut room = Room::default();
        for _ in 0..3 {
            room.take(&large).unwrap();
        }
        let left = QDRANT_ANSWER_BYTES_MAX - room.0;
        let frame = text(1 << 20).unwrap().as_bytes().len() - (1 << 20);
        let fits = record(text((left - 64) / 2 - frame).unwrap());
        let used = room.0;
        room.take(&fits).unwrap();
        assert_eq!(room.0, QDRANT_ANSWER_BYTES_MAX);
        room.0 = used + 1;
        assert_eq!(room.take(&fits).unwrap_err().status().as_u16(), 400);
    }
}
