//! One chunk, or document, by its hash.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use lode_store::{
    ChunkHash,
    store::{ChunkReader, Store},
};
use lode_tensors::ByteRange;

use super::{ReadError, file::read_chunk};

/// Reads ranges of one chunk. All methods block.
pub struct ChunkSource {
    store: Store,
    hash: ChunkHash,
    len: u32,
    reader: Mutex<ChunkReader>,
}

impl fmt::Debug for ChunkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkSource({}, {} bytes)", self.hash, self.len)
    }
}

impl ChunkSource {
    pub(super) fn open(store: Store, hash: ChunkHash) -> Result<Self, ReadError> {
        let reader = open(&store, hash)?;
        Ok(Self {
            store,
            hash,
            len: reader.len(),
            reader: Mutex::new(reader),
        })
    }

    /// Its hash.
    pub fn hash(&self) -> ChunkHash {
        self.hash
    }

    /// Length in bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads a range, cut to the chunk.
    ///
    /// # Errors
    /// Bytes that are not held any more, are not what they must be, or cannot be read.
    pub fn read(&self, range: ByteRange) -> Result<Bytes, ReadError> {
        let bound = |at: u64| u32::try_from(at).unwrap_or(u32::MAX).min(self.len);
        let (start, end) = (bound(range.start), bound(range.end));
        self.again(|reader| read_chunk(reader, start..end))
    }

    /// The inner nodes of its hash tree, in pre-order, 64 bytes each; none up to 16 KiB.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn outboard(&self) -> Result<Bytes, ReadError> {
        self.again(ChunkReader::outboard)
    }

    /// Does it, and once more with another place when the one at hand turns out to be gone.
    fn again<T>(
        &self,
        act: impl Fn(&ChunkReader) -> Result<T, lode_store::store::ReadError>,
    ) -> Result<T, ReadError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(value) = act(&reader) {
            return Ok(value);
        }
        *reader = open(&self.store, self.hash)?;
        Ok(act(&reader)?)
    }
}

fn open(store: &Store, hash: ChunkHash) -> Result<ChunkReader, ReadError> {
    let not_held = || ReadError::NotHeld {
        what: format!("chunk {hash}"),
    };
    store.chunk(&hash)?.ok_or_else(not_held)
}
