//! Making the index anew from sidecars and log, while the store is open.

use std::{
    collections::{BTreeMap, HashSet},
    sync::PoisonError,
};

use super::{OpenError, Store, open, records};
use crate::{
    container::ContainerId,
    disk::remove_if_there,
    index::Index,
    log::{Damage, Kind, LogError},
};

/// What [`Store::rebuild_index`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Records of the log that were read.
    pub records: u64,
    /// Chunk places that are in the index.
    pub places: u64,
    /// Damage in the log that was stepped over.
    pub log_damage: Vec<Damage>,
    /// Sidecars that cannot be used, and containers that are lost.
    pub containers_lost: Vec<std::path::PathBuf>,
}

impl Store {
    /// Makes the index anew. Writers wait; readers go on with the old one until it is replaced.
    ///
    /// # Errors
    /// [`OpenError`]; the old index stays then.
    pub fn rebuild_index(&self) -> Result<Rebuilt, OpenError> {
        let inner = self.inner();
        let _gate = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
        let disk = &*inner.disk;
        let (path, draft) = (
            inner.home.join("index.redb"),
            inner.home.join("index.redb.new"),
        );
        let io = OpenError::io(&draft);
        remove_if_there(disk, &draft).map_err(&io)?;
        let cache = inner.options.index_cache_bytes;
        let index = Index::open(disk, &draft, cache).map_err(|e| e.into_open(&draft))?;
        let mut rebuilt = Rebuilt::default();
        let made = self.feed(&index, &mut rebuilt);
        if let Err(error) = made {
            drop(index);
            // what stays is removed by the next attempt
            let _ = disk.remove(&draft);
            return Err(error);
        }
        rebuilt.places = index.places_len()?;
        // the open file keeps its name through the rename
        disk.rename(&draft, &path).map_err(&io)?;
        inner.replace_index(index);
        inner.folded.forget();
        disk.sync_dir(&inner.home)
            .map_err(OpenError::io(&inner.home))?;
        self.index_kept()
            .map_err(|error| error.into_open(&inner.home))?;
        Ok(rebuilt)
    }

    fn feed(&self, index: &Index, rebuilt: &mut Rebuilt) -> Result<(), OpenError> {
        let inner = self.inner();
        let mut gone: HashSet<ContainerId> = HashSet::new();
        let mut ends = BTreeMap::new();
        for segment in inner.log.segments() {
            let mut failed = None;
            let mut changes = Some(index.change()?);
            let scanned = inner.log.scan(&segment, true, &mut |found| {
                rebuilt.records += 1;
                if let Some(kind @ (Kind::OutsideGone | Kind::ContainerGone)) = found.kind {
                    gone.extend(records::gone_id(kind, &found.body()?));
                }
                let changes = changes.as_ref().expect("committed after the scan");
                records::index_found(changes, &found).map_err(|e| match e {
                    open::LogOrIndex::Log(e) => e,
                    open::LogOrIndex::Index(e) => {
                        failed = Some(e);
                        // the reason is the one kept above
                        LogError::Io {
                            path: inner.home.clone(),
                            source: std::io::Error::other("index"),
                        }
                    }
                })
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
            let recovered = scanned?;
            rebuilt.log_damage.extend(recovered.damage);
            ends.extend(recovered.ends);
            if let Some(changes) = changes.take() {
                changes.commit()?;
            }
        }
        let changes = index.change()?;
        for (number, (nonce, end)) in ends {
            changes.put_segment(number, nonce, end)?;
        }
        changes.commit()?;
        let mut findings = super::Findings::default();
        open::reconcile(&*inner.disk, &inner.layout, index, &gone, &mut findings)?;
        rebuilt.containers_lost = findings.containers_lost;
        Ok(())
    }
}
