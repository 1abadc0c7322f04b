//! Which chunks and documents are live: those that the kept versions name.

use std::collections::HashSet;

use bytes::Bytes;

use super::{GcError, ROOT_PREFIXES};
use crate::{
    ChunkHash, Store, VersionId,
    local::Keep,
    manifest::Version,
    store::{ReadError, protect::short},
    tree::Tree,
};

/// Versions back from a ref, or from a kept version, whose documents stay for `log` and `lineage`.
const HISTORY_MAX: usize = 100_000;

/// The live chunks and documents, eight bytes each: a collision keeps a dead one.
#[derive(Debug, Default)]
pub(super) struct Live {
    sorted: Vec<u64>,
    fresh: Vec<u64>,
    /// Trees and chunk lists that were read.
    seen: HashSet<ChunkHash>,
    /// Roots of whole files.
    file_roots: HashSet<ChunkHash>,
    /// Versions that were marked as roots.
    roots: HashSet<VersionId>,
    /// The count of new roots when they were last looked at.
    roots_count: u64,
}

impl Live {
    pub(super) fn mark(store: &Store) -> Result<Self, GcError> {
        let mut live = Self::default();
        live.catch_up(store)?;
        live.mark_history(store)?;
        Ok(live)
    }

    /// Whether all roots are marked.
    pub(super) fn is_current(&self, store: &Store) -> bool {
        self.roots_count == store.inner().protect.roots()
    }

    /// Marks the roots that came since.
    pub(super) fn catch_up(&mut self, store: &Store) -> Result<(), GcError> {
        while !self.is_current(store) || self.sorted.is_empty() {
            let count = store.inner().protect.roots();
            for prefix in ROOT_PREFIXES {
                for (key, value) in store.local_prefix(prefix)? {
                    if let Some(Ok(version)) = key.strip_prefix(prefix).map(str::parse) {
                        // a value that cannot be read holds its version like an own one
                        let own = Keep::decode(&value).is_none_or(|keep| keep.own);
                        if self.roots.insert(version) {
                            self.mark_version(store, version, own || prefix == "pin/")?;
                        }
                    }
                }
            }
            self.merge();
            self.roots_count = count;
            if self.sorted.is_empty() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn contains(&self, hash: &ChunkHash) -> bool {
        debug_assert!(self.fresh.is_empty(), "merged after marking");
        self.sorted.binary_search(&short(hash)).is_ok()
    }

    /// Whether a kept version has a file of this root.
    pub(super) fn has_file_root(&self, root: &ChunkHash) -> bool {
        self.file_roots.contains(root)
    }

    fn insert(&mut self, hash: &ChunkHash) {
        self.fresh.push(short(hash));
        if self.fresh.len() > self.sorted.len().max(1 << 16) {
            self.merge();
        }
    }

    fn merge(&mut self) {
        self.sorted.append(&mut self.fresh);
        self.sorted.sort_unstable();
        self.sorted.dedup();
    }

    /// Marks all that a version needs. `whole`: a missing chunk list is an error, since what it listed
    /// cannot be fetched again for certain; else it is a part that was not pulled.
    fn mark_version(
        &mut self,
        store: &Store,
        version: VersionId,
        whole: bool,
    ) -> Result<(), GcError> {
        let unreadable = |document: ChunkHash, why: &dyn std::fmt::Display| {
            let why = why.to_string();
            GcError::Unreadable {
                version,
                document,
                why,
            }
        };
        let id = ChunkHash::from(version);
        self.insert(&id);
        let Some(bytes) = read(store, id, version)? else {
            // kept before it was pulled: nothing of it is known, so nothing can be marked
            return if whole {
                Err(unreadable(id, &"missing"))
            } else {
                Ok(())
            };
        };
        let doc = Version::decode(&bytes).map_err(|e| unreadable(id, &e))?;
        let tree_id = ChunkHash::from(doc.tree);
        self.insert(&tree_id);
        if !self.seen.insert(tree_id) {
            return Ok(());
        }
        let Some(bytes) = read(store, tree_id, version)? else {
            self.seen.remove(&tree_id);
            return if whole {
                Err(unreadable(tree_id, &"missing"))
            } else {
                Ok(())
            };
        };
        let tree = Tree::decode(&bytes).map_err(|e| unreadable(tree_id, &e))?;
        drop(bytes);
        for file in tree.files() {
            let list = &file.chunks;
            self.file_roots.extend(file.root);
            self.insert(&list.seq);
            self.insert(&list.lengths);
            if list.count == 0 || !self.seen.insert(list.seq) {
                continue;
            }
            let Some(seq) = read(store, list.seq, version)? else {
                self.seen.remove(&list.seq);
                if whole {
                    return Err(unreadable(list.seq, &"missing"));
                }
                continue;
            };
            for hash in seq.chunks_exact(32) {
                self.insert(&ChunkHash::try_from(hash).expect("32 bytes"));
            }
        }
        Ok(())
    }

    /// Marks the version documents that refs and kept versions lead to, without what they hold.
    fn mark_history(&mut self, store: &Store) -> Result<(), GcError> {
        let mut to_do: Vec<VersionId> = self.roots.iter().copied().collect();
        for (publisher, model) in store.models()? {
            to_do.extend(store.ref_set(&publisher, &model)?.versions());
        }
        let mut seen = HashSet::new();
        while let Some(version) = to_do.pop() {
            if seen.len() >= HISTORY_MAX || !seen.insert(version) {
                continue;
            }
            let id = ChunkHash::from(version);
            // a version that is not here, or damaged, has no history to keep
            let Ok(Some(bytes)) = store.document(&id) else {
                continue;
            };
            if let Ok(doc) = Version::decode(&bytes) {
                self.insert(&id);
                to_do.extend(doc.parents);
                to_do.extend(doc.links.base);
            }
        }
        self.merge();
        Ok(())
    }
}

/// A document; none if it is not here. A damaged one is an error: see [`GcError::Unreadable`].
fn read(store: &Store, document: ChunkHash, version: VersionId) -> Result<Option<Bytes>, GcError> {
    match store.document(&document) {
        Ok(Some(bytes)) => Ok(Some(bytes)),
        // it may be held as a chunk
        Ok(None) => match store.chunk(&document)? {
            Some(chunk) => Ok(Some(chunk.read(0..chunk.len())?)),
            None => Ok(None),
        },
        Err(ReadError::Corrupt { what, .. }) => Err(GcError::Unreadable {
            version,
            document,
            why: format!("damaged ({what})"),
        }),
        Err(e) => Err(e.into()),
    }
}
