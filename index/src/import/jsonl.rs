//! JSON lines: an object on each line, with its vector in a field.

use std::io::{BufRead, Read};

use serde_json::Value;

use super::{ImportError, Mapping, Records};
use crate::{
    limits::{IMPORT_BATCH_BYTES, IMPORT_RECORD_BYTES_MAX},
    point::Point,
};

/// The objects of a file, one a line; empty lines are stepped over.
#[derive(Debug)]
pub struct JsonLines<R> {
    from: R,
    mapping: Mapping,
    record: u64,
}

impl<R: BufRead> JsonLines<R> {
    /// Begins to read.
    pub fn new(from: R, mapping: Mapping) -> Self {
        Self {
            from,
            mapping,
            record: 0,
        }
    }
}

impl<R: BufRead> Records for JsonLines<R> {
    fn next_batch(&mut self, max: usize) -> Result<Vec<Point>, ImportError> {
        let mut points = Vec::new();
        let mut bytes = 0;
        let mut line = Vec::new();
        while points.len() < max && bytes < IMPORT_BATCH_BYTES {
            line.clear();
            let room = IMPORT_RECORD_BYTES_MAX as u64 + 1;
            if self.from.by_ref().take(room).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            bytes += line.len();
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            self.record += 1;
            let record = self.record;
            if line.len() > IMPORT_RECORD_BYTES_MAX {
                return Err(ImportError::TooLong { record });
            }
            let what = match serde_json::from_slice(text) {
                Ok(Value::Object(map)) => {
                    points.push(self.mapping.point(map, record)?);
                    continue;
                }
                Ok(_) => "not an object".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(ImportError::Record { record, what });
        }
        Ok(points)
    }
}
