//! Turns a selection of a blob into the bytes of `/iroh-bytes/4`, batch by batch.
//!
//! Bytes come from a [`ChunkRead`]: slices of a map where they are owned, so nothing is copied or
//! hashed again; else verified by the reader. Pairs come from its outboard and are checked against the
//! hash before they leave: it costs 1/256 of hashing the data, and a wrong outboard is never served.

use std::{io, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};

use crate::ChunkHash;

use super::{
    limits::{GROUP_BYTES, LEAF_BYTES, PIECE_BYTES},
    selection::Selection,
    source::ChunkRead,
    walk::{Expected, Item, PAIR_BYTES, Walk, chaining_value},
};

/// Bytes up to which a slice is copied, so that tiny ones share a segment.
const COPY_BYTES_MAX: usize = 1024;

/// Bytes of a page: each is touched before its slice is queued, so that the network never waits for the disk.
const PAGE_BYTES: usize = 4096;

/// Segments that are ready to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    segments: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
    /// Bytes of blobs among them.
    pub(super) payload: u64,
}

impl Batch {
    fn copy(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.small.extend_from_slice(bytes);
    }

    fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            return self.copy(&bytes);
        }
        self.bytes += bytes.len();
        if !self.small.is_empty() {
            self.segments.push(self.small.split().freeze());
        }
        self.segments.push(bytes);
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// The segments.
    pub(super) fn into_segments(mut self) -> Vec<Bytes> {
        if !self.small.is_empty() {
            self.segments.push(self.small.freeze());
        }
        self.segments
    }
}

/// Encodes one blob.
pub(super) struct Encoder {
    reader: Arc<dyn ChunkRead>,
    outboard: Bytes,
    walk: Walk,
    expected: Expected,
    /// What was read last, and where it starts.
    window: (u64, Bytes),
    header: bool,
}

impl Encoder {
    /// Starts the answer for what `boundaries` select of the blob `hash`.
    pub(super) fn new(
        hash: &ChunkHash,
        reader: Arc<dyn ChunkRead>,
        boundaries: &[u64],
    ) -> io::Result<Self> {
        let size = reader.size();
        let outboard = if size > GROUP_BYTES {
            reader.outboard()?
        } else {
            Bytes::new()
        };
        if outboard.len() as u64 != (size.div_ceil(GROUP_BYTES).max(1) - 1) * PAIR_BYTES as u64 {
            return Err(corrupt("the outboard has the wrong length"));
        }
        Ok(Self {
            reader,
            outboard,
            walk: Walk::new(Selection::of_boundaries(size, boundaries)),
            expected: Expected::new(*hash.as_bytes()),
            window: (0, Bytes::new()),
            header: false,
        })
    }

    /// Whether all that is selected is held.
    pub(super) fn is_held(&self) -> bool {
        let selection = self.walk.selection();
        selection.runs().iter().all(|run| {
            let end = (run.end * LEAF_BYTES).min(selection.size());
            self.reader.holds(&(run.start * LEAF_BYTES..end))
        })
    }

    /// Whether its bytes are slices of a map.
    pub(super) fn is_mapped(&self) -> bool {
        self.reader.is_mapped()
    }

    /// Adds to `batch` until it has `limit` bytes; returns whether the blob is complete.
    pub(super) fn fill(&mut self, batch: &mut Batch, limit: usize) -> io::Result<bool> {
        if !self.header {
            batch.copy(&self.walk.selection().size().to_le_bytes());
            self.header = true;
        }
        while batch.len() < limit {
            match self.walk.next() {
                None => return Ok(true),
                Some(Item::Pair {
                    index: Some(index),
                    root,
                    left,
                    right,
                    ..
                }) => {
                    let pair = self.outboard_pair(index)?;
                    self.send_pair(batch, &pair, root, left, right)?;
                }
                Some(Item::Pair {
                    index: None,
                    range,
                    left_bytes,
                    root,
                    left,
                    right,
                }) => {
                    // Below a group nothing is stored: both values are hashed from the group's bytes.
                    let mid = range.start + left_bytes;
                    let mut pair = [0; PAIR_BYTES];
                    let left_value =
                        chaining_value(range.start, &self.slice(range.start..mid)?, false);
                    let right_value = chaining_value(mid, &self.slice(mid..range.end)?, false);
                    pair[..32].copy_from_slice(&left_value);
                    pair[32..].copy_from_slice(&right_value);
                    self.send_pair(batch, &pair, root, left, right)?;
                }
                Some(Item::Data { range, root }) => {
                    let start = range.start;
                    let data = self.slice(range)?;
                    if self.reader.is_verified() {
                        self.expected.skip();
                    } else if !self.expected.data(start, &data, root) {
                        return Err(corrupt("the bytes do not match the hash"));
                    }
                    batch.payload += data.len() as u64;
                    batch.push(data);
                }
            }
        }
        Ok(false)
    }

    fn send_pair(
        &mut self,
        batch: &mut Batch,
        pair: &[u8; PAIR_BYTES],
        root: bool,
        left: bool,
        right: bool,
    ) -> io::Result<()> {
        if !self.expected.pair(pair, root, left, right) {
            return Err(corrupt("the outboard does not match the hash"));
        }
        batch.copy(pair);
        Ok(())
    }

    fn outboard_pair(&self, index: u64) -> io::Result<[u8; PAIR_BYTES]> {
        let start = usize::try_from(index)
            .ok()
            .and_then(|index| index.checked_mul(PAIR_BYTES));
        let pair = start.and_then(|start| self.outboard.get(start..)?.first_chunk());
        pair.copied()
            .ok_or_else(|| corrupt("the outboard is too short"))
    }

    /// Bytes of the blob, from the window or from a window that starts at their group.
    fn slice(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        let (start, bytes) = &self.window;
        if range.start < *start || range.end > start + bytes.len() as u64 {
            let window = self.next_window(&range);
            let bytes = self.reader.read(window.clone())?;
            if bytes.len() as u64 != window.end - window.start {
                return Err(corrupt("fewer bytes than the chunk has"));
            }
            if self.reader.is_mapped() {
                for page in bytes.chunks(PAGE_BYTES) {
                    std::hint::black_box(page[0]);
                }
            }
            self.window = (window.start, bytes);
        }
        let (start, bytes) = &self.window;
        let offset = |at: u64| usize::try_from(at - start).expect("a window is at most a piece");
        Ok(bytes.slice(offset(range.start)..offset(range.end)))
    }

    /// Whole groups from `range` on, as far as the selected run goes, up to the next piece.
    fn next_window(&self, range: &Range<u64>) -> Range<u64> {
        let selection = self.walk.selection();
        let start = range.start / GROUP_BYTES * GROUP_BYTES;
        let run = selection
            .run_end(range.start / LEAF_BYTES)
            .saturating_mul(LEAF_BYTES);
        let end = run.max(range.end).div_ceil(GROUP_BYTES) * GROUP_BYTES;
        let piece = (start / PIECE_BYTES + 1) * PIECE_BYTES;
        start..end.min(piece).min(selection.size())
    }
}

fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
