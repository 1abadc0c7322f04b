//! Frames of `/lode/1`: {u32 length of the body, u16 type, body}, little-endian; docs/format/wire.md.
//!
//! A body is at most 64 KiB. A type that is not known is skipped with its body; a known one that
//! cannot be read ends the stream.

use std::io;

use iroh::endpoint::{ReadExactError, RecvStream, SendStream};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    limits::FRAME_BYTES_MAX,
    message::{
        Busy, Capabilities, Choke, Held, Hello, LanOffer, LanQuery, Message, OriginFiles,
        OriginQuery, Peers, Pieces, Records, RefsQuery, Refusal, VersionQuery,
    },
};

/// Bytes in front of a body: its length and its type.
pub const HEAD_BYTES: usize = 6;

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The body is longer than 64 KiB.
    #[error("a frame of {found} bytes, {FRAME_BYTES_MAX} are permitted")]
    TooLong {
        /// Its length in bytes.
        found: u64,
    },
    /// The body of a known type is not what that type has.
    #[error("a frame of type {kind:#06x} that cannot be read: {why}")]
    Body {
        /// The type.
        kind: u16,
        /// What is wrong with it.
        why: String,
    },
    /// The stream ended inside a frame.
    #[error("the stream ends inside a frame")]
    Truncated,
    /// The connection failed.
    #[error("the stream failed: {0}")]
    Stream(#[from] io::Error),
}

/// The types of frames.
pub mod kind {
    /// [`Hello`](super::super::message::Hello).
    pub const HELLO: u16 = 0x0001;
    /// Shows capabilities.
    pub const SHOW: u16 = 0x0002;
    /// Capabilities are in force.
    pub const SHOWN: u16 = 0x0003;
    /// Names peers.
    pub const PEERS: u16 = 0x0004;
    /// Query: records of a model.
    pub const REFS: u16 = 0x0100;
    /// Query: have-map of a version.
    pub const HAVE: u16 = 0x0101;
    /// Query: peers of a version.
    pub const WHO_HAS: u16 = 0x0102;
    /// Query: have-map of a version, and its changes.
    pub const WATCH: u16 = 0x0103;
    /// Query: the LAN path to a version.
    pub const LAN: u16 = 0x0104;
    /// Query: files of a model of another hub.
    pub const ORIGIN: u16 = 0x0105;
    /// Answer: identity records.
    pub const IDENTITIES: u16 = 0x0200;
    /// Answer: ref records.
    pub const REF_RECORDS: u16 = 0x0201;
    /// Answer: version signatures.
    pub const SIGNATURES: u16 = 0x0202;
    /// Answer: part of a have-map.
    pub const HELD: u16 = 0x0203;
    /// Answer: pieces that are held.
    pub const GAINED: u16 = 0x0204;
    /// Answer: pieces that went to another peer.
    pub const GIVEN: u16 = 0x0205;
    /// Answer: whether requests wait.
    pub const CHOKE: u16 = 0x0206;
    /// Answer: the LAN path.
    pub const LAN_OFFER: u16 = 0x0207;
    /// Answer: how far the node is with files of a model of another hub.
    pub const ORIGIN_FILES: u16 = 0x0208;
    /// Answer: complete.
    pub const END: u16 = 0x02ff;
    /// Answer: come back later.
    pub const BUSY: u16 = 0x0300;
    /// Answer: failed.
    pub const REFUSED: u16 = 0x0301;
}

/// An empty map, the body of frames that say all by their type.
#[derive(Serialize, serde::Deserialize)]
struct Empty {}

/// The bytes of a frame.
///
/// # Errors
/// [`FrameError::TooLong`] when the body does not fit.
pub fn encode(message: &Message) -> Result<Vec<u8>, FrameError> {
    let (kind, body) = match message {
        Message::Hello(body) => (kind::HELLO, to_cbor(body)),
        Message::Show(body) => (kind::SHOW, to_cbor(body)),
        Message::Shown => (kind::SHOWN, to_cbor(&Empty {})),
        Message::Peers(body) => (kind::PEERS, to_cbor(body)),
        Message::Refs(body) => (kind::REFS, to_cbor(body)),
        Message::Have(body) => (kind::HAVE, to_cbor(body)),
        Message::WhoHas(body) => (kind::WHO_HAS, to_cbor(body)),
        Message::Watch(body) => (kind::WATCH, to_cbor(body)),
        Message::Gained(body) => (kind::GAINED, to_cbor(body)),
        Message::Given(body) => (kind::GIVEN, to_cbor(body)),
        Message::Choke(body) => (kind::CHOKE, to_cbor(body)),
        Message::Lan(body) => (kind::LAN, to_cbor(body)),
        Message::Origin(body) => (kind::ORIGIN, to_cbor(body)),
        Message::OriginFiles(body) => (kind::ORIGIN_FILES, to_cbor(body)),
        Message::Identities(body) => (kind::IDENTITIES, to_cbor(body)),
        Message::RefRecords(body) => (kind::REF_RECORDS, to_cbor(body)),
        Message::Signatures(body) => (kind::SIGNATURES, to_cbor(body)),
        Message::Held(body) => (kind::HELD, to_cbor(body)),
        Message::LanOffer(body) => (kind::LAN_OFFER, to_cbor(body)),
        Message::End => (kind::END, to_cbor(&Empty {})),
        Message::Busy(body) => (kind::BUSY, to_cbor(body)),
        Message::Refused(body) => (kind::REFUSED, to_cbor(body)),
    };
    let len = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= FRAME_BYTES_MAX);
    let Some(len) = len else {
        return Err(FrameError::TooLong {
            found: body.len() as u64,
        });
    };
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&kind.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Reads the head of a frame: the length of its body, and its type.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn decode_head(head: [u8; HEAD_BYTES]) -> Result<(usize, u16), FrameError> {
    let [a, b, c, d, e, f] = head;
    let found = u32::from_le_bytes([a, b, c, d]);
    let len = usize::try_from(found)
        .ok()
        .filter(|&len| len <= FRAME_BYTES_MAX);
    let len = len.ok_or(FrameError::TooLong {
        found: u64::from(found),
    })?;
    Ok((len, u16::from_le_bytes([e, f])))
}

