//! A file whose bytes come from wherever they are: memory, the store, or peers.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use lode_store::{limits::GROUP_BYTES, tree::Tree};
use lode_tensors::ByteRange;

use super::{
    Fetcher, Of, flight, learn,
    limits::{AHEAD_BYTES_FIRST, AHEAD_BYTES_MAX, TRIES_MAX},
    no_peer,
    table::{Flight, Found},
};
use crate::{
    command::{Failure, FailureKind},
    read::{ChunkAt, FileReader, Part},
};

/// Times that one read asks for its bytes.
const ASKS_MAX: u32 = 4;

/// Reads a file of a version for one reader. What it reads ahead stops when it is dropped.
pub struct RemoteFile {
    fetcher: Fetcher,
    of: Of,
    tree: Arc<Tree>,
    file: Arc<FileReader>,
    source: OnceLock<flight::Source>,
    reading: Mutex<Reading>,
}

/// Where the reader is, and what was asked for it.
#[derive(Default)]
struct Reading {
    /// Where it goes on if it is sequential.
    next: u64,
    /// End of what was asked for already.
    asked: u64,
    /// Bytes to ask for next time.
    window: u64,
    /// What brings the bytes from `next` on.
    flights: Vec<Arc<Flight>>,
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteFile({:?})", self.file)
    }
}

impl RemoteFile {
    pub(super) fn new(fetcher: Fetcher, of: Of, tree: Arc<Tree>, file: Arc<FileReader>) -> Self {
        Self {
            fetcher,
            of,
            tree,
            file,
            source: OnceLock::new(),
            reading: Mutex::default(),
        }
    }

    /// What peers are asked by. Made when it is needed: most of what is read is held.
    fn source(&self) -> &flight::Source {
        self.source.get_or_init(|| {
            let path = self.file.path().to_owned();
            let before = self
                .tree
                .files()
                .iter()
                .take_while(|other| other.path != path);
            flight::Source {
                of: self.of.clone(),
                first: before.map(|file| file.chunks.count).sum(),
                seq: self.file.seq(),
                list: self.file.list(),
                path,
            }
        })
    }

    /// The same file for another reader, who reads what is held through `file`.
    #[must_use]
    pub fn again(&self, file: Arc<FileReader>) -> Self {
        let tree = Arc::clone(&self.tree);
        Self::new(self.fetcher.clone(), self.of.clone(), tree, file)
    }

    /// The file as far as it is held.
    pub fn file(&self) -> &Arc<FileReader> {
        &self.file
    }

    /// Whether all of some ranges can be had now: each chunk is held here or by a peer that says so.
    /// Waits for peers to say it, and not for data.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when nobody has some of it.
    pub async fn reach(&self, ranges: Vec<ByteRange>) -> Result<(), Failure> {
        let mut missing = self.missing(ranges).await?;
        if missing.is_empty() {
            return Ok(());
        }
        missing.dedup_by_key(|chunk| chunk.index);
        let source = self.source();
        let of = &source.of;
        let shared = self.fetcher.shared();
        let indexes = missing.iter().map(|chunk| source.first + chunk.index);
        let providers = shared.peers.of_version(&self.fetcher.node, of, indexes);
        let providers = providers.await?;
        let lacking = missing
            .iter()
            .find(|chunk| !providers.cover(std::iter::once(source.first + chunk.index)));
        match lacking {
            None => Ok(()),
            Some(chunk) => Err(no_peer(format!(
                "byte {} of {:?} is not held here, and no known peer has it now",
                chunk.offset,
                self.file.path()
            ))),
        }
    }

    /// The first bytes of `range`, which is not empty. The reader says that it goes on to `until`.
    /// Dropping the future, or this, stops what nobody else waits for.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when nobody has them; those of reading the store.
    pub async fn read(&self, range: ByteRange, until: u64) -> Result<Bytes, Failure> {
        let Some(part) = self.file.parts(range).next() else {
            return Ok(Bytes::new());
        };
        let (hash, wanted) = (part.hash, part.range.clone());
        let table = &self.fetcher.shared().table;
        let (mut tries, mut asked) = (0, 0);
        let mut looked = false;
        loop {
            match table.find(&hash, wanted.clone()) {
                Found::Bytes(bytes) => {
                    self.go_on(range.start, bytes.len() as u64, until).await?;
                    return Ok(bytes);
                }
                Found::Coming(mut coming, flight) => {
                    let _waiting = table.wait();
                    tokio::select! {
                        biased;
                        bytes = &mut coming => {
                            if let Ok(bytes) = bytes {
                                self.go_on(range.start, bytes.len() as u64, until).await?;
                                return Ok(bytes);
                            }
                        }
                        ended = flight.ended() => {
                            if let Ok(bytes) = coming.try_recv() {
                                return Ok(bytes);
                            }
                            tries += u32::from(ended.is_err());
                            if tries >= TRIES_MAX {
                                ended?;
                            }
                        }
                    }
                    // What came may be in the store by now.
                    looked = false;
                }
                Found::Absent if !looked && self.is_asked(range.start) => {
                    looked = true;
                    if let Some(bytes) = self.local(range).await? {
                        return Ok(bytes);
                    }
                }
                // Others may crowd out what came before it was read, and the store let it go.
                Found::Absent if asked == ASKS_MAX => {
                    return Err(no_peer(format!(
                        "byte {} of {:?} was fetched and is gone again: ask later",
                        range.start,
                        self.file.path()
                    )));
                }
                Found::Absent => {
                    asked += 1;
                    self.ask(range.start, range.end.max(until)).await?;
                }
            }
        }
    }

