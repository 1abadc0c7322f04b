//! The pool of buffers: the bound on the memory of a push.

use crate::cut::CHUNK_BYTES_MAX;

/// Length of a buffer: the longest chunk. Pages that are never written take no memory.
pub(super) const BUFFER_BYTES: usize = CHUNK_BYTES_MAX as usize;

/// Most buffers that exist at a time: 96 MiB.
pub(super) const BUFFERS_MAX: usize = 6;

/// Buffers that are free, and how many may still be made.
#[derive(Debug)]
pub(super) struct Buffers {
    free: Vec<Vec<u8>>,
    unmade: usize,
}

impl Buffers {
    /// Room for work on `threads` threads: each fills one while another waits for its turn.
    pub(super) fn for_threads(threads: usize) -> Self {
        Self {
            free: Vec::new(),
            unmade: (2 * threads + 1).min(BUFFERS_MAX),
        }
    }

    pub(super) fn any_free(&self) -> bool {
        self.unmade > 0 || !self.free.is_empty()
    }

    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        if let Some(buffer) = self.free.pop() {
            return Some(buffer);
        }
        self.unmade = self.unmade.checked_sub(1)?;
        Some(vec![0; BUFFER_BYTES])
    }

    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        debug_assert_eq!(buffer.len(), BUFFER_BYTES);
        self.free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_are_never_more_than_the_bound() {
        let mut buffers = Buffers::for_threads(64);
        let taken: Vec<_> = std::iter::from_fn(|| buffers.take()).collect();
        assert_eq!(taken.len(), BUFFERS_MAX);
        assert!(!buffers.any_free());
        buffers.give_back(taken.into_iter().next().unwrap());
        assert!(buffers.any_free());
    }
}
