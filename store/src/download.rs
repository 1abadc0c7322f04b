//! One file that is being received: where its verified bytes go, what is missing, and how it goes on
//! after an interruption.
//!
//! A [`Download`] writes into a whole container of the home at final offsets, gathers chunks for packs
//! (small files, and files of which most is held), or writes a hidden part file beside the file's place in
//! a folder of the user. It takes bytes as a [`PieceSink`]; the receiver has verified them. Nothing is
//! visible under its name before [`Download::finish`] has made all of it durable.
//!
//! A dropped download leaves what it journalled, for the next [`Download::begin`] of the same file, layout
//! and target: every piece that the journal names is read and hashed before it counts.

use std::{
    collections::HashSet,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rayon::prelude::*;

mod begin;
mod coverage;
mod error;
mod folder;
mod journal;
mod layout;
mod local;
mod made;
mod output;
mod packs;
mod serve;
#[cfg(test)]
mod tests;
mod written;

pub use error::DownloadError;
pub use folder::{LinkWritten, write_link};
pub use journal::{JournalHeader, JournalRecord, parse_journal};
pub use layout::{Layout, Segment};
pub use made::{MadeFile, Written};
pub use packs::Packs;
pub use serve::ReceivedChunk;

use begin::Claim;
use coverage::{Complete, Coverage, each, known_values, piece_hash, piece_range, pieces_of};
use journal::Journal;
use layout::Plan;
use output::{KeptFile, Outboards, Output, Place};
use packs::{Expected, Gather};

use crate::{
    Store,
    container::ContainerId,
    disk::{Disk, remove_if_there},
    outboard,
    piece::{Parent, PieceSink},
    store::Protection,
    tree::{ChunkList, check_path},
};

/// Bytes of the largest file whose chunks always go to packs, and whose part file has no journal: 4 MiB.
const SMALL_BYTES: u64 = 4 << 20;
/// Bytes from which on hashing is spread over threads.
const PARALLEL_BYTES: u64 = 8 << 20;

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Into the home: a whole container, or packs. Layouts of whole chunks alone go here.
    Store,
    /// Into a folder of the user.
    File {
        /// The path inside the folder, as the tree says it.
        path: String,
        /// The folder.
        root: PathBuf,
    },
}

/// How a file is received.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether a file with other content is replaced.
    pub force: bool,
    /// Whether the file may be executed.
    pub exec: bool,
    /// What several downloads have in common: packs that they fill, which the caller seals, and what
    /// one of them leaves to another. Such downloads are finished in the order in which they began.
    /// Without, each download fills a pack of its own.
    pub packs: Option<Arc<Packs>>,
}

/// Where the file is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finished {
    /// In a whole container of the home.
    Container(ContainerId),
    /// In packs; durable once they are sealed, if the caller gave them.
    Packs,
    /// The store held all of it before.
    Held,
    /// In the user's folder.
    File {
        /// Its path.
        path: PathBuf,
        /// The outside place, if the file is whole and not empty.
        place: Option<ContainerId>,
        /// Whether a file with this content was there before.
        kept: bool,
    },
}

/// A file that is being received; see the module. While it lives, what it fills is safe from collection.
#[derive(Debug)]
pub struct Download {
    store: Store,
    list: Arc<ChunkList>,
    plan: Plan,
    outboards: Outboards,
    /// The destination, for messages; the home, if that is it.
    path: PathBuf,
    coverage: Mutex<Coverage>,
    journal: Option<Journal>,
    /// Bytes that are wanted, content that comes twice counted once.
    wanted_bytes: u64,
    done_bytes: AtomicU64,
    /// Held for reading by whoever writes pieces; for writing by who ends the download.
    state: RwLock<State>,
    protection: Protection,
    /// Chunks that another download brings before this one finishes.
    relied: Mutex<HashSet<u32>>,
    /// What others leave to this download.
    expected: Option<Expected>,
    claim: Option<Claim>,
    /// Names the download where it writes a part of a file: under it is noted what was written.
    part_key: Option<[u8; 32]>,
}