/// Reads a body; nothing when the type is not known.
///
/// # Errors
/// [`FrameError::Body`].
pub fn decode_body(kind: u16, body: &[u8]) -> Result<Option<Message>, FrameError> {
    let message = match kind {
        kind::HELLO => Message::Hello(from_cbor::<Hello>(kind, body)?),
        kind::SHOW => Message::Show(from_cbor::<Capabilities>(kind, body)?),
        kind::SHOWN => from_cbor::<Empty>(kind, body).map(|Empty {}| Message::Shown)?,
        kind::PEERS => Message::Peers(from_cbor::<Peers>(kind, body)?),
        kind::REFS => Message::Refs(from_cbor::<RefsQuery>(kind, body)?),
        kind::HAVE => Message::Have(from_cbor::<VersionQuery>(kind, body)?),
        kind::WHO_HAS => Message::WhoHas(from_cbor::<VersionQuery>(kind, body)?),
        kind::WATCH => Message::Watch(from_cbor::<VersionQuery>(kind, body)?),
        kind::GAINED => Message::Gained(from_cbor::<Pieces>(kind, body)?),
        kind::GIVEN => Message::Given(from_cbor::<Pieces>(kind, body)?),
        kind::CHOKE => Message::Choke(from_cbor::<Choke>(kind, body)?),
        kind::LAN => Message::Lan(from_cbor::<LanQuery>(kind, body)?),
        kind::ORIGIN => Message::Origin(from_cbor::<OriginQuery>(kind, body)?),
        kind::ORIGIN_FILES => Message::OriginFiles(from_cbor::<OriginFiles>(kind, body)?),
        kind::IDENTITIES => Message::Identities(from_cbor::<Records>(kind, body)?),
        kind::REF_RECORDS => Message::RefRecords(from_cbor::<Records>(kind, body)?),
        kind::SIGNATURES => Message::Signatures(from_cbor::<Records>(kind, body)?),
        kind::HELD => Message::Held(from_cbor::<Held>(kind, body)?),
        kind::LAN_OFFER => Message::LanOffer(from_cbor::<LanOffer>(kind, body)?),
        kind::END => from_cbor::<Empty>(kind, body).map(|Empty {}| Message::End)?,
        kind::BUSY => Message::Busy(from_cbor::<Busy>(kind, body)?),
        kind::REFUSED => Message::Refused(from_cbor::<Refusal>(kind, body)?),
        _ => return Ok(None),
    };
    if !message.is_bounded() {
        return Err(FrameError::Body {
            kind,
            why: "a list or text in it is too long".to_owned(),
        });
    }
    Ok(Some(message))
}

/// Reads all frames in `bytes`, as a stream would bring them: what the fuzz target calls.
///
/// # Errors
/// Any [`FrameError`] but those of a connection.
pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Message>, FrameError> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let (len, kind) = decode_head(*head)?;
        let (body, rest) = rest.split_at_checked(len).ok_or(FrameError::Truncated)?;
        messages.extend(decode_body(kind, body)?);
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(messages)
    } else {
        Err(FrameError::Truncated)
    }
}

/// Sends a message.
pub(super) async fn send(stream: &mut SendStream, message: &Message) -> Result<(), FrameError> {
    let frame = encode(message)?;
    stream
        .write_chunk(frame.into())
        .await
        .map_err(io::Error::from)?;
    Ok(())
}

/// Receives the next message of a known type; nothing when the stream has ended.
pub(super) async fn receive(stream: &mut RecvStream) -> Result<Option<Message>, FrameError> {
    loop {
        let mut head = [0; HEAD_BYTES];
        match stream.read_exact(&mut head).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
            Err(error) => return Err(broken(error)),
        }
        let (len, kind) = decode_head(head)?;
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await.map_err(broken)?;
        if let Some(message) = decode_body(kind, &body)? {
            return Ok(Some(message));
        }
    }
}

fn broken(error: ReadExactError) -> FrameError {
    match error {
        ReadExactError::FinishedEarly(_) => FrameError::Truncated,
        ReadExactError::ReadError(error) => FrameError::Stream(error.into()),
    }
}

fn to_cbor(body: &impl Serialize) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(body).expect("a message has nothing that DAG-CBOR cannot hold")
}

fn from_cbor<T: DeserializeOwned>(kind: u16, body: &[u8]) -> Result<T, FrameError> {
    serde_ipld_dagcbor::from_slice(body).map_err(|error| FrameError::Body {
        kind,
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