    /// Reads all of `range` into one buffer: for headers and other short parts.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_all(&self, range: ByteRange) -> Result<Vec<u8>, Failure> {
        let end = range.end.min(self.file.len());
        let mut all = Vec::new();
        let mut start = range.start;
        while start < end {
            let bytes = self.read(ByteRange { start, end }, end).await?;
            all.extend_from_slice(&bytes);
            start += bytes.len() as u64;
        }
        Ok(all)
    }

    async fn local(&self, range: ByteRange) -> Result<Option<Bytes>, Failure> {
        let file = Arc::clone(&self.file);
        let read = self.fetcher.node.blocking(move |_| match file.read(range) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == FailureKind::NoPeer => Ok(None),
            Err(error) => Err(error.into()),
        });
        read.await
    }

    /// Chunks of these ranges that are neither held nor in memory. When there are some, the version is
    /// kept from now on.
    async fn missing(&self, ranges: Vec<ByteRange>) -> Result<Vec<ChunkAt>, Failure> {
        let (file, version) = (Arc::clone(&self.file), self.of.version);
        let find = self.fetcher.node.blocking(move |node| {
            let mut missing = Vec::new();
            for range in ranges {
                for part in file.parts(range) {
                    let here = node.fetching().table.has(&part.hash, &part.range);
                    if !here && !node.store().holds(&part.hash)? {
                        missing.push(file.chunk_at(part.chunk as usize));
                    }
                }
            }
            if !missing.is_empty() {
                learn::adopt(node, version)?;
            }
            Ok(missing)
        });
        find.await
    }

    /// Notes that the reader got bytes, and asks for more when half of the window was read.
    async fn go_on(&self, start: u64, bytes: u64, until: u64) -> Result<(), Failure> {
        let at = start + bytes;
        let from = {
            let mut reading = self.reading();
            reading.next = at;
            let ahead = reading.asked.saturating_sub(at);
            let enough =
                ahead >= reading.window / 2 || reading.asked >= until || reading.window == 0;
            (!enough).then(|| reading.asked.max(at))
        };
        match from {
            Some(from) => self.ask(from, until).await,
            None => Ok(()),
        }
    }

    /// Asks for what is missing of the next window, which begins at `from` and ends at `until` at most.
    async fn ask(&self, from: u64, until: u64) -> Result<(), Failure> {
        let window = {
            let mut reading = self.reading();
            let sequential = from == reading.asked || from == reading.next;
            reading.window = match (sequential, reading.window) {
                (true, 1..) => (reading.window * 2).min(AHEAD_BYTES_MAX),
                _ => AHEAD_BYTES_FIRST,
            };
            ByteRange {
                start: from,
                end: until.min(from.saturating_add(reading.window)).max(from),
            }
        };
        let file = Arc::clone(&self.file);
        let find = self.fetcher.node.blocking(move |node| {
            let mut parts = Vec::new();
            for part in file.parts(window) {
                if !node.store().holds(&part.hash)? {
                    parts.push(whole_groups(part));
                }
            }
            Ok(parts)
        });
        let claim = self.fetcher.shared().table.claim(find.await?);
        let mut reading = self.reading();
        reading.asked = window.end;
        reading.flights.retain(|flight| flight.is_under_way());
        reading.flights.extend(claim.joined);
        if let Some((flight, parts)) = claim.own {
            flight::start(&self.fetcher, self.source().clone(), &flight, parts);
            reading.flights.push(flight);
        }
        Ok(())
    }

    /// Whether the window that holds this byte was asked for: what is still absent is held here, then.
    fn is_asked(&self, at: u64) -> bool {
        at < self.reading().asked
    }

    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same part up to the borders of its chunk groups: what is verified at a time.
fn whole_groups(part: Part) -> Part {
    let start = part.range.start / GROUP_BYTES * GROUP_BYTES;
    let end = part.range.end.next_multiple_of(GROUP_BYTES).min(part.len);
    Part {
        range: start..end,
        ..part
    }
}
