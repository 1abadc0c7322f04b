//! What reading a home took since it was opened: bytes, what was still known, and what was made.

use lode_store::recent::Usage;

use super::Reads;
use crate::variants::Work;

/// What reading took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadFigures {
    /// Bytes of chunks, from containers and files of users.
    pub disk_bytes: u64,
    /// Places whose bytes turned out not to be a chunk's any more.
    pub wrong: u64,
    /// What was made of variants.
    pub work: Work,
    /// How often each cache had what was asked for, by name.
    pub caches: Vec<(&'static str, Usage)>,
}

impl Reads {
    /// What reading took so far.
    pub fn figures(&self) -> ReadFigures {
        let (store, caches) = (self.store.figures(), self.caches());
        let work = caches.blocks.work();
        ReadFigures {
            disk_bytes: store.bytes,
            wrong: store.wrong,
            caches: vec![
                ("places", store.places),
                ("outboards", store.outboards),
                ("documents", store.documents),
                ("trees", caches.trees.usage()),
                ("chunk_lists", caches.maps.usage()),
                ("layouts", caches.layouts.usage()),
                ("variants", caches.variants.usage()),
                ("variant_blocks", work.blocks),
            ],
            work,
        }
    }
}