#[derive(Debug)]
enum State {
    Writing(Output),
    Gathering {
        gather: Gather,
        packs: Arc<Packs>,
        own: bool,
    },
    Kept(Box<KeptFile>),
    /// A part of a file that was written before.
    KeptPart,
    Held,
    Ended,
}

impl Download {
    /// Begins to receive a file, or goes on with it where an earlier try stopped.
    ///
    /// # Errors
    /// [`DownloadError`]; a destination with other content is refused before anything is written.
    pub fn begin(
        store: &Store,
        list: Arc<ChunkList>,
        layout: &Layout,
        target: &Target,
        options: &Options,
    ) -> Result<Self, DownloadError> {
        let plan = Plan::new(layout, &list)?;
        let place = match target {
            Target::Store if plan.whole_chunks => None,
            Target::Store => {
                let what = "the store takes whole chunks".to_owned();
                return Err(DownloadError::Layout(what));
            }
            Target::File { path, root } => {
                check_path(path)?;
                let root = std::path::absolute(root).map_err(DownloadError::io(root))?;
                let full = root.join(path);
                Some(Place {
                    part: folder::part_path(&full),
                    name: path.clone(),
                    path: full,
                    root,
                    exec: options.exec,
                    force: options.force,
                })
            }
        };
        let outboards = Outboards::new(&plan, &list);
        let wanted = |chunk| {
            let len = list.lengths[chunk as usize];
            let pieces = each(plan.pieces(chunk));
            pieces
                .map(|piece| plan.wanted_bytes(chunk, &piece_range(piece, len)))
                .sum::<u64>()
        };
        let mut download = Self {
            store: store.clone(),
            path: place.as_ref().map_or(store.home(), |p| &p.path).to_owned(),
            coverage: Mutex::new(Coverage::new(list.len())),
            journal: None,
            wanted_bytes: plan.chunks().map(wanted).sum(),
            done_bytes: AtomicU64::new(0),
            state: RwLock::new(State::Ended),
            protection: store.protect(),
            relied: Mutex::default(),
            expected: None,
            claim: None,
            part_key: None,
            outboards,
            list,
            plan,
        };
        let state = match &place {
            None => download.begin_store(options)?,
            Some(place) => download.begin_file(place, options)?,
        };
        if let State::Writing(output) = &state {
            for (offset, bytes) in &download.plan.literals {
                output.write_at(*offset, bytes)?;
            }
        }
        *download
            .state
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner) = state;
        Ok(download)
    }

    /// Where the file goes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are wanted; content that comes twice in the file is counted once.
    pub fn wanted_bytes(&self) -> u64 {
        self.wanted_bytes
    }

    /// Bytes of them that are there, in pieces of 1 MiB.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    /// What is to be fetched: ranges of chunks (by their number in the list) in blocks of 1 KiB, cut at the
    /// end of the chunk. Content that comes twice, in this file or in those that share its [`Packs`], is
    /// asked for once.
    pub fn missing(&self) -> Vec<(u32, Range<u32>)> {
        self.missing_some(usize::MAX)
    }

    /// The first of what is to be fetched: chunks, until there are `ranges` of them. A cut by columns has
    /// millions, which a caller fetches in rounds: when they are there, the next ones are the first.
    pub fn missing_some(&self, ranges: usize) -> Vec<(u32, Range<u32>)> {
        let coverage = lock(&self.coverage);
        let relied = lock(&self.relied);
        let mut missing = Vec::new();
        for chunk in self.plan.chunks().filter(|c| !relied.contains(c)) {
            if missing.len() >= ranges {
                break;
            }
            let of_chunk = coverage.missing(&self.plan, chunk, self.len_of(chunk));
            missing.extend(of_chunk.into_iter().map(|range| (chunk, range)));
        }
        missing
    }

    /// Wanted bytes that are neither here nor left to another download.
    pub fn missing_bytes(&self) -> u64 {
        let coverage = lock(&self.coverage);
        let relied = lock(&self.relied);
        let missing = self
            .plan
            .chunks()
            .filter(|c| !relied.contains(c))
            .map(|chunk| {
                let open = |piece: &u8| !coverage.is_done(chunk, 1 << piece);
                let pieces = each(self.plan.pieces(chunk)).filter(open);
                self.bytes_of(chunk, pieces)
            });
        missing.sum()
    }

    /// Ends the download: makes the file durable, gives it its name, and makes it known to the store.
    /// Callers of [`PieceSink::store`] that come later are answered, and nothing is written.
    ///
    /// # Errors
    /// [`DownloadError::Incomplete`] when something is missing, [`DownloadError::Changed`] when somebody
    /// changed what was written (both leave the download open: look at [`missing`](Self::missing) again),
    /// and others.
    pub fn finish(&self) -> Result<Finished, DownloadError> {
        if !std::mem::take(&mut *lock(&self.relied)).is_empty() {
            // those that finished before have it
            self.fill_local()?;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let path = || self.path.clone();
        if matches!(*state, State::Ended) {
            return Err(DownloadError::Ended { path: path() });
        }
        let bytes = self.wanted_bytes - self.done_bytes();
        if bytes > 0 {
            return Err(DownloadError::Incomplete {
                path: path(),
                bytes,
            });
        }
        if let State::Writing(output) = &*state {
            if self.journal.as_ref().is_some_and(Journal::failed) {
                return Err(DownloadError::Poisoned { path: path() });
            }
            self.settle(output)?;
        }
        match std::mem::replace(&mut *state, State::Ended) {
            State::Ended => Err(DownloadError::Ended { path: path() }),
            State::Held => Ok(Finished::Held),
            State::Gathering { packs, own, .. } => {
                if own {
                    packs.seal()?;
                }
                Ok(Finished::Packs)
            }
            State::Kept(kept) => Ok(Finished::File {
                path: path(),
                place: kept.place(&self.store, &self.list, &self.outboards)?,
                kept: true,
            }),
            State::Writing(Output::Whole(writer)) => {
                let table = self.outboards.table(&self.list);
                Ok(Finished::Container(
                    writer.seal(&table, self.outboards.len)?,
                ))
            }
            State::KeptPart => Ok(Finished::File {
                path: path(),
                place: None,
                kept: true,
            }),
            State::Writing(Output::Part(part)) => {
                let placed = if self.plan.whole {
                    part.place(&self.outboards.table(&self.list), self.outboards.len)?
                } else {
                    part.place(&[], 0)?
                };
                if let Some(key) = &self.part_key {
                    written::note(&self.store, key, &placed.pins)?;
                }
                if let Some(journal) = &self.journal {
                    // what stays is found to be done when the file is pulled again
                    if let Err(error) = journal.remove() {
                        tracing::warn!(%error, path = %journal.path().display(), "a journal stays behind");
                    }
                }
                Ok(Finished::File {
                    path: path(),
                    place: placed.container,
                    kept: false,
                })
            }
        }
    }

    /// Sees to it that every chunk has its outboard.
    fn settle(&self, output: &Output) -> Result<(), DownloadError> {
        if !output.has_outboards() {
            return Ok(());
        }
        let chunks: Vec<u32> = self.plan.chunks().collect();
        // outboards are 64 bytes for 16 KiB
        let good = all(&chunks, self.plan.len / 256, |chunk| {
            let good = output.settle_outboard(&self.plan, &self.list, &self.outboards, *chunk)?;
            if !good {
                self.forget(*chunk);
            }
            Ok::<_, DownloadError>(good)
        })?;
        if good {
            return Ok(());
        }
        Err(DownloadError::Changed {
            path: output.path().to_owned(),
        })
    }

    /// Gives the download up for good: nothing of it stays.
    pub fn discard(mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        remove_traces(&*self.store.inner().disk, state, self.journal.as_ref());
    }

    fn put(
        &self,
        chunk: u32,
        offset: u32,
        data: &[u8],
        parents: &[Parent],
    ) -> Result<(), DownloadError> {
        let outside = DownloadError::OutOfChunk { chunk, offset };
        let Some(first) = self.plan.first(chunk) else {
            return Err(outside);
        };
        let (chunk, len) = (first, self.len_of(first));
        let end = u32::try_from(data.len())
            .ok()
            .and_then(|more| offset.checked_add(more))
            .filter(|end| *end <= len);
        let Some(range) = end.map(|end| offset..end) else {
            return Err(outside);
        };
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.plan.pieces(chunk);
        let done = |pieces| lock(&self.coverage).is_done(chunk, pieces & wanted);
        match &*state {
            State::Kept(_) | State::KeptPart | State::Held | State::Ended => Ok(()),
            _ if done(pieces_of(&range)) => Ok(()),
            State::Writing(output) => {
                if self.journal.as_ref().is_some_and(Journal::failed) {
                    return Err(DownloadError::Poisoned {
                        path: output.path().to_owned(),
                    });
                }
                output.spread(&self.plan, chunk, offset, data)?;
                if output.has_outboards() {
                    self.write_parents(output, chunk, parents)?;
                }
                self.wrote(output, chunk, &range, parents)
            }
            State::Gathering { gather, .. } => {
                gather.put(chunk, len, offset, data)?;
                let complete = lock(&self.coverage).add(&self.plan, chunk, len, range, &[]);
                let pieces = complete.iter().fold(0, |bits, c| bits | (1 << c.piece));
                if !self.mark_last(chunk, pieces) {
                    return Ok(());
                }
                let added = gather.complete(chunk, self.list.hashes[chunk as usize]);
                if !matches!(added, Ok(true)) {
                    gather.forget(chunk);
                    self.forget(chunk);
                }
                match added? {
                    true => Ok(()),
                    false => Err(DownloadError::Changed {
                        path: self.path.clone(),
                    }),
                }
            }
        }
    }

    /// Writes pairs of a chunk's outboard, neighbours together.
    fn write_parents(
        &self,
        output: &Output,
        chunk: u32,
        parents: &[Parent],
    ) -> Result<(), DownloadError> {
        let count = outboard::size(self.len_of(chunk)) / 64;
        let start = self.outboards.start(chunk);
        let mut rest = parents;
        while let Some((first, _)) = rest.first() {
            let follow = rest
                .iter()
                .zip(*first..)
                .take_while(|((index, _), n)| index == n);
            let run = &rest[..follow.count()];
            rest = &rest[run.len()..];
            if run.last().is_some_and(|(index, _)| *index < count) {
                let bytes: Vec<u8> = run.iter().flat_map(|(_, pair)| *pair).collect();
                output.write_outboard_at(start + u64::from(*first) * 64, &bytes)?;
            }
        }
        Ok(())
    }

    /// Notes that bytes of a chunk were written, with the pairs above them.
    fn wrote(
        &self,
        output: &Output,
        chunk: u32,
        range: &Range<u32>,
        parents: &[Parent],
    ) -> Result<(), DownloadError> {
        let len = self.len_of(chunk);
        let values = known_values(&self.list, &self.plan, chunk, range, parents);
        let complete = lock(&self.coverage).add(&self.plan, chunk, len, range.clone(), &values);
        let Some(journal) = &self.journal else {
            self.mark(
                chunk,
                complete.iter().fold(0, |bits, c| bits | (1 << c.piece)),
            );
            return Ok(());
        };
        let mut records = Vec::with_capacity(complete.len());
        for Complete { piece, value } in complete {
            let hash = match value {
                Some(hash) => hash,
                None => self.hash_piece(output, chunk, piece)?,
            };
            records.push(JournalRecord { chunk, piece, hash });
        }
        let io = DownloadError::io(journal.path());
        journal.append(&records).map_err(&io)?;
        self.mark(
            chunk,
            records.iter().fold(0, |bits, r| bits | (1 << r.piece)),
        );
        let mut failed = None;
        let synced = journal.written(range.len() as u64, || {
            output.sync().map_err(|error| {
                failed = Some(error);
                io::ErrorKind::Other.into()
            })
        });
        match failed {
            Some(error) => Err(error),
            None => synced.map_err(&io),
        }
    }

    fn hash_piece(
        &self,
        output: &Output,
        chunk: u32,
        piece: u8,
    ) -> Result<[u8; 32], DownloadError> {
        let len = self.len_of(chunk);
        let bytes = output.gather(&self.plan, chunk, &piece_range(piece, len))?;
        let bytes = bytes.ok_or_else(|| DownloadError::Changed {
            path: output.path().to_owned(),
        })?;
        Ok(piece_hash(&self.plan, chunk, len, piece, &bytes))
    }

    fn len_of(&self, chunk: u32) -> u32 {
        self.list.lengths[chunk as usize]
    }

    /// Wanted bytes of some pieces of a chunk.
    fn bytes_of(&self, chunk: u32, pieces: impl Iterator<Item = u8>) -> u64 {
        let len = self.len_of(chunk);
        pieces
            .map(|piece| self.plan.wanted_bytes(chunk, &piece_range(piece, len)))
            .sum()
    }

    /// Marks pieces as done; whether any was not.
    fn mark(&self, chunk: u32, pieces: u16) -> bool {
        self.mark_in(&mut lock(&self.coverage), chunk, pieces)
    }

    /// Marks pieces as done; whether they are the last ones of their chunk. Marks and looks under one lock: of two
    /// callers that mark the last two pieces, one alone is told so.
    fn mark_last(&self, chunk: u32, pieces: u16) -> bool {
        let mut coverage = lock(&self.coverage);
        let new = self.mark_in(&mut coverage, chunk, pieces);
        new && coverage.is_done(chunk, self.plan.pieces(chunk))
    }

    fn mark_in(&self, coverage: &mut Coverage, chunk: u32, pieces: u16) -> bool {
        let new = each(pieces).filter(|piece| !coverage.is_done(chunk, 1 << piece));
        let bytes = self.bytes_of(chunk, new);
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        coverage.mark(chunk, pieces)
    }

    fn mark_all(&self, chunk: u32) {
        self.mark(chunk, self.plan.pieces(chunk));
    }

    fn forget(&self, chunk: u32) {
        let mut coverage = lock(&self.coverage);
        let done = (0..16).filter(|piece| coverage.is_done(chunk, 1 << piece));
        let bytes = self.bytes_of(chunk, done);
        self.done_bytes.fetch_sub(bytes, Ordering::Relaxed);
        coverage.forget(chunk);
    }
}

