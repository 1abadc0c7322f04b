//! The append-only record log: documents, signed records, local key-values, outside places.
//!
//! A log is a folder of segments `NNNNNNNN.log`; docs/format/log.md draws their bytes. One call of
//! [`Writer::append`] is one *batch*: its records are all there after a crash, or none is, and when the
//! call returns they are durable. Every frame has a checksum of its own, and every batch says where it
//! starts, which is written only after all before it was synced. So a reader can tell a *torn tail*
//! (never acknowledged, cut off) from *damage* (acknowledged bytes that changed, reported, never cut).
//!
//! The log knows no meaning of a record: the index is derived from what [`Log::open`] reports.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;

use crate::{
    disk::{Access, Disk, DiskFile},
    limits::{LOG_BATCH_RECORDS_MAX, LOG_RECORD_BYTES_MAX, LOG_SEGMENT_BYTES_MAX},
};

pub mod frame;
mod recover;
mod rewrite;

pub use recover::{Damage, Found, Recovered, recover_bytes};
pub use rewrite::Rewritten;

use frame::{FRAME_HEAD_BYTES, HEADER_BYTES};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[non_exhaustive]
pub enum Kind {
    /// A version, tree, chunk list or other document; the body is its bytes.
    Document = 2,
    /// A signed identity record.
    Identity = 3,
    /// A signed ref record.
    Ref = 4,
    /// A signature of a version.
    VersionSignature = 5,
    /// Reserved: a signed claim.
    Claim = 6,
    /// An outside place came to be.
    Outside = 7,
    /// An outside place was found changed, or given up.
    OutsideGone = 8,
    /// A container of the home was given up.
    ContainerGone = 9,
    /// A local key has a value.
    LocalSet = 10,
    /// A local key has no value any more.
    LocalDel = 11,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Document,
        Self::Identity,
        Self::Ref,
        Self::VersionSignature,
        Self::Claim,
        Self::Outside,
        Self::OutsideGone,
        Self::ContainerGone,
        Self::LocalSet,
        Self::LocalDel,
    ];

    /// The kind with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, at most [`LOG_RECORD_BYTES_MAX`].
    pub body: Bytes,
}

/// Where the body of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Number of the segment.
    pub segment: u64,
    /// Byte of the segment at which the body starts.
    pub offset: u64,
    /// Bytes of the body.
    pub len: u32,
}

/// Why the log could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Acknowledged bytes changed.
    #[error("{path}: damaged at byte {offset}: {what}")]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// First byte that is wrong, or of the frame that is.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An earlier sync failed, so that nobody knows what is on the disk.
    #[error("no more writes after a failed sync of {path}; restart to read what is durable")]
    Poisoned {
        /// What could not be synced.
        path: PathBuf,
    },
    /// More records than one batch may have.
    #[error("a batch of {records} records; at most {LOG_BATCH_RECORDS_MAX} are allowed")]
    TooMany {
        /// How many.
        records: usize,
    },
    /// A record is longer than a record may be.
    #[error("a record of {bytes} bytes; at most {LOG_RECORD_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
}

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    /// Its number, from 1.
    pub number: u64,
    /// Random bytes that tell it from an earlier file of the same number.
    pub nonce: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

/// The log of a home.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    tail: Mutex<Tail>,
}

#[derive(Debug)]
struct Tail {
    segment: Option<Arc<Segment>>,
    /// Bytes of the segment that are synced.
    end: u64,
    poisoned: Option<PathBuf>,
    nonces: Nonces,
}

/// Where segment nonces come from: random, or counted from a seed in tests of crashes.
#[derive(Debug, Clone, Copy)]
pub enum Nonces {
    /// From the operating system.
    Random,
    /// Counted up.
    From(u64),
}

impl Nonces {
    /// The next one.
    pub fn draw(&mut self) -> u64 {
        match self {
            Self::Random => rand::random(),
            Self::From(n) => {
                *n = n.wrapping_add(1);
                n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            }
        }
    }
}

