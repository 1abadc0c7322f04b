//! Writes the bytes of new containers behind the threads that hash them.
//!
//! One thread writes, so that those that hash neither wait for the file system nor for each other at the
//! lock of one file. Where the file system takes writes past its cache, all but the edges of what is written
//! goes there: a model that is read once and written once does not fill the memory of the machine with two
//! copies of itself. Its bytes are copied to aligned buffers instead, which stay in the processor's caches.

use std::{
    io, mem,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use crate::disk::{DIRECT_BLOCK_BYTES, DiskFile};

use super::target::lock;

/// Bytes of one write at the most. Writes end at multiples of it, so that most have no edges.
const STEP_BYTES: usize = 4 << 20;

/// Writes that wait, each with a buffer.
const STEPS_MAX: usize = 6;

/// The thread that writes, which starts with the first byte.
#[derive(Debug, Default)]
pub(super) struct Behind {
    running: OnceLock<Running>,
}

#[derive(Debug)]
struct Running {
    steps: Option<SyncSender<Step>>,
    spare: Mutex<Receiver<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

/// One write.
struct Step {
    file: Arc<State>,
    /// The bytes, from `start` on, as far from a multiple of the block in memory as in the file.
    buffer: Vec<u8>,
    start: usize,
    len: usize,
    offset: u64,
    outcome: io::Result<()>,
}

/// A file that is written behind.
#[derive(Debug)]
pub(super) struct BehindFile {
    behind: Arc<Behind>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn DiskFile>,
    /// The same file, past the cache; none where the file system has refused that.
    direct: Mutex<Option<Arc<dyn DiskFile>>>,
    progress: Mutex<Progress>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    waiting: usize,
    error: Option<io::Error>,
}

impl Behind {
    /// A file to write to: through the cache, and past it where that is possible.
    pub(super) fn file(
        self: &Arc<Self>,
        file: Arc<dyn DiskFile>,
        direct: Option<Arc<dyn DiskFile>>,
    ) -> BehindFile {
        let state = State {
            file,
            direct: Mutex::new(direct),
            progress: Mutex::default(),
            idle: Condvar::new(),
        };
        BehindFile {
            behind: Arc::clone(self),
            state: Arc::new(state),
        }
    }

    fn running(&self) -> &Running {
        self.running.get_or_init(|| {
            let (steps, work) = sync_channel::<Step>(STEPS_MAX);
            let (give_back, spare) = sync_channel(STEPS_MAX);
            for _ in 0..STEPS_MAX {
                give_back.send(Vec::new()).ok();
            }
            let thread = thread::spawn(move || {
                for step in work {
                    give_back.send(step.write()).ok();
                }
            });
            Running {
                steps: Some(steps),
                spare: Mutex::new(spare),
                thread: Some(thread),
            }
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.steps = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl BehindFile {
    /// Takes bytes of the file; waits while too many are under way.
    ///
    /// # Errors
    /// Those of an earlier write to this file.
    pub(super) fn write_at(&self, mut data: &[u8], mut offset: u64) -> io::Result<()> {
        let running = self.behind.running();
        while !data.is_empty() {
            let room = STEP_BYTES - remainder(offset, STEP_BYTES);
            let (now, rest) = data.split_at(data.len().min(room));
            let mut step = Step::begin(&self.state, offset)?;
            step.buffer = lock(&running.spare).recv().map_err(io::Error::other)?;
            step.fill(now);
            let steps = running.steps.as_ref();
            steps
                .expect("there until it is dropped")
                .send(step)
                .map_err(|_| io::Error::other("the thread that writes is gone"))?;
            offset += now.len() as u64;
            data = rest;
        }
        Ok(())
    }

    /// Waits until everything that was taken is written.
    ///
    /// # Errors
    /// The first of any write to this file.
    pub(super) fn wait(&self) -> io::Result<()> {
        let progress = lock(&self.state.progress);
        let mut progress = self
            .state
            .idle
            .wait_while(progress, |progress| progress.waiting > 0)
            .unwrap_or_else(PoisonError::into_inner);
        progress.error.take().map_or(Ok(()), Err)
    }
}

impl Step {
    fn begin(file: &Arc<State>, offset: u64) -> io::Result<Self> {
        let mut progress = lock(&file.progress);
        if let Some(error) = progress.error.take() {
            return Err(error);
        }
        progress.waiting += 1;
        Ok(Self {
            file: Arc::clone(file),
            buffer: Vec::new(),
            start: 0,
            len: 0,
            offset,
            outcome: Err(io::Error::other("the thread that writes is gone")),
        })
    }

    fn fill(&mut self, data: &[u8]) {
        self.buffer.resize(STEP_BYTES + DIRECT_BLOCK_BYTES, 0);
        let in_memory = self.buffer.as_ptr().addr() % DIRECT_BLOCK_BYTES;
        let in_file = remainder(self.offset, DIRECT_BLOCK_BYTES);
        self.start = (in_file + DIRECT_BLOCK_BYTES - in_memory) % DIRECT_BLOCK_BYTES;
        self.len = data.len();
        self.buffer[self.start..self.start + data.len()].copy_from_slice(data);
    }

    /// Writes, and gives the buffer back.
    fn write(mut self) -> Vec<u8> {
        let data = &self.buffer[self.start..self.start + self.len];
        self.outcome = self.file.write_at(data, self.offset);
        mem::take(&mut self.buffer)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let outcome = mem::replace(&mut self.outcome, Ok(()));
        let mut progress = lock(&self.file.progress);
        progress.waiting -= 1;
        if let Err(error) = outcome {
            progress.error.get_or_insert(error);
        }
        if progress.waiting == 0 {
            self.file.idle.notify_all();
        }
    }
}

impl State {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let direct = lock(&self.direct).clone();
        let head =
            (DIRECT_BLOCK_BYTES - remainder(offset, DIRECT_BLOCK_BYTES)) % DIRECT_BLOCK_BYTES;
        let Some(direct) = direct.filter(|_| data.len() >= head + DIRECT_BLOCK_BYTES) else {
            return self.file.write_at(data, offset);
        };
        let (head, rest) = data.split_at(head);
        let (blocks, tail) = rest.split_at(rest.len() - rest.len() % DIRECT_BLOCK_BYTES);
        let from = offset + head.len() as u64;
        match direct.write_at(blocks, from) {
            // Some file systems take such writes in larger blocks alone.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                *lock(&self.direct) = None;
                return self.file.write_at(data, offset);
            }
            written => written?,
        }
        self.file.write_at(head, offset)?;
        self.file.write_at(tail, from + blocks.len() as u64)
    }
}

fn remainder(offset: u64, of: usize) -> usize {
    usize::try_from(offset % of as u64).expect("less than what it is divided by")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

    use super::*;
    use crate::disk::{Disk, RealDisk, sim::SimDisk};

    fn fill(disk: &dyn Disk, path: &Path, seed: u64) -> Vec<u8> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut lengths: Vec<usize> = (0..24).map(|_| random.random_range(1..3_000_000)).collect();
        lengths.extend([1, 4095, 4096, 4097, STEP_BYTES, 2 * STEP_BYTES + 1]);
        lengths.shuffle(&mut random);
        let mut content = vec![0; lengths.iter().sum()];
        random.fill(&mut content[..]);
        let mut parts = Vec::new();
        let mut at = 0;
        for len in lengths {
            parts.push(at..at + len);
            at += len;
        }
        parts.shuffle(&mut random);

        let file = disk.create(path).unwrap();
        file.allocate(content.len() as u64).unwrap();
        let behind = Arc::new(Behind::default());
        let out = behind.file(file, disk.open_direct(path).unwrap());
        thread::scope(|scope| {
            for parts in parts.chunks(parts.len().div_ceil(3)) {
                let (out, content) = (&out, &content);
                scope.spawn(move || {
                    for part in parts {
                        out.write_at(&content[part.clone()], part.start as u64)
                            .unwrap();
                    }
                });
            }
        });
        out.wait().unwrap();
        content
    }

    #[test]
    fn parts_in_any_order_from_any_thread_make_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for seed in 0..3 {
            let path = folder.path().join(seed.to_string());
            let content = fill(&RealDisk, &path, seed);
            assert!(std::fs::read(&path).unwrap() == content, "seed {seed}");
        }
    }

    #[test]
    fn a_write_that_fails_fails_the_file_and_nothing_waits_for_ever() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/a")).unwrap();
        let path = Path::new("/a/file");
        let file = disk.create(path).unwrap();
        let behind = Arc::new(Behind::default());
        let out = behind.file(file, disk.open_direct(path).unwrap());
        disk.crash_after(2);
        let part = vec![7; 100_000];
        let early = (0..100).find_map(|at| out.write_at(&part, at * 100_000).err());
        let error = early.or_else(|| out.wait().err());
        assert!(error.is_some(), "the error got lost");
        assert!(disk.crashed());
        out.wait().ok();
    }
}
