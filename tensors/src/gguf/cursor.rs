//! Reads little-endian values from a prefix of a GGUF file.
//!
//! Tells three ends apart: of the prefix ([`ParseError::NeedMore`]), of the file
//! ([`Invalid::Truncated`]) and of what a header may take ([`Invalid::OverLimit`]).

use crate::metadata::ValueKind;
use crate::{ByteRange, Invalid, ParseError, limits};

pub(super) fn invalid(cause: Invalid) -> ParseError {
    ParseError::Invalid {
        format: "GGUF",
        cause,
    }
}

pub(super) struct Cursor<'p> {
    prefix: &'p [u8],
    position: u64,
    file_len: u64,
}

impl<'p> Cursor<'p> {
    pub(super) fn new(prefix: &'p [u8], file_len: u64) -> Self {
        Self {
            prefix,
            position: 0,
            file_len,
        }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: u64) -> Result<&'p [u8], ParseError> {
        let end = self.position.saturating_add(len);
        if end > self.file_len {
            let (needed, file_len) = (end, self.file_len);
            return Err(invalid(Invalid::Truncated { needed, file_len }));
        }
        if end > limits::HEADER_BYTES_MAX {
            let (found, max) = (end, limits::HEADER_BYTES_MAX);
            return Err(invalid(Invalid::OverLimit {
                what: "header length",
                found,
                max,
            }));
        }
        match (ByteRange {
            start: self.position,
            end,
        }
        .of(self.prefix))
        {
            Some(bytes) => {
                self.position = end;
                Ok(bytes)
            }
            None => {
                // Twice as much as now, so that parsing again costs little in total.
                let wish = end.max(2 * self.prefix.len() as u64);
                let most = self.file_len.min(limits::HEADER_BYTES_MAX);
                Err(ParseError::NeedMore {
                    bytes: wish.min(most),
                })
            }
        }
    }

    pub(super) fn skip(&mut self, len: u64) -> Result<(), ParseError> {
        self.bytes(len).map(drop)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let bytes = self.bytes(N as u64)?;
        Ok(bytes.try_into().expect("bytes() gives as many as asked"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, ParseError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, ParseError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A `u64` count of at most `max`.
    pub(super) fn count(&mut self, what: &'static str, max: usize) -> Result<usize, ParseError> {
        let found = self.u64()?;
        match usize::try_from(found) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(invalid(Invalid::OverLimit {
                what,
                found,
                max: max as u64,
            })),
        }
    }

    /// A string of at most [`limits::NAME_BYTES_MAX`] bytes.
    pub(super) fn name(&mut self, what: &'static str) -> Result<String, ParseError> {
        let len = self.count("length of a name", limits::NAME_BYTES_MAX)?;
        match std::str::from_utf8(self.bytes(len as u64)?) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(invalid(Invalid::NotUtf8 { what })),
        }
    }

    /// The id of a value's type, under the key `key`.
    pub(super) fn kind(&mut self, key: &str) -> Result<ValueKind, ParseError> {
        let id = self.u32()?;
        ValueKind::from_id(id).ok_or_else(|| {
            invalid(Invalid::MetadataValue {
                key: key.to_owned(),
            })
        })
    }
}
