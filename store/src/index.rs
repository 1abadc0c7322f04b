//! The index: where chunks, documents, records and local values are. Derived, never the truth.
//!
//! Everything here follows from the sidecars and the log; a missing or unreadable `index.redb` is made
//! anew from them. Tables (integers in values are little-endian, in keys big-endian):
//!
//! | table | key | value |
//! |---|---|---|
//! | `places` | chunk 32, class 1 (0 home, 1 outside), container 8 | offset 8, stored 4, plain 4, encoding 1, outboard 8 |
//! | `containers` | id 8 | header of the sidecar 128, path |
//! | `documents` | hash 32 | segment 8, offset 8, length 4 |
//! | `local` | key | segment 8, offset 8, has value 1, value |
//! | `paths` | path of an outside file | container 8 |
//! | `signed` | class 1, publisher or version 32, model, 0, segment 8, offset 8 | length 4 |
//! | `models` | publisher 32, model | |
//! | `identities` | identity record 32 | publisher 32 |
//! | `segments` | number 8 | nonce 8, end 8 |
//!
//! The tables of what is in which version are in `index/content.rs`.
//!
//! Commits are batched: one for a container, one for a batch of log records.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};

use crate::{
    ChunkHash, PublisherId, RecordId, VersionId,
    container::ContainerId,
    disk::{Access, Disk},
    limits::PLACES_MAX,
    log::Location,
    sidecar::{ChunkEntry, ContainerKind, Encoding, Header},
};

mod backend;
mod content;

const VERSION: u64 = 2;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const PLACES: TableDefinition<'_, &[u8; 41], &[u8]> = TableDefinition::new("places");
const CONTAINERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("containers");
const DOCUMENTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("documents");
const LOCAL: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("local");
const PATHS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("paths");
/// Class 1 (1 identity, 2 ref, 3 version), publisher or version 32, model, 0, segment 8, offset 8.
const SIGNED: TableDefinition<'_, &[u8], u32> = TableDefinition::new("signed");
const MODELS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("models");
const IDENTITIES: TableDefinition<'_, &[u8; 32], &[u8; 32]> = TableDefinition::new("identities");
const SEGMENTS: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("segments");

