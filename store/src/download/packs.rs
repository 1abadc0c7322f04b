//! Chunks that are received one by one, and put in packs: for small files, and for files of which most
//! is held already.
//!
//! A chunk is gathered in memory until it is whole; when all chunks that are being gathered take too
//! much, further ones go to a scratch file. Downloads that share one [`Packs`] fill one pack.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{DownloadError, lock};
use crate::{
    ChunkHash, Store,
    container::ContainerId,
    disk::{DiskFile, remove_if_there},
    limits::DOWNLOAD_BUFFER_BYTES_MAX,
    outboard,
    sidecar::ContainerKind,
    store::PackWriter,
};

/// Bytes after which a pack is sealed: what a crash costs at most.
const SEAL_BYTES: u64 = 256 << 20;

/// Packs that several downloads fill together.
#[derive(Debug)]
pub struct Packs {
    store: Store,
    writer: Mutex<Option<PackWriter>>,
    buffered: AtomicU64,
    coming: Mutex<Coming>,
}

/// What the downloads that share [`Packs`] will bring, so that none of it is fetched twice.
#[derive(Debug, Default)]
struct Coming {
    /// For the store, and for files of users: chunks that downloads wait for, and how many do.
    expected: [HashMap<ChunkHash, usize>; 2],
    /// Chunks that a download for the store left to another one, and their lengths.
    relied: HashMap<ChunkHash, u32>,
}

/// Chunks that a download waits for, until it is dropped.
#[derive(Debug)]
pub(super) struct Expected {
    packs: Arc<Packs>,
    file: bool,
    hashes: Vec<ChunkHash>,
}

impl Packs {
    /// Packs of a store.
    pub fn new(store: &Store) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            writer: Mutex::new(None),
            buffered: AtomicU64::new(0),
            coming: Mutex::default(),
        })
    }

    fn add(&self, hash: ChunkHash, plain: &[u8], pairs: &[u8]) -> Result<(), DownloadError> {
        let mut open = lock(&self.writer);
        let writer = open.get_or_insert_with(|| self.store.pack_writer());
        writer.add(hash, plain, pairs)?;
        let full = writer.is_full() || writer.stored_len() >= SEAL_BYTES;
        if let Some(writer) = open.take_if(|_| full) {
            writer.seal()?;
        }
        Ok(())
    }

    /// Seals what was added: durable, and found, when this returns. To be called once all downloads that
    /// share these packs have finished.
    ///
    /// # Errors
    /// What the store says: the chunks of the last pack must be received again then.
    /// [`DownloadError::Incomplete`] when a download did not bring what another one left to it.
    pub fn seal(&self) -> Result<(), DownloadError> {
        let mut open = lock(&self.writer);
        if let Some(writer) = open.take() {
            writer.seal()?;
        }
        drop(open);
        let relied = std::mem::take(&mut lock(&self.coming).relied);
        let mut bytes = 0;
        for (hash, len) in relied {
            if !self.store.holds(&hash)? {
                bytes += u64::from(len);
            }
        }
        if bytes == 0 {
            return Ok(());
        }
        Err(DownloadError::Incomplete {
            path: self.store.home().to_owned(),
            bytes,
        })
    }

    /// Leaves a chunk to another download of the same target, if one waits for it.
    pub(super) fn rely(&self, file: bool, hash: &ChunkHash, len: u32) -> bool {
        let mut coming = lock(&self.coming);
        let expected = coming.expected[usize::from(file)].contains_key(hash);
        if expected && !file {
            coming.relied.insert(*hash, len);
        }
        expected
    }

    /// Says which chunks will be readable once a download has finished.
    pub(super) fn expect(self: &Arc<Self>, file: bool, hashes: Vec<ChunkHash>) -> Expected {
        let mut coming = lock(&self.coming);
        for hash in &hashes {
            *coming.expected[usize::from(file)].entry(*hash).or_default() += 1;
        }
        Expected {
            packs: self.clone(),
            file,
            hashes,
        }
    }

    /// Takes `bytes` of the memory that there is for chunks.
    fn take(&self, bytes: u64) -> bool {
        self.buffered
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                (held + bytes <= DOWNLOAD_BUFFER_BYTES_MAX).then_some(held + bytes)
            })
            .is_ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut coming = lock(&self.packs.coming);
        let expected = &mut coming.expected[usize::from(self.file)];
        for hash in &self.hashes {
            if let Some(count) = expected.get_mut(hash) {
                *count -= 1;
                if *count == 0 {
                    expected.remove(hash);
                }
            }
        }
    }
}

