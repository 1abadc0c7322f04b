//! Reading a log back: what is whole, what is torn, what is damaged.
//!
//! A batch is taken when its frame, and every record frame in it, has its checksum. What is not a batch
//! is a *torn tail* when it lies at the end of the last segment, no batch starts after it, and nobody
//! knows that it was durable; it was never acknowledged, and is cut off. Everything else that is not a
//! batch is *damage*: an error, or, when salvaging, stepped over and reported.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

use bytes::Bytes;

use super::{
    Kind, Location, Log, LogError, Nonces, Record, Segment, Tail,
    frame::{self, BATCH_BYTES, Batch, FRAME_HEAD_BYTES, HEADER_BYTES},
    open_segment,
};
use crate::{
    ChunkHash,
    disk::{Disk, sim::SimDisk},
    limits::LOG_BATCH_RECORDS_MAX,
};

/// A record that was read back.
#[derive(Debug)]
pub struct Found<'a> {
    /// What it is; none for a kind that a later release writes.
    pub kind: Option<Kind>,
    /// The number of its kind.
    pub number: u32,
    /// Where its body is.
    pub at: Location,
    /// The BLAKE3 of the body of a document.
    pub document: Option<ChunkHash>,
    segment: &'a Segment,
}

impl Found<'_> {
    /// The nonce of the segment that holds it.
    pub fn nonce(&self) -> u64 {
        self.segment.nonce
    }

    /// Reads the body.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn body(&self) -> Result<Bytes, LogError> {
        Ok(self.segment.read(self.at)?.1)
    }
}

/// A stretch of a segment that was acknowledged once and is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// First byte of the frame that is wrong.
    pub start: u64,
    /// Where the next batch starts, or the segment ends.
    pub end: u64,
}

/// What opening a log found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of a batch that was never acknowledged, cut off.
    pub torn_bytes: u64,
    /// Damage that was stepped over.
    pub damage: Vec<Damage>,
    /// For each segment, its nonce and the end of what was read.
    pub ends: BTreeMap<u64, (u64, u64)>,
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    known: &BTreeMap<u64, (u64, u64)>,
    salvage: bool,
    nonces: Nonces,
    found: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
) -> Result<(Log, Recovered), LogError> {
    let err = |path: &Path| {
        let path = path.to_owned();
        move |source| LogError::Io {
            path: path.clone(),
            source,
        }
    };
    let mut numbers = Vec::new();
    for name in disk.list(dir).map_err(err(dir))? {
        let name = name.to_string_lossy();
        if name.ends_with(".log.new") {
            // a rewrite that did not come to its rename
            let path = dir.join(&*name);
            disk.remove(&path).map_err(err(&path))?;
        } else if let Some(number) = name.strip_suffix(".log").and_then(|n| n.parse().ok()) {
            numbers.push((number, dir.join(&*name)));
        }
    }
    numbers.sort_unstable();
    let mut out = Recovered::default();
    for (number, (_, end)) in known {
        if !numbers.iter().any(|(n, _)| n == number) {
            let path = super::segment_path(dir, *number);
            let damage = Damage {
                path,
                start: 0,
                end: *end,
            };
            damaged(&mut out, damage, salvage, "the segment is missing")?;
        }
    }
    let mut segments = BTreeMap::new();
    let last = numbers.last().map(|(number, _)| *number);
    let mut tail = (None, 0);
    for (number, path) in numbers {
        let file = open_segment(&*disk, &path).map_err(err(&path))?;
        let len = file.stat().map_err(err(&path))?.len;
        let head = file
            .read_vec_at(
                0,
                HEADER_BYTES.min(usize::try_from(len).unwrap_or(usize::MAX)),
            )
            .map_err(err(&path))?;
        let Some((_, nonce)) = frame::parse_header(&head).filter(|(n, _)| *n == number) else {
            if Some(number) == last && !known.contains_key(&number) && len <= HEADER_BYTES as u64 {
                // its creation was cut short, so that nothing was ever written to it
                disk.remove(&path).map_err(err(&path))?;
                continue;
            }
            let aside = path.with_extension("log.damaged");
            let damage = Damage {
                path: path.clone(),
                start: 0,
                end: len,
            };
            damaged(&mut out, damage, salvage, "the header")?;
            disk.rename(&path, &aside).map_err(err(&path))?;
            continue;
        };
        let segment = Arc::new(Segment {
            number,
            nonce,
            path,
            file,
        });
        let seen = known
            .get(&number)
            .filter(|(n, _)| *n == nonce)
            .map_or(0, |(_, end)| *end);
        let is_last = Some(number) == last;
        let scan = Scan {
            durable: if is_last { seen } else { u64::MAX },
            salvage,
        };
        let end = scan.run(
            &segment,
            len,
            seen.max(HEADER_BYTES as u64),
            &mut out,
            found,
        )?;
        if is_last {
            if end < len {
                out.torn_bytes = len - end;
                segment.file.set_len(end).map_err(segment.io())?;
                segment.file.sync_data().map_err(segment.io())?;
            }
            tail = (Some(segment.clone()), end);
        }
        out.ends.insert(number, (nonce, end));
        segments.insert(number, segment);
    }
    if tail.0.is_none() {
        // the last one was set aside, or never came to be: the one before it is the last
        if let Some((number, segment)) = segments.last_key_value() {
            tail = (Some(segment.clone()), out.ends[number].1);
        }
    }
    let tail = Tail {
        segment: tail.0,
        end: tail.1,
        poisoned: None,
        nonces,
    };
    let log = Log {
        disk,
        dir: dir.to_owned(),
        segments: RwLock::new(segments),
        tail: Mutex::new(tail),
    };
    Ok((log, out))
}