/// The index could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("index.redb: {0}")]
pub struct IndexError(#[from] Box<redb::Error>);

impl IndexError {
    /// Whether the file system said no, rather than the file being wrong.
    pub(crate) fn is_io(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        match &*self.0 {
            redb::Error::Io(e) => !matches!(e.kind(), InvalidData | UnexpectedEof),
            redb::Error::PreviousIo => true,
            _ => false,
        }
    }

    pub(crate) fn into_open(self, path: &Path) -> crate::store::OpenError {
        match *self.0 {
            redb::Error::Io(e) => crate::store::OpenError::io(path)(e),
            _ => self.into(),
        }
    }
}

macro_rules! from_redb {
    ($($name:ident),*) => {$(
        impl From<redb::$name> for IndexError {
            fn from(error: redb::$name) -> Self {
                Self(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    DatabaseError
);

/// One place of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The container, or outside file.
    pub container: ContainerId,
    /// Whether it is an outside file.
    pub outside: bool,
    /// Where it is in there.
    pub entry: ChunkEntry,
}

/// A container as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The header of its sidecar.
    pub header: Header,
    /// The path of an outside file.
    pub path: Option<PathBuf>,
}

/// Whose a signed record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignedBy {
    /// An identity record, which follows `prev` or begins an identity.
    Identity {
        id: RecordId,
        prev: Option<RecordId>,
    },
    /// A ref record of a model.
    Ref {
        publisher: PublisherId,
        model: String,
    },
    /// Signatures of a version.
    Version { version: VersionId },
}

impl SignedBy {
    pub(crate) fn identity_key(publisher: &PublisherId) -> Vec<u8> {
        signed_key(1, publisher.as_bytes(), "")
    }

    pub(crate) fn ref_key(publisher: &PublisherId, model: &str) -> Vec<u8> {
        signed_key(2, publisher.as_bytes(), model)
    }

    pub(crate) fn version_key(version: &VersionId) -> Vec<u8> {
        signed_key(3, version.as_bytes(), "")
    }
}

fn signed_key(class: u8, whose: &[u8; 32], model: &str) -> Vec<u8> {
    [&[class][..], whose, model.as_bytes(), &[0]].concat()
}

/// The record that a local key's latest change is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalAt {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) has_value: bool,
}

/// The index of a home.
#[derive(Debug)]
pub struct Index {
    database: Database,
    commits: Arc<AtomicU64>,
}

/// A set of changes that become visible at once.
pub(crate) struct Changes {
    txn: WriteTransaction,
    commits: Arc<AtomicU64>,
}

impl Index {
    /// Opens the index, or makes an empty one; one of another version is emptied.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
    ) -> Result<Self, IndexError> {
        let file = match disk.open(path, Access::Write) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => disk.create(path),
            other => other,
        };
        let file = file.map_err(|e| IndexError(Box::new(redb::Error::Io(e))))?;
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(backend::Backend::new(file))?;
        let index = Self {
            database,
            commits: Arc::default(),
        };
        let changes = index.change()?;
        let version = changes
            .txn
            .open_table(META)?
            .get("version")?
            .map(|v| v.value());
        if version.is_some_and(|version| version != VERSION) {
            changes.clear()?;
        }
        changes.txn.open_table(META)?.insert("version", VERSION)?;
        changes.txn.open_table(PLACES)?;
        changes.txn.open_table(CONTAINERS)?;
        changes.txn.open_table(DOCUMENTS)?;
        changes.txn.open_table(LOCAL)?;
        changes.txn.open_table(PATHS)?;
        changes.txn.open_table(SIGNED)?;
        changes.txn.open_table(MODELS)?;
        changes.txn.open_table(IDENTITIES)?;
        changes.txn.open_table(SEGMENTS)?;
        changes.make_content_tables()?;
        changes.commit()?;
        Ok(index)
    }

    /// Counts commits: what was looked up after one reading of this number and before an equal one is
    /// still so.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Counts on from the index that this one replaces.
    pub(crate) fn count_on(&self, from: &Self) {
        let commits = self.commits().max(from.commits()) + 1;
        self.commits.store(commits, Ordering::SeqCst);
    }

    fn read(&self) -> Result<ReadTransaction, IndexError> {
        Ok(self.database.begin_read()?)
    }

    /// Begins a set of changes; waits for the one that is under way.
    pub(crate) fn change(&self) -> Result<Changes, IndexError> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Immediate)
            .expect("durability is set before any savepoint");
        Ok(Changes {
            txn,
            commits: Arc::clone(&self.commits),
        })
    }

    /// The places of a chunk, those of the home first.
    pub fn places(&self, hash: &ChunkHash) -> Result<Vec<Place>, IndexError> {
        let table = self.read()?.open_table(PLACES)?;
        let (low, high) = (place_key(hash, false, 0), place_key(hash, true, u64::MAX));
        let mut out = Vec::new();
        for row in table.range::<&[u8; 41]>(&low..=&high)?.take(PLACES_MAX) {
            let (key, value) = row?;
            out.extend(decode_place(key.value(), value.value()));
        }
        Ok(out)
    }

    /// Whether a chunk has a place.
    pub fn has_place(&self, hash: &ChunkHash) -> Result<bool, IndexError> {
        let table = self.read()?.open_table(PLACES)?;
        let (low, high) = (place_key(hash, false, 0), place_key(hash, true, u64::MAX));
        Ok(table
            .range::<&[u8; 41]>(&low..=&high)?
            .next()
            .transpose()?
            .is_some())
    }

    /// How many places of chunks there are.
    pub fn places_len(&self) -> Result<u64, IndexError> {
        Ok(self.read()?.open_table(PLACES)?.len()?)
    }

    /// A container.
    pub fn container(&self, id: ContainerId) -> Result<Option<Known>, IndexError> {
        let table = self.read()?.open_table(CONTAINERS)?;
        Ok(table.get(id.0)?.and_then(|row| decode_known(row.value())))
    }

    /// Up to `count` containers that come after `after`, in the order of their ids.
    pub fn containers_after(
        &self,
        after: Option<ContainerId>,
        count: usize,
    ) -> Result<Vec<Known>, IndexError> {
        let table = self.read()?.open_table(CONTAINERS)?;
        let start = match after {
            None => std::ops::Bound::Unbounded,
            Some(id) => std::ops::Bound::Excluded(id.0),
        };
        let mut out = Vec::new();
        for row in table
            .range((start, std::ops::Bound::Unbounded))?
            .take(count)
        {
            out.extend(decode_known(row?.1.value()));
        }
        Ok(out)
    }

    /// The places in one container: a look at every place, for when its sidecar is lost.
    pub(crate) fn entries_of(&self, id: ContainerId) -> Result<Vec<ChunkEntry>, IndexError> {
        let table = self.read()?.open_table(PLACES)?;
        let mut out = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            let place = decode_place(key.value(), value.value());
            out.extend(
                place
                    .filter(|place| place.container == id)
                    .map(|place| place.entry),
            );
        }
        Ok(out)
    }

    /// The outside place of a path.
    pub fn outside_at(&self, path: &Path) -> Result<Option<ContainerId>, IndexError> {
        let table = self.read()?.open_table(PATHS)?;
        let row = table.get(path.as_os_str().as_encoded_bytes())?;
        Ok(row.map(|row| ContainerId(row.value())))
    }

    /// Where a document is.
    pub fn document(&self, hash: &ChunkHash) -> Result<Option<Location>, IndexError> {
        let table = self.read()?.open_table(DOCUMENTS)?;
        Ok(table
            .get(hash.as_bytes())?
            .and_then(|row| decode_location(row.value())))
    }

    /// Calls `each` for every document.
    pub(crate) fn documents(
        &self,
        each: &mut dyn FnMut(&ChunkHash, Location),
    ) -> Result<(), IndexError> {
        let table = self.read()?.open_table(DOCUMENTS)?;
        for row in table.iter()? {
            let (hash, at) = row?;
            if let Some(at) = decode_location(at.value()) {
                each(&ChunkHash::from_bytes(*hash.value()), at);
            }
        }
        Ok(())
    }

    /// The value of a local key.
    pub fn local(&self, key: &str) -> Result<Option<Bytes>, IndexError> {
        let table = self.read()?.open_table(LOCAL)?;
        Ok(table.get(key)?.and_then(|row| local_value(row.value())))
    }

    /// The record that a local key's latest change is in.
    pub(crate) fn local_at(&self, key: &str) -> Result<Option<LocalAt>, IndexError> {
        let table = self.read()?.open_table(LOCAL)?;
        Ok(table.get(key)?.and_then(|row| {
            let bytes = row.value();
            Some(LocalAt {
                segment: long(bytes, 0)?,
                offset: long(bytes, 8)?,
                has_value: *bytes.get(16)? == 1,
            })
        }))
    }

    /// All local keys that start with `prefix`, with their values, sorted.
    pub fn local_prefix(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, IndexError> {
        let table = self.read()?.open_table(LOCAL)?;
        let mut out = Vec::new();
        for row in table.range(prefix..)? {
            let (key, value) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            out.extend(local_value(value.value()).map(|value| (key.value().to_owned(), value)));
        }
        Ok(out)
    }

    /// Where the signed records are whose keys start with `prefix`, in the order of the log.
    pub(crate) fn signed(&self, prefix: &[u8]) -> Result<Vec<Location>, IndexError> {
        let table = self.read()?.open_table(SIGNED)?;
        let mut out = Vec::new();
        for row in table.range(prefix..)? {
            let (key, len) = row?;
            let Some(rest) = key.value().strip_prefix(prefix) else {
                break;
            };
            if let (Some(segment), Some(offset)) = (big(rest, 0), big(rest, 8)) {
                out.push(Location {
                    segment,
                    offset,
                    len: len.value(),
                });
            }
        }
        Ok(out)
    }

    /// The publisher that an identity record belongs to.
    pub(crate) fn identity_owner(&self, id: &RecordId) -> Result<Option<PublisherId>, IndexError> {
        let table = self.read()?.open_table(IDENTITIES)?;
        Ok(table
            .get(id.as_bytes())?
            .map(|row| PublisherId::from_bytes(*row.value())))
    }

    /// The publishers of whom an identity record is known, sorted.
    pub fn publishers(&self) -> Result<Vec<PublisherId>, IndexError> {
        let table = self.read()?.open_table(IDENTITIES)?;
        let mut out = Vec::new();
        for row in table.iter()? {
            let (id, publisher) = row?;
            if id.value() == publisher.value() {
                out.push(PublisherId::from_bytes(*publisher.value()));
            }
        }
        Ok(out)
    }

    /// The models of which a ref record is known, of one publisher or all, sorted.
    pub fn models(
        &self,
        publisher: Option<&PublisherId>,
    ) -> Result<Vec<(PublisherId, String)>, IndexError> {
        let table = self.read()?.open_table(MODELS)?;
        let prefix = publisher.map_or(&[][..], |publisher| publisher.as_bytes());
        let mut out = Vec::new();
        for row in table.range(prefix..)? {
            let (key, _) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            if let Some((publisher, model)) = key.value().split_at_checked(32)
                && let (Ok(publisher), Ok(model)) =
                    (PublisherId::try_from(publisher), std::str::from_utf8(model))
            {
                out.push((publisher, model.to_owned()));
            }
        }
        Ok(out)
    }

    /// For each segment of the log, its nonce and the end of what is in the index.
    pub fn segments(&self) -> Result<BTreeMap<u64, (u64, u64)>, IndexError> {
        let table = self.read()?.open_table(SEGMENTS)?;
        let mut out = BTreeMap::new();
        for row in table.iter()? {
            let (number, value) = row?;
            out.insert(number.value(), value.value());
        }
        Ok(out)
    }
}

