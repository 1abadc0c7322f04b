//! Blocks of variants that were made a moment ago, so that several readers of one block make it once.

use std::{
    collections::HashSet,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use lode_store::recent::{Recent, Usage};

use super::{
    VariantId,
    limits::{BLOCKS_BYTES_MAX, MAKERS_MAX},
};

/// Which block: of which variant, of which of its files, counted from 0.
pub(super) type Block = (VariantId, u32, u64);

/// Blocks of variants, within a bound.
#[derive(Debug)]
pub struct Blocks {
    made: Recent<Block, Bytes>,
    making: Mutex<HashSet<Block>>,
    done: Condvar,
    /// How many make something now, and how many wait for that.
    makers: Mutex<Makers>,
    left: Condvar,
    bytes: AtomicU64,
    time_us: AtomicU64,
}

#[derive(Debug, Default)]
struct Makers {
    now: usize,
    waiting: usize,
}

/// What was made of variants since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Bytes made.
    pub bytes: u64,
    /// Time of all threads that made them, microseconds.
    pub time_us: u64,
    /// Threads that make something now.
    pub makers: u64,
    /// Threads that wait for that.
    pub waiting: u64,
    /// Whether a block was still there when it was asked for.
    pub blocks: Usage,
}

/// A place among those who may make something.
pub(super) struct Turn<'a>(&'a Blocks);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.makers().now -= 1;
        self.0.left.notify_one();
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            made: Recent::new(BLOCKS_BYTES_MAX),
            making: Mutex::default(),
            done: Condvar::new(),
            makers: Mutex::default(),
            left: Condvar::new(),
            bytes: AtomicU64::new(0),
            time_us: AtomicU64::new(0),
        }
    }
}

impl Blocks {
    /// A block that was made a moment ago.
    pub(super) fn get(&self, block: Block) -> Option<Bytes> {
        // What a recipe makes of a tree is true for ever.
        self.made.get(&block, 0)
    }

    /// Whether it was, which does not count as asking for it.
    pub(super) fn has(&self, block: Block) -> bool {
        self.made.has(&block, 0)
    }

    /// Waits until fewer than [`MAKERS_MAX`] make something: bounds the source that is in memory. Blocks.
    pub(super) fn turn(&self) -> Turn<'_> {
        let mut makers = self.makers();
        makers.waiting += 1;
        while makers.now == MAKERS_MAX {
            makers = self
                .left
                .wait(makers)
                .unwrap_or_else(PoisonError::into_inner);
        }
        makers.waiting -= 1;
        makers.now += 1;
        Turn(self)
    }

    fn makers(&self) -> MutexGuard<'_, Makers> {
        self.makers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes that were made, and how long that took.
    pub(super) fn count(&self, bytes: usize, since: Instant) {
        let time_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.time_us.fetch_add(time_us, Ordering::Relaxed);
    }

    /// What was made so far.
    pub(crate) fn work(&self) -> Work {
        let makers = self.makers();
        let (now, waiting) = (makers.now as u64, makers.waiting as u64);
        drop(makers);
        Work {
            bytes: self.bytes.load(Ordering::Relaxed),
            time_us: self.time_us.load(Ordering::Relaxed),
            makers: now,
            waiting,
            blocks: self.made.usage(),
        }
    }

    /// Keeps a block.
    pub(super) fn put(&self, block: Block, bytes: Bytes) {
        let weight = bytes.len();
        self.made.put(block, bytes, weight, 0);
    }

    /// The block, made by `make` unless another thread makes it now: then waits for that one. Blocks.
    pub(super) fn get_or_make<E>(
        &self,
        block: Block,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let making = || self.making.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut under_way = making();
            loop {
                if let Some(bytes) = self.get(block) {
                    return Ok(bytes);
                }
                if under_way.insert(block) {
                    break;
                }
                under_way = self
                    .done
                    .wait(under_way)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        let _ends = Ends(self, block);
        let bytes = make()?;
        self.put(block, bytes.clone());
        Ok(bytes)
    }
}

/// Lets others make the block once this one is made, or failed, or panicked.
struct Ends<'a>(&'a Blocks, Block);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let mut making = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        making.remove(&self.1);
        self.0.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const BLOCK: Block = (VariantId([7; 32]), 0, 3);

    #[test]
    fn readers_of_one_block_make_it_once() {
        let (blocks, made) = (Blocks::default(), AtomicU32::new(0));
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let bytes = blocks.get_or_make(BLOCK, || {
                        made.fetch_add(1, Ordering::Relaxed);
                        Ok::<_, ()>(Bytes::from_static(b"made"))
                    });
                    assert_eq!(bytes.as_deref(), Ok(&b"made"[..]));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn no_more_than_so_many_make_something_at_a_time() {
        let (blocks, most) = (Blocks::default(), AtomicU32::new(0));
        let now = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..MAKERS_MAX + 1 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _turn = blocks.turn();
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() as usize <= MAKERS_MAX);
        assert_eq!((blocks.work().makers, blocks.work().waiting), (0, 0));
    }

    #[test]
    fn a_block_that_failed_is_tried_again() {
        let blocks = Blocks::default();
        assert_eq!(blocks.get_or_make(BLOCK, || Err(1)), Err(1));
        let made = blocks.get_or_make(BLOCK, || Ok::<_, i32>(Bytes::from_static(b"x")));
        assert_eq!(made.as_deref(), Ok(&b"x"[..]));
        assert!(blocks.get(BLOCK).is_some());
    }
}
