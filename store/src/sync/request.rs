//! Requests of `/iroh-bytes/4`, as bytes: read and written by hand.
//!
//! The encoding is that of `iroh_blobs::protocol::Request` (postcard: LEB128 numbers); tests hold the two
//! equal. Reading it here takes time and memory in proportion to the request, whatever offsets it names.
//! Ranges are boundaries: the leaves from the first to the second, from the third to the fourth, and
//! so on; a last one without a partner has no end.

use std::ops::Range;

use crate::ChunkHash;

use super::{
    limits::{REQUEST_BLOBS_MAX, REQUEST_BOUNDARIES_MAX},
    selection::{Selection, leaves},
};

const GET: u8 = 0;
const OBSERVE: u8 = 1;
const GET_MANY: u8 = 9;

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request of /iroh-bytes/4: {0}")]
pub struct RequestError(&'static str);

/// What a peer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobRequest {
    /// A blob and, if it is a HashSeq, its children: blob 0 is the root, blob `i` is child `i - 1`.
    Get {
        /// The root.
        root: ChunkHash,
        /// What of each.
        ranges: RangesSeq,
    },
    /// Blobs by hash.
    GetMany {
        /// Them.
        hashes: Vec<ChunkHash>,
        /// What of each.
        ranges: RangesSeq,
    },
    /// What is held of a blob.
    Observe {
        /// The blob.
        hash: ChunkHash,
    },
    /// To take bytes; always refused, and not read.
    Push,
}

/// Leaves of each blob of a sequence: an entry holds from its blob on, until the next entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangesSeq {
    entries: Vec<(u64, Range<usize>)>,
    boundaries: Vec<u64>,
}

impl RangesSeq {
    /// The boundaries for blob `number`: empty when nothing of it is asked for.
    pub fn of_blob(&self, number: u64) -> &[u64] {
        let next = self.entries.partition_point(|(first, _)| *first <= number);
        let entry = next.checked_sub(1).and_then(|at| self.entries.get(at));
        entry.map_or(&[], |(_, range)| &self.boundaries[range.clone()])
    }

    /// The first blob from `number` on of which something is asked for.
    pub fn next_asked(&self, number: u64) -> Option<u64> {
        if !self.of_blob(number).is_empty() {
            return Some(number);
        }
        let next = self.entries.partition_point(|(first, _)| *first <= number);
        self.entries[next..]
            .iter()
            .find(|(_, range)| !range.is_empty())
            .map(|(first, _)| *first)
    }

    /// Children of a HashSeq (by their number in it) and the pieces of each that are asked for, as far as
    /// `count` children; nothing beyond them.
    pub fn pieces(&self, count: usize) -> Vec<(u32, u16)> {
        let piece = super::limits::PIECE_BYTES / super::limits::LEAF_BYTES;
        let bit = |leaf: u64| u32::try_from(leaf / piece).unwrap_or(u32::MAX).min(15);
        let mut out = Vec::new();
        let mut next = self.next_asked(1);
        while let (Some(number), true) = (next, out.len() < count) {
            let pieces = self.of_blob(number).chunks(2).fold(0_u16, |pieces, run| {
                let last = run.get(1).map_or(15, |end| bit(end.saturating_sub(1)));
                (bit(run[0])..=last).fold(pieces, |pieces, at| pieces | 1 << at)
            });
            let Ok(child) = u32::try_from(number - 1) else {
                break;
            };
            out.push((child, pieces));
            next = self.next_asked(number + 1);
        }
        out
    }

    /// Whether nothing but the root is asked for.
    pub fn is_root_alone(&self) -> bool {
        self.next_asked(1).is_none()
    }

    /// Adds the entry that holds from blob `first` on.
    fn push(&mut self, first: u64, boundaries: impl IntoIterator<Item = u64>) {
        let start = self.boundaries.len();
        self.boundaries.extend(boundaries);
        self.entries.push((first, start..self.boundaries.len()));
    }

    /// `selections` of blobs by number, in order of number; none of them empty.
    pub fn of_selections<'a>(selections: impl IntoIterator<Item = (u64, &'a Selection)>) -> Self {
        let mut seq = Self::default();
        let mut end = None;
        for (number, selection) in selections {
            if end.is_some_and(|end| end < number) {
                seq.push(end.unwrap_or_default(), []);
            }
            let boundaries = boundaries(selection);
            let follows = end == Some(number);
            if !follows || seq.of_blob(number) != boundaries {
                seq.push(number, boundaries);
            }
            end = Some(number + 1);
        }
        if let Some(end) = end {
            seq.push(end, []);
        }
        seq
    }
}

/// A selection as boundaries; what reaches the end of the blob is left open.
fn boundaries(selection: &Selection) -> Vec<u64> {
    let count = leaves(selection.size());
    let ends = selection.runs().iter().flat_map(|run| [run.start, run.end]);
    let mut boundaries: Vec<u64> = ends.collect();
    if boundaries.last() == Some(&count) {
        boundaries.pop();
    }
    boundaries
}

