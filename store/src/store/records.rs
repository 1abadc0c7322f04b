//! Records of the log as the store uses them: appended, found by the index, read back.
//!
//! Bodies that are this module's own (docs/format/log.md): local-set is {u16 key length, key, value},
//! local-del is the key, outside is {container 8, device 8, inode 8, length 8, mtime 8, ctime 8, path},
//! outside-gone and container-gone are {container 8, reason as text}.

use std::sync::{Arc, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{ReadError, Store, WriteError, open::LogOrIndex, signed::signed_by};
use crate::{
    ChunkHash, VersionId,
    container::ContainerId,
    index::{Changes, IndexError},
    limits::{
        DOCUMENT_BYTES_MAX, LOCAL_KEY_BYTES_MAX, LOCAL_VALUE_BYTES_MAX, LOG_BATCH_RECORDS_MAX,
        LOG_SEGMENT_BYTES_MAX,
    },
    log::{Found, Kind, Location, LogError, Record, Segment},
    sidecar::Pins,
};

impl Record {
    /// A document.
    pub fn document(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Document,
            body: bytes,
        }
    }

    /// Gives a local key a value.
    ///
    /// # Errors
    /// [`WriteError::TooLong`].
    pub fn local_set(key: &str, value: &[u8]) -> Result<Self, WriteError> {
        too_long("a local key", key.len(), LOCAL_KEY_BYTES_MAX)?;
        too_long("a local value", value.len(), LOCAL_VALUE_BYTES_MAX)?;
        let mut body = BytesMut::with_capacity(2 + key.len() + value.len());
        body.put_u16_le(u16::try_from(key.len()).expect("bounded above"));
        body.put_slice(key.as_bytes());
        body.put_slice(value);
        Ok(Self {
            kind: Kind::LocalSet,
            body: body.freeze(),
        })
    }

    /// Takes a local key's value away.
    pub fn local_delete(key: &str) -> Self {
        Self {
            kind: Kind::LocalDel,
            body: Bytes::copy_from_slice(key.as_bytes()),
        }
    }

    pub(crate) fn outside(id: ContainerId, pins: &Pins, path: &[u8]) -> Self {
        let mut body = BytesMut::with_capacity(48 + path.len());
        body.put_u64_le(id.0);
        body.put_u64_le(pins.device);
        body.put_u64_le(pins.inode);
        body.put_u64_le(pins.len);
        body.put_i64_le(pins.mtime_ns);
        body.put_i64_le(pins.ctime_ns);
        body.put_slice(path);
        Self {
            kind: Kind::Outside,
            body: body.freeze(),
        }
    }

    pub(crate) fn gone(kind: Kind, id: ContainerId, reason: &str) -> Self {
        let mut body = BytesMut::with_capacity(8 + reason.len());
        body.put_u64_le(id.0);
        body.put_slice(reason.as_bytes());
        Self {
            kind,
            body: body.freeze(),
        }
    }
}

fn too_long(what: &'static str, found: usize, max: usize) -> Result<(), WriteError> {
    if found > max {
        return Err(WriteError::TooLong {
            what,
            found: found as u64,
            max: max as u64,
        });
    }
    Ok(())
}

/// The container that a record says is gone.
pub(super) fn gone_id(kind: Kind, body: &[u8]) -> Option<ContainerId> {
    let is_gone = matches!(kind, Kind::OutsideGone | Kind::ContainerGone);
    container_id(body).filter(|_| is_gone)
}

/// The container that a record of one is about.
pub(crate) fn container_id(body: &[u8]) -> Option<ContainerId> {
    Some(ContainerId(u64::from_le_bytes(
        body.get(..8)?.try_into().ok()?,
    )))
}

/// Key and value of a local-set record.
pub(crate) fn local_parts(body: &[u8]) -> Option<(&str, &[u8])> {
    let len = u16::from_le_bytes(body.get(..2)?.try_into().ok()?) as usize;
    let (key, value) = body.get(2..)?.split_at_checked(len)?;
    Some((std::str::from_utf8(key).ok()?, value))
}

