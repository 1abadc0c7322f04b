//! Parquet files (<https://parquet.apache.org/docs/file-format/>): a row for each point, vectors in a column of
//! lists of numbers.
//!
//! Pages are read one at a time by the crate `parquet`, so memory follows the pages, not the file. Timestamps and
//! dates become text, as payloads have them; 16 bytes without a meaning of their own are a UUID; other bytes must
//! be UTF-8.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::{
    file::reader::{ChunkReader, FileReader, SerializedFileReader},
    record::{Field, Row, reader::RowIter},
    schema::types::Type,
};
use serde_json::{Map, Value};

use super::{ImportError, Mapping, Records, format};
use crate::{
    limits::{
        IMPORT_BATCH_BYTES, IMPORT_RECORD_BYTES_MAX, PARQUET_COLUMNS_MAX, PARQUET_FOOTER_BYTES_MAX,
    },
    point::Point,
};

/// Bytes behind the footer: its length, and what says what the file is.
const TAIL_BYTES: u64 = 8;

/// The rows of a file.
pub struct ParquetRows {
    rows: RowIter<'static>,
    count: u64,
    record: u64,
    mapping: Mapping,
}

impl std::fmt::Debug for ParquetRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (record, count) = (self.record, self.count);
        f.debug_struct("ParquetRows")
            .field("record", &record)
            .field("count", &count)
            .finish_non_exhaustive()
    }
}

impl ParquetRows {
    /// Reads what the file says of itself. Columns that the mapping does not name are not read.
    ///
    /// # Errors
    /// [`ImportError`] for what is no such file, or lacks a column.
    pub fn open<R: ChunkReader + 'static>(from: R, mapping: Mapping) -> Result<Self, ImportError> {
        check_footer(&from)?;
        sound(|| Self::open_checked(from, mapping))
    }

    fn open_checked<R: ChunkReader + 'static>(
        from: R,
        mapping: Mapping,
    ) -> Result<Self, ImportError> {
        let reader = SerializedFileReader::new(from).map_err(wrong)?;
        let metadata = reader.metadata().file_metadata();
        let count =
            u64::try_from(metadata.num_rows()).map_err(|_| format("a negative number of rows"))?;
        let schema = metadata.schema();
        let columns = schema.get_fields();
        if columns.len() > PARQUET_COLUMNS_MAX {
            return Err(format(format!("more than {PARQUET_COLUMNS_MAX} columns")));
        }
        let wanted = |name: &str| {
            name == mapping.vector_field()
                || mapping.id.as_deref() == Some(name)
                || mapping
                    .payload
                    .as_ref()
                    .is_none_or(|fields| fields.iter().any(|field| field == name))
        };
        let kept = columns
            .iter()
            .filter(|column| wanted(column.name()))
            .cloned();
        let projection = Type::group_type_builder(schema.name())
            .with_fields(kept.collect())
            .build()
            .map_err(wrong)?;
        let rows = RowIter::from_file_into(Box::new(reader))
            .project(Some(projection))
            .map_err(wrong)?;
        Ok(Self {
            rows,
            count,
            record: 0,
            mapping,
        })
    }

    /// How many rows the file says it has.
    pub fn rows(&self) -> u64 {
        self.count
    }

    fn next_row(&mut self) -> Result<Option<(Point, usize)>, ImportError> {
        let Some(row) = self.rows.next() else {
            return Ok(None);
        };
        self.record += 1;
        let record = self.record;
        let row = row.map_err(|error| ImportError::Record {
            record,
            what: error.to_string(),
        })?;
        let mut bytes = 0;
        let map = object(&row, &mut bytes).map_err(|what| ImportError::Record { record, what })?;
        if bytes > IMPORT_RECORD_BYTES_MAX {
            return Err(ImportError::TooLong { record });
        }
        Ok(Some((self.mapping.point(map, record)?, bytes)))
    }
}