fn damaged(
    out: &mut Recovered,
    damage: Damage,
    salvage: bool,
    what: &'static str,
) -> Result<(), LogError> {
    if !salvage {
        return Err(LogError::Corrupt {
            path: damage.path,
            offset: damage.start,
            what,
        });
    }
    out.damage.push(damage);
    Ok(())
}

/// How a segment is read.
pub(super) struct Scan {
    /// Bytes before this are known to have been durable.
    pub(super) durable: u64,
    /// Whether damage is stepped over.
    pub(super) salvage: bool,
}

impl Scan {
    /// Reports the records of `segment` from byte `from` on; returns the end of the last batch.
    pub(super) fn run(
        &self,
        segment: &Segment,
        len: u64,
        from: u64,
        out: &mut Recovered,
        found: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
    ) -> Result<u64, LogError> {
        let mut at = from;
        if len < from {
            let damage = Damage {
                path: segment.path.clone(),
                start: len,
                end: from,
            };
            damaged(out, damage, self.salvage, "the segment is cut short")?;
            return Ok(len);
        }
        while at < len {
            if let Some((records, end)) = read_batch(segment, len, at)? {
                for (number, at, document) in records {
                    let kind = Kind::from_number(number);
                    found(Found {
                        kind,
                        number,
                        at,
                        document,
                        segment,
                    })?;
                }
                at = end;
                continue;
            }
            let next = next_batch(segment, len, at + 1)?;
            if next.is_none() && at >= self.durable {
                return Ok(at);
            }
            let end = next.unwrap_or(len);
            let damage = Damage {
                path: segment.path.clone(),
                start: at,
                end,
            };
            damaged(out, damage, self.salvage, "a record's checksum")?;
            at = end;
        }
        Ok(at)
    }
}

type Frame = (u32, Location, Option<ChunkHash>);

/// The records of the batch at `at` and its end, if all of it is whole.
fn read_batch(segment: &Segment, len: u64, at: u64) -> Result<Option<(Vec<Frame>, u64)>, LogError> {
    let Some(batch) = batch_at(segment, len, at)? else {
        return Ok(None);
    };
    let mut offset = at + BATCH_BYTES as u64;
    let Some(end) = offset.checked_add(batch.bytes).filter(|end| *end <= len) else {
        return Ok(None);
    };
    let mut records = Vec::new();
    while offset < end {
        if end - offset < FRAME_HEAD_BYTES as u64 || records.len() == LOG_BATCH_RECORDS_MAX {
            return Ok(None);
        }
        let head = segment
            .file
            .read_vec_at(offset, FRAME_HEAD_BYTES)
            .map_err(segment.io())?;
        let Some((body_len, kind, sum)) = frame::parse_head(&head) else {
            return Ok(None);
        };
        offset += FRAME_HEAD_BYTES as u64;
        if end - offset < u64::from(body_len) {
            return Ok(None);
        }
        let (mut checker, mut plain) = (frame::checker(kind), blake3::Hasher::new());
        let is_document = kind == Kind::Document as u32;
        read_pieces(segment, offset, body_len, |piece| {
            checker.update(piece);
            if is_document {
                plain.update(piece);
            }
        })
        .map_err(segment.io())?;
        if frame::check(&checker) != sum {
            return Ok(None);
        }
        let location = Location {
            segment: segment.number,
            offset,
            len: body_len,
        };
        let document = is_document.then(|| plain.finalize().into());
        records.push((kind, location, document));
        offset += u64::from(body_len);
    }
    Ok(Some((records, end)))
}

