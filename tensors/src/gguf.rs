//! GGUF headers, versions 2 and 3, little endian.
//!
//! `"GGUF", u32 version, u64 tensor count, u64 key-value count, key-values, tensor infos`, then
//! padding to `general.alignment` (32 when absent), then the data section. As in ggml's own reader,
//! tensors follow each other with nothing but that padding between them; unlike there, their infos
//! may come in any order, and nothing but padding may follow the last one.
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, `gguf.cpp`.

mod cursor;

use crate::header::{checked_elements, first_duplicate};
use crate::metadata::{Entry, Value, ValueKind};
use crate::{
    ByteRange, Dtype, Format, Header, Invalid, Metadata, ParseError, Tensor, Unsupported, limits,
};
use cursor::{Cursor, invalid};

/// What a GGUF file begins with.
pub(crate) const MAGIC: &[u8] = b"GGUF";
/// The key of the alignment, and what holds without it.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT_BYTES_DEFAULT: u64 = 32;

pub(crate) fn parse(prefix: &[u8], file_len: u64) -> Result<Header, ParseError> {
    let mut cursor = Cursor::new(prefix, file_len);
    cursor.skip(MAGIC.len() as u64)?;
    let version = match cursor.u32()? {
        version @ (2 | 3) => version,
        version if matches!(version.swap_bytes(), 1..=3) => {
            return Err(Unsupported::BigEndian.into());
        }
        version => return Err(Unsupported::GgufVersion(version).into()),
    };
    let tensor_count = cursor.count("tensor count", limits::TENSORS_MAX)?;
    let entry_count = cursor.count("metadata count", limits::METADATA_ENTRIES_MAX)?;

    let entries = read_entries(&mut cursor, entry_count)?;
    let alignment = alignment(&entries)?;
    let infos = read_infos(&mut cursor, tensor_count)?;

    let header_end = cursor.position();
    let data_start = header_end.next_multiple_of(alignment);
    let tensors = place(infos, data_start, alignment, file_len)?;
    let data_end = tensors.last().map_or(data_start, |tensor| tensor.range.end);
    let padded_end = data_end.next_multiple_of(alignment);
    if file_len > padded_end {
        return Err(invalid(Invalid::TrailingBytes {
            bytes: file_len - padded_end,
        }));
    }
    Ok(Header {
        format: Format::Gguf { version },
        len: data_start.min(file_len),
        tensors,
        metadata: Metadata::Gguf(entries),
    })
}

fn read_entries(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Entry>, ParseError> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let start = cursor.position();
        let key = cursor.name("metadata key")?;
        let kind = cursor.kind(&key)?;
        let value = read_value(cursor, kind, &key)?;
        entries.push(Entry {
            key,
            value,
            range: ByteRange {
                start,
                end: cursor.position(),
            },
        });
    }
    if let Some(name) = first_duplicate(entries.iter().map(|e| e.key.as_str()).collect()) {
        let name = name.to_owned();
        return Err(invalid(Invalid::Duplicate {
            what: "metadata key",
            name,
        }));
    }
    Ok(entries)
}

fn read_value(cursor: &mut Cursor<'_>, kind: ValueKind, key: &str) -> Result<Value, ParseError> {
    Ok(match kind {
        ValueKind::U8 => Value::U8(u8::from_le_bytes(cursor.array()?)),
        ValueKind::I8 => Value::I8(i8::from_le_bytes(cursor.array()?)),
        ValueKind::U16 => Value::U16(u16::from_le_bytes(cursor.array()?)),
        ValueKind::I16 => Value::I16(i16::from_le_bytes(cursor.array()?)),
        ValueKind::U32 => Value::U32(cursor.u32()?),
        ValueKind::I32 => Value::I32(i32::from_le_bytes(cursor.array()?)),
        ValueKind::F32 => Value::F32(f32::from_le_bytes(cursor.array()?)),
        ValueKind::U64 => Value::U64(cursor.u64()?),
        ValueKind::I64 => Value::I64(i64::from_le_bytes(cursor.array()?)),
        ValueKind::F64 => Value::F64(f64::from_le_bytes(cursor.array()?)),
        ValueKind::Bool => match cursor.array::<1>()? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => {
                return Err(invalid(Invalid::MetadataValue {
                    key: key.to_owned(),
                }));
            }
        },
        ValueKind::Text => {
            let len = cursor.u64()?;
            Value::Text(String::from_utf8_lossy(cursor.bytes(len)?).into_owned())
        }
        ValueKind::Array => {
            let (of, len) = skip_array(cursor, key, 1)?;
            Value::Array { of, len }
        }
    })
}