impl Records for ParquetRows {
    fn next_batch(&mut self, max: usize) -> Result<Vec<Point>, ImportError> {
        sound(|| {
            let mut points = Vec::new();
            let mut bytes = 0;
            while points.len() < max && bytes < IMPORT_BATCH_BYTES {
                let Some((point, len)) = self.next_row()? else {
                    break;
                };
                bytes += len;
                points.push(point);
            }
            Ok(points)
        })
    }
}

/// Bounds what is read at once to learn of the columns.
fn check_footer(from: &impl ChunkReader) -> Result<(), ImportError> {
    let start = from.len().checked_sub(TAIL_BYTES);
    let tail = start
        .map(|start| from.get_bytes(start, 8))
        .transpose()
        .map_err(wrong)?;
    let tail = tail.filter(|tail| tail.ends_with(b"PAR1"));
    let tail = tail.ok_or_else(|| format("not a Parquet file"))?;
    let len = tail.first_chunk::<4>().map(|len| u32::from_le_bytes(*len));
    match len {
        Some(len) if len <= PARQUET_FOOTER_BYTES_MAX => Ok(()),
        _ => Err(format(format!(
            "a footer of more than {PARQUET_FOOTER_BYTES_MAX} bytes"
        ))),
    }
}

/// A file that is not what it claims must not end the program: what the decoder takes for impossible is an error.
fn sound<T>(work: impl FnOnce() -> Result<T, ImportError>) -> Result<T, ImportError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(format("a damaged Parquet file")))
}

fn wrong(error: parquet::errors::ParquetError) -> ImportError {
    format(error.to_string())
}

/// A row as JSON; counts the bytes of it, roughly.
fn object(row: &Row, bytes: &mut usize) -> Result<Map<String, Value>, String> {
    let mut map = Map::new();
    for (name, field) in row.get_column_iter() {
        let value = value(field, bytes).map_err(|what| format!("column {name:?}: {what}"))?;
        *bytes += name.len();
        if !value.is_null() {
            map.insert(name.clone(), value);
        }
    }
    Ok(map)
}

fn value(field: &Field, bytes: &mut usize) -> Result<Value, String> {
    *bytes += 8;
    let double = |number: f64| {
        let number = serde_json::Number::from_f64(number);
        number
            .map(Value::Number)
            .ok_or_else(|| "a number that is not finite".to_owned())
    };
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float16(number) => double(f64::from(number.to_f32()))?,
        Field::Float(number) => double(f64::from(*number))?,
        Field::Double(number) => double(*number)?,
        Field::Str(text) => {
            *bytes += text.len();
            Value::String(text.clone())
        }
        Field::Bytes(data) => {
            *bytes += data.len();
            text(data.data())?.into()
        }
        Field::Date(_) => Value::String(field.to_string()),
        // "2020-01-01 00:00:00 +00:00"
        Field::TimestampMillis(_) | Field::TimestampMicros(_) => {
            let text = field.to_string();
            Value::String(text.replacen(' ', "T", 1).replace(' ', ""))
        }
        Field::Group(row) => Value::Object(object(row, bytes)?),
        Field::ListInternal(list) => {
            let items = list.elements().iter();
            items
                .map(|item| value(item, bytes))
                .collect::<Result<_, _>>()?
        }
        Field::MapInternal(map) => {
            let mut out = Map::new();
            for (key, field) in map.entries() {
                let Field::Str(key) = key else {
                    return Err("a map whose keys are no text".to_owned());
                };
                *bytes += key.len();
                out.insert(key.clone(), value(field, bytes)?);
            }
            Value::Object(out)
        }
        Field::Decimal(_) => field
            .to_string()
            .parse()
            .map(double)
            .map_err(|_| "a number that is not read".to_owned())??,
        _ => return Err("a type that is not read".to_owned()),
    })
}

/// Bytes as text: a UUID if they are 16 that are no text.
fn text(data: &[u8]) -> Result<String, String> {
    if let Ok(text) = std::str::from_utf8(data) {
        return Ok(text.to_owned());
    }
    match <[u8; 16]>::try_from(data) {
        Ok(uuid) => Ok(crate::PointId::Uuid(uuid).to_string()),
        Err(_) => Err("bytes that are no text".to_owned()),
    }
}
