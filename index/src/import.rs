//! Points from files of other programs: `.npy`, `.safetensors`, Parquet, JSON lines, CSV.
//!
//! Readers stream: whatever the length of a file, memory is taken for the points of a batch alone, and every length in
//! it is bounded before memory is taken for it. What is wrong is said with the record where it is.

use std::io;

use serde_json::{Map, Value};

use crate::{
    id::PointId,
    limits::{IMPORT_BATCH_BYTES, IMPORT_RECORD_BYTES_MAX},
    payload::Payload,
    point::{Point, SparseVector, Vector},
};

mod csv;
mod jsonl;
mod npy;
mod parquet;
mod safetensors;

pub use self::parquet::ParquetRows;
pub use csv::CsvRecords;
pub use jsonl::JsonLines;
pub use npy::NpyRows;
pub use safetensors::SafetensorsRows;

/// A file as points, some at a time.
pub trait Records {
    /// At most `max` points more; none at the end.
    ///
    /// # Errors
    /// [`ImportError`]; points that were given before stay good.
    fn next_batch(&mut self, max: usize) -> Result<Vec<Point>, ImportError>;
}

/// Which fields of a record are what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The field with the id; without one, points are numbered from [`Mapping::first_id`] on.
    pub id: Option<String>,
    /// The first number of points without ids.
    pub first_id: u64,
    /// The field with the vector; `vector` if nothing is said.
    pub vector: Option<String>,
    /// What the collection calls the vector.
    pub vector_name: String,
    /// Fields that become payload; all others if nothing is said.
    pub payload: Option<Vec<String>>,
}

/// Why a file is not read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read.
    #[error("reading: {0}")]
    Io(#[from] io::Error),
    /// Not a file of this format, or of a kind that is not read.
    #[error("{0}")]
    Format(String),
    /// A record that is no point.
    #[error("record {record}: {what}")]
    Record {
        /// Which one, from 1.
        record: u64,
        /// What is wrong.
        what: String,
    },
    /// A record of more bytes than one may have.
    #[error("record {record} is longer than {IMPORT_RECORD_BYTES_MAX} bytes")]
    TooLong {
        /// Which one, from 1.
        record: u64,
    },
}

fn format(what: impl Into<String>) -> ImportError {
    ImportError::Format(what.into())
}

impl Mapping {
    /// The field with the vector.
    fn vector_field(&self) -> &str {
        self.vector.as_deref().unwrap_or("vector")
    }

    /// The point of a record, whose number counts from 1.
    fn point(&self, mut map: Map<String, Value>, record: u64) -> Result<Point, ImportError> {
        let wrong = |what: String| ImportError::Record { record, what };
        let id = match &self.id {
            None => self.numbered(record)?,
            Some(field) => match map.get(field) {
                None => return Err(wrong(format!("no field {field:?} for the id"))),
                Some(Value::String(text)) => text
                    .parse()
                    .map_err(|e: crate::PointIdError| wrong(e.to_string()))?,
                Some(value) => PointId::from_json(value).map_err(|e| wrong(e.to_string()))?,
            },
        };
        let field = self.vector_field();
        let vector = map
            .remove(field)
            .ok_or_else(|| wrong(format!("no field {field:?}")))?;
        let vector = vector_of(&vector).map_err(wrong)?;
        match &self.payload {
            None => drop(self.id.as_ref().and_then(|field| map.remove(field))),
            Some(fields) => map.retain(|name, _| fields.contains(name)),
        }
        let payload = Payload::from_json(&Value::Object(map)).map_err(|e| wrong(e.to_string()))?;
        Ok(Point {
            id,
            vectors: [(self.vector_name.clone(), vector)].into(),
            payload,
        })
    }

    fn numbered(&self, record: u64) -> Result<PointId, ImportError> {
        let id = self.first_id.checked_add(record - 1);
        let what = "no number is left for its id".to_owned();
        id.map(PointId::Number)
            .ok_or(ImportError::Record { record, what })
    }
}

