//! The tables of what is in which version: see `store::content`.
//!
//! | table | key | value |
//! |---|---|---|
//! | `contents` | version 32 | tree 32, whether every list was there 1 |
//! | `versions_of` | tree 32, version 32 | |
//! | `trees_of` | HashSeq or lengths 32, tree 32 | |
//! | `lists` | HashSeq 32 | number 4 |
//! | `list_numbers` | number 4 | HashSeq 32 |
//! | `lists_of` | chunk 32, number of a list 4 | |
//! | `files` | SHA-256 32 | size 8, chunks 8, HashSeq 32, lengths 32, cut rule |
//! | `git` | git SHA-1 20 | SHA-256 32 |

use redb::{ReadableTable as _, TableDefinition};

use super::{Changes, Index, IndexError, long};
use crate::{
    ChunkHash, TreeId, VersionId,
    store::KnownFile,
    tree::{ChunkListRef, File},
};

const CONTENTS: TableDefinition<'_, &[u8; 32], &[u8; 33]> = TableDefinition::new("contents");
const VERSIONS_OF: TableDefinition<'_, &[u8; 64], ()> = TableDefinition::new("versions_of");
const TREES_OF: TableDefinition<'_, &[u8; 64], ()> = TableDefinition::new("trees_of");
const LISTS: TableDefinition<'_, &[u8; 32], u32> = TableDefinition::new("lists");
const LIST_NUMBERS: TableDefinition<'_, u32, &[u8; 32]> = TableDefinition::new("list_numbers");
const LISTS_OF: TableDefinition<'_, &[u8; 36], ()> = TableDefinition::new("lists_of");
const FILES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("files");
const GIT: TableDefinition<'_, &[u8; 20], &[u8; 32]> = TableDefinition::new("git");

/// Lists of one chunk, and trees of one list, that are looked at.
const OWNERS_MAX: usize = 65_536;

fn pair(first: &[u8; 32], second: &[u8; 32]) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(first);
    key[32..].copy_from_slice(second);
    key
}

fn half(key: &[u8; 64]) -> [u8; 32] {
    key[32..].try_into().expect("the second half")
}

fn in_list(chunk: &[u8], list: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(chunk);
    key[32..].copy_from_slice(&list.to_be_bytes());
    key
}

impl Index {
    /// The tree of a version whose content is in the index, and whether all of it is.
    pub(crate) fn content(
        &self,
        version: &VersionId,
    ) -> Result<Option<(TreeId, bool)>, IndexError> {
        let table = self.read()?.open_table(CONTENTS)?;
        Ok(table.get(version.as_bytes())?.map(|row| {
            let (tree, whole) = row.value().split_at(32);
            (TreeId::try_from(tree).expect("32 bytes"), whole == [1])
        }))
    }

    /// The versions whose content is in the index.
    pub(crate) fn contents(&self) -> Result<Vec<VersionId>, IndexError> {
        let table = self.read()?.open_table(CONTENTS)?;
        let mut out = Vec::new();
        for row in table.iter()? {
            out.push(VersionId::from_bytes(*row?.0.value()));
        }
        Ok(out)
    }

    pub(crate) fn versions_of_tree(&self, tree: &TreeId) -> Result<Vec<VersionId>, IndexError> {
        let table = self.read()?.open_table(VERSIONS_OF)?;
        let (low, high) = (
            pair(tree.as_bytes(), &[0; 32]),
            pair(tree.as_bytes(), &[0xff; 32]),
        );
        let mut out = Vec::new();
        for row in table.range::<&[u8; 64]>(&low..=&high)?.take(OWNERS_MAX) {
            out.push(VersionId::from_bytes(half(row?.0.value())));
        }
        Ok(out)
    }

    pub(crate) fn trees_of(&self, document: &ChunkHash) -> Result<Vec<TreeId>, IndexError> {
        let table = self.read()?.open_table(TREES_OF)?;
        let (low, high) = (
            pair(document.as_bytes(), &[0; 32]),
            pair(document.as_bytes(), &[0xff; 32]),
        );
        let mut out = Vec::new();
        for row in table.range::<&[u8; 64]>(&low..=&high)?.take(OWNERS_MAX) {
            out.push(TreeId::from_bytes(half(row?.0.value())));
        }
        Ok(out)
    }

