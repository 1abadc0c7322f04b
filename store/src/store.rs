//! The store of a home: opening it, and what its other parts share.
//!
//! A home is a folder (docs/format/containers.md): `format`, `lock`, `log/`, `containers/`, `partial/`,
//! `index.redb`. The sidecars and the log are the truth; everything else is derived. The order of every
//! write is: data, sidecar, rename, folder, log, index, and then the caller hears of it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard},
};

use crate::{
    container::{ContainerId, Layout, OpenContainers},
    disk::{Disk, DiskLock, RealDisk},
    index::Index,
    log::{Damage, Log, Nonces},
};

mod content;
mod error;
mod figures;
mod hand;
mod open;
mod outside;
pub(crate) mod protect;
mod read;
mod rebuild;
pub(crate) mod records;
mod signed;
mod write;

pub use content::KnownFile;
pub use error::{OpenError, ReadError, WriteError};
pub use figures::Figures;
pub(crate) use open::LogOrIndex;
pub use outside::OutsideWriter;
pub use protect::Protection;
pub use read::{ChunkReader, FilePlace};
pub use rebuild::Rebuilt;
pub use signed::ApplyError;
pub use write::{PackWriter, WholeWriter};

/// How a home is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of allocated blocks that the home may have; unlimited without.
    pub max_size: Option<u64>,
    /// Whether a home on a network file system is accepted.
    pub force_network: bool,
    /// Whether damaged parts of the log are stepped over instead of refused.
    pub salvage: bool,
    /// Bytes of memory for pages of the index.
    pub index_cache_bytes: usize,
    /// Whether new packs are compressed.
    pub compress_packs: bool,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Where container ids and nonces come from.
    pub ids: Nonces,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_size: None,
            force_network: false,
            salvage: false,
            index_cache_bytes: 32 * 1024 * 1024,
            compress_packs: false,
            disk: Arc::new(RealDisk),
            ids: Nonces::Random,
        }
    }
}

/// What opening a home found that somebody may want to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// Bytes of the log's end that were never acknowledged, and were cut off.
    pub torn_log_bytes: u64,
    /// Damage in the log that was stepped over.
    pub log_damage: Vec<Damage>,
    /// Containers whose file or sidecar is lost or damaged: their chunks are not held any more.
    pub containers_lost: Vec<PathBuf>,
    /// Whether the index was made anew.
    pub index_rebuilt: bool,
}

/// A store that is open; clones share it. The home is locked until the last one is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) home: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    index: RwLock<Arc<Index>>,
    recent: hand::RecentReads,
    read: figures::Counts,
    pub(crate) log: Log,
    pub(crate) open: OpenContainers,
    pub(crate) protect: protect::Protections,
    pub(crate) folded: signed::Folded,
    pub(crate) roots: crate::root::Roots,
    ids: Mutex<Nonces>,
    poisoned: OnceLock<PathBuf>,
    findings: Findings,
    /// Held for reading by whoever adds to log, containers and index; for writing by who replaces them.
    pub(crate) gate: RwLock<()>,
    /// Held while the content of a version goes to the index, or from it.
    pub(crate) content: Mutex<()>,
    /// Held while one container is collected from, or scrubbed.
    pub(crate) upkeep: Mutex<()>,
    /// Held for reading while a document is looked up and read; for writing while its segment is replaced.
    pub(crate) documents: RwLock<()>,
    /// Released last.
    _lock: DiskLock,
}

impl Store {
    /// Opens the store of a home, which is made if the folder is empty or missing.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the home is changed by a refusal.
    pub fn open(home: &Path, options: Options) -> Result<Self, OpenError> {
        let inner = Arc::new(open::open(home, options)?);
        let store = Self { inner };
        store
            .clean_cache()
            .map_err(OpenError::io(&home.join("cache")))?;
        store.index_kept().map_err(|error| error.into_open(home))?;
        Ok(store)
    }

    /// The folder of the home.
    pub fn home(&self) -> &Path {
        &self.inner.home
    }

    /// How the home was opened.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// What opening found.
    pub fn findings(&self) -> &Findings {
        &self.inner.findings
    }

    /// The index as it is now.
    pub fn index(&self) -> Arc<Index> {
        self.inner.index()
    }

    /// Changes whenever what the home holds, or knows, does: what was looked up after one reading of this
    /// number and before an equal one is still so.
    pub fn changes(&self) -> u64 {
        self.inner.index().commits()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Protects what is written and asked for from now on against collection, until it is dropped.
    ///
    /// Whoever writes chunks and documents of a version holds one until the version is under a `keep/`
    /// or `pin/` key; see [`Protection::holds`] for chunks that are there already.
    pub fn protect(&self) -> Protection {
        Protection::new(self.clone())
    }
}

impl Inner {
    pub(crate) fn index(&self) -> Arc<Index> {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn replace_index(&self, index: Index) {
        let mut current = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.count_on(&current);
        *current = Arc::new(index);
    }

    pub(crate) fn draw_id(&self) -> ContainerId {
        ContainerId(
            self.ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .draw(),
        )
    }

    /// Whether writing is still allowed.
    pub(crate) fn writable(&self) -> Result<(), WriteError> {
        match self.poisoned.get() {
            Some(path) => Err(WriteError::Poisoned { path: path.clone() }),
            None => Ok(()),
        }
    }

    /// Refuses all later writes: something could not be synced, so nobody knows what is durable.
    pub(crate) fn poison(&self, path: &Path) {
        if self.poisoned.set(path.to_owned()).is_ok() {
            tracing::error!(path = %path.display(), "a sync failed; no more writes until a restart");
        }
    }

    /// Whether the files of a container are kept although the index does not know it: damaged ones, of
    /// which something may be saved.
    pub(crate) fn is_lost(&self, id: ContainerId) -> bool {
        let side = self.layout.side(id);
        self.findings.containers_lost.contains(&side)
    }

    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }
}
