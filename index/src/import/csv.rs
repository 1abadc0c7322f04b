//! CSV as RFC 4180 has it: a line of names, then a line for each point. Fields may be quoted, a quote in them
//! doubled; lines end with LF or CRLF.
//!
//! A vector is a JSON list in its field. Of other fields what reads as a number, `true` or `false` becomes
//! that, an empty one is left out, anything else is text.

use std::io::BufRead;

use serde_json::{Map, Value};

use super::{ImportError, Mapping, Records, format};
use crate::{
    limits::{CSV_COLUMNS_MAX, IMPORT_BATCH_BYTES, IMPORT_RECORD_BYTES_MAX},
    point::Point,
};

/// The lines of a file, by the names in the first.
#[derive(Debug)]
pub struct CsvRecords<R> {
    from: R,
    mapping: Mapping,
    names: Vec<String>,
    record: u64,
}

impl<R: BufRead> CsvRecords<R> {
    /// Reads the names.
    ///
    /// # Errors
    /// [`ImportError`] if there is no line of different names.
    pub fn open(mut from: R, mapping: Mapping) -> Result<Self, ImportError> {
        let names = read_line(&mut from, 0)?.ok_or_else(|| format("the file is empty"))?;
        let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        if let Some(first) = names.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_owned();
        }
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format("two columns have one name"));
        }
        Ok(Self {
            from,
            mapping,
            names,
            record: 0,
        })
    }
}

impl<R: BufRead> Records for CsvRecords<R> {
    fn next_batch(&mut self, max: usize) -> Result<Vec<Point>, ImportError> {
        let mut points = Vec::new();
        let mut bytes = 0;
        while points.len() < max && bytes < IMPORT_BATCH_BYTES {
            let Some(fields) = read_line(&mut self.from, self.record + 1)? else {
                break;
            };
            if matches!(&fields[..], [(text, false)] if text.is_empty()) {
                continue;
            }
            self.record += 1;
            let record = self.record;
            if fields.len() != self.names.len() {
                let what = format!(
                    "{} fields; the first line has {}",
                    fields.len(),
                    self.names.len()
                );
                return Err(ImportError::Record { record, what });
            }
            bytes += fields.iter().map(|(text, _)| text.len()).sum::<usize>();
            let fields = self.names.iter().zip(fields);
            let map: Map<String, Value> = fields
                .filter_map(|(name, (text, quoted))| Some((name.clone(), value(text, quoted)?)))
                .collect();
            points.push(self.mapping.point(map, record)?);
        }
        Ok(points)
    }
}

/// What a field says; nothing if it is empty and was not quoted.
fn value(text: String, quoted: bool) -> Option<Value> {
    if quoted {
        return Some(text.into());
    }
    let plain = match text.as_str() {
        "" => return None,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        number => match (number.parse::<i64>(), number.parse::<f64>()) {
            // "007" and "+1" are names of something
            (Ok(integer), _) if integer.to_string() == number => integer.into(),
            (Err(_), Ok(float)) if float.is_finite() && number.contains(['.', 'e', 'E']) => {
                float.into()
            }
            _ => Value::Null,
        },
    };
    Some(if plain.is_null() { text.into() } else { plain })
}

/// The fields of the next line, and whether each was quoted; none at the end.
fn read_line(
    from: &mut impl BufRead,
    record: u64,
) -> Result<Option<Vec<(String, bool)>>, ImportError> {
    let wrong = |what: &str| ImportError::Record {
        record,
        what: what.to_owned(),
    };
    let mut fields = Vec::new();
    let mut field = Vec::new();
    let (mut inside, mut quoted, mut bytes) = (false, false, 0);
    let mut any = false;
    loop {
        let buffer = from.fill_buf()?;
        let ended = buffer.is_empty();
        let mut used = 0;
        let mut line_ends = ended;
        for &byte in buffer {
            used += 1;
            any = true;
            match byte {
                b'"' if inside => inside = false,
                // a quote right behind one that closed is a quote of the text
                b'"' if quoted => {
                    field.push(b'"');
                    inside = true;
                }
                b'"' if field.is_empty() => {
                    inside = true;
                    quoted = true;
                }
                b',' | b'\n' if !inside => {
                    if byte == b'\n' {
                        line_ends = true;
                        break;
                    }
                    fields.push((text(std::mem::take(&mut field), record)?, quoted));
                    quoted = false;
                    if fields.len() >= CSV_COLUMNS_MAX {
                        return Err(wrong("too many fields"));
                    }
                }
                byte => field.push(byte),
            }
        }
        from.consume(used);
        bytes += used;
        if bytes > IMPORT_RECORD_BYTES_MAX {
            return Err(ImportError::TooLong { record });
        }
        if !line_ends {
            continue;
        }
        if inside {
            return Err(wrong("a quote is not closed"));
        }
        if ended && !any {
            return Ok(None);
        }
        if field.last() == Some(&b'\r') {
            field.pop();
        }
        fields.push((text(field, record)?, quoted));
        return Ok(Some(fields));
    }
}

fn text(field: Vec<u8>, record: u64) -> Result<String, ImportError> {
    String::from_utf8(field).map_err(|_| ImportError::Record {
        record,
        what: "text that is not UTF-8".to_owned(),
    })
}
