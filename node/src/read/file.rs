//! The bytes of a file: any range of it, from the chunks that hold it.
//!
//! Chunks of mapped containers come without a copy; the others are read and checked against their
//! outboards, group by group. Nothing leaves here that is neither trusted nor checked.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use lode_store::{
    ChunkHash,
    store::{ChunkReader, Store},
    tree::ChunkList,
};
use lode_tensors::ByteRange;

use super::{
    ReadError,
    offsets::{Offsets, Piece},
};

/// Bytes between two touches of a mapping: the smallest page of the machines that Lode runs on.
const PAGE_BYTES: usize = 4096;

/// A file's chunks and where they begin: all that is needed to read any range.
#[derive(Debug)]
pub(super) struct FileMap {
    list: Arc<ChunkList>,
    offsets: Offsets,
}

impl FileMap {
    pub(super) fn new(list: ChunkList) -> Self {
        let offsets = Offsets::new(&list.lengths);
        Self {
            list: Arc::new(list),
            offsets,
        }
    }

    /// Length of the file in bytes.
    pub(super) fn file_len(&self) -> u64 {
        self.offsets.file_len()
    }

    /// Bytes that it takes in a cache, about.
    pub(super) fn weight(&self) -> usize {
        self.list.hashes.len() * (32 + 4 + 8) + 128
    }
}

/// One chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkAt {
    /// Index in the file's chunk list.
    pub index: u64,
    /// Its hash.
    pub hash: ChunkHash,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u32,
}

/// A part of one chunk of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of the chunk in its file.
    pub(crate) chunk: u32,
    /// Its hash.
    pub(crate) hash: ChunkHash,
    /// Its length in bytes.
    pub(crate) len: u32,
    /// The bytes of it.
    pub(crate) range: std::ops::Range<u32>,
}

/// Reads ranges of one file. Cheap to make; keeps the chunk read last open. All methods block.
pub struct FileReader {
    store: Store,
    path: String,
    sha256: [u8; 32],
    seq: ChunkHash,
    map: Arc<FileMap>,
    last: Mutex<Option<(usize, ChunkReader)>>,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileReader({:?}, {} bytes)", self.path, self.len())
    }
}

impl FileReader {
    pub(super) fn new(
        store: Store,
        path: String,
        sha256: [u8; 32],
        seq: ChunkHash,
        map: Arc<FileMap>,
    ) -> Self {
        Self {
            store,
            path,
            sha256,
            seq,
            map,
            last: Mutex::new(None),
        }
    }

    /// Its path in the version.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.map.offsets.file_len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 of the whole file, as its version says.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The hash of the list of its chunk hashes.
    pub fn seq(&self) -> ChunkHash {
        self.seq
    }

