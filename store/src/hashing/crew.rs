//! The threads that hash, and how each one finds its next job.

use std::{
    collections::BTreeMap,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use crate::{ChunkHash, cut::cdc_cuts, outboard, sidecar::Pins};

use super::{
    FileHashes, Handle, HashError, HashOptions, HashedChunk, Plan, Source, Visitor, age,
    buffers::Buffers,
    digests::Digests,
    lane::{Claim, ClaimWork, Lane, Unit},
};

/// Files up to this length are hashed by one thread in one go.
const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A file changed less than this long before it is read counts as recent.
const RECENT: Duration = Duration::from_secs(2);

/// Threads, what they work on, and where the results go.
pub(super) struct Crew<'a, V: Visitor> {
    files: &'a [Source],
    options: &'a HashOptions,
    visitor: &'a V,
    threads: usize,
    state: Mutex<State<V::Error>>,
    changed: Condvar,
}

struct State<E> {
    lanes: BTreeMap<usize, Lane>,
    buffers: Buffers,
    next_file: usize,
    /// Files being opened, or hashed in one go, or reported.
    at_hand: usize,
    error: Option<HashError<E>>,
}

enum Job {
    Digest {
        file: usize,
        digests: Digests,
        unit: Unit,
    },
    Read {
        file: usize,
        claim: Claim,
        buffer: Vec<u8>,
    },
    Open {
        file: usize,
    },
}