    pub(crate) fn lists_of(&self, chunk: &ChunkHash) -> Result<Vec<ChunkHash>, IndexError> {
        let read = self.read()?;
        let (table, numbers) = (read.open_table(LISTS_OF)?, read.open_table(LIST_NUMBERS)?);
        let (low, high) = (
            in_list(chunk.as_bytes(), 0),
            in_list(chunk.as_bytes(), u32::MAX),
        );
        let mut out = Vec::new();
        for row in table.range::<&[u8; 36]>(&low..=&high)?.take(OWNERS_MAX) {
            let number = row?.0.value()[32..].try_into().map(u32::from_be_bytes);
            let list = numbers.get(number.expect("four bytes"))?;
            out.extend(list.map(|row| ChunkHash::from_bytes(*row.value())));
        }
        Ok(out)
    }

    pub(crate) fn list(&self, seq: &ChunkHash) -> Result<Option<u32>, IndexError> {
        let table = self.read()?.open_table(LISTS)?;
        Ok(table.get(seq.as_bytes())?.map(|row| row.value()))
    }

    pub(crate) fn file(&self, sha256: &[u8; 32]) -> Result<Option<KnownFile>, IndexError> {
        let table = self.read()?.open_table(FILES)?;
        Ok(table
            .get(sha256)?
            .and_then(|row| decode_file(sha256, row.value())))
    }

    pub(crate) fn sha256_of_git(&self, git: &[u8; 20]) -> Result<Option<[u8; 32]>, IndexError> {
        let table = self.read()?.open_table(GIT)?;
        Ok(table.get(git)?.map(|row| *row.value()))
    }
}

impl Changes {
    pub(super) fn make_content_tables(&self) -> Result<(), IndexError> {
        self.txn.open_table(CONTENTS)?;
        self.txn.open_table(VERSIONS_OF)?;
        self.txn.open_table(TREES_OF)?;
        self.txn.open_table(LISTS)?;
        self.txn.open_table(LIST_NUMBERS)?;
        self.txn.open_table(LISTS_OF)?;
        self.txn.open_table(FILES)?;
        self.txn.open_table(GIT)?;
        Ok(())
    }

    pub(super) fn clear_content(&self) -> Result<(), IndexError> {
        self.txn.delete_table(CONTENTS)?;
        self.txn.delete_table(VERSIONS_OF)?;
        self.txn.delete_table(TREES_OF)?;
        self.txn.delete_table(LISTS)?;
        self.txn.delete_table(LIST_NUMBERS)?;
        self.txn.delete_table(LISTS_OF)?;
        self.txn.delete_table(FILES)?;
        self.txn.delete_table(GIT)?;
        Ok(())
    }

    pub(crate) fn put_content(
        &self,
        version: &VersionId,
        tree: &TreeId,
        whole: bool,
    ) -> Result<(), IndexError> {
        let mut value = [0; 33];
        value[..32].copy_from_slice(tree.as_bytes());
        value[32] = u8::from(whole);
        self.txn
            .open_table(CONTENTS)?
            .insert(version.as_bytes(), &value)?;
        let key = pair(tree.as_bytes(), version.as_bytes());
        self.txn.open_table(VERSIONS_OF)?.insert(&key, ())?;
        Ok(())
    }

    pub(crate) fn remove_content(
        &self,
        version: &VersionId,
        tree: &TreeId,
    ) -> Result<(), IndexError> {
        self.txn.open_table(CONTENTS)?.remove(version.as_bytes())?;
        let key = pair(tree.as_bytes(), version.as_bytes());
        self.txn.open_table(VERSIONS_OF)?.remove(&key)?;
        Ok(())
    }

    pub(crate) fn put_tree_of(
        &self,
        document: &ChunkHash,
        tree: &TreeId,
    ) -> Result<(), IndexError> {
        let key = pair(document.as_bytes(), tree.as_bytes());
        self.txn.open_table(TREES_OF)?.insert(&key, ())?;
        Ok(())
    }

