//! A file of a variant: never stored, any range of it made from the source ranges that it needs.
//!
//! A virtual file is a list of parts that follow one another: bytes of a header, padding, bytes of the source as they
//! are, and tensors that are encoded. Its length is known without reading a weight. [`VirtualFile::needs`] and
//! [`VirtualFile::make`] agree: with what the first names, the second succeeds, unless the weights themselves cannot be
//! made into what the variant promises.

use std::fmt;
use std::sync::Arc;

use lode_tensors::{ByteRange, Tensor};

use crate::block::BlockType;
use crate::row::QuantizeError;
use crate::source::{Gathered, NotGathered, SourceRange, join};

/// Why a range was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// Not in the file, or not as long as the output.
    #[error("the bytes {start}..{end} are not {room} bytes of a file of {len}", start = range.start, end = range.end)]
    Range {
        /// What was asked for.
        range: ByteRange,
        /// Bytes of output.
        room: u64,
        /// The file's length.
        len: u64,
    },
    /// Source bytes that [`VirtualFile::needs`] names were not given.
    #[error("the bytes {start}..{end} of source file {file} were not gathered", start = at.range.start, end = at.range.end, file = at.file)]
    NotGathered {
        /// Which.
        at: SourceRange,
    },
    /// A weight of the source is NaN or infinite.
    #[error("weight {at} of tensor {tensor:?} is not finite: it cannot be quantized")]
    NotFinite {
        /// The tensor of the variant.
        tensor: String,
        /// Which weight, in the tensor's order of rows.
        at: u64,
    },
    /// Weights beyond what the type can say.
    #[error("the weights of tensor {tensor:?} from {at} on are too large for {to}")]
    TooLarge {
        /// The tensor of the variant.
        tensor: String,
        /// The first weight of the block.
        at: u64,
        /// What they were to become.
        to: &'static str,
    },
}

/// Why a part was not made; [`VirtualFile`] adds the tensor's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EncodeError {
    NotGathered(NotGathered),
    NotFinite { at: u64 },
    TooLarge { at: u64, to: &'static str },
}

impl From<NotGathered> for EncodeError {
    fn from(error: NotGathered) -> Self {
        Self::NotGathered(error)
    }
}

impl EncodeError {
    /// `start` is the position of the first weight that was given to the quantizer.
    pub(crate) fn quantize(error: QuantizeError, start: u64, to: BlockType) -> Self {
        match error {
            QuantizeError::TooLarge { at, .. } => Self::TooLarge {
                at: start + at as u64,
                to: to.dtype().name(),
            },
            QuantizeError::NotFinite { at } => Self::NotFinite {
                at: start + at as u64,
            },
            QuantizeError::Row(_) | QuantizeError::Output { .. } => {
                unreachable!("an encoder hands over whole blocks of a row that was checked")
            }
        }
    }
}

/// What makes the bytes of a part. Ranges are counted from the part's start and lie in it.
pub(crate) trait Encode: fmt::Debug + Send + Sync {
    /// Bytes of the part.
    fn len(&self) -> u64;

    /// Bytes that it holds in memory, or comes to hold, beside a few words.
    fn weight(&self) -> u64 {
        0
    }

    /// Adds the source ranges that `range` is made of, in any order. Each is later asked for within one of them.
    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>);

    /// Makes `range`; `out` is as long.
    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError>;
}

/// Bytes that a layout made: headers.
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) Vec<u8>);

impl Encode for Fixed {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn weight(&self) -> u64 {
        self.len()
    }

    fn needs(&self, _range: ByteRange, _needs: &mut Vec<SourceRange>) {}

    fn make(
        &self,
        range: ByteRange,
        _source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        out.copy_from_slice(range.of(&self.0).expect("the range lies in the part"));
        Ok(())
    }
}

/// Zeros between tensors.
#[derive(Debug)]
pub(crate) struct Padding(pub(crate) u64);

impl Encode for Padding {
    fn len(&self) -> u64 {
        self.0
    }

    fn needs(&self, _range: ByteRange, _needs: &mut Vec<SourceRange>) {}

    fn make(
        &self,
        _range: ByteRange,
        _source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        out.fill(0);
        Ok(())
    }
}

/// Bytes of the source as they are.
#[derive(Debug)]
pub(crate) struct Copied(pub(crate) SourceRange);

impl Copied {
    fn at(&self, range: ByteRange) -> SourceRange {
        let start = self.0.range.start;
        SourceRange {
            file: self.0.file,
            range: ByteRange {
                start: start + range.start,
                end: start + range.end,
            },
        }
    }
}

impl Encode for Copied {
    fn len(&self) -> u64 {
        self.0.range.len()
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        needs.push(self.at(range));
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        out.copy_from_slice(source.get(self.at(range))?);
        Ok(())
    }
}

