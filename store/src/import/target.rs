//! Where the chunks of one file go.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lode_tensors::Header;

use crate::{
    ChunkHash, Store,
    cut::cdc_cuts,
    hashing::{Handle, HashedChunk, Plan},
    index::IndexError,
    outboard,
    sidecar::ChunkEntry,
    store::{OutsideWriter, PackWriter, Protection, WholeWriter, WriteError},
};

use super::behind::{Behind, BehindFile};

/// Shorter files go to packs, or with `in_place` become outside places from
/// [`OUTSIDE_BYTES_MIN`] on.
pub(super) const WHOLE_BYTES_MIN: u64 = 4 << 20;

/// Shorter files are copied to packs also with `in_place`: an outside place costs a sidecar, two
/// syncs and an index commit of its own.
pub(super) const OUTSIDE_BYTES_MIN: u64 = 1 << 20;

/// Bytes of a file cut by content that are looked at to guess whether the rest is held.
const SAMPLE_BYTES: u64 = 8 << 20;

/// The new chunks of this import, and the pack that takes those of no whole container.
pub(super) struct Chunks {
    store: Store,
    guard: Protection,
    claimed: Mutex<HashSet<ChunkHash>>,
    pack: Mutex<PackWriter>,
    sample: Mutex<Vec<u8>>,
    /// Whether the store held no chunk when the import began.
    fresh: bool,
}

impl Chunks {
    pub(super) fn new(store: &Store) -> Result<Self, IndexError> {
        Ok(Self {
            store: store.clone(),
            guard: store.protect(),
            claimed: Mutex::default(),
            pack: Mutex::new(store.pack_writer()),
            sample: Mutex::default(),
            fresh: store.index().places_len()? == 0,
        })
    }

    /// Whether the chunk is new: in no container of the home (or, where `any` place will do, in no
    /// place at all), and not met before. From then on it is met, and protected.
    pub(super) fn claim(&self, hash: &ChunkHash, any: bool) -> Result<bool, IndexError> {
        if !lock(&self.claimed).insert(*hash) {
            return Ok(false);
        }
        self.guard.add(hash);
        Ok(!self.held(hash, any)?)
    }

    fn held(&self, hash: &ChunkHash, any: bool) -> Result<bool, IndexError> {
        if self.fresh {
            return Ok(false);
        }
        let places = self.store.index().places(hash)?;
        Ok(places.first().is_some_and(|first| any || !first.outside))
    }

    /// Adds a chunk to the pack, and begins another one when it is full.
    pub(super) fn add(&self, hash: ChunkHash, data: &[u8], pairs: &[u8]) -> Result<(), WriteError> {
        let mut pack = lock(&self.pack);
        pack.add(hash, data, pairs)?;
        if pack.is_full() {
            let full = std::mem::replace(&mut *pack, self.store.pack_writer());
            full.seal()?;
        }
        Ok(())
    }

    /// Guesses from a few chunks of a file whether most of it is held.
    pub(super) fn mostly_held(&self, plan: &Plan, handle: &Handle, len: u64) -> io::Result<bool> {
        if self.fresh && lock(&self.claimed).is_empty() {
            return Ok(false);
        }
        let known = |hash: &ChunkHash| {
            lock(&self.claimed).contains(hash) || self.held(hash, false).unwrap_or(false)
        };
        let mut buffer = lock(&self.sample);
        let (mut hits, mut looks) = (0, 0);
        let mut look = |data: &[u8]| {
            looks += 1;
            hits += usize::from(known(&ChunkHash::of(data)));
        };
        match plan {
            Plan::Known(cuts) => {
                let count = cuts.lengths.len();
                let samples = (count / 32).clamp(3, 8).min(count);
                let chosen: Vec<usize> = (0..samples)
                    .map(|i| (2 * i + 1) * count / (2 * samples))
                    .collect();
                let mut offset = 0;
                for (index, &length) in cuts.lengths.iter().enumerate() {
                    if chosen.contains(&index) {
                        buffer.resize(length as usize, 0);
                        handle.read_exact_at(&mut buffer, offset)?;
                        look(&buffer);
                    }
                    offset += u64::from(length);
                }
            }
            Plan::Content => {
                let sample = usize::try_from(len.min(SAMPLE_BYTES)).expect("at most 8 MiB");
                buffer.resize(sample, 0);
                handle.read_exact_at(&mut buffer, 0)?;
                let mut rest = &buffer[..];
                let lengths = cdc_cuts(rest).lengths;
                // the last one ends with the sample, not where content says
                for &length in &lengths[..lengths.len().saturating_sub(1)] {
                    let (chunk, tail) = rest.split_at(length as usize);
                    look(chunk);
                    rest = tail;
                }
            }
        }
        *buffer = Vec::new();
        Ok(hits * 2 > looks)
    }

    /// Seals the pack; the guard comes back to be handed on.
    pub(super) fn finish(self) -> Result<Protection, WriteError> {
        let pack = self
            .pack
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        pack.seal()?;
        Ok(self.guard)
    }
}

