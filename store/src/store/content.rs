//! What is in which version: from a chunk or document to the versions that need it, and from a file's
//! SHA-256 or git SHA-1 to its chunk list.
//!
//! Derived like all of the index, from the documents of the versions under `keep/` and `pin/`: when one
//! is set, when a home is opened whose index lacks some, and when the index is made anew. A chunk leads
//! to the lists that have it, a list to trees, a tree to versions, so that a chunk costs one row however
//! many versions share its list.

use std::{collections::HashSet, sync::PoisonError};

use bytes::Bytes;

use super::{ReadError, Store, WriteError};
use crate::{
    ChunkHash, TreeId, VersionId,
    gc::ROOT_PREFIXES,
    index::{Changes, IndexError},
    manifest::Version,
    tree::{ChunkListRef, File, Tree},
};

/// Rows that go to the index in one commit.
const ROWS_COMMIT: usize = 50_000;

/// A file of some kept version, by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Its length in bytes.
    pub size: u64,
    /// Its chunks.
    pub chunks: ChunkListRef,
}

impl Store {
    /// Calls `each` with the kept versions that need a chunk or document, until it answers false.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn versions_of(
        &self,
        hash: &ChunkHash,
        each: &mut dyn FnMut(VersionId) -> bool,
    ) -> Result<(), ReadError> {
        let index = self.index();
        let mut seen = HashSet::new();
        let mut told = HashSet::new();
        let mut of_tree = |tree: TreeId| -> Result<bool, IndexError> {
            if !seen.insert(tree) {
                return Ok(true);
            }
            let versions = index.versions_of_tree(&tree)?;
            Ok(versions
                .into_iter()
                .all(|version| !told.insert(version) || each(version)))
        };
        let id = VersionId::from_bytes(*hash.as_bytes());
        if let Some((tree, _)) = index.content(&id)? {
            // the version itself, alone
            let _ = tree;
            each(id);
            return Ok(());
        }
        if !of_tree(TreeId::from_bytes(*hash.as_bytes()))? {
            return Ok(());
        }
        for tree in index.trees_of(hash)? {
            if !of_tree(tree)? {
                return Ok(());
            }
        }
        for list in index.lists_of(hash)? {
            for tree in index.trees_of(&list)? {
                if !of_tree(tree)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A file of a kept version with this SHA-256.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn file_by_sha256(&self, sha256: &[u8; 32]) -> Result<Option<KnownFile>, ReadError> {
        Ok(self.index().file(sha256)?)
    }

    /// A file of a kept version with this git blob SHA-1.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn file_by_git(&self, git: &[u8; 20]) -> Result<Option<KnownFile>, ReadError> {
        let index = self.index();
        match index.sha256_of_git(git)? {
            Some(sha256) => Ok(index.file(&sha256)?),
            None => Ok(None),
        }
    }

    /// Puts what is in the kept versions into the index, where it is not there yet.
    ///
    /// # Errors
    /// [`WriteError`]. A version of which documents are missing or damaged is indexed as far as it goes.
    pub fn index_kept(&self) -> Result<(), WriteError> {
        let mut versions = HashSet::new();
        for prefix in ROOT_PREFIXES {
            for (key, _) in self.index().local_prefix(prefix)? {
                versions.extend(
                    key.strip_prefix(prefix)
                        .and_then(|id| id.parse::<VersionId>().ok()),
                );
            }
        }
        versions
            .iter()
            .try_for_each(|version| self.index_version(version))
    }

    /// Puts what is in a version into the index.
    pub(crate) fn index_version(&self, version: &VersionId) -> Result<(), WriteError> {
        let _content = self
            .inner()
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let index = self.index();
        if let Some((_, true)) = index.content(version)? {
            return Ok(());
        }
        let Some(tree_id) = self.tree_of(version) else {
            return Ok(());
        };
        let Some(tree) = self.tree(&tree_id) else {
            return Ok(());
        };
        let mut whole = true;
        let mut rows = 0;
        let mut changes = index.change()?;
        for file in tree.files() {
            put_file(&changes, &tree_id, file)?;
            rows += 4;
            if file.chunks.count > 0 && !changes.has_list(&file.chunks.seq)? {
                let Some(seq) = self.quiet(&file.chunks.seq) else {
                    whole = false;
                    continue;
                };
                let number = changes.new_list()?;
                for page in seq.chunks(32 * 4096) {
                    changes.put_chunks_of_list(number, page)?;
                    rows += page.len() / 32;
                }
                // last: a list that is known is known as a whole
                changes.put_list(&file.chunks.seq, number)?;
            }
            if rows > ROWS_COMMIT {
                changes.commit()?;
                changes = index.change()?;
                rows = 0;
            }
        }
        changes.put_content(version, &tree_id, whole)?;
        Ok(changes.commit()?)
    }

    /// Takes versions that are kept no more out of the index, while their documents can be read.
    pub(crate) fn unindex_dropped(&self) -> Result<(), WriteError> {
        let index = self.index();
        for version in index.contents()? {
            let _content = self
                .inner()
                .content
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let Some((tree_id, _)) = index.content(&version)? else {
                continue;
            };
            let changes = index.change()?;
            let keys = ROOT_PREFIXES.map(|prefix| format!("{prefix}{version}"));
            if changes.has_local(&keys[0])? || changes.has_local(&keys[1])? {
                continue;
            }
            changes.remove_content(&version, &tree_id)?;
            changes.commit()?;
            if index.versions_of_tree(&tree_id)?.is_empty() {
                self.unindex_tree(&tree_id)?;
            }
        }
        Ok(())
    }

    fn unindex_tree(&self, tree_id: &TreeId) -> Result<(), WriteError> {
        let index = self.index();
        let Some(tree) = self.tree(tree_id) else {
            return Ok(());
        };
        for files in tree.files().chunks(1024) {
            let changes = index.change()?;
            for file in files {
                changes.remove_file(tree_id, file)?;
            }
            changes.commit()?;
            for file in files {
                let list = &file.chunks;
                if list.count == 0 || !index.trees_of(&list.seq)?.is_empty() {
                    continue;
                }
                let Some(number) = index.list(&list.seq)? else {
                    continue;
                };
                let seq = self.quiet(&list.seq).unwrap_or_default();
                let changes = index.change()?;
                changes.remove_list(&list.seq, number, &seq)?;
                changes.commit()?;
            }
        }
        Ok(())
    }

    fn tree_of(&self, version: &VersionId) -> Option<TreeId> {
        let bytes = self.quiet(&(*version).into())?;
        Version::decode(&bytes).ok().map(|version| version.tree)
    }

    fn tree(&self, tree: &TreeId) -> Option<Tree> {
        Tree::decode(&self.quiet(&(*tree).into())?).ok()
    }

    /// A document, if it is here and right: that it is not is said where it is needed.
    fn quiet(&self, hash: &ChunkHash) -> Option<Bytes> {
        self.document(hash).ok().flatten()
    }
}

fn put_file(changes: &Changes, tree: &TreeId, file: &File) -> Result<(), IndexError> {
    changes.put_tree_of(&file.chunks.seq, tree)?;
    changes.put_tree_of(&file.chunks.lengths, tree)?;
    let known = KnownFile {
        sha256: file.sha256,
        size: file.size,
        chunks: file.chunks.clone(),
    };
    changes.put_file(&known, file.git.as_ref())
}
