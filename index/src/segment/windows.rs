//! Windows of a mapped file: what is about to be read is asked for before it is, once each, so that a disk works on many places
//! at a time. A page that is touched without it costs a whole turn of the disk, and brings as much of what lies around it as
//! the disk's read-ahead says.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{Advice, Mmap};

/// Bytes of a window: a page. Larger ones take fewer turns of the disk and read more than is wanted: with 8 and 16 KiB a first
/// search took longer.
const WINDOW_BYTES: usize = 4096;

/// The windows of a file that were asked for since it was mapped, one bit each.
#[derive(Debug)]
pub(super) struct Windows(Box<[AtomicU64]>);

impl Windows {
    /// Nothing of a file of so many bytes was asked for.
    pub(super) fn new(bytes: usize) -> Self {
        let words = bytes.div_ceil(WINDOW_BYTES).div_ceil(64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Asks for a range of bytes, and does not wait for it; says whether something of it was not asked for before.
    #[inline]
    pub(super) fn ask(&self, map: &Mmap, bytes: Range<usize>) -> bool {
        let windows = bytes.start / WINDOW_BYTES..bytes.end.div_ceil(WINDOW_BYTES);
        let asked = |window: usize| {
            let word = self.0.get(window / 64);
            word.is_none_or(|word| word.load(Ordering::Relaxed) >> (window % 64) & 1 == 1)
        };
        if windows.clone().all(asked) {
            return false;
        }
        self.ask_first(map, windows);
        true
    }

    /// How many were asked for.
    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        let words = self.0.iter();
        words
            .map(|word| word.load(Ordering::Relaxed).count_ones() as usize)
            .sum()
    }

    #[cold]
    fn ask_first(&self, map: &Mmap, windows: Range<usize>) {
        let start = windows.start * WINDOW_BYTES;
        let end = map.len().min(windows.end * WINDOW_BYTES);
        // What is not asked for is read when it is touched.
        let _ = map.advise_range(Advice::WillNeed, start, end.saturating_sub(start));
        for window in windows {
            if let Some(word) = self.0.get(window / 64) {
                word.fetch_or(1 << (window % 64), Ordering::Relaxed);
            }
        }
    }
}
