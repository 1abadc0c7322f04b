//! A file as one blob, over its chunks.

use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex, OnceLock},
};

use bytes::{Bytes, BytesMut};

use super::{Claim, lock, tree::SEGMENT_BYTES};
use crate::{
    ByteRange, ChunkHash, ChunkReader, Store, limits::GROUP_BYTES, outboard,
    sync::source::ChunkRead, tree::ChunkList,
};

/// A file that is open under its root.
///
/// What it hands out is not checked against the root: the encoder does that, group by group.
pub struct FileBlob {
    store: Store,
    layout: Arc<Layout>,
    /// The chunk that was read last.
    last: Mutex<Option<(usize, Arc<ChunkReader>)>>,
}

/// What of a file stays known after it was read: nothing that would hold its store open.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) claim: Claim,
    size: u64,
    hashes: Vec<ChunkHash>,
    /// Where each chunk ends in the file.
    ends: Vec<u64>,
    outboard: OnceLock<Bytes>,
}

impl Layout {
    pub(super) fn new(claim: Claim, list: ChunkList) -> Self {
        let ends = list.iter().map(|(_, range): (_, ByteRange)| range.end);
        Self {
            claim,
            size: list.size(),
            ends: ends.collect(),
            hashes: list.hashes,
            outboard: OnceLock::new(),
        }
    }
}

impl fmt::Debug for FileBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FileBlob({:?}, {} bytes)",
            self.layout.claim.root, self.layout.size
        )
    }
}

impl FileBlob {
    pub(super) fn new(store: Store, layout: Arc<Layout>) -> Self {
        Self {
            store,
            layout,
            last: Mutex::new(None),
        }
    }

    pub(super) fn claim(&self) -> Claim {
        self.layout.claim
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn len(&self) -> u64 {
        self.layout.size
    }

    /// Bytes of the file, from as many chunks as it takes.
    pub(super) fn bytes(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start > range.end || range.end > self.layout.size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut whole = BytesMut::new();
        for (number, part) in self.parts(range.clone()) {
            let chunk = self.chunk(number)?;
            let bytes = chunk.read(part).map_err(|error| {
                *lock(&self.last) = None;
                io::Error::other(error)
            })?;
            if bytes.len() as u64 == range.end - range.start {
                return Ok(bytes);
            }
            whole.extend_from_slice(&bytes);
        }
        if whole.len() as u64 != range.end - range.start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(whole.freeze())
    }

    /// The chunks that `range` touches, and which bytes of each.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (usize, Range<u32>)> + '_ {
        let first = self.layout.ends.partition_point(|end| *end <= range.start);
        let Range { start, end } = range;
        (first..self.layout.ends.len())
            .map(|number| (number, self.start_of(number)..self.layout.ends[number]))
            .take_while(move |(_, chunk)| chunk.start < end)
            .map(move |(number, chunk)| {
                let within = |at: u64| {
                    let at = at.clamp(chunk.start, chunk.end) - chunk.start;
                    u32::try_from(at).expect("a chunk is at most 16 MiB")
                };
                (number, within(start)..within(end))
            })
    }

    fn start_of(&self, number: usize) -> u64 {
        number
            .checked_sub(1)
            .map_or(0, |before| self.layout.ends[before])
    }

    fn chunk(&self, number: usize) -> io::Result<Arc<ChunkReader>> {
        if let Some((last, chunk)) = &*lock(&self.last)
            && *last == number
        {
            return Ok(chunk.clone());
        }
        let opened = self.store.chunk(&self.layout.hashes[number]);
        let chunk = Arc::new(
            opened
                .map_err(io::Error::other)?
                .ok_or(io::ErrorKind::NotFound)?,
        );
        if u64::from(chunk.len()) != self.layout.ends[number] - self.start_of(number) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a chunk of another length than its file says",
            ));
        }
        *lock(&self.last) = Some((number, chunk.clone()));
        Ok(chunk)
    }

    fn has_chunk(&self, number: usize) -> bool {
        self.store
            .holds(&self.layout.hashes[number])
            .unwrap_or(false)
    }
}

impl ChunkRead for FileBlob {
    fn size(&self) -> u64 {
        self.layout.size
    }

    fn is_mapped(&self) -> bool {
        false
    }

    fn is_verified(&self) -> bool {
        false
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.bytes(range)
    }

    /// Read from `cache/`, or made: then the whole file is read first.
    fn outboard(&self) -> io::Result<Bytes> {
        if let Some(pairs) = self.layout.outboard.get() {
            return Ok(pairs.clone());
        }
        let pairs = if self.layout.size <= u64::from(GROUP_BYTES) {
            Bytes::new()
        } else if self.layout.size <= SEGMENT_BYTES {
            let (root, pairs) = outboard::compute(&self.bytes(0..self.layout.size)?);
            if root != self.layout.claim.root {
                self.store.is_untrue(self.layout.claim);
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the file does not have this root",
                ));
            }
            pairs.into()
        } else {
            self.kept_or_made()?
        };
        Ok(self.layout.outboard.get_or_init(|| pairs).clone())
    }

    fn held(&self) -> Vec<Range<u64>> {
        let mut held: Vec<Range<u64>> = Vec::new();
        for number in (0..self.layout.hashes.len()).filter(|&number| self.has_chunk(number)) {
            let (start, end) = (self.start_of(number), self.layout.ends[number]);
            match held.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => held.push(start..end),
            }
        }
        held
    }

    fn holds(&self, range: &Range<u64>) -> bool {
        self.parts(range.clone())
            .all(|(number, _)| self.has_chunk(number))
    }
}