fn read_pieces(
    segment: &Segment,
    mut offset: u64,
    len: u32,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut left = len as usize;
    let mut buffer = vec![0; left.min(SEARCH_BYTES)];
    while left > 0 {
        let piece = &mut buffer[..left.min(SEARCH_BYTES)];
        segment.file.read_exact_at(piece, offset)?;
        take(piece);
        offset += piece.len() as u64;
        left -= piece.len();
    }
    Ok(())
}

fn batch_at(segment: &Segment, len: u64, at: u64) -> Result<Option<Batch>, LogError> {
    if len - at < BATCH_BYTES as u64 {
        return Ok(None);
    }
    let bytes = segment
        .file
        .read_vec_at(at, BATCH_BYTES)
        .map_err(segment.io())?;
    Ok(frame::parse_batch(&bytes).filter(|batch| {
        batch.offset == at && batch.segment == segment.number && batch.nonce == segment.nonce
    }))
}

/// Bytes that are read at once.
const SEARCH_BYTES: usize = 256 * 1024;

/// Where the first batch at or after `at` starts.
fn next_batch(segment: &Segment, len: u64, mut at: u64) -> Result<Option<u64>, LogError> {
    let mark = frame::batch_mark();
    while at + BATCH_BYTES as u64 <= len {
        let want = usize::try_from(len - at)
            .unwrap_or(usize::MAX)
            .min(SEARCH_BYTES);
        let window = segment.file.read_vec_at(at, want).map_err(segment.io())?;
        for start in 0..=want - mark.len() {
            let offset = at + start as u64;
            let here = window[start..].starts_with(&mark) && offset + BATCH_BYTES as u64 <= len;
            if here && batch_at(segment, len, offset)?.is_some() {
                return Ok(Some(offset));
            }
        }
        at += (want - mark.len() + 1) as u64;
    }
    Ok(None)
}

impl Log {
    /// Reports every record of one segment again.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for any damage, unless `salvage`.
    pub fn scan(
        &self,
        segment: &Segment,
        salvage: bool,
        found: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
    ) -> Result<Recovered, LogError> {
        // a segment that is not the last has no writer to wait for
        let last = self
            .segments()
            .last()
            .is_none_or(|last| last.number <= segment.number);
        let end = match last.then(|| self.writer().end()).flatten() {
            Some((number, _, end)) if number == segment.number => end,
            _ => segment.file_len()?,
        };
        let mut out = Recovered::default();
        let scan = Scan {
            durable: u64::MAX,
            salvage,
        };
        let end = scan.run(segment, end, HEADER_BYTES as u64, &mut out, found)?;
        out.ends.insert(segment.number, (segment.nonce, end));
        Ok(out)
    }
}

/// Recovers a log of one segment from its bytes, as [`Log::open`] does: the entry for fuzzing.
///
/// # Errors
/// As [`Log::open`].
pub fn recover_bytes(bytes: &[u8], salvage: bool) -> Result<(Vec<Record>, Recovered), LogError> {
    let disk = SimDisk::new(0);
    let dir = Path::new("/");
    let io = |source| LogError::Io {
        path: dir.to_owned(),
        source,
    };
    let number = frame::parse_header(bytes).map_or(1, |(number, _)| number);
    let file = disk.create(&super::segment_path(dir, number)).map_err(io)?;
    file.write_at(bytes, 0).map_err(io)?;
    let mut records = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let (_, recovered) = Log::open(
        disk,
        dir,
        &BTreeMap::new(),
        salvage,
        Nonces::From(0),
        &mut |found| {
            if let Some(kind) = found.kind {
                records.push(Record {
                    kind,
                    body: found.body()?,
                });
            }
            Ok(())
        },
    )?;
    Ok((records, recovered))
}