impl Log {
    /// Opens the log in a folder that exists, and reports what it holds.
    ///
    /// `known` has, for each segment, the nonce and the end of what was seen of it before, which the
    /// caller made durable after the log: nothing before that end is read again, and nothing before it
    /// can be a torn tail. `found` is called for every record after it, in order; a segment whose nonce
    /// is not the known one is reported from its start.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for damage, unless `salvage` is set: then damage is stepped over and told.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        known: &BTreeMap<u64, (u64, u64)>,
        salvage: bool,
        nonces: Nonces,
        found: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
    ) -> Result<(Self, Recovered), LogError> {
        recover::open(disk, dir, known, salvage, nonces, found)
    }

    /// Locks the end of the log for appending.
    pub fn writer(&self) -> Writer<'_> {
        Writer {
            log: self,
            tail: self.tail.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The segments' numbers and nonces.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.values().cloned().collect()
    }

    /// Reads a record's body and checks it.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when the frame there is not what was written.
    pub fn read(&self, at: Location) -> Result<Record, LogError> {
        let segment = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            segments.get(&at.segment).cloned()
        };
        let Some(segment) = segment else {
            let path = segment_path(&self.dir, at.segment);
            return Err(LogError::Corrupt {
                path,
                offset: 0,
                what: "the segment is missing",
            });
        };
        let (kind, body) = segment.read(at)?;
        let kind = Kind::from_number(kind);
        let kind = kind.ok_or_else(|| segment.corrupt(at.offset, "a record of unknown kind"))?;
        Ok(Record { kind, body })
    }

    fn segment_insert(&self, segment: Arc<Segment>) {
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.number, segment);
    }
}

impl Segment {
    /// Bytes of its file.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn file_len(&self) -> Result<u64, LogError> {
        Ok(self.file.stat().map_err(self.io())?.len)
    }

    fn io(&self) -> impl Fn(io::Error) -> LogError {
        let path = self.path.clone();
        move |source| LogError::Io {
            path: path.clone(),
            source,
        }
    }

    fn corrupt(&self, offset: u64, what: &'static str) -> LogError {
        LogError::Corrupt {
            path: self.path.clone(),
            offset,
            what,
        }
    }

    fn read(&self, at: Location) -> Result<(u32, Bytes), LogError> {
        let wrong = |what| self.corrupt(at.offset, what);
        if at.offset < (HEADER_BYTES + FRAME_HEAD_BYTES) as u64
            || at.len as usize > LOG_RECORD_BYTES_MAX
        {
            return Err(wrong("no record can be there"));
        }
        let start = at.offset - FRAME_HEAD_BYTES as u64;
        let len = FRAME_HEAD_BYTES + at.len as usize;
        let bytes = match self.file.read_vec_at(start, len) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(wrong("cut short")),
            other => other.map_err(self.io())?,
        };
        let (kind, body) = frame::parse(&bytes).ok_or_else(|| wrong("checksum"))?;
        if body.len() != at.len as usize {
            return Err(wrong("length"));
        }
        Ok((kind, Bytes::from(bytes).slice(FRAME_HEAD_BYTES..)))
    }
}

/// The locked end of the log.
#[derive(Debug)]
pub struct Writer<'a> {
    log: &'a Log,
    tail: MutexGuard<'a, Tail>,
}

