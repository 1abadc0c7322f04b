//! Making an outboard that is missing: segments are read and hashed side by side.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use bytes::Bytes;

use super::{FileBlob, kept::OutboardWriter, lock, tree};
use crate::limits::{ROOT_THREADS_MAX, ROOT_WAITING_MAX};

/// Counts one that waits.
struct Waits<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FileBlob {
    /// The outboard of a file of several segments: the kept one, or one that is made and kept.
    ///
    /// Memory: 16 MiB a thread, of which there are at most four.
    pub(super) fn kept_or_made(&self) -> io::Result<Bytes> {
        let (store, claim, size) = (self.store(), self.claim(), self.len());
        if let Some(pairs) = store.kept_outboard(&claim.root, size) {
            return Ok(pairs);
        }
        let roots = &store.inner().roots;
        if roots.waiting.fetch_add(1, Ordering::SeqCst) >= ROOT_WAITING_MAX {
            roots.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "other hash trees are being made",
            ));
        }
        let _waits = Waits(&roots.waiting);
        let _making = lock(&roots.making);
        // another may have made it meanwhile
        if let Some(pairs) = store.kept_outboard(&claim.root, size) {
            return Ok(pairs);
        }
        let writer = store.outboard_writer(size)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "its hash tree is over the bound",
            )
        })?;
        if self.make(&writer)? != claim.root {
            store.is_untrue(claim);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file does not have this root",
            ));
        }
        writer.seal(&claim.root)?;
        store
            .kept_outboard(&claim.root, size)
            .ok_or_else(|| io::Error::other("the hash tree was lost as soon as it was made"))
    }

    fn make(&self, writer: &OutboardWriter) -> io::Result<crate::ChunkHash> {
        let count = tree::segments(self.len());
        let slots = usize::try_from(count).map_err(io::Error::other)?;
        let values = Mutex::new(vec![[0; 32]; slots]);
        let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
        let work = || {
            while lock(&failed).is_none() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                let made = self.make_segment(writer, count, number);
                match (made, usize::try_from(number)) {
                    (Ok(value), Ok(at)) => lock(&values)[at] = value,
                    (Err(error), _) => {
                        lock(&failed).get_or_insert(error);
                    }
                    (_, Err(error)) => {
                        lock(&failed).get_or_insert(io::Error::other(error));
                    }
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 1..threads.min(ROOT_THREADS_MAX) {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = lock(&failed).take() {
            return Err(error);
        }
        let mut written = Ok(());
        let root = tree::root(&lock(&values), &mut |at, pair| {
            if written.is_ok() {
                written = writer.write(at, pair);
            }
        });
        written.map(|()| root)
    }

    fn make_segment(
        &self,
        writer: &OutboardWriter,
        count: u64,
        number: u64,
    ) -> io::Result<[u8; 32]> {
        let start = number * tree::SEGMENT_BYTES;
        let end = (start + tree::SEGMENT_BYTES).min(self.len());
        let (value, pairs) = tree::segment(number, &self.bytes(start..end)?);
        writer.write(tree::segment_offset(count, number), &pairs)?;
        Ok(value)
    }
}
