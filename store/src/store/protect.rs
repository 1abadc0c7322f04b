//! What the collector must leave alone although no version holds it yet.
//!
//! A [`Protection`] covers all containers sealed and documents stored after it was made, and every chunk
//! that was asked for through [`Protection::holds`]. Asking and collecting exclude each other: either
//! the collector sees that the chunk was asked for, or the asker sees that it is gone. What a guard
//! covered stays covered until a collection that was running when it was dropped has ended.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{ReadError, Store};
use crate::{ChunkHash, container::ContainerId, log::Location};

/// Keeps chunks and documents from being collected until it is dropped.
#[derive(Debug)]
pub struct Protection {
    store: Store,
    number: u64,
    guard: Arc<Guard>,
}

#[derive(Debug)]
struct Guard {
    since: Since,
    hashes: Mutex<HashSet<u64>>,
}

/// A moment: what comes after it is covered.
#[derive(Debug, Clone, Copy)]
struct Since {
    /// Number of the next container that is sealed.
    seal: u64,
    /// End of the log: segment and byte.
    log: (u64, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Protections {
    state: RwLock<State>,
    /// Counts new roots, so that a collection that is running looks again.
    roots: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    guards: HashMap<u64, Arc<Guard>>,
    /// Guards that were dropped while a collection ran.
    retired: Vec<Arc<Guard>>,
    /// What was sealed and stored when the collection began that is running.
    collecting: Option<Since>,
    next: u64,
    seals: u64,
    sealed: HashMap<ContainerId, u64>,
}

fn log_end(store: &Store) -> (u64, u64) {
    let end = store.inner().log.writer().end();
    end.map_or((0, 0), |(segment, _, offset)| (segment, offset))
}

/// The first eight bytes of a hash: a collision keeps a dead chunk, and never drops a live one.
pub(crate) fn short(hash: &ChunkHash) -> u64 {
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
}

impl Protection {
    pub(super) fn new(store: Store) -> Self {
        let log = log_end(&store);
        let mut state = store.inner().protect.write();
        let number = state.next;
        state.next += 1;
        let since = Since {
            seal: state.seals,
            log,
        };
        let guard = Arc::new(Guard {
            since,
            hashes: Mutex::default(),
        });
        state.guards.insert(number, guard.clone());
        drop(state);
        Self {
            store,
            number,
            guard,
        }
    }

    /// Whether the store holds a chunk or document; if it does, it stays.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn holds(&self, hash: &ChunkHash) -> Result<bool, ReadError> {
        let _state = self.store.inner().protect.read();
        self.guard
            .hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(short(hash));
        self.store.holds(hash)
    }

    /// Keeps a chunk or document that may be there, or come.
    pub fn add(&self, hash: &ChunkHash) {
        let _state = self.store.inner().protect.read();
        self.guard
            .hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(short(hash));
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        let mut state = self.store.inner().protect.write();
        if let Some(guard) = state.guards.remove(&self.number)
            && state.collecting.is_some()
        {
            state.retired.push(guard);
        }
        state.tidy();
    }
}

impl Protections {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all asking; what is found unprotected now can be removed.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sealed(&self, id: ContainerId) {
        let mut state = self.write();
        let seal = state.seals;
        state.seals += 1;
        if state.collecting.is_some() || !state.guards.is_empty() {
            state.sealed.insert(id, seal);
        }
    }

    pub(crate) fn roots_changed(&self) {
        self.roots.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn roots(&self) -> u64 {
        self.roots.load(Ordering::SeqCst)
    }

    /// Begins a collection; false when one is running.
    pub(crate) fn begin(&self, store: &Store) -> bool {
        let log = log_end(store);
        let mut state = self.write();
        if state.collecting.is_some() {
            return false;
        }
        let seal = state.seals;
        state.collecting = Some(Since { seal, log });
        true
    }

    pub(crate) fn end(&self) {
        let mut state = self.write();
        state.collecting = None;
        state.retired.clear();
        state.tidy();
    }
}

impl State {
    fn all(&self) -> impl Iterator<Item = &Guard> {
        self.guards
            .values()
            .chain(&self.retired)
            .map(|guard| &**guard)
    }

    fn sinces(&self) -> impl Iterator<Item = Since> {
        self.all().map(|guard| guard.since).chain(self.collecting)
    }

    pub(crate) fn covers_chunk(&self, hash: &ChunkHash) -> bool {
        let short = short(hash);
        self.all().any(|guard| {
            guard
                .hashes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&short)
        })
    }

    /// Whether a container was sealed after a guard was made, or the collection began.
    pub(crate) fn covers_container(&self, id: ContainerId) -> bool {
        self.sealed
            .get(&id)
            .is_some_and(|seal| self.sinces().any(|since| since.seal <= *seal))
    }

    pub(crate) fn covers_document(&self, hash: &ChunkHash, at: Location) -> bool {
        let place = (at.segment, at.offset);
        self.sinces().any(|since| since.log <= place) || self.covers_chunk(hash)
    }

    fn tidy(&mut self) {
        if self.guards.is_empty() && self.collecting.is_none() {
            self.sealed.clear();
        }
    }
}
