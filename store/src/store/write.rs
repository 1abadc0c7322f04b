//! Writing containers: packs of new chunks, and whole files at their final offsets.
//!
//! Writers work in `partial/`; sealing makes data and sidecar durable, renames both to their place,
//! syncs the folder, and tells the index. A writer that is dropped before it is sealed leaves nothing,
//! but for a whole container that has a journal beside it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Store, WriteError};
use crate::{
    ChunkHash,
    container::{ContainerId, frames},
    disk::{Access, DiskFile, remove_if_there},
    limits::{CHUNK_BYTES_MAX, CONTAINER_CHUNKS_MAX, PACK_BYTES, PACK_CHUNKS},
    log::Record,
    outboard,
    sidecar::{ChunkEntry, ContainerKind, Encoding, Header, Pins, SidecarWriter},
};

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;
/// Chunk places that are handed to the index at once.
const PLACES_PAGE: usize = 4096;

/// What [`Store::publish`] seals.
pub(super) struct Sealing<'a> {
    pub(super) id: ContainerId,
    pub(super) kind: ContainerKind,
    pub(super) side: &'a SidecarWriter,
    pub(super) outboards_len: u64,
    pub(super) table: &'a [ChunkEntry],
    /// The data file of a container of the home, and where it lies until then.
    pub(super) data: Option<(&'a Path, &'a dyn DiskFile)>,
    /// The path of an outside file, and what it looked like when it was hashed.
    pub(super) outside: Option<(&'a Path, Pins)>,
}

impl Store {
    /// A writer for new chunks.
    pub fn pack_writer(&self) -> PackWriter {
        PackWriter {
            store: self.clone(),
            open: None,
            table: Vec::new(),
        }
    }

    /// A writer for a container that is byte for byte one file of `len` bytes; its room is taken now.
    ///
    /// # Errors
    /// [`WriteError::DiskFull`], among others.
    pub fn whole_writer(&self, len: u64) -> Result<WholeWriter, WriteError> {
        self.inner().writable()?;
        let id = self.inner().draw_id();
        let layout = &self.inner().layout;
        let path = layout.partial_data(id, ContainerKind::Whole);
        let writer = self.begin(id, ContainerKind::Whole)?;
        if let Err(e) = writer.data.allocate(len) {
            drop(Discard {
                store: self.clone(),
                id,
                kind: ContainerKind::Whole,
            });
            return Err(WriteError::io(&path)(e));
        }
        Ok(WholeWriter {
            store: self.clone(),
            id,
            len,
            path,
            files: Some(writer),
        })
    }

    /// A writer that makes a whole container of the file at `path`, which lies on the file system of the home
    /// and is complete: nothing of it is copied, and sealing takes it from where it is. Until then it stays
    /// there, whatever happens.
    ///
    /// # Errors
    /// [`WriteError::Io`] when it cannot be opened.
    pub fn adopt_writer(&self, path: &Path) -> Result<WholeWriter, WriteError> {
        let inner = self.inner();
        inner.writable()?;
        let id = inner.draw_id();
        let side_path = inner.layout.partial_side(id);
        let io = WriteError::io(path);
        let data = inner.disk.open(path, Access::Write).map_err(&io)?;
        let len = data.stat().map_err(&io)?.len;
        let side = inner
            .disk
            .create(&side_path)
            .map_err(WriteError::io(&side_path))?;
        let side = SidecarWriter::new(side);
        Ok(WholeWriter {
            store: self.clone(),
            id,
            len,
            path: path.to_owned(),
            files: Some(Files { data, side }),
        })
    }

    /// Goes on with the whole container that an earlier process began and left with a journal
    /// (`partial/ID.journal`).
    ///
    /// # Errors
    /// [`WriteError::Io`] when it is not there.
    pub fn resume_whole_writer(&self, id: ContainerId) -> Result<WholeWriter, WriteError> {
        self.inner().writable()?;
        let inner = self.inner();
        let path = inner.layout.partial_data(id, ContainerKind::Whole);
        let side_path = inner.layout.partial_side(id);
        let data = inner
            .disk
            .open(&path, Access::Write)
            .map_err(WriteError::io(&path))?;
        let side = inner
            .disk
            .open(&side_path, Access::Write)
            .map_err(WriteError::io(&side_path))?;
        let len = data.stat().map_err(WriteError::io(&path))?.len;
        let files = Files {
            data,
            side: SidecarWriter::new(side),
        };
        Ok(WholeWriter {
            store: self.clone(),
            id,
            len,
            path,
            files: Some(files),
        })
    }