impl Changes {
    /// Makes the changes durable and visible.
    pub(crate) fn commit(self) -> Result<(), IndexError> {
        let done = self.txn.commit();
        // After it is visible and before anybody hears of it, and even if it is not known what came of it.
        self.commits.fetch_add(1, Ordering::SeqCst);
        Ok(done?)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) -> Result<(), IndexError> {
        self.clear_content()?;
        self.txn.delete_table(PLACES)?;
        self.txn.delete_table(CONTAINERS)?;
        self.txn.delete_table(DOCUMENTS)?;
        self.txn.delete_table(LOCAL)?;
        self.txn.delete_table(PATHS)?;
        self.txn.delete_table(SIGNED)?;
        self.txn.delete_table(MODELS)?;
        self.txn.delete_table(IDENTITIES)?;
        self.txn.delete_table(SEGMENTS)?;
        Ok(())
    }

    /// Adds or replaces a container.
    pub(crate) fn put_container(
        &self,
        header: &Header,
        path: Option<&Path>,
    ) -> Result<(), IndexError> {
        let mut value = header.encode().to_vec();
        if let Some(path) = path {
            let path = path.as_os_str().as_encoded_bytes();
            value.extend_from_slice(path);
            self.txn.open_table(PATHS)?.insert(path, header.id.0)?;
        }
        self.txn
            .open_table(CONTAINERS)?
            .insert(header.id.0, &value[..])?;
        Ok(())
    }

