//! The parsed header of a model file, and the one entry point that tells the formats apart.
//!
//! A [`Header`] that came out of [`parse`] is sound: its tensors are sorted by offset, lie inside
//! the file, do not overlap, fill exactly what their shape and type say, and have distinct names.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{ByteRange, Dtype, Metadata, gguf, limits, safetensors};

/// Which format a header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// <https://github.com/huggingface/safetensors>
    Safetensors,
    /// <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, little endian.
    Gguf {
        /// 2 or 3 (same layout).
        version: u32,
    },
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Safetensors => f.write_str("safetensors"),
            Self::Gguf { version } => write!(f, "GGUF v{version}"),
        }
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Its name, unique in the file.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its dimensions, outermost first (GGUF stores them the other way round). Empty for a scalar.
    pub shape: Vec<u64>,
    /// Its bytes, counted from the start of the file. Padding is not part of it.
    pub range: ByteRange,
}

impl Tensor {
    /// How many elements it has. No overflow: [`parse`] checked the product.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The length of a row (the innermost dimension), in elements; 1 for a scalar.
    pub fn row_elements(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// How many rows it has: the product of all dimensions but the innermost.
    pub fn row_count(&self) -> u64 {
        match self.shape.split_last() {
            Some((_, outer)) => outer.iter().product(),
            None => 1,
        }
    }

    /// The bytes of one row, or nothing when a row ends inside a byte (`F4` and `F6` of odd lengths).
    pub fn row_bytes(&self) -> Option<u64> {
        self.dtype.bytes_of(self.row_elements())
    }

    /// Where the rows `start..end` lie in the file: nothing when there are no such rows, or when
    /// they do not begin and end on a byte.
    pub fn rows(&self, start: u64, end: u64) -> Option<ByteRange> {
        if start > end || end > self.row_count() {
            return None;
        }
        let row = self.row_elements();
        let offset = |rows: u64| self.dtype.bytes_of(rows.checked_mul(row)?);
        ByteRange::new(
            self.range.start + offset(start)?,
            self.range.start + offset(end)?,
        )
    }
}

/// What the first bytes of a model file say.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Which format it is in.
    pub format: Format,
    /// Bytes before the tensor data, padding included.
    pub len: u64,
    /// All tensors, by offset in the file.
    pub tensors: Vec<Tensor>,
    /// What the file says about itself.
    pub metadata: Metadata,
}

impl Header {
    /// The tensor with this name. Walks the list: build a map to look up many.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The number of elements of all tensors, as hubs count parameters.
    pub fn parameter_count(&self) -> u64 {
        self.tensors
            .iter()
            .map(Tensor::elements)
            .fold(0, u64::saturating_add)
    }

    /// Elements of each type.
    pub fn elements_by_dtype(&self) -> BTreeMap<Dtype, u64> {
        let mut counts = BTreeMap::<_, u64>::new();
        for tensor in &self.tensors {
            let count = counts.entry(tensor.dtype).or_default();
            *count = count.saturating_add(tensor.elements());
        }
        counts
    }

    /// Bytes of all tensors, without header and padding.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.range.len()).sum()
    }
}