    fn begin(&self, id: ContainerId, kind: ContainerKind) -> Result<Files, WriteError> {
        let inner = self.inner();
        let path = inner.layout.partial_data(id, kind);
        let side_path = inner.layout.partial_side(id);
        let data = inner.disk.create(&path).map_err(WriteError::io(&path))?;
        let side = inner.disk.create(&side_path).map_err(|e| {
            drop(Discard {
                store: self.clone(),
                id,
                kind,
            });
            WriteError::io(&side_path)(e)
        })?;
        Ok(Files {
            data,
            side: SidecarWriter::new(side),
        })
    }

    /// Seals a container: durable, in its place, and known to the index when this returns.
    pub(super) fn publish(&self, sealing: &Sealing<'_>) -> Result<ContainerId, WriteError> {
        let inner = self.inner();
        inner.writable()?;
        let _gate = inner.enter();
        let (id, kind) = (sealing.id, sealing.kind);
        let pins = match (sealing.data, sealing.outside) {
            (Some((from, data)), _) => {
                let io = WriteError::io(from);
                // all, not data alone: the time of modification is pinned
                data.sync_all().map_err(&io)?;
                let stat = data.stat().map_err(&io)?;
                Pins {
                    device: 0,
                    inode: 0,
                    ctime_ns: 0,
                    ..stat.into()
                }
            }
            (None, Some((_, pins))) => pins,
            (None, None) => unreachable!("a container is a file of the home or of a user"),
        };
        let side_path = inner.layout.partial_side(id);
        let header = Header {
            id,
            kind,
            len: pins.len,
            mtime_ns: pins.mtime_ns,
            ctime_ns: pins.ctime_ns,
            device: pins.device,
            inode: pins.inode,
            outboards_len: sealing.outboards_len,
            chunks: 0,
            path_len: 0,
        };
        let path = sealing.outside.map(|(path, _)| path);
        let path_bytes = path.map_or(&b""[..], |path| path.as_os_str().as_encoded_bytes());
        let header = sealing
            .side
            .finish(header, &mut sealing.table.iter().copied(), path_bytes)
            .map_err(WriteError::io(&side_path))?;
        let dir = inner.layout.dir(id);
        inner
            .disk
            .create_dir_all(&dir)
            .map_err(WriteError::io(&dir))?;
        let sync_dir = || {
            inner.disk.sync_dir(&dir).map_err(|e| {
                inner.poison(&dir);
                WriteError::io(&dir)(e)
            })
        };
        if let Some((from, _)) = sealing.data {
            let place = inner.layout.data(id, kind);
            inner
                .disk
                .rename(from, &place)
                .map_err(WriteError::io(&place))?;
            // no crash leaves a sidecar without its container: that would be a loss
            sync_dir()?;
            // a file that was adopted must not come back under its old name: a hole that is made in the
            // container would be one in it too
            let adopted = from
                .parent()
                .filter(|dir| *dir != inner.layout.partial_dir());
            if let Some(dir) = adopted {
                inner.disk.sync_dir(dir).map_err(|e| {
                    inner.poison(dir);
                    WriteError::io(dir)(e)
                })?;
            }
        }
        let side_place = inner.layout.side(id);
        inner
            .disk
            .rename(&side_path, &side_place)
            .map_err(WriteError::io(&side_place))?;
        sync_dir()?;
        if path.is_some() {
            self.append_entered(&[Record::outside(id, &pins, path_bytes)])?;
        }
        // before it is visible: whoever finds its chunks dead must find the seal too
        inner.protect.sealed(id);
        let index = inner.index();
        let changes = index.change()?;
        changes.put_container(&header, path)?;
        for page in sealing.table.chunks(PLACES_PAGE) {
            changes.put_places(&header, page)?;
        }
        changes
            .commit()
            .inspect_err(|_| inner.poison(&inner.home.join("index.redb")))?;
        Ok(id)
    }
}

#[derive(Debug)]
struct Files {
    data: Arc<dyn DiskFile>,
    side: SidecarWriter,
}

/// Removes what a writer wrote, when dropped.
struct Discard {
    store: Store,
    id: ContainerId,
    kind: ContainerKind,
}

impl Drop for Discard {
    fn drop(&mut self) {
        let inner = self.store.inner();
        // what stays is removed at the next opening
        let _ = remove_if_there(&*inner.disk, &inner.layout.partial_data(self.id, self.kind));
        let _ = remove_if_there(&*inner.disk, &inner.layout.partial_side(self.id));
    }
}

/// Writes new chunks one after the other.
#[derive(Debug)]
pub struct PackWriter {
    store: Store,
    open: Option<OpenPack>,
    table: Vec<ChunkEntry>,
}

#[derive(Debug)]
struct OpenPack {
    id: ContainerId,
    files: Files,
    /// Bytes that are in the file; those of `buffer` come next.
    written: u64,
    buffer: Vec<u8>,
    outboards_len: u64,
    outboards: Vec<u8>,
    failed: bool,
}