#[derive(Debug)]
struct Part {
    /// Where it starts in the file.
    start: u64,
    /// The tensor that it is, for errors.
    tensor: Option<Arc<str>>,
    encode: Box<dyn Encode>,
}

/// A file of a variant.
#[derive(Debug, Default)]
pub struct VirtualFile {
    parts: Vec<Part>,
    tensors: Vec<Tensor>,
    len: u64,
}

impl VirtualFile {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tensors that its header names, by offset.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Positions of the source files that it is made of, in order.
    pub fn sources(&self) -> Vec<usize> {
        let whole = ByteRange {
            start: 0,
            end: self.len,
        };
        let mut files: Vec<usize> = self.needs(whole).iter().map(|at| at.file).collect();
        files.dedup();
        files
    }

    /// Bytes that it takes in memory, about.
    pub fn weight(&self) -> usize {
        let fixed: u64 = self.parts.iter().map(|part| part.encode.weight()).sum();
        usize::try_from(fixed).unwrap_or(usize::MAX) + self.tensors.len() * 256
    }

    /// The source ranges that `range` is made of, sorted, apart from one another. Nothing outside of the file.
    pub fn needs(&self, range: ByteRange) -> Vec<SourceRange> {
        let mut needs = Vec::new();
        for (part, within) in self.touched(range) {
            part.encode.needs(within, &mut needs);
        }
        join(&mut needs);
        needs
    }

    /// The start of `range`, found by halving it, that needs at most so many bytes of the source; one byte at least. Scales
    /// of a few bytes may need a whole tensor otherwise.
    pub fn within(&self, range: ByteRange, source_bytes_max: u64) -> ByteRange {
        let ByteRange { start, mut end } = range;
        loop {
            let part = ByteRange { start, end };
            let bytes: u64 = self.needs(part).iter().map(|at| at.range.len()).sum();
            if part.len() <= 1 || bytes <= source_bytes_max {
                return part;
            }
            end = start + part.len() / 2;
        }
    }

    /// Makes `range` of the file into `out`, which is as long, from at least the ranges that [`Self::needs`] names.
    ///
    /// # Errors
    /// See [`MakeError`]. What `out` then holds has no meaning.
    pub fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), MakeError> {
        if range.end > self.len || range.len() != out.len() as u64 {
            return Err(MakeError::Range {
                range,
                room: out.len() as u64,
                len: self.len,
            });
        }
        let mut rest = out;
        for (part, within) in self.touched(range) {
            let len = usize::try_from(within.len()).expect("it is part of a slice in memory");
            let (made, left) = rest.split_at_mut(len);
            rest = left;
            part.encode
                .make(within, source, made)
                .map_err(|error| part.explain(error))?;
        }
        Ok(())
    }

    /// The parts that a range touches, each with the range inside it.
    fn touched(&self, range: ByteRange) -> impl Iterator<Item = (&Part, ByteRange)> {
        let first = self
            .parts
            .partition_point(|part| part.start + part.encode.len() <= range.start);
        self.parts[first..].iter().map_while(move |part| {
            let own = ByteRange {
                start: part.start,
                end: part.start + part.encode.len(),
            };
            let within = own.intersection(range)?;
            let inside = ByteRange {
                start: within.start - part.start,
                end: within.end - part.start,
            };
            Some((part, inside))
        })
    }

    /// Adds a part that is no tensor.
    pub(crate) fn push(&mut self, encode: impl Encode + 'static) {
        self.push_part(None, Box::new(encode));
    }

    /// Adds a tensor; its range is set to where it comes to stand.
    pub(crate) fn push_tensor(&mut self, mut tensor: Tensor, encode: Box<dyn Encode>) {
        tensor.range = ByteRange {
            start: self.len,
            end: self.len + encode.len(),
        };
        self.push_part(Some(tensor.name.as_str().into()), encode);
        self.tensors.push(tensor);
    }

    fn push_part(&mut self, tensor: Option<Arc<str>>, encode: Box<dyn Encode>) {
        let start = self.len;
        // Empty parts would end the walk over those that a range touches.
        if encode.len() == 0 {
            return;
        }
        self.len += encode.len();
        self.parts.push(Part {
            start,
            tensor,
            encode,
        });
    }
}

impl Part {
    fn explain(&self, error: EncodeError) -> MakeError {
        let tensor = || self.tensor.as_deref().unwrap_or("(none)").to_owned();
        match error {
            EncodeError::NotGathered(NotGathered(at)) => MakeError::NotGathered { at },
            EncodeError::NotFinite { at } => MakeError::NotFinite {
                tensor: tensor(),
                at,
            },
            EncodeError::TooLarge { at, to } => MakeError::TooLarge {
                tensor: tensor(),
                at,
                to,
            },
        }
    }
}