    /// Adds places of chunks in a container.
    pub(crate) fn put_places(
        &self,
        header: &Header,
        entries: &[ChunkEntry],
    ) -> Result<(), IndexError> {
        let mut table = self.txn.open_table(PLACES)?;
        let outside = header.kind == ContainerKind::Outside;
        for entry in entries {
            let key = place_key(&entry.hash, outside, header.id.0);
            table.insert(&key, &encode_place(entry)[..])?;
        }
        Ok(())
    }

    /// Removes places of chunks in a container; returns how many there were.
    pub(crate) fn remove_places(
        &self,
        header: &Header,
        hashes: &[ChunkHash],
    ) -> Result<u64, IndexError> {
        let mut table = self.txn.open_table(PLACES)?;
        let outside = header.kind == ContainerKind::Outside;
        let mut count = 0;
        for hash in hashes {
            count += u64::from(
                table
                    .remove(&place_key(hash, outside, header.id.0))?
                    .is_some(),
            );
        }
        Ok(count)
    }

    /// Removes a container; its places are removed apart.
    pub(crate) fn remove_container(&self, id: ContainerId) -> Result<(), IndexError> {
        let mut containers = self.txn.open_table(CONTAINERS)?;
        let known = containers
            .remove(id.0)?
            .and_then(|row| decode_known(row.value()));
        if let Some(path) = known.and_then(|known| known.path) {
            let path = path.as_os_str().as_encoded_bytes();
            let mut paths = self.txn.open_table(PATHS)?;
            let same = paths.get(path)?.is_some_and(|row| row.value() == id.0);
            if same {
                paths.remove(path)?;
            }
        }
        Ok(())
    }

