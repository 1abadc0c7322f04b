//! Points as clients send them, read straight from the text: a list of points, or lists of ids, vectors and payloads.
//!
//! Vectors become numbers and payloads become bytes one after the other, so that memory is that of the points.

use std::{cell::Cell, collections::BTreeMap, fmt};

use lode_index::{Payload, Point, PointId, SparseVector, Vector};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{
    json::{Bounded, format_error},
    not_supported, wrong_input,
};
use crate::{answer::Problem, limits::QDRANT_PAYLOAD_BYTES_MAX};

/// Vectors of points that are there.
pub type Updates = Vec<(PointId, BTreeMap<String, Vector>)>;

/// The points that a body asks to set.
///
/// # Errors
/// 400 for what is not of the grammar, names other things, or is past a bound.
pub fn upsert(bytes: &[u8]) -> Result<Vec<Point>, Problem> {
    let body: Body = serde_json::from_slice(bytes).map_err(format_error)?;
    body.into_points()
}

/// The vectors that a body asks to set.
///
/// # Errors
/// As [`upsert`].
pub fn updates(bytes: &[u8]) -> Result<Updates, Problem> {
    let body: UpdatesBody = serde_json::from_slice(bytes).map_err(format_error)?;
    body.into_updates()
}

/// The body of an upsert.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    points: Option<Vec<PointJson>>,
    batch: Option<Batch>,
    shard_key: Option<de::IgnoredAny>,
    update_filter: Option<de::IgnoredAny>,
    update_mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PointJson {
    id: IdJson,
    #[serde(default)]
    vector: Option<VectorsJson>,
    #[serde(default)]
    payload: Option<PayloadJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    ids: Vec<IdJson>,
    vectors: BatchVectors,
    payloads: Option<Vec<Option<PayloadJson>>>,
}

/// The body of an update of vectors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdatesBody {
    points: Vec<UpdateJson>,
    shard_key: Option<de::IgnoredAny>,
    update_filter: Option<de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateJson {
    id: IdJson,
    vector: VectorsJson,
}

impl Body {
    pub(super) fn into_points(self) -> Result<Vec<Point>, Problem> {
        if self.shard_key.is_some() {
            return Err(not_supported("`shard_key` here"));
        }
        if self.update_filter.is_some() || self.update_mode.is_some_and(|mode| mode != "upsert") {
            return Err(not_supported("upserts that depend on what is there"));
        }
        match (self.points, self.batch) {
            (Some(points), None) => Ok(points.into_iter().map(PointJson::into_point).collect()),
            (None, Some(batch)) => batch.into_points(),
            _ => Err(format_error("expected one of `points` and `batch`")),
        }
    }
}

impl UpdatesBody {
    pub(super) fn into_updates(self) -> Result<Updates, Problem> {
        if self.shard_key.is_some() {
            return Err(not_supported("`shard_key` here"));
        }
        if self.update_filter.is_some() {
            return Err(not_supported("`update_filter` here"));
        }
        let points = self.points.into_iter();
        Ok(points.map(|point| (point.id.0, point.vector.0)).collect())
    }
}

impl PointJson {
    fn into_point(self) -> Point {
        Point {
            id: self.id.0,
            vectors: self.vector.map(|vectors| vectors.0).unwrap_or_default(),
            payload: self.payload.map(|payload| payload.0).unwrap_or_default(),
        }
    }
}

impl Batch {
    fn into_points(self) -> Result<Vec<Point>, Problem> {
        let count = self.ids.len();
        let uneven = |what: &str, found: usize| {
            wrong_input(format!("a batch of {count} ids has {found} {what}"))
        };
        let mut vectors = self.vectors.into_rows(count, &uneven)?;
        let mut payloads = self.payloads.unwrap_or_default();
        if payloads.len() != count && !payloads.is_empty() {
            return Err(uneven("payloads", payloads.len()));
        }
        payloads.resize_with(count, || None);
        let rows = self.ids.into_iter().zip(vectors.drain(..)).zip(payloads);
        let point = |((id, vectors), payload): ((IdJson, _), Option<PayloadJson>)| Point {
            id: id.0,
            vectors,
            payload: payload.map(|payload| payload.0).unwrap_or_default(),
        };
        Ok(rows.map(point).collect())
    }
}

struct IdJson(PointId);

impl<'de> Deserialize<'de> for IdJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ids;
        const WANTED: &str =
            "is not a valid point ID, valid values are either an unsigned integer or a UUID";
        impl Visitor<'_> for Ids {
            type Value = IdJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a point ID, either an unsigned integer or a UUID")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<IdJson, E> {
                Ok(IdJson(PointId::Number(id)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IdJson, E> {
                // text is always a UUID
                match text.parse() {
                    Ok(id @ PointId::Uuid(_)) => Ok(IdJson(id)),
                    _ => {
                        let shown: String = text.chars().take(100).collect();
                        Err(E::custom(format!("value {shown} {WANTED}")))
                    }
                }
            }
        }
        deserializer.deserialize_any(Ids)
    }
}

struct PayloadJson(Payload);

impl<'de> Deserialize<'de> for PayloadJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let left = Cell::new(QDRANT_PAYLOAD_BYTES_MAX);
        let value: Value = Bounded(&left).deserialize(deserializer)?;
        Payload::from_json(&value)
            .map(Self)
            .map_err(de::Error::custom)
    }
}

