//! The journal of a download: which pieces of a file are there, for whoever goes on with it later.
//!
//! docs/format/journal.md draws its bytes: a header that says of which file, layout and target it is, and
//! a frame of 64 bytes for each piece, appended after the piece's bytes were written. Nothing in it is
//! taken at its word: a frame carries the hash of the piece, and whoever resumes reads and hashes the
//! pieces first. So it does not matter what a crash lost, or who changed the file meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    container::ContainerId,
    disk::{Access, Disk, DiskFile, remove_if_there},
    limits::{FILE_CHUNKS_MAX, OUTSIDE_PATH_BYTES_MAX},
};

const MAGIC: &[u8; 8] = b"lodejrnl";
const FORMAT: u32 = 1;
/// Bytes of the header, without path and checksum.
const HEADER_BYTES: usize = 64;
const CHECK_BYTES: usize = 32;
/// Bytes of a frame.
pub(super) const FRAME_BYTES: usize = 64;
const FRAME_CHECK_BYTES: usize = 16;
/// Pieces of the longest file: 16 for each chunk.
const FRAMES_MAX: u64 = FILE_CHUNKS_MAX * 16;
/// Frames that are read at once.
const FRAMES_READ: usize = 4096;

/// Bytes that are written between two syncs, at most.
const SYNC_BYTES: u64 = 256 << 20;
/// Time between two syncs, about.
const SYNC_AFTER: Duration = Duration::from_secs(5);

/// What a journal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalHeader {
    /// Names file, layout and target.
    pub key: [u8; 32],
    /// The whole container that is being written; 0 for a part file.
    pub container: u64,
    /// The part file; empty for a container.
    pub path: Vec<u8>,
}

/// A piece that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalRecord {
    /// Number of the chunk.
    pub chunk: u32,
    /// Number of the piece in the chunk, 0 to 15.
    pub piece: u8,
    /// The hash of what is wanted of it.
    pub hash: [u8; 32],
}

impl JournalHeader {
    fn encode(&self) -> Vec<u8> {
        let path_len = u32::try_from(self.path.len()).expect("a path is bounded by the system");
        let mut out = Vec::with_capacity(HEADER_BYTES + self.path.len() + CHECK_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&path_len.to_le_bytes());
        out.extend_from_slice(&self.container.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.path);
        let check = blake3::hash(&out);
        out.extend_from_slice(check.as_bytes());
        out
    }

    /// The header at the start of `bytes`, and how many bytes it takes.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head = bytes.get(..HEADER_BYTES)?;
        if head[..8] != *MAGIC || head[8..12] != FORMAT.to_le_bytes() || head[24..32] != [0; 8] {
            return None;
        }
        let path_len = u32::from_le_bytes(head[12..16].try_into().ok()?) as usize;
        if path_len > OUTSIDE_PATH_BYTES_MAX {
            return None;
        }
        let end = HEADER_BYTES + path_len;
        let check = bytes.get(end..end + CHECK_BYTES)?;
        if blake3::hash(&bytes[..end]).as_bytes()[..] != *check {
            return None;
        }
        let header = Self {
            key: head[32..64].try_into().ok()?,
            container: u64::from_le_bytes(head[16..24].try_into().ok()?),
            path: bytes[HEADER_BYTES..end].to_vec(),
        };
        Some((header, end + CHECK_BYTES))
    }

    /// The header at the start of a file.
    fn read(file: &dyn DiskFile) -> io::Result<Option<(Self, usize)>> {
        let most = HEADER_BYTES + OUTSIDE_PATH_BYTES_MAX + CHECK_BYTES;
        let mut bytes = vec![0; most];
        let mut len = 0;
        while len < most {
            match file.read_at(&mut bytes[len..], len as u64)? {
                0 => break,
                more => len += more,
            }
        }
        Ok(Self::parse(&bytes[..len]))
    }
}

impl JournalRecord {
    /// The frame of this record as number `index` of the journal that `key` names.
    fn encode(&self, key: &[u8; 32], index: u64) -> [u8; FRAME_BYTES] {
        let mut out = [0; FRAME_BYTES];
        out[..4].copy_from_slice(&self.chunk.to_le_bytes());
        out[4] = self.piece;
        out[16..48].copy_from_slice(&self.hash);
        let check = check(key, index, &out[..48]);
        out[48..].copy_from_slice(&check);
        out
    }

    /// The record of frame number `index`, if its checksum holds.
    pub fn parse(bytes: &[u8; FRAME_BYTES], key: &[u8; 32], index: u64) -> Option<Self> {
        if bytes[48..] != check(key, index, &bytes[..48]) || bytes[5..16] != [0; 11] {
            return None;
        }
        let record = Self {
            chunk: u32::from_le_bytes(bytes[..4].try_into().ok()?),
            piece: bytes[4],
            hash: bytes[16..48].try_into().ok()?,
        };
        (record.piece < 16).then_some(record)
    }
}

/// A frame that moved, or belongs to another download, does not pass.
fn check(key: &[u8; 32], index: u64, bytes: &[u8]) -> [u8; FRAME_CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&index.to_le_bytes()).update(bytes);
    let mut out = [0; FRAME_CHECK_BYTES];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..FRAME_CHECK_BYTES]);
    out
}