impl<'a, V: Visitor> Crew<'a, V> {
    pub(super) fn new(files: &'a [Source], options: &'a HashOptions, visitor: &'a V) -> Self {
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let state = State {
            lanes: BTreeMap::new(),
            buffers: Buffers::for_threads(threads),
            next_file: 0,
            at_hand: 0,
            error: None,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self {
            files,
            options,
            visitor,
            threads,
            state,
            changed,
        }
    }

    pub(super) fn run(self) -> Result<(), HashError<V::Error>> {
        thread::scope(|scope| {
            for _ in 1..self.threads {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        state.error.map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State<V::Error>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // Another thread's panic must end this one too, instead of leaving it waiting.
        let _guard = StopOnPanic { crew: self };
        let mut small = Vec::new();
        while let Some(job) = self.next_job() {
            let done = match job {
                Job::Digest {
                    file,
                    digests,
                    unit,
                } => self.digest(file, digests, unit),
                Job::Read {
                    file,
                    claim,
                    buffer,
                } => self.read(file, claim, buffer),
                Job::Open { file } => self.open(file, &mut small),
            };
            if let Err(error) = done {
                self.stop(error);
            }
        }
    }

    fn stop(&self, error: HashError<V::Error>) {
        self.lock().error.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Waits for a job; nothing when all is done, or at the first error.
    fn next_job(&self) -> Option<Job> {
        if self.visitor.cancelled() {
            self.stop(HashError::Cancelled);
        }
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(job) = state.pick(self.files.len(), self.threads) {
                return Some(job);
            }
            if state.lanes.is_empty() && state.at_hand == 0 {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens a file, and hashes it at once if it is small.
    fn open(&self, file: usize, small: &mut Vec<u8>) -> Result<(), HashError<V::Error>> {
        let source = &self.files[file];
        let began = SystemTime::now();
        let io_error = |error| HashError::Io {
            path: source.path().to_owned(),
            source: error,
        };
        let handle = source.open().map_err(io_error)?;
        let pins = handle.pins().map_err(io_error)?;
        let recent = age(&pins, began) < RECENT;
        let plan = self
            .visitor
            .open(file, &handle, &pins)
            .map_err(HashError::Visitor)?;
        if pins.len <= SMALL_FILE_BYTES_MAX {
            let hashes = self.hash_small(file, &handle, pins, recent, plan, small)?;
            return self.report(file, &handle, hashes);
        }
        handle.advise_sequential();
        let lane = Lane::new(handle, pins, recent, plan, self.options);
        let mut state = self.lock();
        state.lanes.insert(file, lane);
        state.at_hand -= 1;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    fn hash_small(
        &self,
        file: usize,
        handle: &Handle,
        pins: Pins,
        recent: bool,
        plan: Plan,
        data: &mut Vec<u8>,
    ) -> Result<FileHashes, HashError<V::Error>> {
        data.resize(usize::try_from(pins.len).expect("at most 1 MiB"), 0);
        self.fill(file, handle, data, 0)?;
        let cuts = match plan {
            Plan::Known(cuts) => cuts,
            Plan::Content => cdc_cuts(data),
        };
        let chunks = self.hash_chunks(file, 0, 0, &cuts.lengths, data)?;
        let mut digests = Digests::new(pins.len, self.options);
        digests.update(data);
        let finished = digests.finish();
        self.visitor.progress(pins.len);
        Ok(FileHashes {
            rule: cuts.rule,
            chunks,
            lengths: cuts.lengths,
            sha256: finished.sha256,
            git: finished.git,
            root: finished.root,
            pins,
            recent,
        })
    }

    /// Fills a buffer, cuts it where content decides, and hashes its chunks.
    fn read(
        &self,
        file: usize,
        claim: Claim,
        mut buffer: Vec<u8>,
    ) -> Result<(), HashError<V::Error>> {
        let Claim {
            unit,
            start,
            first_chunk,
            work,
            handle,
        } = claim;
        let lengths = match work {
            ClaimWork::Known { lengths } => {
                let len = total(&lengths);
                self.fill(file, &handle, &mut buffer[..len], start)?;
                lengths
            }
            ClaimWork::Content {
                mut state,
                fresh,
                last,
            } => {
                let carried = state.prepare(&mut buffer);
                let filled = carried + fresh;
                let fresh_start = start + carried as u64;
                self.fill(file, &handle, &mut buffer[carried..filled], fresh_start)?;
                let lengths = state.cut(&buffer[..filled], last);
                if let Some(lane) = self.lock().lanes.get_mut(&file) {
                    lane.cut(state, &lengths);
                }
                self.changed.notify_all();
                lengths
            }
        };
        let len = total(&lengths);
        let hashes = self.hash_chunks(file, first_chunk, start, &lengths, &buffer[..len])?;
        if let Some(lane) = self.lock().lanes.get_mut(&file) {
            lane.hashed(unit, first_chunk, &hashes, Unit { buffer, len });
        }
        self.changed.notify_all();
        Ok(())
    }

    fn hash_chunks(
        &self,
        file: usize,
        first: u32,
        start: u64,
        lengths: &[u32],
        mut data: &[u8],
    ) -> Result<Vec<ChunkHash>, HashError<V::Error>> {
        let mut hashes = Vec::with_capacity(lengths.len());
        let mut offset = start;
        for (index, &length) in (first..).zip(lengths) {
            let (chunk, rest) = data.split_at(length as usize);
            let (hash, outboard) = outboard::compute(chunk);
            hashes.push(hash);
            self.visitor
                .chunk(HashedChunk {
                    file,
                    index,
                    offset,
                    hash,
                    data: chunk,
                    outboard,
                })
                .map_err(HashError::Visitor)?;
            offset += u64::from(length);
            data = rest;
        }
        Ok(hashes)
    }

    /// Puts a unit through the file's own hashes; the last one finishes the file.
    fn digest(
        &self,
        file: usize,
        mut digests: Digests,
        unit: Unit,
    ) -> Result<(), HashError<V::Error>> {
        for (offset, pairs) in digests.update(&unit.buffer[..unit.len]) {
            self.visitor
                .outboard(file, offset, &pairs)
                .map_err(HashError::Visitor)?;
        }
        self.visitor.progress(unit.len as u64);
        let mut state = self.lock();
        state.buffers.give_back(unit.buffer);
        let lane = state
            .lanes
            .get_mut(&file)
            .expect("a lane stays until it is done");
        lane.digested(digests);
        let done = if lane.is_done() {
            state.lanes.remove(&file)
        } else {
            None
        };
        state.at_hand += usize::from(done.is_some());
        drop(state);
        self.changed.notify_all();
        match done {
            Some(lane) => {
                let handle = lane.handle.clone();
                self.report(file, &handle, lane.finish())
            }
            None => Ok(()),
        }
    }

    /// Hands out a file's hashes, if it is still the file that was opened.
    fn report(
        &self,
        file: usize,
        handle: &Handle,
        hashes: FileHashes,
    ) -> Result<(), HashError<V::Error>> {
        let source = &self.files[file];
        let path = || source.path().to_owned();
        let still = source.is_still(handle, &hashes.pins);
        let still = still.map_err(|error| HashError::Io {
            path: path(),
            source: error,
        })?;
        if !still {
            return Err(HashError::Changed { path: path() });
        }
        self.visitor
            .done(file, hashes)
            .map_err(HashError::Visitor)?;
        self.lock().at_hand -= 1;
        self.changed.notify_all();
        Ok(())
    }

    fn fill(
        &self,
        file: usize,
        handle: &Handle,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), HashError<V::Error>> {
        let path = || self.files[file].path().to_owned();
        handle
            .read_exact_at(buffer, offset)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => HashError::Changed { path: path() },
                _ => HashError::Io {
                    path: path(),
                    source,
                },
            })
    }
}

impl<E> State<E> {
    fn pick(&mut self, files: usize, threads: usize) -> Option<Job> {
        for (&file, lane) in &mut self.lanes {
            if let Some((digests, unit)) = lane.next_to_digest() {
                return Some(Job::Digest {
                    file,
                    digests,
                    unit,
                });
            }
        }
        let can_open = self.next_file < files && self.lanes.len() + self.at_hand < threads;
        if self.buffers.any_free() {
            let hungriest = self
                .lanes
                .iter_mut()
                .filter(|(_, lane)| lane.can_claim())
                .min_by_key(|(_, lane)| lane.outstanding());
            if let Some((&file, lane)) = hungriest
                && (lane.outstanding() < 2 || !can_open)
            {
                let buffer = self.buffers.take()?;
                return Some(Job::Read {
                    file,
                    claim: lane.claim(),
                    buffer,
                });
            }
        }
        if can_open {
            let file = self.next_file;
            self.next_file += 1;
            self.at_hand += 1;
            return Some(Job::Open { file });
        }
        None
    }
}

struct StopOnPanic<'a, 'b, V: Visitor> {
    crew: &'a Crew<'b, V>,
}

impl<V: Visitor> Drop for StopOnPanic<'_, '_, V> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.crew.stop(HashError::Cancelled);
        }
    }
}

fn total(lengths: &[u32]) -> usize {
    lengths.iter().map(|length| *length as usize).sum()
}
