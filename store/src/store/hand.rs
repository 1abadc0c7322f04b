//! Reading without waiting: chunks that were read a moment ago, from containers that are open, as far as the
//! kernel has their bytes in memory. For callers on threads that must not block, and for short ranges.
//!
//! It is a short cut to what [`Store::chunk`] finds, never another answer: whatever is in doubt (a file
//! that changed, bytes that do not match, places that are being removed) is left to that.

use std::{mem::size_of_val, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{ReadError, Store};
use crate::{
    ChunkHash,
    container::Container,
    index::Place,
    limits::{DOCUMENTS_KEPT_BYTES_MAX, OUTBOARDS_KEPT_BYTES_MAX, PLACES_KEPT_BYTES_MAX},
    outboard::Outboard,
    recent::{Recent, Usage},
    sidecar::{ChunkEntry, Encoding},
};

/// Bytes that an entry takes beside its value, about.
const ENTRY_BYTES: usize = 128;

/// What reading found out, for the next reader.
#[derive(Debug)]
pub(super) struct RecentReads {
    /// The places of chunks, as of [`Store::changes`].
    places: Recent<ChunkHash, Arc<[Place]>>,
    /// Outboards, checked: true for ever.
    outboards: Recent<ChunkHash, Outboard>,
    /// Documents, checked, as of [`Store::changes`].
    documents: Recent<ChunkHash, Bytes>,
}

impl Default for RecentReads {
    fn default() -> Self {
        Self {
            places: Recent::new(PLACES_KEPT_BYTES_MAX),
            outboards: Recent::new(OUTBOARDS_KEPT_BYTES_MAX),
            documents: Recent::new(DOCUMENTS_KEPT_BYTES_MAX),
        }
    }
}

impl RecentReads {
    /// How often places, outboards and documents were asked for.
    pub(super) fn usage(&self) -> (Usage, Usage, Usage) {
        let (places, outboards) = (self.places.usage(), self.outboards.usage());
        (places, outboards, self.documents.usage())
    }

    pub(super) fn outboard(&self, hash: &ChunkHash) -> Option<Outboard> {
        self.outboards.get(hash, 0)
    }

    pub(super) fn document(&self, hash: &ChunkHash, as_of: u64) -> Option<Bytes> {
        self.documents.get(hash, as_of)
    }

    pub(super) fn keep_document(&self, hash: &ChunkHash, bytes: &Bytes, as_of: u64) {
        let weight = bytes.len() + ENTRY_BYTES;
        self.documents.put(*hash, bytes.clone(), weight, as_of);
    }

    pub(super) fn keep_outboard(&self, outboard: &Outboard) {
        let weight = outboard.pairs().len() + ENTRY_BYTES;
        self.outboards
            .put(outboard.root(), outboard.clone(), weight, 0);
    }
}

impl Store {
    /// The places of a chunk, which are remembered.
    pub(super) fn places(&self, hash: &ChunkHash) -> Result<Arc<[Place]>, ReadError> {
        let (recent, as_of) = (&self.inner().recent.places, self.changes());
        if let Some(places) = recent.get(hash, as_of) {
            return Ok(places);
        }
        let places: Arc<[Place]> = self.index().places(hash)?.into();
        let weight = size_of_val(&*places) + ENTRY_BYTES;
        recent.put(*hash, Arc::clone(&places), weight, as_of);
        Ok(places)
    }

    /// Bytes of a chunk, if they can be had at once; checked, or from a container that is trusted.
    ///
    /// Nothing says nothing about the chunk: ask [`Store::chunk`], where waiting is fine.
    pub fn read_at_hand(&self, hash: &ChunkHash, range: Range<u32>) -> Option<Bytes> {
        let bytes = self.find_at_hand(hash, range)?;
        self.inner().read.add_bytes(bytes.len());
        Some(bytes)
    }

    fn find_at_hand(&self, hash: &ChunkHash, range: Range<u32>) -> Option<Bytes> {
        let inner = self.inner();
        let removals = inner.open.removals();
        let places = inner.recent.places.get(hash, self.changes())?;
        let (place, container) = places
            .iter()
            .find_map(|place| Some((place, inner.open.get(place.container)?)))?;
        let entry = &place.entry;
        let readable = entry.encoding == Encoding::Plain
            && range.start < range.end
            && range.end <= entry.plain_len
            // else the collector may not know that the container is in use: see `Store::chunk`
            && inner.open.removals() == removals;
        if !readable {
            return None;
        }
        if container.is_trusted() {
            let unchanged = container.check_pins().ok()?;
            let at = entry.offset + u64::from(range.start);
            return unchanged.then(|| container.slice_at_hand(at, range.end - range.start))?;
        }
        let outboard = inner.recent.outboard(hash)?;
        let groups = outboard.around(range.clone());
        let bytes = at_hand(&container, entry, groups.clone())?;
        outboard.verify(groups.start, &bytes).ok()?;
        // The bytes are right whatever the file is now. Unlinking it, or moving another to its path, changes its
        // time of change, so that whoever reads it next gives it up; no look at the path is needed for that.
        let current = !container.is_outside() || container.check_pins().ok()?;
        let start = (range.start - groups.start) as usize;
        current.then(|| bytes.slice(start..start + range.len()))
    }
}

fn at_hand(container: &Container, entry: &ChunkEntry, range: Range<u32>) -> Option<Bytes> {
    container.bytes_at_hand(
        entry.offset + u64::from(range.start),
        range.end - range.start,
    )
}
