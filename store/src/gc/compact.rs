//! The log: segments of which much is dead are written again without it.

use std::{collections::BTreeMap, sync::PoisonError};

use super::{GcError, Run};
use crate::{
    ChunkHash,
    disk::exists,
    log::{Found, Kind, Location, LogError, Segment},
    store::{ReadError, WriteError, records},
};

/// A segment is written again when a quarter of it is dead.
const DEAD_SHARE: u64 = 4;
/// Bytes of dead documents that are worth a new segment.
const DEAD_BYTES_MIN: u64 = 1024 * 1024;
/// Documents that leave the index in one commit, during which nobody can ask for any.
const STEP: usize = 2048;

#[derive(Debug, Default)]
struct Dead {
    documents: Vec<(ChunkHash, Location)>,
    bytes: u64,
}

impl Run<'_> {
    pub(super) fn compact(&mut self) -> Result<(), GcError> {
        let dead = self.dead_documents()?;
        if self.dry {
            for dead in dead.values() {
                self.done.documents += dead.documents.len() as u64;
                self.done.bytes += dead.bytes;
            }
            return Ok(());
        }
        for (number, dead) in dead {
            let segments = self.store.log_segments();
            let Some(segment) = segments.iter().find(|segment| segment.number == number) else {
                continue;
            };
            let len = segment.file_len().map_err(WriteError::from)?;
            if dead.bytes < DEAD_BYTES_MIN && dead.bytes < len / DEAD_SHARE {
                continue;
            }
            self.rewrite(segment, &dead)?;
            if !self.go_on() {
                break;
            }
        }
        Ok(())
    }

    /// The documents that nobody needs, by segment.
    fn dead_documents(&mut self) -> Result<BTreeMap<u64, Dead>, GcError> {
        let mut out: BTreeMap<u64, Dead> = BTreeMap::new();
        let live = &self.live;
        self.store.index().documents(&mut |hash, at| {
            if !live.contains(hash) {
                let dead = out.entry(at.segment).or_default();
                dead.documents.push((*hash, at));
                dead.bytes += u64::from(at.len);
            }
        })?;
        Ok(out)
    }

    /// Takes dead documents out of the index, then their segment apart.
    fn rewrite(&mut self, segment: &Segment, dead: &Dead) -> Result<(), GcError> {
        let store = self.store;
        let inner = store.inner();
        for step in dead.documents.chunks(STEP) {
            loop {
                let state = inner.protect.write();
                if !self.live.is_current(store) {
                    drop(state);
                    self.live.catch_up(store)?;
                    continue;
                }
                let index = store.index();
                let changes = index.change()?;
                for (hash, at) in step {
                    if !self.live.contains(hash) && !state.covers_document(hash, *at) {
                        changes.remove_document(hash, *at)?;
                        self.done.documents += 1;
                    }
                }
                changes.commit()?;
                break;
            }
        }
        let _gate = inner.enter();
        let is_last = {
            let mut writer = inner.log.writer();
            if writer
                .end()
                .is_some_and(|(number, ..)| number == segment.number)
            {
                writer.rotate().map_err(WriteError::from)?;
                let end = writer.end();
                if let Some((number, nonce, end)) = end {
                    let index = store.index();
                    let changes = index.change()?;
                    changes.put_segment(number, nonce, end)?;
                    changes.commit()?;
                }
            }
            writer
                .end()
                .is_some_and(|(number, ..)| number == segment.number)
        };
        if is_last {
            return Ok(());
        }
        let before = segment.file_len().map_err(WriteError::from)?;
        let first = inner
            .log
            .segments()
            .first()
            .is_some_and(|s| s.number == segment.number);
        let mut failed = None;
        let mut kept = 0u64;
        let rewritten = inner.log.rewrite(segment, &mut |found| {
            let keep = self.keeps(found, first).map_err(|e| {
                failed = Some(e);
                // the reason is the one kept above
                LogError::Io {
                    path: inner.home.clone(),
                    source: std::io::Error::other("index"),
                }
            })?;
            kept += u64::from(keep);
            Ok(keep)
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let rewritten = match rewritten {
            // told by scrub; what is damaged is not made worse
            Err(LogError::Corrupt { path, offset, .. }) => {
                tracing::error!(path = %path.display(), offset, "a damaged segment is not compacted");
                return Ok(());
            }
            other => other.map_err(WriteError::from)?,
        };
        let after = self.replace(segment, rewritten)?;
        self.done.bytes += before.saturating_sub(after);
        Ok(())
    }

    /// Puts a rewritten segment in place while nobody reads documents; returns its length.
    fn replace(&self, segment: &Segment, rewritten: crate::log::Rewritten) -> Result<u64, GcError> {
        let store = self.store;
        let inner = store.inner();
        let _reading = inner
            .documents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let index = store.index();
        let changes = index.change()?;
        store
            .log_scan(segment, &mut |found| {
                records::unindex_found(&changes, &found).map_err(|e| index_as_log(&inner.home, &e))
            })
            .map_err(WriteError::from)?;
        let fresh = match inner.log.install(rewritten) {
            Ok(fresh) => fresh,
            Err(error) => {
                drop(changes);
                inner.poison(&inner.home.join("log"));
                inner.log.writer().poison(&inner.home.join("log"));
                return Err(WriteError::from(error).into());
            }
        };
        let mut end = 0;
        let put = store
            .log_scan(&fresh, &mut |found| {
                records::index_found(&changes, &found).map_err(|e| match e {
                    crate::store::LogOrIndex::Log(e) => e,
                    crate::store::LogOrIndex::Index(e) => index_as_log(&inner.home, &e),
                })
            })
            .map_err(WriteError::from)
            .and_then(|()| {
                end = fresh.file_len()?;
                changes.put_segment(fresh.number, fresh.nonce, end)?;
                Ok(changes.commit()?)
            });
        if let Err(error) = put {
            // the log is right and the index behind it: the next opening brings it up to date
            inner.poison(&inner.home.join("index.redb"));
            return Err(error.into());
        }
        Ok(end)
    }

    /// Whether a record of a segment is still needed.
    fn keeps(&self, found: &Found<'_>, first: bool) -> Result<bool, GcError> {
        let store = self.store;
        let index = store.index();
        Ok(match found.kind {
            Some(Kind::Document) => match &found.document {
                Some(hash) => index.document(hash)? == Some(found.at),
                None => true,
            },
            Some(kind @ (Kind::LocalSet | Kind::LocalDel)) => {
                let body = found.body().map_err(WriteError::from)?;
                let key = match kind {
                    Kind::LocalSet => records::local_parts(&body).map(|(key, _)| key),
                    _ => std::str::from_utf8(&body).ok(),
                };
                let Some(key) = key else { return Ok(false) };
                let is_current = index.local_at(key)?.is_some_and(|at| {
                    (at.segment, at.offset) == (found.at.segment, found.at.offset)
                });
                // a deletion hides values of earlier segments
                is_current && (kind == Kind::LocalSet || !first)
            }
            Some(Kind::Outside | Kind::OutsideGone | Kind::ContainerGone) => {
                let body = found.body().map_err(WriteError::from)?;
                match records::container_id(&body) {
                    Some(id) => {
                        let side = store.inner().layout.side(id);
                        exists(&*store.inner().disk, &side).map_err(ReadError::io(&side))?
                    }
                    None => false,
                }
            }
            _ => true,
        })
    }
}

fn index_as_log(home: &std::path::Path, error: &crate::index::IndexError) -> LogError {
    let source = std::io::Error::other(error.to_string());
    LogError::Io {
        path: home.join("index.redb"),
        source,
    }
}
