//! One collection of the home: where it is, and the open engine while there is one.
//!
//! An engine is closed only when nobody holds it: two engines on one folder would write over one another.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use lode_index::Collection;
use lode_store::PublisherId;

use super::{CollectionsError, IDLE};

/// One collection of the home.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) publisher: PublisherId,
    pub(super) name: String,
    pub(super) created: u64,
    /// Its folder.
    pub(super) dir: PathBuf,
    pub(super) public: AtomicBool,
    /// Whether this home may change it, once that was looked up.
    pub(super) writable: OnceLock<bool>,
    /// Whether it waits to be maintained.
    pub(super) waits: AtomicBool,
    inner: Mutex<Inner>,
    trouble: Mutex<Option<String>>,
    /// Held while snapshots are made and removed.
    snapshots: Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    index: Option<Arc<Collection>>,
    used: Instant,
    deleted: bool,
    /// The folder of the engine, in that of the collection.
    data: String,
}

/// An engine that was handed out.
pub(super) struct Held {
    pub(super) index: Arc<Collection>,
    /// Whether it was opened for this.
    pub(super) is_new: bool,
}

impl Slot {
    pub(super) fn new(
        publisher: PublisherId,
        name: String,
        public: bool,
        created: u64,
        dir: PathBuf,
        data: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            publisher,
            name,
            created,
            dir,
            public: AtomicBool::new(public),
            writable: OnceLock::new(),
            waits: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                index: None,
                used: Instant::now(),
                deleted: false,
                data,
            }),
            trouble: Mutex::default(),
            snapshots: Mutex::default(),
        })
    }

    /// The folder of the engine, in that of the collection.
    pub(super) fn data(&self) -> String {
        self.inner().data.clone()
    }

    /// Puts another engine's folder in place of that which is there, once `commit` says that it is; which it was.
    /// Whoever holds the engine that was there works on what nobody sees any more.
    pub(super) fn replace(
        &self,
        data: &str,
        commit: impl FnOnce() -> Result<(), CollectionsError>,
    ) -> Result<String, CollectionsError> {
        let mut inner = self.inner();
        if inner.deleted {
            return Err(CollectionsError::Absent {
                name: self.name.clone(),
            });
        }
        commit()?;
        inner.index = None;
        Ok(std::mem::replace(&mut inner.data, data.to_owned()))
    }

    /// The engine, opened if it is not.
    pub(super) fn open(&self) -> Result<Held, CollectionsError> {
        let mut inner = self.inner();
        if inner.deleted {
            return Err(CollectionsError::Absent {
                name: self.name.clone(),
            });
        }
        inner.used = Instant::now();
        if let Some(index) = &inner.index {
            return Ok(Held {
                index: Arc::clone(index),
                is_new: false,
            });
        }
        let index = Collection::open(&self.dir.join(&inner.data))
            .map_err(|error| CollectionsError::index(&self.name, error))?;
        let index = Arc::new(index);
        inner.index = Some(Arc::clone(&index));
        Ok(Held {
            index,
            is_new: true,
        })
    }

    /// The engine if it is open and nobody opens it just now.
    pub(super) fn peek(&self) -> Option<Arc<Collection>> {
        let inner = self.inner.try_lock().ok()?;
        inner.index.clone()
    }

    /// Whether this is the engine that is handed out.
    pub(super) fn holds(&self, index: &Arc<Collection>) -> bool {
        let inner = self.inner();
        inner
            .index
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, index))
    }

    /// When somebody last asked for it, if it is open.
    pub(super) fn used(&self) -> Option<Instant> {
        let inner = self.inner.try_lock().ok()?;
        inner.index.as_ref().map(|_| inner.used)
    }

    /// Whether it is open and nobody has asked for it for long.
    pub(super) fn is_idle(&self) -> bool {
        self.used().is_some_and(|used| used.elapsed() >= IDLE)
    }

    /// Closes the engine if nobody holds it; whether it is closed.
    pub(super) fn close(&self) -> bool {
        let Ok(mut inner) = self.inner.try_lock() else {
            return false;
        };
        // clones are made under the lock, or of one that somebody holds: one left is ours
        let held = inner
            .index
            .as_ref()
            .is_some_and(|index| Arc::strong_count(index) > 1);
        if !held {
            inner.index = None;
        }
        !held
    }

    /// Nobody gets it any more; whether somebody could.
    pub(super) fn delete(&self) -> bool {
        let mut inner = self.inner();
        inner.index = None;
        !std::mem::replace(&mut inner.deleted, true)
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn snapshotting(&self) -> MutexGuard<'_, ()> {
        self.snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