impl PackWriter {
    /// Adds a chunk, whose hash and outboard (empty up to 16 KiB) the caller computed.
    ///
    /// # Errors
    /// [`WriteError`]; the pack cannot be sealed after one.
    pub fn add(&mut self, hash: ChunkHash, plain: &[u8], pairs: &[u8]) -> Result<(), WriteError> {
        let plain_len = chunk_len(plain.len())?;
        if pairs.len() != outboard::size(plain_len) as usize {
            return Err(WriteError::Table(format!(
                "an outboard of {} bytes",
                pairs.len()
            )));
        }
        if self.table.len() >= CONTAINER_CHUNKS_MAX as usize {
            return Err(WriteError::Table(
                "more chunks than a container may have".to_owned(),
            ));
        }
        let store = self.store.clone();
        let pack = match &mut self.open {
            Some(pack) => pack,
            none => {
                store.inner().writable()?;
                let id = store.inner().draw_id();
                let files = store.begin(id, ContainerKind::Pack)?;
                none.insert(OpenPack {
                    id,
                    files,
                    written: 0,
                    buffer: Vec::new(),
                    outboards_len: 0,
                    outboards: Vec::new(),
                    failed: false,
                })
            }
        };
        let encoded = if store.inner().options.compress_packs {
            frames::encode(plain)
        } else {
            None
        };
        let (encoding, stored) = match &encoded {
            Some((encoding, stored)) => (*encoding, &stored[..]),
            None => (Encoding::Plain, plain),
        };
        self.table.push(ChunkEntry {
            hash,
            offset: pack.written + pack.buffer.len() as u64,
            stored_len: u32::try_from(stored.len()).expect("no longer than the chunk"),
            plain_len,
            encoding,
            outboard: (!pairs.is_empty())
                .then_some(pack.outboards_len + pack.outboards.len() as u64),
        });
        pack.outboards.extend_from_slice(pairs);
        let done = pack.put(stored);
        pack.failed |= done.is_err();
        done.map_err(WriteError::io(
            &store
                .inner()
                .layout
                .partial_data(pack.id, ContainerKind::Pack),
        ))
    }

    /// Bytes that were added, as they are stored.
    pub fn stored_len(&self) -> u64 {
        self.open
            .as_ref()
            .map_or(0, |pack| pack.written + pack.buffer.len() as u64)
    }

    /// Chunks that were added.
    pub fn chunks(&self) -> usize {
        self.table.len()
    }

    /// Whether it should be sealed now, and another one begun.
    pub fn is_full(&self) -> bool {
        self.stored_len() >= PACK_BYTES || self.table.len() >= PACK_CHUNKS
    }

    /// Seals the pack: when this returns, its chunks are durable and found. A pack without chunks is
    /// no pack.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the pack stays then.
    pub fn seal(mut self) -> Result<Option<ContainerId>, WriteError> {
        let Some(pack) = &mut self.open else {
            return Ok(None);
        };
        let path = self
            .store
            .inner()
            .layout
            .partial_data(pack.id, ContainerKind::Pack);
        if pack.failed {
            return Err(WriteError::Table(
                "an earlier write to the pack failed".to_owned(),
            ));
        }
        pack.flush().map_err(WriteError::io(&path))?;
        let id = self.store.publish(&Sealing {
            id: pack.id,
            kind: ContainerKind::Pack,
            side: &pack.files.side,
            outboards_len: pack.outboards_len,
            table: &self.table,
            data: Some((&path, &*pack.files.data)),
            outside: None,
        })?;
        self.open = None;
        Ok(Some(id))
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        if let Some(pack) = self.open.take() {
            drop(Discard {
                store: self.store.clone(),
                id: pack.id,
                kind: ContainerKind::Pack,
            });
        }
    }
}

impl OpenPack {
    fn put(&mut self, stored: &[u8]) -> io::Result<()> {
        if self.buffer.len() + stored.len() > WRITE_BYTES {
            self.flush()?;
        }
        if stored.len() > WRITE_BYTES {
            self.files.data.write_at(stored, self.written)?;
            self.written += stored.len() as u64;
        } else {
            self.buffer.extend_from_slice(stored);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.files.data.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.files
            .side
            .write_outboard_at(self.outboards_len, &self.outboards)?;
        self.outboards_len += self.outboards.len() as u64;
        self.outboards.clear();
        Ok(())
    }
}

/// A file, and the same for writing past the cache.
pub(crate) type Handles = (Arc<dyn DiskFile>, Option<Arc<dyn DiskFile>>);

/// Writes a container that is one file, at its final offsets and in any order, from many threads.
#[derive(Debug)]
pub struct WholeWriter {
    store: Store,
    id: ContainerId,
    len: u64,
    path: PathBuf,
    files: Option<Files>,
}

impl WholeWriter {
    fn files(&self) -> &Files {
        self.files
            .as_ref()
            .expect("there until the writer is sealed, which takes it")
    }

