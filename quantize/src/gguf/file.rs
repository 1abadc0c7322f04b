//! A virtual GGUF file: header, tensors, and zeros between them up to the alignment, after the last one too.

use lode_tensors::Tensor;

use super::entries::Entries;
use super::mixture::{self, Candidate, Mixture, Shape};
use crate::block::BlockType;
use crate::block_rows::{BlockRows, RowOrder, SourceRows};
use crate::source::SourceRange;
use crate::variant::LayoutError;
use crate::virtual_file::{Copied, Encode, Fixed, Padding, VirtualFile};

/// Where the weights of a tensor come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Whole rows of a source file, which can be made into blocks.
    Rows(SourceRows, RowOrder),
    /// Bytes of a source file, which stay as they are.
    Bytes(SourceRange),
    /// What else makes them: they stay as they are.
    Made(Box<dyn Encode>),
}

/// A tensor before it is known what type it gets.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Its name, shape and the type that it has if it stays as it is. The range has no meaning.
    pub(crate) tensor: Tensor,
    pub(crate) origin: Origin,
}

/// The key-values at the end of a header that say what its tensors were made into.
pub(crate) fn put_file_type(entries: &mut Entries, mixture: Mixture) {
    /// `GGML_QNT_VERSION`.
    const QUANTIZATION_VERSION: u32 = 2;
    entries.u32("general.quantization_version", QUANTIZATION_VERSION);
    entries.u32("general.file_type", mixture.file_type());
}

/// Sorts the tensors, chooses their types, and lays the file out.
pub(crate) fn lay_out(
    entries: &Entries,
    alignment: u64,
    mixture: Mixture,
    shape: &Shape,
    from_quantized: bool,
    mut drafts: Vec<Draft>,
) -> Result<VirtualFile, LayoutError> {
    drafts.sort_unstable_by(|a, b| mixture::order(&a.tensor.name, &b.tensor.name));
    if let Some(pair) = drafts
        .windows(2)
        .find(|pair| pair[0].tensor.name == pair[1].tensor.name)
    {
        let tensor = pair[0].tensor.name.clone();
        return Err(LayoutError::TwiceNamed { tensor });
    }
    let candidates: Vec<_> = drafts
        .iter()
        .map(|draft| Candidate {
            name: &draft.tensor.name,
            shape: &draft.tensor.shape,
            from: BlockType::from_dtype(draft.tensor.dtype),
        })
        .collect();
    let types = mixture::types(mixture, shape, &candidates);
    let mut tensors = Vec::with_capacity(drafts.len());
    for (Draft { tensor, origin }, to) in drafts.into_iter().zip(types) {
        tensors.push(encode(tensor, origin, to, from_quantized)?);
    }
    let header = header(entries, alignment, &tensors)?;
    let mut file = VirtualFile::default();
    file.push(Fixed(header));
    for (tensor, encode) in tensors {
        file.push_tensor(tensor, encode);
        let end = file.len();
        file.push(Padding(end.next_multiple_of(alignment) - end));
    }
    Ok(file)
}

fn encode(
    mut tensor: Tensor,
    origin: Origin,
    to: Option<BlockType>,
    from_quantized: bool,
) -> Result<(Tensor, Box<dyn Encode>), LayoutError> {
    let encode: Box<dyn Encode> = match (origin, to) {
        (Origin::Rows(rows, order), to) => {
            let to = to.unwrap_or(rows.from);
            if rows.from != to && rows.from.dtype().is_quantized() && !from_quantized {
                return Err(LayoutError::QuantizedSource {
                    tensor: tensor.name,
                    dtype: rows.from.dtype(),
                });
            }
            tensor.dtype = to.dtype();
            Box::new(
                BlockRows::new(rows, order, to).map_err(|cause| LayoutError::Row {
                    tensor: tensor.name.clone(),
                    cause,
                })?,
            )
        }
        (Origin::Bytes(_) | Origin::Made(_), Some(_)) => {
            return Err(LayoutError::TypeNotRead {
                tensor: tensor.name,
                dtype: tensor.dtype,
            });
        }
        (Origin::Bytes(at), None) => Box::new(Copied(at)),
        (Origin::Made(encode), None) => encode,
    };
    trim(&mut tensor.shape);
    Ok((tensor, encode))
}

/// Leaves out dimensions of one at the outside, but for the last, as ggml does.
fn trim(shape: &mut Vec<u64>) {
    let ones = shape.iter().take_while(|&&dim| dim == 1).count();
    shape.drain(..ones.min(shape.len().saturating_sub(1)));
    if shape.is_empty() {
        shape.push(1);
    }
}

/// Longest header, in bytes: what readers of ours accept.
const HEADER_BYTES_MAX: u64 = lode_tensors::limits::HEADER_BYTES_MAX;

fn header(
    entries: &Entries,
    alignment: u64,
    tensors: &[(Tensor, Box<dyn Encode>)],
) -> Result<Vec<u8>, LayoutError> {
    const VERSION: u32 = 3;
    let mut out = Vec::with_capacity(entries.bytes().len() + tensors.len() * 96);
    out.extend(b"GGUF");
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(entries.count().to_le_bytes());
    out.extend(entries.bytes());
    let mut offset = 0_u64;
    for (tensor, encode) in tensors {
        let Some(id) = tensor.dtype.ggml_id() else {
            return Err(LayoutError::TypeNotRead {
                tensor: tensor.name.clone(),
                dtype: tensor.dtype,
            });
        };
        out.extend((tensor.name.len() as u64).to_le_bytes());
        out.extend(tensor.name.as_bytes());
        out.extend(
            u32::try_from(tensor.shape.len())
                .expect("at most 64 dimensions")
                .to_le_bytes(),
        );
        for dim in tensor.shape.iter().rev() {
            out.extend(dim.to_le_bytes());
        }
        out.extend(id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = offset
            .checked_add(encode.len())
            .and_then(|end| end.checked_next_multiple_of(alignment))
            .ok_or(LayoutError::TooLong)?;
    }
    let len = (out.len() as u64).next_multiple_of(alignment);
    if len > HEADER_BYTES_MAX {
        return Err(LayoutError::TooLong);
    }
    out.resize(usize::try_from(len).expect("a header is short"), 0);
    Ok(out)
}
