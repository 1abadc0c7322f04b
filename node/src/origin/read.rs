//! One reader of one file of a commit that is not all here: of what is being brought, or of the hub itself.
//!
//! Invariant: a reader that began with a file which is being brought stays with it. If that turns out wrong, the reader
//! is cut off, and gets nothing of another attempt.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use lode_tensors::ByteRange;

use super::{
    bring::Origin,
    limits::{AHEAD_BYTES_MAX, PASS_BYTES_MAX},
    listing::{Digest, FileAt},
    spool::Using,
};
use crate::{Node, command::Failure};

/// A reader of a file. Its methods may be called again after they were dropped.
#[derive(Debug)]
pub struct OriginReader {
    origin: Arc<Origin>,
    at: usize,
    spool: Mutex<Option<Using>>,
    /// Bytes that came with others and were not asked for yet, and where they begin.
    left: Mutex<(u64, Bytes)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OriginReader {
    /// A reader of the file at a position of the list.
    pub fn new(origin: Arc<Origin>, at: usize) -> Self {
        Self {
            origin,
            at,
            spool: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// What is read.
    pub fn file(&self) -> &FileAt {
        &self.origin.listing().files[self.at]
    }

    /// The first bytes of `range`, for a reader who goes on to `until`.
    ///
    /// # Errors
    /// They cannot be had, or the file turned out wrong.
    pub async fn read(&self, range: ByteRange, until: u64) -> Result<Bytes, Failure> {
        let wanted = usize::try_from(range.len()).unwrap_or(usize::MAX);
        {
            let (start, bytes) = &mut *lock(&self.left);
            if *start == range.start && !bytes.is_empty() {
                let some = bytes.split_to(wanted.min(bytes.len()));
                *start += some.len() as u64;
                return Ok(some);
            }
        }
        let mut bytes = self.more(range, until).await?;
        let some = bytes.split_to(wanted.min(bytes.len()));
        *lock(&self.left) = (range.start + some.len() as u64, bytes);
        Ok(some)
    }

    /// Waits for the first bytes of `range`, which stay for the next read from there.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn peek(&self, range: ByteRange) -> Result<(), Failure> {
        let bytes = self.more(range, range.end).await?;
        *lock(&self.left) = (range.start, bytes);
        Ok(())
    }

    /// Bytes from the start of `range` on, perhaps more than it.
    async fn more(&self, range: ByteRange, until: u64) -> Result<Bytes, Failure> {
        let file = self.file();
        let spool = lock(&self.spool).clone();
        let spool = match spool {
            Some(spool) => Some(spool),
            None => {
                if let Some((held, _)) = self.origin.held(file.digest).await? {
                    let read = move |node: &Node| Ok(node.reads().file(&held)?.read(range)?);
                    return self.origin.node().blocking(read).await;
                }
                self.join(range, until).await?
            }
        };
        let far = ByteRange {
            start: range.start,
            end: until.min(range.start + PASS_BYTES_MAX).max(range.end),
        };
        match spool {
            Some(spool) if spool.is_near(range.start, AHEAD_BYTES_MAX) => {
                spool.detach();
                *lock(&self.spool) = Some(spool.clone());
                spool.shared().read(range).await
            }
            _ => self.origin.pass(file, far).await,
        }
    }

    /// Has the file brought if it is being brought anyway, is short, or much of it is read.
    async fn join(&self, range: ByteRange, until: u64) -> Result<Option<Using>, Failure> {
        let file = self.file();
        let running = self.origin.running(file.digest);
        let near = running.is_some_and(|spool| spool.is_near(range.start, AHEAD_BYTES_MAX));
        let rest = until == file.size && until - range.start >= file.size / 4;
        if near || rest || file.size <= AHEAD_BYTES_MAX || self.origin.passed.is_much(file, range) {
            return self.origin.bring(self.at).await;
        }
        Ok(None)
    }
}

/// Bytes of files that passed through to readers without being kept.
#[derive(Debug, Default)]
pub(super) struct Passed(Mutex<HashMap<Digest, u64>>);

impl Passed {
    /// Whether readers had so much of a file by ranges that all of it is worth being kept: a quarter.
    fn is_much(&self, file: &FileAt, range: ByteRange) -> bool {
        let mut passed = lock(&self.0);
        let sum = passed.entry(file.digest).or_default();
        *sum = sum.saturating_add(range.len());
        *sum >= file.size / 4
    }
}