/// Steps over an array at nesting `depth` (1 for an outermost one), checking all of its lengths.
fn skip_array(
    cursor: &mut Cursor<'_>,
    key: &str,
    depth: usize,
) -> Result<(ValueKind, u64), ParseError> {
    if depth > limits::ARRAY_DEPTH_MAX {
        let (found, max) = (depth as u64, limits::ARRAY_DEPTH_MAX as u64);
        return Err(invalid(Invalid::OverLimit {
            what: "depth of nested arrays",
            found,
            max,
        }));
    }
    let of = cursor.kind(key)?;
    let len = cursor.u64()?;
    match of.fixed_bytes() {
        Some(bytes) => cursor.skip(len.saturating_mul(bytes))?,
        // Each turn takes at least the 8 bytes of a length from a bounded header, so that a huge
        // count ends in an error soon.
        None => {
            for _ in 0..len {
                if of == ValueKind::Array {
                    skip_array(cursor, key, depth + 1)?;
                } else {
                    let bytes = cursor.u64()?;
                    cursor.skip(bytes)?;
                }
            }
        }
    }
    Ok((of, len))
}

pub(crate) fn alignment(entries: &[Entry]) -> Result<u64, ParseError> {
    let Some(entry) = entries.iter().find(|entry| entry.key == ALIGNMENT_KEY) else {
        return Ok(ALIGNMENT_BYTES_DEFAULT);
    };
    match entry.value {
        Value::U32(bytes) if u64::from(bytes) > limits::ALIGNMENT_BYTES_MAX => {
            let (found, max) = (bytes.into(), limits::ALIGNMENT_BYTES_MAX);
            Err(invalid(Invalid::OverLimit {
                what: ALIGNMENT_KEY,
                found,
                max,
            }))
        }
        Value::U32(bytes) if bytes.is_power_of_two() => Ok(bytes.into()),
        _ => Err(invalid(Invalid::MetadataValue {
            key: ALIGNMENT_KEY.to_owned(),
        })),
    }
}

struct Info {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    /// Relative to the data section.
    offset: u64,
}

fn read_infos(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Info>, ParseError> {
    let mut infos = Vec::new();
    for _ in 0..count {
        let name = cursor.name("tensor name")?;
        let rank = cursor.u32()?;
        if rank as usize > limits::GGUF_RANK_MAX {
            let (found, max) = (rank.into(), limits::GGUF_RANK_MAX as u64);
            return Err(invalid(Invalid::OverLimit {
                what: "rank of a tensor",
                found,
                max,
            }));
        }
        let mut shape = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            shape.push(cursor.u64()?);
        }
        shape.reverse();
        let id = cursor.u32()?;
        let Some(dtype) = Dtype::from_ggml(id) else {
            return Err(Unsupported::Dtype {
                tensor: name,
                dtype: id.to_string(),
            }
            .into());
        };
        infos.push(Info {
            name,
            dtype,
            shape,
            offset: cursor.u64()?,
        });
    }
    if let Some(name) = first_duplicate(infos.iter().map(|info| info.name.as_str()).collect()) {
        return Err(invalid(Invalid::Duplicate {
            what: "tensor",
            name: name.to_owned(),
        }));
    }
    Ok(infos)
}

/// The bytes that a tensor of this type and shape takes: whole rows of whole blocks.
fn tensor_bytes(info: &Info) -> Result<u64, Invalid> {
    let tensor = || info.name.clone();
    let elements =
        checked_elements(&info.shape).ok_or_else(|| Invalid::Overflow { tensor: tensor() })?;
    let row = info.shape.last().copied().unwrap_or(1);
    let (per_block, _) = info.dtype.block_size();
    if !row.is_multiple_of(per_block) {
        return Err(Invalid::PartialBlock {
            tensor: tensor(),
            dtype: info.dtype,
        });
    }
    info.dtype
        .bytes_of(elements)
        .ok_or_else(|| Invalid::Overflow { tensor: tensor() })
}

/// Places the tensors in the file and holds them to the rules.
fn place(
    mut infos: Vec<Info>,
    data_start: u64,
    alignment: u64,
    file_len: u64,
) -> Result<Vec<Tensor>, ParseError> {
    // Empty tensors come before the one that shares their offset.
    let mut sized = Vec::with_capacity(infos.len());
    for info in infos.drain(..) {
        let bytes = tensor_bytes(&info).map_err(invalid)?;
        sized.push((info, bytes));
    }
    sized.sort_unstable_by(|(a, a_bytes), (b, b_bytes)| {
        (a.offset, a_bytes, &a.name).cmp(&(b.offset, b_bytes, &b.name))
    });

    let mut tensors = Vec::with_capacity(sized.len());
    let mut end = data_start;
    for (
        Info {
            name,
            dtype,
            shape,
            offset,
        },
        bytes,
    ) in sized
    {
        if !offset.is_multiple_of(alignment) {
            return Err(invalid(Invalid::Misaligned {
                tensor: name,
                alignment,
            }));
        }
        let start = data_start.saturating_add(offset);
        if start < end {
            return Err(invalid(Invalid::Overlap { tensor: name }));
        }
        let expected = end.next_multiple_of(alignment);
        if start > expected {
            return Err(invalid(Invalid::Gap {
                tensor: name,
                bytes: start - expected,
            }));
        }
        end = start.saturating_add(bytes);
        if end > file_len {
            return Err(invalid(Invalid::OutOfFile {
                tensor: name,
                end,
                file_len,
            }));
        }
        tensors.push(Tensor {
            name,
            dtype,
            shape,
            range: ByteRange { start, end },
        });
    }
    Ok(tensors)
}
