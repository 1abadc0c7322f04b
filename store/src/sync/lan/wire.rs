//! The bytes of the LAN path, apart from sockets; docs/format/lan.md.
//!
//! Asking side: magic and token, once; then requests {u32 length, request of `/iroh-bytes/4`}. Answering
//! side: a proof that it knows the token, once; then for each request records {u32 length, bytes} and an
//! end {u32 zero, u8 status}. Numbers are little-endian. Every length is checked before memory is taken.

use std::fmt;

use crate::sync::{
    limits::{LAN_RECORD_BYTES_MAX, REQUEST_BYTES_MAX},
    request::{BlobRequest, RequestError},
};

/// What the asking side begins with.
pub const MAGIC: &[u8; 11] = b"lode-lan/1\n";

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 32;

/// Bytes of magic and token.
pub const GREETING_BYTES: usize = MAGIC.len() + TOKEN_BYTES;

/// Bytes in front of a request or record: its length.
pub const LENGTH_BYTES: usize = 4;

/// From what the answering side's proof is derived, beside the token.
const PROOF_CONTEXT: &str = "lode-lan/1 2026-01 the token is accepted";

/// Why bytes are not those of the LAN path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// They do not begin with the magic.
    #[error("it does not begin with {:?}", String::from_utf8_lossy(MAGIC))]
    Magic,
    /// A request is empty or longer than one may be.
    #[error("a request of {found} bytes, 1 to {REQUEST_BYTES_MAX} are permitted")]
    RequestLength {
        /// Its length in bytes.
        found: u32,
    },
    /// A record is longer than one may be.
    #[error("a record of {found} bytes, {LAN_RECORD_BYTES_MAX} are permitted")]
    RecordLength {
        /// Its length in bytes.
        found: u32,
    },
    /// The status of an answer is none.
    #[error("an answer with the status {found}")]
    Status {
        /// What was found.
        found: u8,
    },
    /// A request cannot be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A request of a kind that the LAN path does not answer.
    #[error("only Get and GetMany are answered here")]
    Kind,
    /// They stop inside a greeting or request.
    #[error("it ends inside a request")]
    Truncated,
}

/// What opens one TCP connection, once. Its bytes do not show in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; TOKEN_BYTES]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token with these bytes, if it is as long as one.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; TOKEN_BYTES] {
        &self.0
    }

    /// What the asking side begins with.
    pub fn greeting(&self) -> [u8; GREETING_BYTES] {
        let mut greeting = [0; GREETING_BYTES];
        greeting[..MAGIC.len()].copy_from_slice(MAGIC);
        greeting[MAGIC.len()..].copy_from_slice(&self.0);
        greeting
    }

    /// What the answering side begins with: it knew the token, and is no other service at that port.
    pub fn proof(&self) -> [u8; 32] {
        blake3::derive_key(PROOF_CONTEXT, &self.0)
    }
}

/// The token that a greeting presents.
///
/// # Errors
/// [`WireError::Magic`].
pub fn read_greeting(greeting: &[u8; GREETING_BYTES]) -> Result<Token, WireError> {
    let token = greeting.strip_prefix(MAGIC).and_then(Token::from_slice);
    token.ok_or(WireError::Magic)
}

/// Bytes of the request whose length this is.
///
/// # Errors
/// [`WireError::RequestLength`].
pub fn request_len(length: [u8; LENGTH_BYTES]) -> Result<usize, WireError> {
    let found = u32::from_le_bytes(length);
    usize::try_from(found)
        .ok()
        .filter(|len| (1..=REQUEST_BYTES_MAX).contains(len))
        .ok_or(WireError::RequestLength { found })
}

/// Reads a request that the LAN path answers.
///
/// # Errors
/// [`WireError::Request`], [`WireError::Kind`].
pub fn read_request(bytes: &[u8]) -> Result<BlobRequest, WireError> {
    match BlobRequest::decode(bytes)? {
        request @ (BlobRequest::Get { .. } | BlobRequest::GetMany { .. }) => Ok(request),
        _ => Err(WireError::Kind),
    }
}

/// A request with its length; none when it is longer than one may be.
pub fn write_request(request: &BlobRequest) -> Option<Vec<u8>> {
    let body = request.encode();
    let len = u32::try_from(body.len()).ok()?;
    let mut out = Vec::with_capacity(LENGTH_BYTES + body.len());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend(body);
    (out.len() <= LENGTH_BYTES + REQUEST_BYTES_MAX).then_some(out)
}