    /// The chunks that hold `range`, in order; those of the whole file for its whole range.
    pub fn chunks(&self, range: ByteRange) -> impl Iterator<Item = ChunkAt> + '_ {
        self.map
            .offsets
            .pieces(range)
            .map(|piece| self.chunk_at(piece.chunk))
    }

    /// The chunks of `range` with the part of it that each holds.
    pub(crate) fn parts(&self, range: ByteRange) -> impl Iterator<Item = Part> + '_ {
        self.map.offsets.pieces(range).map(|piece| Part {
            chunk: u32::try_from(piece.chunk).expect("a file has at most 2 Mi chunks"),
            hash: self.map.list.hashes[piece.chunk],
            len: self.map.list.lengths[piece.chunk],
            range: piece.start..piece.end,
        })
    }

    /// Its chunk list.
    pub(crate) fn list(&self) -> Arc<ChunkList> {
        Arc::clone(&self.map.list)
    }

    /// The number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.map.list.hashes.len()
    }

    /// The chunk of this index.
    ///
    /// # Panics
    /// When there is no such chunk.
    pub fn chunk_at(&self, index: usize) -> ChunkAt {
        ChunkAt {
            index: index as u64,
            hash: self.map.list.hashes[index],
            offset: self.map.offsets.start_of(index),
            length: self.map.list.lengths[index],
        }
    }

    /// Reads the first bytes of `range`: those of its first chunk. Nothing when the range is empty or
    /// begins past the end.
    ///
    /// # Errors
    /// Bytes that are not held now, that are not what they must be, or cannot be read.
    pub fn read(&self, range: ByteRange) -> Result<Bytes, ReadError> {
        let Some(piece) = self.map.offsets.pieces(range).next() else {
            return Ok(Bytes::new());
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(chunk, _)| *chunk != piece.chunk) {
            *last = Some((piece.chunk, self.open(piece)?));
        }
        let result = match &*last {
            Some((_, chunk)) => read_chunk(chunk, piece.start..piece.end),
            None => return Ok(Bytes::new()),
        };
        match result {
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                // Its place may be gone; another may hold the chunk, so ask again, once.
                *last = None;
                tracing::debug!(path = self.path, %error, "a chunk is read from another place");
                let chunk = self.open(piece)?;
                Ok(read_chunk(&chunk, piece.start..piece.end)?)
            }
        }
    }

    /// All of `range`, if it can be had without waiting: see [`Store::read_at_hand`].
    pub fn read_at_hand(&self, range: ByteRange) -> Option<Bytes> {
        let read = |piece: Piece| {
            let hash = &self.map.list.hashes[piece.chunk];
            self.store.read_at_hand(hash, piece.start..piece.end)
        };
        let mut pieces = self.map.offsets.pieces(range);
        let (first, second) = (read(pieces.next()?)?, pieces.next());
        let Some(second) = second else {
            return Some(first);
        };
        let mut all = first.to_vec();
        for piece in std::iter::once(second).chain(pieces) {
            all.extend_from_slice(&read(piece)?);
        }
        Some(all.into())
    }

    /// The same file for another reader.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            store: self.store.clone(),
            path: self.path.clone(),
            sha256: self.sha256,
            seq: self.seq,
            map: Arc::clone(&self.map),
            last: Mutex::new(None),
        }
    }

    /// Reads all of `range` into one buffer: for headers and other short parts.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_all(&self, range: ByteRange) -> Result<Vec<u8>, ReadError> {
        let end = range.end.min(self.len());
        let capacity = usize::try_from(end.saturating_sub(range.start)).unwrap_or(0);
        let mut all = Vec::with_capacity(capacity);
        let mut start = range.start;
        while start < end {
            let bytes = self.read(ByteRange { start, end })?;
            all.extend_from_slice(&bytes);
            start += bytes.len() as u64;
        }
        Ok(all)
    }

    /// Whether all of `range` is held. Looks into the index, and reads nothing.
    ///
    /// # Errors
    /// [`ReadError::NotHeld`] for the first chunk that is not.
    pub fn check_held(&self, range: ByteRange) -> Result<(), ReadError> {
        for piece in self.map.offsets.pieces(range) {
            let hash = &self.map.list.hashes[piece.chunk];
            if !self.store.holds(hash)? {
                return Err(self.not_held(piece));
            }
        }
        Ok(())
    }

    /// How many bytes of the file are held.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn bytes_held(&self) -> Result<u64, ReadError> {
        let mut held = 0;
        for (hash, length) in self.map.list.hashes.iter().zip(&self.map.list.lengths) {
            if self.store.holds(hash)? {
                held += u64::from(*length);
            }
        }
        Ok(held)
    }

    fn open(&self, piece: Piece) -> Result<ChunkReader, ReadError> {
        let hash = &self.map.list.hashes[piece.chunk];
        self.store.chunk(hash)?.ok_or_else(|| self.not_held(piece))
    }

    fn not_held(&self, piece: Piece) -> ReadError {
        let offset = self.map.offsets.start_of(piece.chunk) + u64::from(piece.start);
        ReadError::NotHeld {
            what: format!("byte {offset} of {:?}", self.path),
        }
    }
}

/// Reads a part of a chunk; pages of a mapping are fetched here, where waiting for a disk is fine.
pub(super) fn read_chunk(
    chunk: &ChunkReader,
    range: std::ops::Range<u32>,
) -> Result<Bytes, lode_store::store::ReadError> {
    let bytes = chunk.read(range)?;
    if chunk.is_trusted() {
        let touched = bytes
            .iter()
            .step_by(PAGE_BYTES)
            .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
        std::hint::black_box(touched);
    }
    Ok(bytes)
}
