//! A header for some of the tensors of a file, or for parts of them, in the file's own format: what
//! `pull --tensors` and `--slice` write.
//!
//! The new file holds exactly the chosen tensors, with the metadata of the source, and says how its
//! bytes are gathered from the source. Equal choices give equal bytes.

use serde::ser::{SerializeMap, Serializer};

use crate::metadata::Metadata;
use crate::slice::{Cut, CutError};
use crate::{ByteRange, Dtype, Format, Header, Runs, Tensor, gguf, limits, safetensors};

/// Where one tensor goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its position in the source's `tensors`.
    pub tensor: usize,
    /// Its bytes in the source file, those that are cut away among them.
    pub source: ByteRange,
    /// What of them goes to the new file, one after the other; nothing for a tensor without elements.
    pub runs: Vec<Runs>,
    /// Bytes of them.
    pub len: u64,
    /// Its shape in the new file.
    pub shape: Vec<u64>,
    /// Where its bytes start in the new file. Between two tensors lie only zeroes.
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
    /// A tensor cannot be cut like that.
    #[error("tensor {tensor:?} cannot be cut: {cause}")]
    Cut {
        /// Its name.
        tensor: String,
        /// Why not.
        cause: CutError,
    },
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
    let chosen: Vec<_> = chosen.iter().map(|&at| (at, Cut::Whole)).collect();
    subset_cut(header, source, &chosen)
}

/// The same with parts of the `chosen` tensors: positions in `header.tensors` with a cut for each.
///
/// # Errors
/// See [`SubsetError`].
pub fn subset_cut(
    header: &Header,
    source: &[u8],
    chosen: &[(usize, Cut)],
) -> Result<Subset, SubsetError> {
    let mut order: Vec<&(usize, Cut)> = chosen.iter().collect();
    order.sort_unstable_by_key(|(position, _)| *position);
    if let Some(pair) = order.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(SubsetError::Choice(pair[0].0));
    }
    if let Some((position, _)) = order.last().filter(|(at, _)| *at >= header.tensors.len()) {
        return Err(SubsetError::Choice(*position));
    }
    if header.format == Format::Safetensors {
        let alignment = |position: usize| header.tensors[position].dtype.alignment();
        order.sort_by_key(|(position, _)| std::cmp::Reverse(alignment(*position)));
    }
    let placed = order
        .into_iter()
        .map(|(position, cut)| place(header, *position, cut))
        .collect::<Result<Vec<_>, _>>()?;
    match header.format {
        Format::Safetensors => safetensors_subset(header, placed),
        Format::Gguf { version } => gguf_subset(header, version, source, placed),
    }
}

/// A tensor that has no offset yet.
fn place(header: &Header, position: usize, cut: &Cut) -> Result<Placed, SubsetError> {
    let tensor = &header.tensors[position];
    let (shape, runs) = cut.of(tensor).map_err(|cause| SubsetError::Cut {
        tensor: tensor.name.clone(),
        cause,
    })?;
    Ok(Placed {
        tensor: position,
        source: tensor.range,
        len: runs.iter().map(|runs| runs.bytes()).sum(),
        runs,
        shape,
        offset: 0,
    })
}

fn safetensors_subset(header: &Header, mut tensors: Vec<Placed>) -> Result<Subset, SubsetError> {
    let mut end = 0;
    for placed in &mut tensors {
        placed.offset = end;
        end += placed.len;
    }
    let mut bytes = vec![0; safetensors::LENGTH_BYTES];
    write_json(&mut bytes, header, &tensors).expect("a Vec takes everything");
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    let json_len = (bytes.len() - safetensors::LENGTH_BYTES) as u64;
    if json_len > limits::HEADER_BYTES_MAX {
        return Err(SubsetError::TooLong(json_len));
    }
    bytes[..8].copy_from_slice(&json_len.to_le_bytes());
    let data = bytes.len() as u64;
    for placed in &mut tensors {
        placed.offset += data;
    }
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

/// `tensors` have offsets that count from the start of the data.
fn write_json(
    out: &mut Vec<u8>,
    header: &Header,
    tensors: &[Placed],
) -> Result<(), serde_json::Error> {
    let mut serializer = serde_json::Serializer::new(out);
    let mut map = serializer.serialize_map(None)?;
    if let Metadata::Safetensors(metadata) = &header.metadata
        && !metadata.is_empty()
    {
        map.serialize_entry(safetensors::METADATA_KEY, metadata)?;
    }
    for placed in tensors {
        let Tensor { name, dtype, .. } = &header.tensors[placed.tensor];
        map.serialize_entry(
            name,
            &Info {
                dtype: *dtype,
                shape: &placed.shape,
                data_offsets: (placed.offset, placed.offset + placed.len),
            },
        )?;
    }
    map.end()
}

fn gguf_subset(
    header: &Header,
    version: u32,
    source: &[u8],
    mut tensors: Vec<Placed>,
) -> Result<Subset, SubsetError> {
    let entries = match &header.metadata {
        Metadata::Gguf(entries) => entries.as_slice(),
        Metadata::Safetensors(_) => &[],
    };
    let alignment = gguf::alignment(entries).expect("parse() checked it");
    let mut bytes = gguf::MAGIC.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
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
    for placed in &mut tensors {
        let Tensor { name, dtype, .. } = &header.tensors[placed.tensor];
        let id = dtype.ggml_id().expect("a GGUF header has GGUF types");
        let rank = u32::try_from(placed.shape.len()).expect("parse() bounds the rank");
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(rank.to_le_bytes());
        bytes.extend(placed.shape.iter().rev().flat_map(|dim| dim.to_le_bytes()));
        bytes.extend(id.to_le_bytes());
        bytes.extend(u64::to_le_bytes(end));
        placed.offset = end;
        end = (end + placed.len).next_multiple_of(alignment);
    }
    while !(bytes.len() as u64).is_multiple_of(alignment) {
        bytes.push(0);
    }
    let data = bytes.len() as u64;
    if data > limits::HEADER_BYTES_MAX {
        return Err(SubsetError::TooLong(data));
    }
    for placed in &mut tensors {
        placed.offset += data;
    }
    Ok(Subset {
        header: bytes,
        tensors,
        len: data + end,
    })
}
