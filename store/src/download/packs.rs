//! Chunks that are received one by one, and put in packs: for small files, and for files of which most
//! is held already.
//!
//! A chunk is gathered in memory until it is whole; when all chunks that are being gathered take too
//! much, further ones go to a scratch file. Downloads that share one [`Packs`] fill one pack.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::DownloadError;
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
}

impl Packs {
    /// Packs of a store.
    pub fn new(store: &Store) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            writer: Mutex::new(None),
            buffered: AtomicU64::new(0),
        })
    }

    fn add(&self, hash: ChunkHash, plain: &[u8], pairs: &[u8]) -> Result<(), DownloadError> {
        let mut open = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = open.get_or_insert_with(|| self.store.pack_writer());
        writer.add(hash, plain, pairs)?;
        let full = writer.is_full() || writer.stored_len() >= SEAL_BYTES;
        if let Some(writer) = open.take_if(|_| full) {
            writer.seal()?;
        }
        Ok(())
    }

    /// Seals what was added: durable, and found, when this returns.
    ///
    /// # Errors
    /// What the store says; the chunks of the last pack must be received again then.
    pub fn seal(&self) -> Result<(), DownloadError> {
        let mut open = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = open.take() {
            writer.seal()?;
        }
        Ok(())
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
            let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.chunks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&chunk);
    }

    /// Puts a chunk whose bytes are all there in a pack; false when they are not those of `hash`.
    pub(super) fn complete(&self, chunk: u32, hash: ChunkHash) -> Result<bool, DownloadError> {
        let buffer = self
            .chunks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(chunk, None);
        let Some(Some(buffer)) = buffer else {
            return Ok(false);
        };
        let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
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