/// Bytes of the record whose length this is; none when the answer ends here, with a status.
///
/// # Errors
/// [`WireError::RecordLength`].
pub fn record_len(length: [u8; LENGTH_BYTES]) -> Result<Option<usize>, WireError> {
    let found = u32::from_le_bytes(length);
    let len = usize::try_from(found).ok();
    let len = len.filter(|&len| len <= LAN_RECORD_BYTES_MAX);
    let len = len.ok_or(WireError::RecordLength { found })?;
    Ok((len > 0).then_some(len))
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// With everything that was asked for.
    Complete,
    /// In front of a blob that is absent, or refused.
    Absent,
    /// Because bytes could not be read.
    Broken,
}

impl Status {
    /// The status of this number.
    ///
    /// # Errors
    /// [`WireError::Status`].
    pub fn read(found: u8) -> Result<Self, WireError> {
        match found {
            0 => Ok(Self::Complete),
            1 => Ok(Self::Absent),
            2 => Ok(Self::Broken),
            _ => Err(WireError::Status { found }),
        }
    }

    /// The end of an answer: a record of length zero, and the status.
    pub fn end(self) -> [u8; LENGTH_BYTES + 1] {
        let status = match self {
            Self::Complete => 0,
            Self::Absent => 1,
            Self::Broken => 2,
        };
        [0, 0, 0, 0, status]
    }
}

/// Reads all that an asking side sends, as a connection would bring it: what the fuzz target calls.
///
/// # Errors
/// Any [`WireError`] of a greeting or request.
pub fn decode_all(bytes: &[u8]) -> Result<(Token, Vec<BlobRequest>), WireError> {
    let (greeting, mut bytes) = bytes.split_first_chunk().ok_or(WireError::Truncated)?;
    let token = read_greeting(greeting)?;
    let mut requests = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (body, rest) = rest
            .split_at_checked(request_len(*length)?)
            .ok_or(WireError::Truncated)?;
        requests.push(read_request(body)?);
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok((token, requests))
    } else {
        Err(WireError::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChunkHash, sync::request::RangesSeq};

    fn token() -> Token {
        Token([7; TOKEN_BYTES])
    }

    #[test]
    fn what_is_written_is_read() {
        let requests = [
            BlobRequest::GetMany {
                hashes: vec![ChunkHash::of(b"a"), ChunkHash::of(b"b")],
                ranges: RangesSeq::default(),
            },
            BlobRequest::Get {
                root: ChunkHash::of(b"c"),
                ranges: RangesSeq::default(),
            },
        ];
        let mut bytes = token().greeting().to_vec();
        for request in &requests {
            bytes.extend(write_request(request).expect("it is short"));
        }
        assert_eq!(decode_all(&bytes), Ok((token(), requests.to_vec())));
        for end in 0..bytes.len() {
            let cut = decode_all(&bytes[..end]);
            assert!(
                matches!(&cut, Err(WireError::Truncated) | Ok(_)),
                "{end}: {cut:?}"
            );
        }
        for status in [Status::Complete, Status::Absent, Status::Broken] {
            let [a, b, c, d, number] = status.end();
            assert_eq!(record_len([a, b, c, d]), Ok(None));
            assert_eq!(Status::read(number), Ok(status));
        }
    }

    #[test]
    fn lengths_are_refused_one_byte_over_the_limit() {
        let number = |len: usize| u32::try_from(len).expect("it fits").to_le_bytes();
        assert_eq!(
            request_len(number(REQUEST_BYTES_MAX)),
            Ok(REQUEST_BYTES_MAX)
        );
        assert!(request_len(number(REQUEST_BYTES_MAX + 1)).is_err());
        assert!(request_len(number(0)).is_err());
        let record = LAN_RECORD_BYTES_MAX;
        assert_eq!(record_len(number(record)), Ok(Some(record)));
        assert!(record_len(number(record + 1)).is_err());
        assert!(Status::read(3).is_err());
    }

    #[test]
    fn another_greeting_and_other_kinds_of_request_are_refused() {
        let mut greeting = token().greeting();
        greeting[10] = b'\r';
        assert_eq!(read_greeting(&greeting), Err(WireError::Magic));
        let hash = ChunkHash::of(b"a");
        for request in [BlobRequest::Observe { hash }, BlobRequest::Push] {
            assert_eq!(read_request(&request.encode()), Err(WireError::Kind));
        }
    }

    #[test]
    fn a_token_is_not_in_its_debug_text_nor_in_its_proof() {
        assert_eq!(format!("{:?}", token()), "Token(..)");
        assert_ne!(&token().proof(), token().as_bytes());
        assert_ne!(token().proof(), Token([8; TOKEN_BYTES]).proof());
    }
}