/// Puts a record that was read back into the index.
pub(crate) fn index_found(changes: &Changes, found: &Found<'_>) -> Result<(), LogOrIndex> {
    match (found.kind, &found.document) {
        (Some(Kind::Document), Some(hash)) => changes.put_document(hash, found.at)?,
        (
            Some(
                kind @ (Kind::LocalSet
                | Kind::LocalDel
                | Kind::Identity
                | Kind::Ref
                | Kind::VersionSignature),
            ),
            _,
        ) => {
            let body = found.body()?;
            index_record(changes, &Record { kind, body }, found.at)?;
        }
        _ => {}
    }
    Ok(())
}

/// Takes a record out of the index, if that is where the index has it from.
pub(crate) fn unindex_found(changes: &Changes, found: &Found<'_>) -> Result<(), IndexError> {
    if let Some(hash) = &found.document {
        return changes.remove_document(hash, found.at);
    }
    let Some(kind) = found.kind else {
        return Ok(());
    };
    let Ok(body) = found.body() else {
        return Ok(());
    };
    match kind {
        Kind::LocalSet => match local_parts(&body) {
            Some((key, _)) => changes.remove_local(key, found.at),
            None => Ok(()),
        },
        Kind::LocalDel => match std::str::from_utf8(&body) {
            Ok(key) => changes.remove_local(key, found.at),
            Err(_) => Ok(()),
        },
        Kind::Identity | Kind::Ref | Kind::VersionSignature => {
            match signed_by(&Record { kind, body }) {
                Some(by) => changes.remove_signed(&by, found.at),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Puts a record that was just written into the index.
fn index_record(changes: &Changes, record: &Record, at: Location) -> Result<(), IndexError> {
    match record.kind {
        Kind::Document => changes.put_document(&ChunkHash::of(&record.body), at),
        Kind::LocalSet => match local_parts(&record.body) {
            Some((key, value)) => changes.put_local(key, Some(value), at),
            None => Ok(()),
        },
        Kind::LocalDel => match std::str::from_utf8(&record.body) {
            Ok(key) => changes.put_local(key, None, at),
            Err(_) => Ok(()),
        },
        Kind::Identity | Kind::Ref | Kind::VersionSignature => match signed_by(record) {
            Some(by) => changes.put_signed(&by, at),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

impl Store {
    /// Appends records as one batch: when this returns all of them are durable, after a crash all or
    /// none are there.
    ///
    /// # Errors
    /// [`WriteError`]; when the disk is full, the log is as before.
    pub fn append(&self, records: &[Record]) -> Result<Vec<Location>, WriteError> {
        let inner = self.inner();
        inner.writable()?;
        let _gate = inner.enter();
        self.append_entered(records)
    }

    /// [`Store::append`] for callers that entered the gate already.
    pub(crate) fn append_entered(&self, records: &[Record]) -> Result<Vec<Location>, WriteError> {
        let inner = self.inner();
        let mut writer = inner.log.writer();
        let locations = writer.append(records)?;
        let Some((number, nonce, end)) = writer.end() else {
            return Ok(locations);
        };
        let indexed = || -> Result<(), IndexError> {
            let index = inner.index();
            let changes = index.change()?;
            for (record, at) in records.iter().zip(&locations) {
                index_record(&changes, record, *at)?;
            }
            changes.put_segment(number, nonce, end)?;
            changes.commit()
        };
        if let Err(e) = indexed() {
            // the log is right and the index behind it: the next opening brings it up to date
            let path = inner.home.join("index.redb");
            writer.poison(&path);
            inner.poison(&path);
            return Err(e.into());
        }
        drop(writer);
        let mut roots = records.iter().filter_map(root).peekable();
        if roots.peek().is_some() {
            inner.protect.roots_changed();
        }
        for version in roots {
            // derived: what fails here is done when the home is opened again
            if let Err(error) = self.index_version(&version) {
                tracing::warn!(%version, %error, "what is in a version is not in the index");
            }
        }
        Ok(locations)
    }

    /// The segments of the log.
    pub fn log_segments(&self) -> Vec<Arc<Segment>> {
        self.inner().log.segments()
    }

    /// Reports every record of a segment of the log, in order.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] at the first damage.
    pub fn log_scan(
        &self,
        segment: &Segment,
        found: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        self.inner().log.scan(segment, false, found).map(drop)
    }

    /// Stores documents that are not there yet; returns the hashes of all, in order.
    ///
    /// # Errors
    /// [`WriteError`]; a document of more than 64 MiB is refused.
    pub fn put_documents(&self, documents: &[Bytes]) -> Result<Vec<ChunkHash>, WriteError> {
        let mut hashes = Vec::with_capacity(documents.len());
        let mut batch: Vec<Record> = Vec::new();
        let mut batch_bytes = 0;
        let mut queued = std::collections::HashSet::new();
        let index = self.index();
        for document in documents {
            too_long("a document", document.len(), DOCUMENT_BYTES_MAX)?;
            let hash = ChunkHash::of(document);
            hashes.push(hash);
            if index.document(&hash)?.is_some() || !queued.insert(hash) {
                continue;
            }
            let bytes = document.len() as u64 + 128;
            let full = batch.len() == LOG_BATCH_RECORDS_MAX - 1
                || batch_bytes + bytes > LOG_SEGMENT_BYTES_MAX / 2;
            if full && !batch.is_empty() {
                self.append(&std::mem::take(&mut batch))?;
                batch_bytes = 0;
            }
            batch.push(Record::document(document.clone()));
            batch_bytes += bytes;
        }
        self.append(&batch)?;
        Ok(hashes)
    }

    /// Reads a document and checks it against its hash.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] when the log is damaged there; it is not held any more then.
    pub fn document(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ReadError> {
        let inner = self.inner();
        let as_of = self.changes();
        if let Some(bytes) = inner.recent.document(hash, as_of) {
            return Ok(Some(bytes));
        }
        let reading = inner
            .documents
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(at) = inner.index().document(hash)? else {
            return Ok(None);
        };
        let read = inner.log.read(at);
        drop(reading);
        let (path, what) = match read {
            Ok(record) if ChunkHash::of(&record.body) == *hash => {
                inner.recent.keep_document(hash, &record.body, as_of);
                return Ok(Some(record.body));
            }
            Ok(_) => (
                inner.home.join("log"),
                "another document is there".to_owned(),
            ),
            Err(LogError::Io { path, source }) => return Err(ReadError::Io { path, source }),
            Err(LogError::Corrupt { path, offset, what }) => {
                (path, format!("{what} at byte {offset}"))
            }
            Err(other) => (inner.home.join("log"), other.to_string()),
        };
        tracing::error!(%hash, path = %path.display(), what, "a document is damaged");
        let index = inner.index();
        let changes = index.change()?;
        changes.remove_document(hash, at)?;
        changes.commit()?;
        Err(ReadError::Corrupt {
            hash: *hash,
            path,
            what,
        })
    }

    /// The value of a local key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn local_get(&self, key: &str) -> Result<Option<Bytes>, ReadError> {
        Ok(self.index().local(key)?)
    }

    /// All local keys that start with `prefix`, sorted, with their values.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn local_prefix(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, ReadError> {
        Ok(self.index().local_prefix(prefix)?)
    }

    /// Gives a local key a value; durable when this returns.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn local_set(&self, key: &str, value: &[u8]) -> Result<(), WriteError> {
        self.append(&[Record::local_set(key, value)?]).map(drop)
    }

    /// Takes a local key's value away; durable when this returns.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn local_delete(&self, key: &str) -> Result<(), WriteError> {
        if self.index().local(key)?.is_none() {
            return Ok(());
        }
        self.append(&[Record::local_delete(key)]).map(drop)
    }
}

/// The version that a record gives the collector as a new root.
fn root(record: &Record) -> Option<VersionId> {
    if record.kind != Kind::LocalSet {
        return None;
    }
    let (key, _) = local_parts(&record.body)?;
    crate::gc::ROOT_PREFIXES
        .iter()
        .find_map(|prefix| key.strip_prefix(prefix)?.parse().ok())
}