    /// Removes all places in containers that are not known; for those whose sidecar is lost.
    pub(crate) fn remove_stray_places(&self) -> Result<(), IndexError> {
        let containers = self.txn.open_table(CONTAINERS)?;
        let mut known = std::collections::HashSet::new();
        for row in containers.iter()? {
            known.insert(row?.0.value());
        }
        self.txn.open_table(PLACES)?.retain(|key, _| {
            let id = u64::from_be_bytes(key[33..].try_into().expect("eight bytes"));
            known.contains(&id)
        })?;
        Ok(())
    }

    pub(crate) fn put_document(&self, hash: &ChunkHash, at: Location) -> Result<(), IndexError> {
        let mut value = [0; 20];
        value[..8].copy_from_slice(&at.segment.to_le_bytes());
        value[8..16].copy_from_slice(&at.offset.to_le_bytes());
        value[16..].copy_from_slice(&at.len.to_le_bytes());
        self.txn
            .open_table(DOCUMENTS)?
            .insert(hash.as_bytes(), &value[..])?;
        Ok(())
    }

    /// Removes a document's location if it is the given one.
    pub(crate) fn remove_document(&self, hash: &ChunkHash, at: Location) -> Result<(), IndexError> {
        let mut table = self.txn.open_table(DOCUMENTS)?;
        let same = table
            .get(hash.as_bytes())?
            .and_then(|row| decode_location(row.value()));
        if same == Some(at) {
            table.remove(hash.as_bytes())?;
        }
        Ok(())
    }

    /// Notes the latest change of a local key, unless a later one is known.
    pub(crate) fn put_local(
        &self,
        key: &str,
        value: Option<&[u8]>,
        at: Location,
    ) -> Result<(), IndexError> {
        let mut table = self.txn.open_table(LOCAL)?;
        let known = table.get(key)?.and_then(|row| {
            let bytes = row.value();
            Some((long(bytes, 0)?, long(bytes, 8)?))
        });
        if known.is_some_and(|known| known > (at.segment, at.offset)) {
            return Ok(());
        }
        let mut row = Vec::with_capacity(17 + value.map_or(0, <[u8]>::len));
        row.extend_from_slice(&at.segment.to_le_bytes());
        row.extend_from_slice(&at.offset.to_le_bytes());
        row.push(u8::from(value.is_some()));
        row.extend_from_slice(value.unwrap_or_default());
        table.insert(key, &row[..])?;
        Ok(())
    }

    /// Notes whose a signed record is. An identity record that follows an unknown one is not noted.
    pub(crate) fn put_signed(&self, by: &SignedBy, at: Location) -> Result<(), IndexError> {
        let Some(key) = self.signed_key(by)? else {
            return Ok(());
        };
        match by {
            SignedBy::Identity { id, .. } => {
                let owner: [u8; 32] = key[1..33].try_into().expect("class and owner come first");
                self.txn
                    .open_table(IDENTITIES)?
                    .insert(id.as_bytes(), &owner)?;
            }
            SignedBy::Ref { publisher, model } => {
                let row = [&publisher.as_bytes()[..], model.as_bytes()].concat();
                self.txn.open_table(MODELS)?.insert(&row[..], ())?;
            }
            SignedBy::Version { .. } => {}
        }
        self.txn
            .open_table(SIGNED)?
            .insert(&signed_at(key, at)[..], at.len)?;
        Ok(())
    }

    /// Whether a local key has a value.
    pub(crate) fn has_local(&self, key: &str) -> Result<bool, IndexError> {
        let table = self.txn.open_table(LOCAL)?;
        Ok(table
            .get(key)?
            .is_some_and(|row| row.value().get(16) == Some(&1)))
    }

    /// Removes what a record said of a local key, if that is the latest.
    pub(crate) fn remove_local(&self, key: &str, at: Location) -> Result<(), IndexError> {
        let mut table = self.txn.open_table(LOCAL)?;
        let same = table.get(key)?.is_some_and(|row| {
            let bytes = row.value();
            (long(bytes, 0), long(bytes, 8)) == (Some(at.segment), Some(at.offset))
        });
        if same {
            table.remove(key)?;
        }
        Ok(())
    }

