//! The bytes of a log segment: header, batch and record frames (docs/format/log.md).
//!
//! All integers are little-endian. These functions are pure and bound what they read.

use super::Segment;
use crate::limits::LOG_RECORD_BYTES_MAX;

/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 32;
/// Bytes before the body of a frame.
pub const FRAME_HEAD_BYTES: usize = 24;
/// Bytes of a batch frame.
pub const BATCH_BYTES: usize = FRAME_HEAD_BYTES + 32;
/// The kind of a batch frame.
pub const BATCH_KIND: u32 = 1;

const MAGIC: [u8; 8] = *b"lodelog\x01";
const CHECK_BYTES: usize = 16;

/// The start of a batch: which segment it belongs to, where it is, and how long its records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Byte of the segment at which the batch frame starts.
    pub offset: u64,
    /// Number of the segment.
    pub segment: u64,
    /// Nonce of the segment.
    pub nonce: u64,
    /// Bytes of the record frames that follow.
    pub bytes: u64,
}

/// The header of segment `number`.
pub fn header(number: u64, nonce: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&number.to_le_bytes());
    out[16..24].copy_from_slice(&nonce.to_le_bytes());
    let check = blake3::hash(&out[..24]);
    out[24..].copy_from_slice(&check.as_bytes()[..8]);
    out
}

/// Number and nonce of a header, if it is one.
pub fn parse_header(bytes: &[u8]) -> Option<(u64, u64)> {
    let (number, nonce) = (long(bytes, 8)?, long(bytes, 16)?);
    (bytes.get(..HEADER_BYTES)? == header(number, nonce)).then_some((number, nonce))
}

/// The 24 bytes before `body`.
pub fn head(kind: u32, body: &[u8]) -> [u8; FRAME_HEAD_BYTES] {
    let len = u32::try_from(body.len()).expect("callers bound a body by LOG_RECORD_BYTES_MAX");
    let mut out = [0; FRAME_HEAD_BYTES];
    out[..4].copy_from_slice(&len.to_le_bytes());
    out[4..8].copy_from_slice(&kind.to_le_bytes());
    out[8..].copy_from_slice(&check(checker(kind).update(body)));
    out
}

/// Length, kind and checksum of a frame, from its first 24 bytes.
pub fn parse_head(bytes: &[u8]) -> Option<(u32, u32, [u8; CHECK_BYTES])> {
    let len = short(bytes, 0)?;
    let check = bytes.get(8..FRAME_HEAD_BYTES)?.try_into().ok()?;
    (len as usize <= LOG_RECORD_BYTES_MAX).then_some((len, short(bytes, 4)?, check))
}

/// The hasher of a frame's checksum, over kind and body.
pub fn checker(kind: u32) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher
}

/// The checksum.
pub fn check(hasher: &blake3::Hasher) -> [u8; CHECK_BYTES] {
    let mut out = [0; CHECK_BYTES];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
    out
}

/// Kind and body of the one frame that `bytes` is, if its checksum holds.
pub fn parse(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (len, kind, sum) = parse_head(bytes)?;
    let body = bytes.get(FRAME_HEAD_BYTES..)?;
    (body.len() == len as usize && check(checker(kind).update(body)) == sum).then_some((kind, body))
}

/// The frame that starts a batch of `bytes` bytes of records at `offset`.
pub fn batch(offset: u64, segment: &Segment, bytes: u64) -> Vec<u8> {
    encode_batch(Batch {
        offset,
        segment: segment.number,
        nonce: segment.nonce,
        bytes,
    })
}

/// The frame of a batch.
pub fn encode_batch(batch: Batch) -> Vec<u8> {
    let body: Vec<u8> = [batch.offset, batch.segment, batch.nonce, batch.bytes]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect();
    let mut out = head(BATCH_KIND, &body).to_vec();
    out.extend_from_slice(&body);
    out
}

/// The batch frame that `bytes` starts with, if it does.
pub fn parse_batch(bytes: &[u8]) -> Option<Batch> {
    let (kind, body) = parse(bytes.get(..BATCH_BYTES)?)?;
    (kind == BATCH_KIND).then_some(Batch {
        offset: long(body, 0)?,
        segment: long(body, 8)?,
        nonce: long(body, 16)?,
        bytes: long(body, 24)?,
    })
}

/// The first eight bytes of every batch frame: what a search for the next one looks for.
pub fn batch_mark() -> [u8; 8] {
    let mut mark = [0; 8];
    mark[0] = 32;
    mark[4] = 1;
    mark
}

fn short(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use super::*;

    #[test]
    fn frames_and_headers_round_trip_and_every_wrong_bit_is_found() {
        let header = header(7, 9);
        assert_eq!(parse_header(&header), Some((7, 9)));
        let batch = Batch {
            offset: 32,
            segment: 7,
            nonce: 9,
            bytes: 100,
        };
        let bytes = encode_batch(batch);
        assert_eq!(bytes.len(), BATCH_BYTES);
        assert_eq!(bytes[..8], batch_mark());
        assert_eq!(parse_batch(&bytes), Some(batch));
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_batch(&wrong), None, "bit {bit}");
        }
        for bit in 0..header.len() * 8 {
            let mut wrong = header;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_header(&wrong), None, "bit {bit}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_no_frame() {
        let mut bytes = head(2, b"").to_vec();
        bytes[..4].copy_from_slice(&(LOG_RECORD_BYTES_MAX as u32 + 1).to_le_bytes());
        assert_eq!(parse_head(&bytes), None);
        bytes[..4].copy_from_slice(&(LOG_RECORD_BYTES_MAX as u32).to_le_bytes());
        assert!(parse_head(&bytes).is_some());
    }
}