/// Why no header came out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes do not begin like any format known here. Not a fault: most files are like that.
    #[error("not a safetensors or GGUF file")]
    NotATensorFile,
    /// The prefix ends before the header does.
    #[error("the header goes on after this prefix: come back with {bytes} bytes")]
    NeedMore {
        /// How long a prefix to come back with: longer than the one given, at most the file and
        /// [`limits::HEADER_BYTES_MAX`] (plus what precedes the header's own length).
        bytes: u64,
    },
    /// It begins like a model file but breaks the format's rules.
    #[error("invalid {format} header: {cause}")]
    Invalid {
        /// `safetensors` or `GGUF`.
        format: &'static str,
        /// Which rule.
        cause: Invalid,
    },
    /// A variety of a known format that is not read here.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// The rule that a header breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Invalid {
    #[error("{what} {found} is over the limit of {max}")]
    OverLimit {
        what: &'static str,
        found: u64,
        max: u64,
    },
    #[error("needs {needed} bytes but the file has {file_len}")]
    Truncated { needed: u64, file_len: u64 },
    #[error("{0}")]
    Json(String),
    #[error("{what} is not UTF-8")]
    NotUtf8 { what: &'static str },
    #[error("{what} {name:?} appears twice")]
    Duplicate { what: &'static str, name: String },
    #[error("the shape of tensor {tensor:?} overflows")]
    Overflow { tensor: String },
    #[error("tensor {tensor:?} does not fill whole bytes or blocks of {dtype}")]
    PartialBlock { tensor: String, dtype: Dtype },
    #[error("tensor {tensor:?} has {found} bytes where its shape and type take {expected}")]
    SizeMismatch {
        tensor: String,
        expected: u64,
        found: u64,
    },
    #[error("the byte range of tensor {tensor:?} runs backwards")]
    Backwards { tensor: String },
    #[error("{bytes} bytes before tensor {tensor:?} belong to no tensor")]
    Gap { tensor: String, bytes: u64 },
    #[error("tensor {tensor:?} overlaps the one before it")]
    Overlap { tensor: String },
    #[error("tensor {tensor:?} ends at byte {end} of a file of {file_len}")]
    OutOfFile {
        tensor: String,
        end: u64,
        file_len: u64,
    },
    #[error("{bytes} bytes after the last tensor belong to nothing")]
    TrailingBytes { bytes: u64 },
    #[error("tensor {tensor:?} is not aligned to {alignment} bytes")]
    Misaligned { tensor: String, alignment: u64 },
    #[error("the value of metadata key {key:?} is not valid")]
    MetadataValue { key: String },
}

/// A variety of a format that is not read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Unsupported {
    #[error("GGUF version {0} is not supported (2 and 3 are)")]
    GgufVersion(u32),
    #[error("big-endian GGUF is not supported")]
    BigEndian,
    #[error("tensor {tensor:?} has the unknown type {dtype}")]
    Dtype { tensor: String, dtype: String },
}

/// Reads the header of a file of `file_len` bytes from its first bytes.
///
/// Start with a prefix of [`limits::PREFIX_BYTES_FIRST`] bytes (or the whole file when it is
/// shorter). The format is told by the bytes, never by a name.
///
/// # Errors
/// See [`ParseError`]. [`ParseError::NeedMore`] always names a longer prefix than this one that
/// the file can give, so a loop that obeys it ends.
pub fn parse(prefix: &[u8], file_len: u64) -> Result<Header, ParseError> {
    let prefix = match usize::try_from(file_len) {
        Ok(len) if len < prefix.len() => &prefix[..len],
        _ => prefix,
    };
    if file_len < limits::SNIFF_BYTES as u64 {
        return Err(ParseError::NotATensorFile);
    }
    let Some(start) = prefix.first_chunk::<{ limits::SNIFF_BYTES }>() else {
        return Err(ParseError::NeedMore {
            bytes: file_len.min(limits::PREFIX_BYTES_FIRST),
        });
    };
    if start.starts_with(gguf::MAGIC) {
        gguf::parse(prefix, file_len)
    } else if safetensors::looks_like(start) {
        safetensors::parse(prefix, file_len)
    } else {
        Err(ParseError::NotATensorFile)
    }
}

/// `names` holds no name twice, else the first one that it does. Sorts in place.
pub(crate) fn first_duplicate(mut names: Vec<&str>) -> Option<&str> {
    names.sort_unstable();
    names
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
}

/// The product of a shape, outermost first, or nothing on overflow (also when a later dimension is 0,
/// as in the `safetensors` crate).
pub(crate) fn checked_elements(shape: &[u64]) -> Option<u64> {
    shape
        .iter()
        .try_fold(1_u64, |product, &dim| product.checked_mul(dim))
}
