//! Canonical DAG-CBOR: the one encoding of everything that is signed, or named by its hash.
//!
//! Invariant: one value has one encoding. [`Reader`] refuses every other spelling while it reads
//! (longer integers, unsorted or repeated keys, indefinite lengths, other floats than 64 bits, tags),
//! so nothing needs to be encoded again to be compared, and takes no memory of its own. Bytes come
//! from peers and from logs; every text, byte string and array passes a limit before it is looked at.
//!
//! Rules for what a reader does not know: a key that it does not know is skipped (the bytes are kept
//! by whoever holds the document), unless it starts with `!`: then the document says that it cannot
//! be understood without it, and is refused by that name.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::{MapWriter, encode_array, encode_bytes, encode_null, encode_text, encode_u64};

use crate::ErrorKind;

/// Why bytes are not a document that this version of Lode reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document is longer than its kind may be.
    #[error("{what} of {found} bytes is over the limit of {max} bytes")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes end inside a value.
    #[error("the document is cut short at byte {at}: fetch it again")]
    CutShort {
        /// Where the bytes end.
        at: usize,
    },
    /// Bytes follow the document.
    #[error("{extra} bytes follow the document, which ends at byte {at}")]
    Trailing {
        /// Where the document ends.
        at: usize,
        /// How many bytes follow.
        extra: usize,
    },
    /// The value is not spelled in the one permitted way.
    #[error("not canonical DAG-CBOR at byte {at}: {why}")]
    NotCanonical {
        /// Where the value starts.
        at: usize,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A map has the same key twice.
    #[error("the key {key:?} is there twice (byte {at})")]
    DuplicateKey {
        /// Where the second one starts.
        at: usize,
        /// The key.
        key: String,
    },
    /// Maps and arrays are inside one another too deeply.
    #[error("values are nested deeper than {max} levels at byte {at}")]
    TooDeep {
        /// Where the value starts.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// Another type of value was expected.
    #[error("`{key}` is {found} where {expected} belongs (byte {at})")]
    WrongType {
        /// The key read last.
        key: String,
        /// Where the value starts.
        at: usize,
        /// What was expected.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A text, byte string or array is longer than permitted, or a byte string has the wrong length.
    #[error("`{key}` has length {found}, at most {max} is permitted (byte {at})")]
    TooLong {
        /// The key read last.
        key: String,
        /// Where the value starts.
        at: usize,
        /// Its length: bytes, or items of an array.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A byte string has another length than it must.
    #[error("`{key}` is {found} bytes long instead of {expected} (byte {at})")]
    WrongLength {
        /// The key read last.
        key: String,
        /// Where the value starts.
        at: usize,
        /// Its length in bytes.
        found: usize,
        /// The length it must have.
        expected: usize,
    },
    /// A required key is not there.
    #[error("the key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// The document needs something that this version of Lode does not know.
    #[error(
        "this Lode does not know {key:?}, without which the document has no meaning: update Lode"
    )]
    CriticalKey {
        /// The key.
        key: String,
    },
    /// The document is of a newer format.
    #[error("the {what} has format {found}, this Lode reads format {known}: update Lode")]
    NewerFormat {
        /// What was read.
        what: &'static str,
        /// The format that it says.
        found: u64,
        /// The format that is known.
        known: u64,
    },
    /// The document is of another kind.
    #[error("expected a document of kind {expected:?}, found {found:?}")]
    WrongKind {
        /// What was expected.
        expected: &'static str,
        /// What the document says.
        found: String,
    },
    /// A value is outside its range or vocabulary.
    #[error("`{key}` is not valid: {why}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl DocumentError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CriticalKey { .. } | Self::NewerFormat { .. } => ErrorKind::Refused,
            _ => ErrorKind::Corrupt,
        }
    }

    pub(crate) fn invalid(key: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid {
            key,
            why: why.into(),
        }
    }
}

/// The format number that every document of today carries under the key `lode`.
pub const FORMAT: u64 = 1;

/// Takes the value of a required key.
pub(crate) fn require<T>(value: Option<T>, key: &'static str) -> Result<T, DocumentError> {
    value.ok_or(DocumentError::MissingKey { key })
}

/// Checks the `lode` and `kind` keys of a document.
pub(crate) fn check_head(
    what: &'static str,
    format: Option<u64>,
    kind: Option<&str>,
) -> Result<(), DocumentError> {
    let format = require(format, "lode")?;
    if format != FORMAT {
        return Err(DocumentError::NewerFormat {
            what,
            found: format,
            known: FORMAT,
        });
    }
    let kind = require(kind, "kind")?;
    if kind != what {
        return Err(DocumentError::WrongKind {
            expected: what,
            found: kind.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