/// Where the bytes of a file go.
pub(super) enum Place {
    /// New chunks alone, to the pack that all share.
    Pack,
    /// All of it, to a container of its own.
    Whole(Whole),
    /// It becomes a container as it is.
    Adopted(WholeWriter),
    /// Nowhere: it stays where it is.
    Outside(OutsideWriter),
}

/// A container that is written behind whoever hashes.
pub(super) struct Whole {
    behind: BehindFile,
    pub(super) writer: WholeWriter,
}

impl Whole {
    pub(super) fn new(behind: &Arc<Behind>, writer: WholeWriter) -> Result<Self, WriteError> {
        let (file, direct) = writer.handles()?;
        let behind = behind.file(file, direct);
        Ok(Self { behind, writer })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        let written = self.behind.write_at(data, offset);
        written.map_err(WriteError::io(self.writer.path()))
    }

    fn wait(&self) -> Result<(), WriteError> {
        let written = self.behind.wait();
        written.map_err(WriteError::io(self.writer.path()))
    }
}

/// A chunk of a file, stored or noted.
struct Stored {
    index: u32,
    entry: ChunkEntry,
    new: bool,
}

/// A file that is being stored.
pub(super) struct Target {
    place: Place,
    pub(super) header: Option<Box<Header>>,
    stored: Mutex<Vec<Stored>>,
    outboards_len: AtomicU64,
}

/// A file whose chunks are all stored or noted.
pub(super) struct Filled {
    pub(super) place: Place,
    pub(super) table: Vec<ChunkEntry>,
    pub(super) new: Vec<bool>,
    pub(super) outboards_len: u64,
    pub(super) header: Option<Box<Header>>,
}

impl Target {
    pub(super) fn new(place: Place, header: Option<Box<Header>>) -> Self {
        let (stored, outboards_len) = (Mutex::default(), AtomicU64::new(0));
        Self {
            place,
            header,
            stored,
            outboards_len,
        }
    }

    /// Stores or notes one chunk.
    pub(super) fn take(&self, chunks: &Chunks, chunk: &HashedChunk<'_>) -> Result<(), WriteError> {
        let HashedChunk {
            index,
            offset,
            hash,
            data,
            ref outboard,
            ..
        } = *chunk;
        let new = chunks.claim(&hash, matches!(self.place, Place::Outside(_)))?;
        let len = u32::try_from(data.len()).expect("a chunk is at most 16 MiB");
        let at = self
            .outboards_len
            .fetch_add(outboard.len() as u64, Ordering::Relaxed);
        match &self.place {
            Place::Pack => {
                if new {
                    chunks.add(hash, data, outboard)?;
                }
            }
            Place::Whole(whole) => {
                whole.write_at(offset, data)?;
                whole.writer.write_outboard_at(at, outboard)?;
            }
            Place::Adopted(writer) => writer.write_outboard_at(at, outboard)?,
            Place::Outside(writer) => writer.write_outboard_at(at, outboard)?,
        }
        let entry = ChunkEntry::plain(hash, offset, len, (!outboard.is_empty()).then_some(at));
        lock(&self.stored).push(Stored { index, entry, new });
        Ok(())
    }

    /// Ends a file. What was written whole and turns out to be held for the most part is taken
    /// apart again: its new chunks move to the pack.
    pub(super) fn fill(self, chunks: &Chunks) -> Result<Filled, WriteError> {
        let mut stored = self
            .stored
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        stored.sort_unstable_by_key(|chunk| chunk.index);
        let table: Vec<ChunkEntry> = stored.iter().map(|chunk| chunk.entry).collect();
        let new: Vec<bool> = stored.iter().map(|chunk| chunk.new).collect();
        let mut place = self.place;
        let whole = match &place {
            Place::Whole(whole) => {
                whole.wait()?;
                Some(&whole.writer)
            }
            Place::Adopted(writer) => Some(writer),
            Place::Pack | Place::Outside(_) => None,
        };
        if let Some(writer) = whole {
            let size_new: u64 = stored
                .iter()
                .filter(|chunk| chunk.new)
                .map(|chunk| u64::from(chunk.entry.plain_len))
                .sum();
            if size_new * 2 < writer.len() {
                for entry in stored
                    .iter()
                    .filter(|chunk| chunk.new)
                    .map(|chunk| &chunk.entry)
                {
                    let mut data = vec![0; entry.plain_len as usize];
                    writer.read_at(entry.offset, &mut data)?;
                    let pairs = match entry.outboard {
                        Some(at) => {
                            writer.read_outboard_at(at, outboard::size(entry.plain_len) as usize)?
                        }
                        None => Vec::new(),
                    };
                    chunks.add(entry.hash, &data, &pairs)?;
                }
                place = Place::Pack;
            }
        }
        let outboards_len = self.outboards_len.into_inner();
        Ok(Filled {
            place,
            table,
            new,
            outboards_len,
            header: self.header,
        })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