impl BlobRequest {
    /// The first byte of a push.
    pub(super) const PUSH: u8 = 8;

    /// Reads a request, which is all of `bytes`; but a push is not read further.
    ///
    /// # Errors
    /// When it is none, or names more blobs or ranges than one request may.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let (kind, rest) = bytes.split_first().ok_or(RequestError("it is empty"))?;
        let mut reader = Reader(rest);
        let request = match *kind {
            GET => Self::Get {
                root: reader.hash()?,
                ranges: reader.seq()?,
            },
            OBSERVE => {
                let hash = reader.hash()?;
                reader.boundaries(&mut Vec::new())?;
                Self::Observe { hash }
            }
            GET_MANY => {
                let count = reader.bounded(REQUEST_BLOBS_MAX, "it names too many blobs")?;
                if count > reader.0.len() / 32 {
                    return Err(RequestError("it ends early"));
                }
                let hashes = (0..count)
                    .map(|_| reader.hash())
                    .collect::<Result<_, _>>()?;
                Self::GetMany {
                    hashes,
                    ranges: reader.seq()?,
                }
            }
            Self::PUSH => return Ok(Self::Push),
            _ => return Err(RequestError("its type is not known")),
        };
        if reader.0.is_empty() {
            Ok(request)
        } else {
            Err(RequestError("bytes follow it"))
        }
    }

    /// The bytes of the request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Get { root, ranges } => {
                out.push(GET);
                out.extend_from_slice(root.as_bytes());
                write_seq(&mut out, ranges);
            }
            Self::GetMany { hashes, ranges } => {
                out.push(GET_MANY);
                write_number(&mut out, hashes.len() as u64);
                out.extend(hashes.iter().flat_map(|hash| *hash.as_bytes()));
                write_seq(&mut out, ranges);
            }
            Self::Observe { hash } => {
                out.push(OBSERVE);
                out.extend_from_slice(hash.as_bytes());
                out.extend_from_slice(&[1, 0]);
            }
            Self::Push => out.push(Self::PUSH),
        }
        out
    }
}

/// The answer to an observe request: a length, then the size and the leaves held of the blob.
pub fn encode_observed(size: u64, boundaries: &[u64]) -> Vec<u8> {
    let mut item = Vec::new();
    write_number(&mut item, size);
    write_number(&mut item, boundaries.len() as u64);
    for boundary in boundaries {
        write_number(&mut item, *boundary);
    }
    let mut out = Vec::new();
    write_number(&mut out, item.len() as u64);
    out.extend(item);
    out
}

fn write_seq(out: &mut Vec<u8>, ranges: &RangesSeq) {
    write_number(out, ranges.entries.len() as u64);
    let mut previous = 0;
    for (first, range) in &ranges.entries {
        write_number(out, first - previous);
        previous = *first;
        write_number(out, range.len() as u64);
        let mut last = 0;
        for boundary in &ranges.boundaries[range.clone()] {
            write_number(out, boundary - last);
            last = *boundary;
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn hash(&mut self) -> Result<ChunkHash, RequestError> {
        let (hash, rest) = self
            .0
            .split_first_chunk()
            .ok_or(RequestError("it ends early"))?;
        self.0 = rest;
        Ok(ChunkHash::from_bytes(*hash))
    }

    fn number(&mut self) -> Result<u64, RequestError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(RequestError("it ends early"))?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(RequestError("a number is too large"))
    }

    fn bounded(&mut self, max: usize, why: &'static str) -> Result<usize, RequestError> {
        let number = self.number()?;
        usize::try_from(number)
            .ok()
            .filter(|&number| number <= max)
            .ok_or(RequestError(why))
    }

    fn seq(&mut self) -> Result<RangesSeq, RequestError> {
        let mut seq = RangesSeq::default();
        let count = self.bounded(REQUEST_BOUNDARIES_MAX, "it names too many ranges")?;
        let mut first = 0u64;
        for entry in 0..count {
            let delta = self.number()?;
            if entry > 0 && delta == 0 {
                return Err(RequestError("blobs are not in order"));
            }
            first = first
                .checked_add(delta)
                .ok_or(RequestError("a number is too large"))?;
            let start = seq.boundaries.len();
            self.boundaries(&mut seq.boundaries)?;
            seq.entries.push((first, start..seq.boundaries.len()));
        }
        Ok(seq)
    }

    fn boundaries(&mut self, out: &mut Vec<u64>) -> Result<(), RequestError> {
        let room = REQUEST_BOUNDARIES_MAX.saturating_sub(out.len());
        let count = self.bounded(room, "it names too many ranges")?;
        let mut last = 0u64;
        for index in 0..count {
            let width = self.number()?;
            if index > 0 && width == 0 {
                return Err(RequestError("ranges are not in order"));
            }
            last = last
                .checked_add(width)
                .ok_or(RequestError("a number is too large"))?;
            out.push(last);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
