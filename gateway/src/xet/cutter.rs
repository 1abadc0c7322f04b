//! Cutting files into the chunks that Xet's clients cut them into.
//!
//! A gear hash runs over the last 64 bytes; a chunk ends where its upper 16 bits are zero, not before 8 KiB and at
//! the latest after 128 KiB. Source: the Xet protocol's specification and `deduplication/chunking.rs` of the crate
//! `xet-data` 1.8. The same bytes have the same chunks wherever they are cut, which is why a file has one hash.

use lode_node::upload::limits::XORB_CHUNK_BYTES_MAX;

/// Shortest chunk but for the last of a file, in bytes.
const CHUNK_BYTES_MIN: usize = 8 << 10;
/// Bytes that the hash depends on.
const WINDOW_BYTES: usize = 64;
const MASK: u64 = 0xffff << 48;

/// Finds the ends of chunks in bytes that come in parts of any size.
#[derive(Debug, Clone, Default)]
pub struct Cutter {
    hash: gearhash::Hasher<'static>,
    /// Bytes of the open chunk.
    open: usize,
}

impl Cutter {
    /// How many bytes of `data` end the open chunk; nothing if it goes on behind them.
    pub fn next(&mut self, data: &[u8]) -> Option<usize> {
        // No chunk ends in what is skipped, and the window is full once one may end.
        let skipped = (CHUNK_BYTES_MIN - WINDOW_BYTES - 1).saturating_sub(self.open);
        let mut at = skipped.min(data.len());
        let end = data.len().min(XORB_CHUNK_BYTES_MAX - self.open);
        while let Some(found) = self.hash.next_match(&data[at..end], MASK) {
            at += found;
            if self.open + at >= CHUNK_BYTES_MIN {
                return Some(self.close(at));
            }
        }
        if self.open + end == XORB_CHUNK_BYTES_MAX {
            return Some(self.close(end));
        }
        self.open += end;
        None
    }

    fn close(&mut self, at: usize) -> usize {
        self.hash.set_hash(0);
        self.open = 0;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<usize> {
        let (mut cutter, mut lengths, mut open) = (Cutter::default(), Vec::new(), 0);
        for mut part in parts {
            while let Some(end) = cutter.next(part) {
                lengths.push(open + end);
                open = 0;
                part = &part[end..];
            }
            open += part.len();
        }
        lengths.extend((open > 0).then_some(open));
        lengths
    }

    /// Bytes that look random, the same everywhere.
    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_bytes_come() {
        let mut data = noise(2_000_000);
        data.extend(vec![0; 500_000]);
        data.extend(noise(300_000));
        let whole = lengths([&data[..]].into_iter());
        assert!(whole.len() > 20);
        assert!(whole.iter().all(|len| *len <= XORB_CHUNK_BYTES_MAX));
        let (_, all_but_last) = whole.split_last().unwrap_or((&0, &[]));
        assert!(all_but_last.iter().all(|len| *len >= CHUNK_BYTES_MIN));
        for part in [1, 63, 64, 65, 8127, 8191, 8192, 100_000, 131_072, 131_073] {
            assert_eq!(lengths(data.chunks(part)), whole, "parts of {part} bytes");
        }
    }

    #[test]
    fn bytes_without_an_end_are_cut_at_the_longest_chunk() {
        let data = vec![0; 2 * XORB_CHUNK_BYTES_MAX + 5];
        let expected = vec![XORB_CHUNK_BYTES_MAX, XORB_CHUNK_BYTES_MAX, 5];
        assert_eq!(lengths([&data[..]].into_iter()), expected);
    }
}