/// A number of a vector. Lists are told from numbers here, so that no other type has to be tried.
struct Component(f32);

impl<'de> Deserialize<'de> for Component {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Component;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of a vector")
            }

            #[expect(clippy::cast_possible_truncation, reason = "vectors are of singles")]
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Component, E> {
                Ok(Component(value as f32))
            }

            #[expect(clippy::cast_precision_loss, reason = "vectors are of singles")]
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Component, E> {
                Ok(Component(value as f32))
            }

            #[expect(clippy::cast_precision_loss, reason = "vectors are of singles")]
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Component, E> {
                Ok(Component(value as f32))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Component, A::Error> {
                Err(de::Error::custom(MULTI))
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

const MULTI: &str = "not supported: vectors of several vectors (multivectors)";
const INFERENCE: &str = "not supported: texts and images in place of vectors; send vectors";

/// Reads the numbers of a list.
fn numbers<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Vec<f32>, A::Error> {
    let mut numbers = Vec::new();
    while let Some(Component(number)) = items.next_element()? {
        numbers.push(number);
    }
    Ok(numbers)
}

/// The value of a key in an object of vectors.
enum VectorJson {
    Vector(Vector),
    /// Null: the point lacks it.
    Nothing,
}

impl<'de> Deserialize<'de> for VectorJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Vectors;
        impl<'de> Visitor<'de> for Vectors {
            type Value = VectorJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector: a list of numbers, or an object of indices and values")
            }

            fn visit_unit<E: de::Error>(self) -> Result<VectorJson, E> {
                Ok(VectorJson::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<VectorJson, A::Error> {
                Ok(VectorJson::Vector(Vector::Dense(numbers(items)?)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<VectorJson, A::Error> {
                let (mut indices, mut values): (Option<Vec<u32>>, Option<Floats>) = (None, None);
                while let Some(key) = entries.next_key::<String>()? {
                    match key.as_str() {
                        "indices" => indices = Some(entries.next_value()?),
                        "values" => values = Some(entries.next_value()?),
                        "text" | "image" | "object" | "model" | "options" => {
                            return Err(de::Error::custom(INFERENCE));
                        }
                        _ => {
                            return Err(de::Error::custom(
                                "a sparse vector has indices and values",
                            ));
                        }
                    }
                }
                match (indices, values) {
                    (Some(indices), Some(values)) => SparseVector::new(&indices, &values.0)
                        .map(|sparse| VectorJson::Vector(Vector::Sparse(sparse)))
                        .map_err(de::Error::custom),
                    _ => Err(de::Error::custom("a sparse vector has indices and values")),
                }
            }
        }
        deserializer.deserialize_any(Vectors)
    }
}

struct Floats(Vec<f32>);

impl<'de> Deserialize<'de> for Floats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lists;
        impl<'de> Visitor<'de> for Lists {
            type Value = Floats;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Floats, A::Error> {
                Ok(Floats(numbers(items)?))
            }
        }
        deserializer.deserialize_seq(Lists)
    }
}

/// The vectors of a point: a list, which is the vector without a name, or an object by name.
struct VectorsJson(BTreeMap<String, Vector>);

impl<'de> Deserialize<'de> for VectorsJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Vectors;
        impl<'de> Visitor<'de> for Vectors {
            type Value = VectorsJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector, or an object of vectors by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<VectorsJson, A::Error> {
                let vector = Vector::Dense(numbers(items)?);
                Ok(VectorsJson([(String::new(), vector)].into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<VectorsJson, A::Error> {
                let mut vectors = BTreeMap::new();
                while let Some(name) = entries.next_key::<String>()? {
                    if let VectorJson::Vector(vector) = entries.next_value()? {
                        vectors.insert(name, vector);
                    }
                }
                Ok(VectorsJson(vectors))
            }
        }
        deserializer.deserialize_any(Vectors)
    }
}

/// The vectors of a batch: a list of vectors, or lists of them by name.
enum BatchVectors {
    Rows(Vec<VectorJson>),
    Named(BTreeMap<String, Vec<VectorJson>>),
}

impl BatchVectors {
    fn into_rows(
        self,
        count: usize,
        uneven: &dyn Fn(&str, usize) -> Problem,
    ) -> Result<Vec<BTreeMap<String, Vector>>, Problem> {
        let named = match self {
            Self::Rows(rows) => [(String::new(), rows)].into(),
            Self::Named(named) => named,
        };
        let mut points = vec![BTreeMap::new(); count];
        for (name, rows) in named {
            if rows.len() != count {
                return Err(uneven("vectors", rows.len()));
            }
            for (point, vector) in points.iter_mut().zip(rows) {
                if let VectorJson::Vector(vector) = vector {
                    point.insert(name.clone(), vector);
                }
            }
        }
        Ok(points)
    }
}

impl<'de> Deserialize<'de> for BatchVectors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Batches;
        impl<'de> Visitor<'de> for Batches {
            type Value = BatchVectors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of vectors, or lists of vectors by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<BatchVectors, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = items.next_element()? {
                    rows.push(row);
                }
                Ok(BatchVectors::Rows(rows))
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut entries: A,
            ) -> Result<BatchVectors, A::Error> {
                let mut named = BTreeMap::new();
                while let Some(name) = entries.next_key::<String>()? {
                    named.insert(name, entries.next_value()?);
                }
                Ok(BatchVectors::Named(named))
            }
        }
        deserializer.deserialize_any(Batches)
    }
}
