//! A virtual safetensors file: the header, then the tensors, each where its type can be read in place.

use lode_tensors::{Dtype, Metadata, Tensor, limits::HEADER_BYTES_MAX};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::variant::LayoutError;
use crate::virtual_file::{Encode, Fixed, VirtualFile};

/// Bytes of the length before the JSON, and what the JSON is padded to.
const WORD_BYTES: u64 = 8;
/// The key that is no tensor.
const METADATA_KEY: &str = "__metadata__";

/// A tensor of the file. Its range has no meaning yet.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) tensor: Tensor,
    pub(super) encode: Box<dyn Encode>,
}

/// Tensors that stand together: what a tensor of the source becomes.
pub(super) type Together = Vec<Piece>;

/// Lays the file out: in the given order, so that scales follow their weights. What has a length that no word
/// divides comes last, each tensor for itself, larger elements first: loaders read none that starts in between.
pub(super) fn lay_out(
    metadata: &Metadata,
    tensors: Vec<Together>,
) -> Result<VirtualFile, LayoutError> {
    let whole = |piece: &Piece| piece.encode.len().is_multiple_of(WORD_BYTES);
    let (first, last): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|t| t.iter().all(whole));
    let mut last: Vec<_> = last.into_iter().flatten().collect();
    last.sort_by_key(|piece| std::cmp::Reverse(piece.tensor.dtype.alignment()));
    let pieces: Vec<_> = first.into_iter().flatten().chain(last).collect();
    let header = header(metadata, &pieces)?;
    let mut file = VirtualFile::default();
    file.push(Fixed(header));
    for Piece { tensor, encode } in pieces {
        file.push_tensor(tensor, encode);
    }
    Ok(file)
}

fn header(metadata: &Metadata, pieces: &[Piece]) -> Result<Vec<u8>, LayoutError> {
    let mut end = 0_u64;
    let mut infos = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let start = end;
        end = start
            .checked_add(piece.encode.len())
            .ok_or(LayoutError::TooLong)?;
        infos.push(Info {
            dtype: piece.tensor.dtype,
            shape: &piece.tensor.shape,
            data_offsets: (start, end),
        });
    }
    let metadata = match metadata {
        Metadata::Safetensors(metadata) if !metadata.is_empty() => Some(metadata),
        _ => None,
    };
    let names = pieces.iter().map(|piece| &piece.tensor.name);
    let json = Json {
        metadata,
        tensors: names.zip(infos).collect(),
    };
    let mut out = WORD_BYTES.to_le_bytes().to_vec();
    serde_json::to_writer(&mut out, &json).expect("texts and numbers are JSON");
    let len = (out.len() as u64).next_multiple_of(WORD_BYTES);
    let json_len = len - WORD_BYTES;
    if json_len > HEADER_BYTES_MAX || end.checked_add(len).is_none() {
        return Err(LayoutError::TooLong);
    }
    out.resize(usize::try_from(len).expect("a header is short"), b' ');
    out[..8].copy_from_slice(&json_len.to_le_bytes());
    Ok(out)
}

#[derive(serde::Serialize)]
struct Info<'t> {
    dtype: Dtype,
    shape: &'t [u64],
    data_offsets: (u64, u64),
}

/// Entries in the order of the file.
struct Json<'t> {
    metadata: Option<&'t std::collections::BTreeMap<String, String>>,
    tensors: Vec<(&'t String, Info<'t>)>,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(metadata) = self.metadata {
            map.serialize_entry(METADATA_KEY, metadata)?;
        }
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}