impl Writer<'_> {
    /// Appends a batch; when this returns, it is durable as a whole. No records, no write.
    ///
    /// # Errors
    /// After [`LogError::Io`] of a sync, every further call is [`LogError::Poisoned`]. When the disk is
    /// full the log is as before.
    pub fn append(&mut self, records: &[Record]) -> Result<Vec<Location>, LogError> {
        if let Some(path) = &self.tail.poisoned {
            return Err(LogError::Poisoned { path: path.clone() });
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        if records.len() > LOG_BATCH_RECORDS_MAX {
            return Err(LogError::TooMany {
                records: records.len(),
            });
        }
        let long = |bytes: &usize| *bytes > LOG_RECORD_BYTES_MAX;
        if let Some(bytes) = records.iter().map(|r| r.body.len()).find(long) {
            return Err(LogError::TooLong {
                bytes: bytes as u64,
            });
        }
        let bytes: u64 = records
            .iter()
            .map(|r| (FRAME_HEAD_BYTES + r.body.len()) as u64)
            .sum();
        let segment = self.segment_for(bytes + frame::BATCH_BYTES as u64)?;
        let start = self.tail.end;
        let mut at = start;
        let mut write = |data: &[u8]| {
            let done = segment.file.write_at(data, at);
            at += data.len() as u64;
            done
        };
        let written = || -> io::Result<()> {
            let mut buffer = frame::batch(start, &segment, bytes);
            for record in records {
                buffer.extend_from_slice(&frame::head(record.kind as u32, &record.body));
                if record.body.len() > WRITE_BYTES {
                    write(&std::mem::take(&mut buffer))?;
                    write(&record.body)?;
                } else {
                    buffer.extend_from_slice(&record.body);
                }
                if buffer.len() > WRITE_BYTES {
                    write(&std::mem::take(&mut buffer))?;
                }
            }
            write(&buffer)
        }();
        if let Err(source) = written {
            // what was written of the batch has no place in the log; the next batch goes over it
            if segment
                .file
                .set_len(start)
                .and_then(|()| segment.file.sync_data())
                .is_err()
            {
                self.tail.poisoned = Some(segment.path.clone());
            }
            return Err(segment.io()(source));
        }
        if let Err(source) = segment.file.sync_data() {
            self.tail.poisoned = Some(segment.path.clone());
            return Err(segment.io()(source));
        }
        let mut offset = start + frame::BATCH_BYTES as u64;
        let locations = records.iter().map(|record| {
            let len = u32::try_from(record.body.len()).expect("checked above");
            let body = offset + FRAME_HEAD_BYTES as u64;
            offset = body + u64::from(len);
            Location {
                segment: segment.number,
                offset: body,
                len,
            }
        });
        let locations = locations.collect();
        self.tail.end = offset;
        Ok(locations)
    }

    /// The last segment's number and nonce, and the end of what is durable in it.
    pub fn end(&self) -> Option<(u64, u64, u64)> {
        self.tail
            .segment
            .as_ref()
            .map(|s| (s.number, s.nonce, self.tail.end))
    }

    /// Begins a new segment, so that the one that was last can be rewritten.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn rotate(&mut self) -> Result<(), LogError> {
        if let Some(path) = &self.tail.poisoned {
            return Err(LogError::Poisoned { path: path.clone() });
        }
        if self.tail.segment.is_some() && self.tail.end > HEADER_BYTES as u64 {
            self.segment_for(LOG_SEGMENT_BYTES_MAX)?;
        }
        Ok(())
    }

    /// Refuses all later writes, because something that belongs with the log could not be synced.
    pub fn poison(&mut self, path: &Path) {
        self.tail.poisoned.get_or_insert_with(|| path.to_owned());
    }

    /// The segment that takes `bytes` more: the last one, or a new one.
    fn segment_for(&mut self, bytes: u64) -> Result<Arc<Segment>, LogError> {
        let number = match &self.tail.segment {
            Some(segment) => {
                let fresh = self.tail.end <= HEADER_BYTES as u64;
                if fresh || self.tail.end + bytes <= LOG_SEGMENT_BYTES_MAX {
                    return Ok(segment.clone());
                }
                segment.number + 1
            }
            None => 1,
        };
        let nonce = self.tail.nonces.draw();
        let made = create_segment(&*self.log.disk, &self.log.dir, number, nonce);
        let segment = match made {
            Ok(segment) => segment,
            Err((error, failed_sync)) => {
                if failed_sync {
                    self.tail.poisoned = Some(segment_path(&self.log.dir, number));
                }
                return Err(error);
            }
        };
        self.log.segment_insert(segment.clone());
        self.tail.segment = Some(segment.clone());
        self.tail.end = HEADER_BYTES as u64;
        Ok(segment)
    }
}

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

/// Creates a segment durably; the flag of the error says that a sync failed.
fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    nonce: u64,
) -> Result<Arc<Segment>, (LogError, bool)> {
    let path = segment_path(dir, number);
    let err = |failed_sync: bool| {
        let path = path.clone();
        move |source| (LogError::Io { path, source }, failed_sync)
    };
    let file = disk.create(&path).map_err(err(false))?;
    if let Err(source) = file.write_at(&frame::header(number, nonce), 0) {
        // a segment without a header must not stay: the next one would come after a hole
        let stays = disk.remove(&path).is_err();
        return Err(err(stays)(source));
    }
    file.sync_data().map_err(err(true))?;
    disk.sync_dir(dir).map_err(err(true))?;
    Ok(Arc::new(Segment {
        number,
        nonce,
        path,
        file,
    }))
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

fn open_segment(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    disk.open(path, Access::Write)
}