    /// Removes the place of a signed record.
    pub(crate) fn remove_signed(&self, by: &SignedBy, at: Location) -> Result<(), IndexError> {
        let Some(key) = self.signed_key(by)? else {
            return Ok(());
        };
        self.txn
            .open_table(SIGNED)?
            .remove(&signed_at(key, at)[..])?;
        Ok(())
    }

    /// The key of whose a signed record is; none for an identity record whose owner is not known.
    fn signed_key(&self, by: &SignedBy) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(Some(match by {
            SignedBy::Identity { id, prev } => {
                let owner = match prev {
                    None => Some(PublisherId::from_bytes(*id.as_bytes())),
                    Some(prev) => self
                        .txn
                        .open_table(IDENTITIES)?
                        .get(prev.as_bytes())?
                        .map(|row| PublisherId::from_bytes(*row.value())),
                };
                let Some(owner) = owner else { return Ok(None) };
                SignedBy::identity_key(&owner)
            }
            SignedBy::Ref { publisher, model } => SignedBy::ref_key(publisher, model),
            SignedBy::Version { version } => SignedBy::version_key(version),
        }))
    }

    /// Notes how far a segment is in the index.
    pub(crate) fn put_segment(&self, number: u64, nonce: u64, end: u64) -> Result<(), IndexError> {
        self.txn
            .open_table(SEGMENTS)?
            .insert(number, (nonce, end))?;
        Ok(())
    }

    /// Forgets all that came from a segment.
    pub(crate) fn purge_segment(&self, number: u64) -> Result<(), IndexError> {
        self.txn
            .open_table(DOCUMENTS)?
            .retain(|_, value| long(value, 0) != Some(number))?;
        self.txn
            .open_table(LOCAL)?
            .retain(|_, value| long(value, 0) != Some(number))?;
        self.txn.open_table(SIGNED)?.retain(|key, _| {
            let at = key.len().saturating_sub(16);
            big(key, at) != Some(number)
        })?;
        self.txn.open_table(SEGMENTS)?.remove(number)?;
        Ok(())
    }
}

fn signed_at(mut key: Vec<u8>, at: Location) -> Vec<u8> {
    key.extend_from_slice(&at.segment.to_be_bytes());
    key.extend_from_slice(&at.offset.to_be_bytes());
    key
}

fn place_key(hash: &ChunkHash, outside: bool, container: u64) -> [u8; 41] {
    let mut key = [0; 41];
    key[..32].copy_from_slice(hash.as_bytes());
    key[32] = u8::from(outside);
    key[33..].copy_from_slice(&container.to_be_bytes());
    key
}

fn encode_place(entry: &ChunkEntry) -> [u8; 25] {
    let mut out = [0; 25];
    out[..8].copy_from_slice(&entry.offset.to_le_bytes());
    out[8..12].copy_from_slice(&entry.stored_len.to_le_bytes());
    out[12..16].copy_from_slice(&entry.plain_len.to_le_bytes());
    out[16] = entry.encoding as u8;
    out[17..].copy_from_slice(&entry.outboard.unwrap_or(u64::MAX).to_le_bytes());
    out
}

fn decode_place(key: &[u8; 41], value: &[u8]) -> Option<Place> {
    let outboard = long(value, 17)?;
    Some(Place {
        container: ContainerId(u64::from_be_bytes(key[33..].try_into().ok()?)),
        outside: key[32] == 1,
        entry: ChunkEntry {
            hash: ChunkHash::try_from(&key[..32]).ok()?,
            offset: long(value, 0)?,
            stored_len: short(value, 8)?,
            plain_len: short(value, 12)?,
            encoding: Encoding::from_number(*value.get(16)?)?,
            outboard: (outboard != u64::MAX).then_some(outboard),
        },
    })
}

fn decode_known(value: &[u8]) -> Option<Known> {
    let (header, path) = value.split_at_checked(crate::sidecar::HEADER_LEN)?;
    let header = Header::decode(header.try_into().ok()?).ok()?;
    let path = (!path.is_empty()).then(|| crate::sidecar::os_path(path.to_vec()));
    Some(Known { header, path })
}

fn decode_location(value: &[u8]) -> Option<Location> {
    Some(Location {
        segment: long(value, 0)?,
        offset: long(value, 8)?,
        len: short(value, 16)?,
    })
}

fn local_value(row: &[u8]) -> Option<Bytes> {
    (*row.get(16)? == 1).then(|| Bytes::copy_from_slice(&row[17..]))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn big(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