    pub(crate) fn has_list(&self, seq: &ChunkHash) -> Result<bool, IndexError> {
        Ok(self.txn.open_table(LISTS)?.get(seq.as_bytes())?.is_some())
    }

    /// A number that no list has.
    pub(crate) fn new_list(&self) -> Result<u32, IndexError> {
        let table = self.txn.open_table(LIST_NUMBERS)?;
        let last = table.last()?.map(|(number, _)| number.value());
        Ok(last.map_or(0, |last| last.wrapping_add(1)))
    }

    pub(crate) fn put_list(&self, seq: &ChunkHash, number: u32) -> Result<(), IndexError> {
        self.txn.open_table(LISTS)?.insert(seq.as_bytes(), number)?;
        self.txn
            .open_table(LIST_NUMBERS)?
            .insert(number, seq.as_bytes())?;
        Ok(())
    }

    /// Notes that the chunks of `seq`, 32 bytes each, are in a list.
    pub(crate) fn put_chunks_of_list(&self, number: u32, seq: &[u8]) -> Result<(), IndexError> {
        let mut table = self.txn.open_table(LISTS_OF)?;
        for chunk in seq.chunks_exact(32) {
            table.insert(&in_list(chunk, number), ())?;
        }
        Ok(())
    }

    pub(crate) fn remove_list(
        &self,
        seq: &ChunkHash,
        number: u32,
        chunks: &[u8],
    ) -> Result<(), IndexError> {
        self.txn.open_table(LISTS)?.remove(seq.as_bytes())?;
        self.txn.open_table(LIST_NUMBERS)?.remove(number)?;
        let mut table = self.txn.open_table(LISTS_OF)?;
        for chunk in chunks.chunks_exact(32) {
            table.remove(&in_list(chunk, number))?;
        }
        Ok(())
    }

    pub(crate) fn put_file(
        &self,
        file: &KnownFile,
        git: Option<&[u8; 20]>,
    ) -> Result<(), IndexError> {
        let mut value = Vec::with_capacity(96);
        value.extend_from_slice(&file.size.to_le_bytes());
        value.extend_from_slice(&file.chunks.count.to_le_bytes());
        value.extend_from_slice(file.chunks.seq.as_bytes());
        value.extend_from_slice(file.chunks.lengths.as_bytes());
        value.extend_from_slice(file.chunks.rule.as_bytes());
        self.txn
            .open_table(FILES)?
            .insert(&file.sha256, &value[..])?;
        if let Some(git) = git {
            self.txn.open_table(GIT)?.insert(git, &file.sha256)?;
        }
        Ok(())
    }

    /// Forgets that a tree has a file, and the file if it was known by this chunk list.
    pub(crate) fn remove_file(&self, tree: &TreeId, file: &File) -> Result<(), IndexError> {
        let mut trees = self.txn.open_table(TREES_OF)?;
        for document in [&file.chunks.seq, &file.chunks.lengths] {
            trees.remove(&pair(document.as_bytes(), tree.as_bytes()))?;
        }
        let (low, high) = (
            pair(file.chunks.seq.as_bytes(), &[0; 32]),
            pair(file.chunks.seq.as_bytes(), &[0xff; 32]),
        );
        if trees.range::<&[u8; 64]>(&low..=&high)?.next().is_some() {
            return Ok(());
        }
        let mut files = self.txn.open_table(FILES)?;
        let same = files
            .get(&file.sha256)?
            .and_then(|row| decode_file(&file.sha256, row.value()))
            .is_some_and(|known| known.chunks == file.chunks);
        if same {
            files.remove(&file.sha256)?;
            if let Some(git) = &file.git {
                self.txn.open_table(GIT)?.remove(git)?;
            }
        }
        Ok(())
    }
}

fn decode_file(sha256: &[u8; 32], value: &[u8]) -> Option<KnownFile> {
    let chunks = ChunkListRef {
        rule: std::str::from_utf8(value.get(80..)?).ok()?.to_owned(),
        count: long(value, 8)?,
        seq: ChunkHash::try_from(&value[16..48]).ok()?,
        lengths: ChunkHash::try_from(&value[48..80]).ok()?,
    };
    Some(KnownFile {
        sha256: *sha256,
        size: long(value, 0)?,
        chunks,
    })
}