/// The records of a journal up to the first damaged frame.
pub fn parse_journal(bytes: &[u8]) -> Option<(JournalHeader, Vec<JournalRecord>)> {
    let (header, at) = JournalHeader::parse(bytes)?;
    let (frames, _) = bytes[at..].as_chunks::<FRAME_BYTES>();
    let records = frames
        .iter()
        .zip(0..FRAMES_MAX)
        .map_while(|(frame, index)| JournalRecord::parse(frame, &header.key, index))
        .collect();
    Some((header, records))
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    key: [u8; 32],
    /// Where the frames start.
    start: u64,
    tail: Mutex<Tail>,
    syncing: Mutex<()>,
    failed: AtomicBool,
}

#[derive(Debug)]
struct Tail {
    frames: u64,
    unsynced_bytes: u64,
    synced: Instant,
}

impl Journal {
    /// Begins a journal in place of any that is there; durable from its first sync on.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        path: &Path,
        header: &JournalHeader,
        records: &[JournalRecord],
    ) -> io::Result<Self> {
        let draft = path.with_extension("journal-new");
        remove_if_there(&**disk, &draft)?;
        let file = disk.create(&draft)?;
        let bytes = header.encode();
        file.write_at(&bytes, 0)?;
        let start = bytes.len() as u64;
        let journal = Self {
            disk: disk.clone(),
            path: path.to_owned(),
            file,
            key: header.key,
            start,
            tail: Mutex::new(Tail {
                frames: 0,
                unsynced_bytes: 0,
                synced: Instant::now(),
            }),
            syncing: Mutex::new(()),
            failed: AtomicBool::new(false),
        };
        journal.append(records)?;
        if !records.is_empty() {
            // it takes the place of one that may be durable
            journal.file.sync_data()?;
        }
        disk.rename(&draft, path)?;
        Ok(journal)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no piece was written.
    pub(super) fn is_empty(&self) -> bool {
        self.tail().frames == 0
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes pieces whose bytes have been written.
    pub(super) fn append(&self, records: &[JournalRecord]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut tail = self.tail();
        let bytes: Vec<u8> = records
            .iter()
            .zip(tail.frames..)
            .flat_map(|(record, index)| record.encode(&self.key, index))
            .collect();
        let at = self.start + tail.frames * FRAME_BYTES as u64;
        self.file.write_at(&bytes, at)?;
        tail.frames += records.len() as u64;
        Ok(())
    }

    /// Whether a sync failed.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Counts bytes that were written; every now and then makes them durable with `data`, and the
    /// journal after them, while other threads go on.
    pub(super) fn written(
        &self,
        bytes: u64,
        data: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let due =
            |tail: &Tail| tail.unsynced_bytes >= SYNC_BYTES || tail.synced.elapsed() >= SYNC_AFTER;
        let mut tail = self.tail();
        tail.unsynced_bytes += bytes;
        if !due(&tail) {
            return Ok(());
        }
        let Ok(_syncing) = self.syncing.try_lock() else {
            return Ok(());
        };
        tail.unsynced_bytes = 0;
        drop(tail);
        let done = self.sync(data);
        self.tail().synced = Instant::now();
        done
    }

    fn sync(&self, data: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let done = data()
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.disk.sync_dir(dir));
        if done.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        remove_if_there(&*self.disk, &self.path)
    }
}

/// The header of the journal at `path`; none if there is none, or its header is damaged.
pub(super) fn look(disk: &dyn Disk, path: &Path) -> io::Result<Option<JournalHeader>> {
    match disk.open(path, Access::Read) {
        Ok(file) => Ok(JournalHeader::read(&*file)?.map(|(header, _)| header)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The records of the journal at `path` up to its end, or to the first frame that is damaged.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<JournalRecord>> {
    let file = disk.open(path, Access::Read)?;
    let Some((header, start)) = JournalHeader::read(&*file)? else {
        return Ok(Vec::new());
    };
    let frames =
        (file.stat()?.len.saturating_sub(start as u64) / FRAME_BYTES as u64).min(FRAMES_MAX);
    let (mut records, mut index) = (Vec::new(), 0);
    while index < frames {
        let count = (frames - index).min(FRAMES_READ as u64);
        let len = usize::try_from(count).expect("at most FRAMES_READ") * FRAME_BYTES;
        let bytes = file.read_vec_at(start as u64 + index * FRAME_BYTES as u64, len)?;
        for frame in bytes.as_chunks::<FRAME_BYTES>().0 {
            let Some(record) = JournalRecord::parse(frame, &header.key, index) else {
                tracing::warn!(path = %path.display(), frame = index, "a damaged frame of a journal; what follows is received again");
                return Ok(records);
            };
            records.push(record);
            index += 1;
        }
    }
    Ok(records)
}

/// The names of the journals in a folder.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = disk.list(dir)?;
    let paths = names.into_iter().map(|name| dir.join(name));
    Ok(paths
        .filter(|path| path.extension().is_some_and(|e| e == "journal"))
        .collect())
}

/// The container that a journal is about.
pub(super) fn container(header: &JournalHeader) -> Option<ContainerId> {
    header
        .path
        .is_empty()
        .then_some(ContainerId(header.container))
}