/// A vector as JSON: numbers, `{"indices": [..], "values": [..]}`, or text that is one of these.
fn vector_of(value: &Value) -> Result<Vector, String> {
    match value {
        Value::Array(items) => numbers(items).map(Vector::Dense),
        Value::Object(map) => {
            let list = |name| {
                let list = map.get(name).and_then(Value::as_array);
                list.ok_or_else(|| format!("a sparse vector has a list {name:?}"))
            };
            let index = |item: &Value| item.as_u64().and_then(|index| u32::try_from(index).ok());
            let indices: Option<Vec<u32>> = list("indices")?.iter().map(index).collect();
            let indices = indices.ok_or("an index of a sparse vector is no number of 32 bits")?;
            let sparse = SparseVector::new(&indices, &numbers(list("values")?)?);
            sparse
                .map(Vector::Sparse)
                .map_err(|error| error.to_string())
        }
        Value::String(text) => {
            let parsed: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            match parsed {
                Value::String(_) => Err("a vector is a list of numbers".to_owned()),
                other => vector_of(&other),
            }
        }
        _ => Err("a vector is a list of numbers".to_owned()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "vectors are singles")]
fn numbers(items: &[Value]) -> Result<Vec<f32>, String> {
    let number = |(at, item): (usize, &Value)| {
        let number = item
            .as_f64()
            .ok_or_else(|| format!("component {at} is no number"))?;
        Ok(number as f32)
    };
    items.iter().enumerate().map(number).collect()
}

/// Components of one row of an array, in the ways that files have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    F64,
    F32,
    F16,
    Bf16,
    U8,
}

impl Component {
    fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "vectors are singles")]
    fn decode(self, row: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        let mut stored = |dtype| crate::vectors::decode(dtype, row, &mut out);
        match self {
            Self::F32 => stored(crate::Dtype::F32),
            Self::F16 => stored(crate::Dtype::F16),
            Self::U8 => stored(crate::Dtype::U8),
            Self::F64 => {
                let (numbers, _) = row.as_chunks::<8>();
                out.extend(
                    numbers
                        .iter()
                        .map(|bytes| f64::from_le_bytes(*bytes) as f32),
                );
            }
            Self::Bf16 => {
                let (numbers, _) = row.as_chunks::<2>();
                let single = |bytes: &[u8; 2]| u32::from(u16::from_le_bytes(*bytes)) << 16;
                out.extend(numbers.iter().map(|bytes| f32::from_bits(single(bytes))));
            }
        }
        out
    }
}

/// Rows of an array of two dimensions, one point each.
#[derive(Debug)]
struct ArrayRows<R> {
    from: R,
    component: Component,
    rows: u64,
    columns: usize,
    given: u64,
    mapping: Mapping,
}

impl<R: io::Read> ArrayRows<R> {
    fn new(
        from: R,
        component: Component,
        shape: &[u64],
        mapping: Mapping,
    ) -> Result<Self, ImportError> {
        let &[rows, columns] = shape else {
            return Err(format(
                "vectors are an array of two dimensions, a row for each point",
            ));
        };
        let columns = usize::try_from(columns).ok();
        let fits = |columns: &usize| {
            let bytes = columns.checked_mul(component.bytes());
            (1..=crate::limits::DIM_MAX as usize).contains(columns) && bytes.is_some()
        };
        let columns = columns
            .filter(fits)
            .ok_or_else(|| format("rows are too long, or empty"))?;
        Ok(Self {
            from,
            component,
            rows,
            columns,
            given: 0,
            mapping,
        })
    }

    fn next_batch(&mut self, max: usize) -> Result<Vec<Point>, ImportError> {
        let mut row = vec![0; self.columns * self.component.bytes()];
        let mut points = Vec::new();
        let max = max.min((IMPORT_BATCH_BYTES / (4 * self.columns)).max(1));
        while points.len() < max && self.given < self.rows {
            self.from.read_exact(&mut row)?;
            self.given += 1;
            let vector = Vector::Dense(self.component.decode(&row));
            points.push(Point {
                id: self.mapping.numbered(self.given)?,
                vectors: [(self.mapping.vector_name.clone(), vector)].into(),
                payload: Payload::empty(),
            });
        }
        Ok(points)
    }
}

#[cfg(test)]
mod tests;
