//! Whole files by their BLAKE3 root: read as one blob, with an outboard of the whole.
//!
//! Chunk boundaries are not those of the file's tree, so its outboard cannot be put together from
//! those of its chunks. It is made while the file is hashed for a push, or by reading the file when a
//! peer asks and there is none, and kept in the home's `cache/`: derived, bounded, and checked in full
//! when it is opened. The encoder then holds every group against it, so a root that a tree claims and
//! that is not true leads to no byte.

mod blob;
mod kept;
mod make;
mod tree;

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
};

use blob::Layout;

pub use blob::FileBlob;
pub(crate) use kept::OutboardWriter;
pub(crate) use tree::{RootBuilder, SEGMENT_BYTES};

use crate::{
    ChunkHash, Store,
    limits::{ROOT_FALSE_MAX, ROOT_FILES_OPEN_MAX},
    store::ReadError,
    tree::{ChunkList, ChunkListRef},
};

/// A root as a tree claims it: of which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Claim {
    root: ChunkHash,
    seq: ChunkHash,
    lengths: ChunkHash,
}

/// What a store remembers of roots while it is open.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    /// Files that were opened last.
    open: Mutex<VecDeque<Arc<Layout>>>,
    /// Claims that turned out not to be true.
    untrue: Mutex<HashSet<Claim>>,
    /// Held while an outboard is made: one at a time.
    making: Mutex<()>,
    /// How many wait for that.
    waiting: AtomicUsize,
    /// Held while files of `cache/` get their name or are removed.
    kept: Mutex<()>,
}

impl Store {
    /// Opens the file of `size` bytes whose root is said to be `root`; none when its chunk list is not
    /// held, or the root was found not to be its own.
    ///
    /// # Errors
    /// [`ReadError`] when the documents cannot be read.
    pub fn file_blob(
        &self,
        root: ChunkHash,
        size: u64,
        chunks: &ChunkListRef,
    ) -> Result<Option<Arc<FileBlob>>, ReadError> {
        let claim = Claim {
            root,
            seq: chunks.seq,
            lengths: chunks.lengths,
        };
        let roots = &self.inner().roots;
        if lock(&roots.untrue).contains(&claim) {
            return Ok(None);
        }
        let mut open = lock(&roots.open);
        if let Some(at) = open.iter().position(|file| file.claim == claim)
            && let Some(file) = open.remove(at)
        {
            open.push_back(file.clone());
            return Ok(Some(FileBlob::new(self.clone(), file).into()));
        }
        drop(open);
        let documents = (self.list(&chunks.seq)?, self.list(&chunks.lengths)?);
        let list = match &documents {
            _ if chunks.count == 0 => ChunkList::default(),
            (Some(seq), Some(lengths)) => {
                match ChunkList::from_documents(chunks, size, seq, lengths) {
                    Ok(list) => list,
                    Err(_) => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let file = Arc::new(Layout::new(claim, list));
        let mut open = lock(&roots.open);
        if open.len() >= ROOT_FILES_OPEN_MAX {
            open.pop_front();
        }
        open.push_back(file.clone());
        Ok(Some(FileBlob::new(self.clone(), file).into()))
    }

    fn list(&self, hash: &ChunkHash) -> Result<Option<bytes::Bytes>, ReadError> {
        match self.chunk(hash)? {
            Some(chunk) => chunk.read(0..chunk.len()).map(Some),
            None => Ok(None),
        }
    }

    /// Notes that a claim is not true, so that nobody works on it again.
    fn is_untrue(&self, claim: Claim) {
        let roots = &self.inner().roots;
        tracing::warn!(root = %claim.root, list = %claim.seq, "a file does not have the root that its tree claims");
        lock(&roots.open).retain(|file| file.claim != claim);
        let mut untrue = lock(&roots.untrue);
        if untrue.len() >= ROOT_FALSE_MAX {
            untrue.clear();
        }
        untrue.insert(claim);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
