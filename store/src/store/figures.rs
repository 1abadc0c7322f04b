//! What was read of a store since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Store;
use crate::recent::Usage;

/// Counts of what was read.
#[derive(Debug, Default)]
pub(super) struct Counts {
    bytes: AtomicU64,
    wrong: AtomicU64,
}

/// What was read of a store since it was opened, by whomever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Bytes of chunks, from containers and files of users.
    pub bytes: u64,
    /// Places whose bytes turned out not to be the chunk's any more.
    pub wrong: u64,
    /// Whether it was known from before where a chunk lies.
    pub places: Usage,
    /// Whether its outboard was in memory.
    pub outboards: Usage,
    /// Whether a document was.
    pub documents: Usage,
}

impl Counts {
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_wrong(&self) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store {
    /// What was read so far.
    pub fn figures(&self) -> Figures {
        let inner = self.inner();
        let (places, outboards, documents) = inner.recent.usage();
        Figures {
            bytes: inner.read.bytes.load(Ordering::Relaxed),
            wrong: inner.read.wrong.load(Ordering::Relaxed),
            places,
            outboards,
            documents,
        }
    }
}
