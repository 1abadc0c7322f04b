//! The files that this node is receiving: what of them others can have already.
//!
//! While a pull runs, its version counts as one of the home's, and each piece that was verified is passed
//! on to whoever asks, and told to those that watch the version.

use std::{
    collections::{HashMap, HashSet},
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use lode_store::{
    ChunkHash, VersionId,
    download::{Download, ReceivedChunk},
    piece::{Parent, PieceSink},
    sync::{hub::Hub, message::ChunkPieces, receiver::EVERY_PIECE, source::ChunkRead},
    tree::ChunkList,
};

/// What a node is receiving. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receiving(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// How many pulls of a version run.
    versions: HashMap<VersionId, usize>,
    files: HashMap<u64, Receiver>,
    chunks: HashMap<ChunkHash, (u64, u32)>,
}

#[derive(Debug)]
struct Receiver {
    version: VersionId,
    /// Number of its first chunk in the version.
    base: u32,
    list: Arc<ChunkList>,
    download: Weak<Download>,
}

/// A version counts as held while this lives.
#[derive(Debug)]
pub(crate) struct Pulling(Receiving, VersionId);

/// A file is passed on while this lives.
#[derive(Debug)]
struct Entry(Receiving, u64);

impl Receiving {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a version is being pulled.
    pub(crate) fn pull(&self, version: VersionId) -> Pulling {
        *self.state().versions.entry(version).or_default() += 1;
        Pulling(self.clone(), version)
    }

    /// The versions that are being pulled.
    pub(crate) fn versions(&self) -> HashSet<VersionId> {
        self.state().versions.keys().copied().collect()
    }

    /// A chunk of which pieces have come.
    pub(crate) fn open(&self, hash: &ChunkHash) -> Option<ReceivedChunk> {
        let state = self.state();
        let (file, chunk) = state.chunks.get(hash)?;
        let download = state.files.get(file)?.download.upgrade()?;
        let chunk = *chunk;
        drop(state);
        download.received(chunk)
    }

    /// The pieces of a version that have come.
    pub(crate) fn pieces(&self, version: &VersionId) -> Vec<ChunkPieces> {
        let state = self.state();
        let files = state.files.values().filter(|file| file.version == *version);
        let files: Vec<_> = files
            .filter_map(|file| Some((file.base, file.list.len(), file.download.upgrade()?)))
            .collect();
        drop(state);
        let mut pieces = Vec::new();
        for (base, count, download) in files {
            let chunks = (0..)
                .take(count)
                .map(|chunk| (chunk, download.pieces(chunk)));
            let there = chunks.filter(|(_, pieces)| *pieces != 0);
            pieces.extend(there.map(|(chunk, pieces)| (base.saturating_add(chunk), pieces)));
        }
        pieces
    }

    fn enter(&self, receiver: Receiver) -> Entry {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let list = Arc::clone(&receiver.list);
        for (chunk, hash) in (0..).zip(&list.hashes) {
            state.chunks.entry(*hash).or_insert((id, chunk));
        }
        state.files.insert(id, receiver);
        Entry(self.clone(), id)
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(count) = state.versions.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                state.versions.remove(&self.1);
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.files.remove(&self.1);
        let id = self.1;
        state.chunks.retain(|_, (file, _)| *file != id);
    }
}

/// Takes what is received for a download, and passes it on.
pub(crate) struct PassOn {
    download: Arc<Download>,
    hub: Hub,
    seq: ChunkHash,
    list: Arc<ChunkList>,
    /// For each chunk, the pieces that were told.
    told: Mutex<Vec<u16>>,
    _entry: Entry,
}

impl PassOn {
    /// Passes on what comes for file `seq` of a version, whose first chunk has the number `base` there; what
    /// is there already is told at once.
    pub(crate) fn new(
        receiving: &Receiving,
        hub: Hub,
        version: VersionId,
        (seq, base): (ChunkHash, u32),
        list: Arc<ChunkList>,
        download: &Arc<Download>,
    ) -> Self {
        let entry = receiving.enter(Receiver {
            version,
            base,
            list: Arc::clone(&list),
            download: Arc::downgrade(download),
        });
        let new = Self {
            download: Arc::clone(download),
            hub,
            seq,
            told: Mutex::new(vec![0; list.len()]),
            list,
            _entry: entry,
        };
        (0..).take(new.list.len()).for_each(|chunk| new.tell(chunk));
        new
    }

    /// Says that the file is whole now, in the store.
    pub(crate) fn finished(&self) {
        for chunk in (0..).take(self.list.len()) {
            self.hub.gained(&self.seq, chunk, EVERY_PIECE);
        }
    }

    fn tell(&self, chunk: u32) {
        let pieces = self.download.pieces(chunk);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(told) = told
            .get_mut(chunk as usize)
            .filter(|told| pieces & !**told != 0)
        else {
            return;
        };
        *told |= pieces;
        self.hub.gained(&self.seq, chunk, pieces);
    }
}

impl PieceSink for PassOn {
    fn store(&self, chunk: u32, offset: u32, data: &[u8], parents: &[Parent]) -> io::Result<()> {
        self.download.store(chunk, offset, data, parents)?;
        self.tell(chunk);
        Ok(())
    }
}

/// A chunk that is being received, as the provider reads it.
pub(crate) struct OpenReceived(pub(crate) ReceivedChunk);

impl ChunkRead for OpenReceived {
    fn size(&self) -> u64 {
        u64::from(self.0.size())
    }

    fn is_mapped(&self) -> bool {
        false
    }

    fn is_verified(&self) -> bool {
        false
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let narrow = |at: u64| u32::try_from(at).map_err(io::Error::other);
        self.0.read(&(narrow(range.start)?..narrow(range.end)?))
    }

    fn outboard(&self) -> io::Result<Bytes> {
        self.0.outboard()
    }

    fn held(&self) -> Vec<Range<u64>> {
        let held = self.0.held().into_iter();
        held.map(|range| u64::from(range.start)..u64::from(range.end))
            .collect()
    }
}
