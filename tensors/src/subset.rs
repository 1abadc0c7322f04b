//! A header for some of the tensors of a file, in the file's own format: what `pull --tensors` writes.
//!
//! The new file holds exactly the chosen tensors, with the metadata of the source, and says how its
//! bytes are gathered from the source. Equal choices give equal bytes.

use serde::ser::{SerializeMap, Serializer};

use crate::metadata::Metadata;
use crate::{ByteRange, Dtype, Format, Header, Tensor, gguf, limits, safetensors};

/// Where one tensor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its position in the source's `tensors`.
    pub tensor: usize,
    /// Its bytes in the source file.
    pub source: ByteRange,
    /// Where they start in the new file. Between two tensors lie only zeroes.
    pub offset: u64,
}

/// A new file that holds some tensors of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// The new file's first bytes, padding included: the first tensor starts right after.
    pub header: Vec<u8>,
    /// The tensors in the order of the new file.
    pub tensors: Vec<Placed>,
    /// The new file's length in bytes.
    pub len: u64,
}

/// Why no header could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubsetError {
    /// The choice names a position that is not there, or one twice.
    #[error("tensor {0} is not there or chosen twice")]
    Choice(usize),
    /// `source` is shorter than the header that it should hold.
    #[error("{found} bytes of the source's header are given, {needed} are needed")]
    ShortSource {
        /// Bytes of the header.
        needed: u64,
        /// Bytes given.
        found: u64,
    },
    /// The new header would be over [`limits::HEADER_BYTES_MAX`].
    #[error("the new header would have {0} bytes, over the limit of {max}", max = limits::HEADER_BYTES_MAX)]
    TooLong(u64),
}

/// Makes the header of a file with only the `chosen` tensors (positions in `header.tensors`, in any
/// order). `source` holds at least the first `header.len` bytes of the source file.
///
/// safetensors: types of larger alignment first, else in source order; JSON without spaces, padded
/// with spaces to 8 bytes, `__metadata__` kept. GGUF: key-values byte for byte, tensors in source
/// order, each padded to the alignment, the last one too.
///
/// # Errors
/// See [`SubsetError`].
pub fn subset(header: &Header, source: &[u8], chosen: &[usize]) -> Result<Subset, SubsetError> {
    let mut order = chosen.to_vec();
    order.sort_unstable();
    if let Some(pair) = order.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(SubsetError::Choice(pair[0]));
    }
    if let Some(&position) = order.last().filter(|&&last| last >= header.tensors.len()) {
        return Err(SubsetError::Choice(position));
    }
    match header.format {
        Format::Safetensors => safetensors_subset(header, order),
        Format::Gguf { version } => gguf_subset(header, version, source, order),
    }
}

fn safetensors_subset(header: &Header, mut order: Vec<usize>) -> Result<Subset, SubsetError> {
    order.sort_by_key(|&position| std::cmp::Reverse(header.tensors[position].dtype.alignment()));
    let mut end = 0;
    let ranges: Vec<_> = order
        .iter()
        .map(|&position| {
            let start = end;
            end += header.tensors[position].range.len();
            (start, end)
        })
        .collect();
    let mut bytes = vec![0; safetensors::LENGTH_BYTES];
    write_json(&mut bytes, header, &order, &ranges).expect("a Vec takes everything");
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    let json_len = (bytes.len() - safetensors::LENGTH_BYTES) as u64;
    if json_len > limits::HEADER_BYTES_MAX {
        return Err(SubsetError::TooLong(json_len));
    }
    bytes[..8].copy_from_slice(&json_len.to_le_bytes());
    let data = bytes.len() as u64;
    let tensors = order
        .iter()
        .zip(&ranges)
        .map(|(&tensor, &(start, _))| Placed {
            tensor,
            source: header.tensors[tensor].range,
            offset: data + start,
        })
        .collect();
    Ok(Subset {
        header: bytes,
        tensors,
        len: data + end,
    })
}

#[derive(serde::Serialize)]
struct Info<'t> {
    dtype: Dtype,
    shape: &'t [u64],
    data_offsets: (u64, u64),
}

fn write_json(
    out: &mut Vec<u8>,
    header: &Header,
    order: &[usize],
    ranges: &[(u64, u64)],
) -> Result<(), serde_json::Error> {
    let mut serializer = serde_json::Serializer::new(out);
    let mut map = serializer.serialize_map(None)?;
    if let Metadata::Safetensors(metadata) = &header.metadata
        && !metadata.is_empty()
    {
        map.serialize_entry(safetensors::METADATA_KEY, metadata)?;
    }
    for (&position, &data_offsets) in order.iter().zip(ranges) {
        let Tensor {
            name, dtype, shape, ..
        } = &header.tensors[position];
        map.serialize_entry(
            name,
            &Info {
                dtype: *dtype,
                shape,
                data_offsets,
            },
        )?;
    }
    map.end()
}

fn gguf_subset(
    header: &Header,
    version: u32,
    source: &[u8],
    order: Vec<usize>,
) -> Result<Subset, SubsetError> {
    let entries = match &header.metadata {
        Metadata::Gguf(entries) => entries.as_slice(),
        Metadata::Safetensors(_) => &[],
    };
    let alignment = gguf::alignment(entries).expect("parse() checked it");
    let mut bytes = gguf::MAGIC.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((order.len() as u64).to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    for entry in entries {
        let (needed, found) = (header.len, source.len() as u64);
        bytes.extend(
            entry
                .range
                .of(source)
                .ok_or(SubsetError::ShortSource { needed, found })?,
        );
    }
    let mut end = 0;
    let mut starts = Vec::with_capacity(order.len());
    for &position in &order {
        let Tensor {
            name,
            dtype,
            shape,
            range,
        } = &header.tensors[position];
        let id = dtype.ggml_id().expect("a GGUF header has GGUF types");
        let rank = u32::try_from(shape.len()).expect("parse() bounds the rank");
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(rank.to_le_bytes());
        bytes.extend(shape.iter().rev().flat_map(|dim| dim.to_le_bytes()));
        bytes.extend(id.to_le_bytes());
        bytes.extend(u64::to_le_bytes(end));
        starts.push(end);
        end = (end + range.len()).next_multiple_of(alignment);
    }
    while !(bytes.len() as u64).is_multiple_of(alignment) {
        bytes.push(0);
    }
    let data = bytes.len() as u64;
    if data > limits::HEADER_BYTES_MAX {
        return Err(SubsetError::TooLong(data));
    }
    let tensors = order
        .iter()
        .zip(starts)
        .map(|(&tensor, start)| Placed {
            tensor,
            source: header.tensors[tensor].range,
            offset: data + start,
        })
        .collect();
    Ok(Subset {
        header: bytes,
        tensors,
        len: data + end,
    })
}