    /// The file, for whoever writes to it directly: through the cache, and past it where that is possible. All
    /// writes must have ended before [`WholeWriter::seal`].
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub(crate) fn handles(&self) -> Result<Handles, WriteError> {
        let direct = self.store.inner().disk.open_direct(&self.path);
        let direct = direct.map_err(WriteError::io(&self.path))?;
        Ok((Arc::clone(&self.files().data), direct))
    }

    /// The container's id: names what is in `partial/` until it is sealed.
    pub fn id(&self) -> ContainerId {
        self.id
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file that is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a journal belongs that lets [`Store::resume_whole_writer`] go on after a restart.
    pub fn journal_path(&self) -> PathBuf {
        self.path.with_extension("journal")
    }

    /// Writes bytes of the file.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        if offset
            .checked_add(data.len() as u64)
            .is_none_or(|end| end > self.len)
        {
            return Err(WriteError::Table(format!(
                "bytes from {offset} end behind the file"
            )));
        }
        self.files()
            .data
            .write_at(data, offset)
            .map_err(WriteError::io(&self.path))
    }

    /// Reads back what was written.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), WriteError> {
        self.files()
            .data
            .read_exact_at(buffer, offset)
            .map_err(WriteError::io(&self.path))
    }

    /// Writes bytes of the outboards, whose layout is the caller's: the table says where each starts.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write_outboard_at(&self, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        self.files()
            .side
            .write_outboard_at(offset, data)
            .map_err(WriteError::io(&self.path))
    }

    /// Reads back bytes of the outboards.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn read_outboard_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, WriteError> {
        self.files()
            .side
            .read_outboard_at(offset, len)
            .map_err(WriteError::io(&self.path))
    }

    /// Makes what was written so far durable: data, then outboards.
    ///
    /// # Errors
    /// [`WriteError`]; what was written since the last success may be lost.
    pub fn sync(&self) -> Result<(), WriteError> {
        let io = WriteError::io(&self.path);
        self.files().data.sync_data().map_err(&io)?;
        self.files().side.sync().map_err(&io)
    }

    /// Seals the container with its chunk table, in the order of the file and without gaps, and
    /// `outboards_len` bytes of outboards. The caller has verified every byte.
    ///
    /// # Errors
    /// [`WriteError`]; the writer and what it wrote is gone then, unless it has a journal.
    pub fn seal(
        mut self,
        table: &[ChunkEntry],
        outboards_len: u64,
    ) -> Result<ContainerId, WriteError> {
        check_file_table(table, self.len)?;
        let files = self.files();
        let id = self.store.publish(&Sealing {
            id: self.id,
            kind: ContainerKind::Whole,
            side: &files.side,
            outboards_len,
            table,
            data: Some((&self.path, &*files.data)),
            outside: None,
        })?;
        let journal = self.journal_path();
        self.files = None;
        if let Err(error) = remove_if_there(&*self.store.inner().disk, &journal) {
            tracing::warn!(%error, path = %journal.display(), "a journal stays behind");
        }
        Ok(id)
    }
}

impl Drop for WholeWriter {
    fn drop(&mut self) {
        if self.files.take().is_none() {
            return;
        }
        let inner = self.store.inner();
        if !crate::disk::exists(&*inner.disk, &self.journal_path()).unwrap_or(true) {
            drop(Discard {
                store: self.store.clone(),
                id: self.id,
                kind: ContainerKind::Whole,
            });
        }
    }
}

/// Checks that a table covers a file of `len` bytes from start to end.
pub(super) fn check_file_table(table: &[ChunkEntry], len: u64) -> Result<(), WriteError> {
    let mut at = 0;
    for entry in table {
        if entry.offset != at || entry.encoding != Encoding::Plain {
            return Err(WriteError::Table(format!(
                "the chunk at byte {at} is missing"
            )));
        }
        at += u64::from(entry.stored_len);
    }
    if at == len {
        Ok(())
    } else {
        Err(WriteError::Table(format!(
            "chunks of {at} bytes for a file of {len}"
        )))
    }
}

fn chunk_len(len: usize) -> Result<u32, WriteError> {
    u32::try_from(len)
        .ok()
        .filter(|len| u64::from(*len) <= CHUNK_BYTES_MAX)
        .ok_or(WriteError::TooLong {
            what: "a chunk",
            found: len as u64,
            max: CHUNK_BYTES_MAX,
        })
}