impl PieceSink for Download {
    fn store(&self, chunk: u32, offset: u32, data: &[u8], parents: &[Parent]) -> io::Result<()> {
        Ok(self.put(chunk, offset, data, parents)?)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.journal.as_ref().is_none_or(Journal::is_empty) {
            remove_traces(&*self.store.inner().disk, state, self.journal.as_ref());
        }
    }
}

/// Removes what a download that has not ended wrote.
fn remove_traces(disk: &dyn Disk, state: &mut State, journal: Option<&Journal>) {
    let State::Writing(output) = std::mem::replace(state, State::Ended) else {
        return;
    };
    // a container whose journal is gone removes itself
    if let Some(Err(error)) = journal.map(|journal| remove_if_there(disk, journal.path())) {
        tracing::warn!(%error, "a journal stays behind");
    }
    if let Output::Part(part) = &output {
        part.discard();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `check` holds for all items; on several threads when they stand for many bytes.
fn all<T: Sync, E: Send>(
    items: &[T],
    bytes: u64,
    check: impl Fn(&T) -> Result<bool, E> + Sync,
) -> Result<bool, E> {
    if bytes < PARALLEL_BYTES {
        return items
            .iter()
            .try_fold(true, |good, item| Ok(check(item)? && good));
    }
    items
        .par_iter()
        .map(&check)
        .try_reduce(|| true, |a, b| Ok(a && b))
}