/// The chunks of one file that are being gathered.
#[derive(Debug)]
pub(super) struct Gather {
    packs: Arc<Packs>,
    /// None for those that are in a pack.
    chunks: Mutex<HashMap<u32, Option<Arc<Mutex<Buffer>>>>>,
    scratch: Mutex<Option<Scratch>>,
}

#[derive(Debug)]
enum Buffer {
    Memory {
        packs: Arc<Packs>,
        bytes: Vec<u8>,
    },
    Scratch {
        file: Arc<dyn DiskFile>,
        at: u64,
        len: usize,
    },
}

/// A file without a place; what it holds is worth nothing after a restart.
#[derive(Debug)]
struct Scratch {
    store: Store,
    id: ContainerId,
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl Gather {
    pub(super) fn new(packs: Arc<Packs>) -> Self {
        Self {
            packs,
            chunks: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// Puts bytes of a chunk of `len` bytes aside.
    pub(super) fn put(
        &self,
        chunk: u32,
        len: u32,
        offset: u32,
        data: &[u8],
    ) -> Result<(), DownloadError> {
        let buffer = {
            let mut chunks = lock(&self.chunks);
            match chunks.get(&chunk) {
                Some(Some(buffer)) => buffer.clone(),
                Some(None) => return Ok(()),
                None => {
                    let buffer = Arc::new(Mutex::new(self.buffer(len)?));
                    chunks.insert(chunk, Some(buffer.clone()));
                    buffer
                }
            }
        };
        let mut buffer = lock(&buffer);
        match &mut *buffer {
            Buffer::Memory { bytes, .. } => {
                let at = offset as usize;
                bytes[at..at + data.len()].copy_from_slice(data);
                Ok(())
            }
            Buffer::Scratch { file, at, .. } => file
                .write_at(data, *at + u64::from(offset))
                .map_err(self.scratch_error()),
        }
    }

    fn scratch_error(&self) -> impl Fn(io::Error) -> DownloadError + use<> {
        DownloadError::io(self.packs.store.inner().layout.partial_dir())
    }

    fn buffer(&self, len: u32) -> Result<Buffer, DownloadError> {
        if self.packs.take(u64::from(len)) {
            return Ok(Buffer::Memory {
                packs: self.packs.clone(),
                bytes: vec![0; len as usize],
            });
        }
        let mut scratch = lock(&self.scratch);
        let scratch = match &mut *scratch {
            Some(scratch) => scratch,
            none => {
                let inner = self.packs.store.inner();
                let id = inner.draw_id();
                let path = inner.layout.partial_data(id, ContainerKind::Pack);
                let file = inner.disk.create(&path).map_err(DownloadError::io(&path))?;
                none.insert(Scratch {
                    store: self.packs.store.clone(),
                    id,
                    file,
                    len: 0,
                })
            }
        };
        let at = scratch.len;
        scratch.len += u64::from(len);
        Ok(Buffer::Scratch {
            file: scratch.file.clone(),
            at,
            len: len as usize,
        })
    }

    /// Begins a chunk again.
    pub(super) fn forget(&self, chunk: u32) {
        lock(&self.chunks).remove(&chunk);
    }

    /// Puts a chunk whose bytes are all there in a pack; false when they are not those of `hash`.
    pub(super) fn complete(&self, chunk: u32, hash: ChunkHash) -> Result<bool, DownloadError> {
        let buffer = lock(&self.chunks).insert(chunk, None);
        let Some(Some(buffer)) = buffer else {
            return Ok(false);
        };
        let mut buffer = lock(&buffer);
        let read;
        let bytes = match &mut *buffer {
            Buffer::Memory { bytes, .. } => &bytes[..],
            Buffer::Scratch { file, at, len } => {
                read = file.read_vec_at(*at, *len).map_err(self.scratch_error())?;
                // its room is needed no more; where it cannot be given back, it stays until the end
                let _ = file.punch(*at..*at + *len as u64);
                &read[..]
            }
        };
        let (root, pairs) = outboard::compute(bytes);
        if root != hash {
            return Ok(false);
        }
        self.packs.add(hash, bytes, &pairs)?;
        Ok(true)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Self::Memory { packs, bytes } = self {
            packs
                .buffered
                .fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let inner = self.store.inner();
        let path = inner.layout.partial_data(self.id, ContainerKind::Pack);
        // what stays is removed at the next opening
        let _ = remove_if_there(&*inner.disk, &path);
    }
}
