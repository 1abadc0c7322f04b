//! Where the chunks of a file begin, and which of them hold a range.

use lode_tensors::ByteRange;

/// The first byte of each chunk in its file, and at the end the file's length.
#[derive(Debug, Clone)]
pub(super) struct Offsets(Vec<u64>);

/// A part of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Index of the chunk in the file's chunk list.
    pub(super) chunk: usize,
    /// First byte in the chunk.
    pub(super) start: u32,
    /// One past the last byte in the chunk.
    pub(super) end: u32,
}

impl Offsets {
    /// The offsets of chunks of these lengths.
    pub(super) fn new(lengths: &[u32]) -> Self {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut at = 0;
        for length in lengths {
            offsets.push(at);
            at += u64::from(*length);
        }
        offsets.push(at);
        Self(offsets)
    }

    /// Length of the file in bytes.
    pub(super) fn file_len(&self) -> u64 {
        self.0.last().copied().unwrap_or_default()
    }

    /// First byte of a chunk in the file.
    pub(super) fn start_of(&self, chunk: usize) -> u64 {
        self.0[chunk]
    }

    /// The chunks that hold `range`, which is cut to the file, each with the part that it holds.
    pub(super) fn pieces(&self, range: ByteRange) -> impl Iterator<Item = Piece> + '_ {
        let end = range.end.min(self.file_len());
        let first = match range.start < end {
            // Chunks are never empty, so the last one that begins at or before a byte holds it.
            true => self.0.partition_point(|&offset| offset <= range.start) - 1,
            false => self.0.len(),
        };
        let chunks = self
            .0
            .get(first..)
            .unwrap_or_default()
            .windows(2)
            .enumerate();
        chunks
            .take_while(move |(_, bounds)| bounds[0] < end)
            .map(move |(at, bounds)| {
                let within = |offset: u64| {
                    u32::try_from(offset - bounds[0]).expect("chunks are at most 16 MiB")
                };
                Piece {
                    chunk: first + at,
                    start: within(range.start.max(bounds[0])),
                    end: within(end.min(bounds[1])),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    fn pieces(lengths: &[u32], start: u64, end: u64) -> Vec<Piece> {
        Offsets::new(lengths)
            .pieces(ByteRange { start, end })
            .collect()
    }

    #[test]
    fn every_range_of_a_small_file_is_made_of_its_bytes_in_order() {
        let lengths = [3, 1, 1, 7, 2];
        let chunk_of: Vec<(usize, u32)> = lengths
            .iter()
            .enumerate()
            .flat_map(|(chunk, length)| (0..*length).map(move |at| (chunk, at)))
            .collect();
        for start in 0..=16u64 {
            for end in start..=16u64 {
                let found: Vec<(usize, u32)> = pieces(&lengths, start, end)
                    .iter()
                    .flat_map(|piece| (piece.start..piece.end).map(|at| (piece.chunk, at)))
                    .collect();
                let last = (end as usize).min(chunk_of.len());
                let expected = chunk_of.get(start as usize..last).unwrap_or_default();
                assert_eq!(found, expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn an_empty_file_has_no_pieces() {
        assert!(pieces(&[], 0, 0).is_empty());
        assert!(pieces(&[], 0, 10).is_empty());
        assert_eq!(Offsets::new(&[]).file_len(), 0);
    }
}
