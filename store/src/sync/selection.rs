//! Which 1 KiB leaves of a blob are asked for, in the canonical form that both ends derive.
//!
//! A [`Selection`] is made from wire ranges or from byte ranges, clipped to the size of the blob. As in
//! the protocol, whatever is asked for at or behind the last leaf selects the last leaf: that is how a
//! peer asks for a proof of the size.

use std::ops::Range;

use super::limits::{GROUP_BYTES, LEAF_BYTES};

/// A run is widened to whole groups when that adds at most one part in so many.
const WIDEN_SHARE: u64 = 32;

/// How much of a range of leaves is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// No leaf.
    None,
    /// Some leaves.
    Part,
    /// Every leaf.
    Full,
}

/// A set of leaves of one blob of a known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    size: u64,
    /// Sorted, disjoint, never adjacent, inside `0..leaves`.
    runs: Vec<Range<u64>>,
}

/// Leaves of a blob of `size` bytes; an empty blob has one, empty leaf.
pub fn leaves(size: u64) -> u64 {
    size.div_ceil(LEAF_BYTES).max(1)
}

impl Selection {
    /// Every leaf of a blob of `size` bytes.
    pub fn all(size: u64) -> Self {
        Self {
            size,
            runs: std::iter::once(0..leaves(size)).collect(),
        }
    }

    /// What a request selects in a blob of `size` bytes: leaves from the first boundary to the second, and so on.
    pub fn of_boundaries(size: u64, boundaries: &[u64]) -> Self {
        let count = leaves(size);
        let mut runs = Vec::with_capacity(boundaries.len().div_ceil(2));
        for pair in boundaries.chunks(2) {
            let (start, end) = (pair[0], pair.get(1).copied().unwrap_or(u64::MAX));
            // The last leaf stands for everything behind the end.
            push(&mut runs, start.min(count - 1)..end.min(count));
        }
        Self { size, runs }
    }

    /// The leaves that hold the bytes of `ranges`, which are sorted by start. Runs are widened to whole
    /// chunk groups where that is nearly free, else to whole leaves: of columns, a run a row is wanted, and
    /// the groups around it cost several times its own bytes. Leaves between two runs are never filled in:
    /// one is 1 KiB, and saves at most the four pairs, 256 bytes, that prove its absence from a group.
    pub fn of_bytes(size: u64, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut bytes: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            let range = range.start.min(size)..range.end.min(size);
            if range.start < range.end {
                push(&mut bytes, range);
            }
        }
        let mut runs = Vec::with_capacity(bytes.len());
        for range in bytes {
            let widened = |unit: u64| {
                let end = range.end.div_ceil(unit) * unit;
                range.start / unit * unit..end.min(size)
            };
            let (leaves, groups) = (widened(LEAF_BYTES), widened(GROUP_BYTES));
            let len = |range: &Range<u64>| range.end - range.start;
            let cheap = (len(&groups) - len(&leaves)) * WIDEN_SHARE <= len(&leaves);
            let range = if cheap { groups } else { leaves };
            push(
                &mut runs,
                range.start / LEAF_BYTES..range.end.div_ceil(LEAF_BYTES),
            );
        }
        Self { size, runs }
    }

    /// What of it lies at or behind leaf `leaf`.
    pub fn after(&self, leaf: u64) -> Self {
        let runs = self.runs.iter().filter(|run| run.end > leaf);
        Self {
            size: self.size,
            runs: runs.map(|run| run.start.max(leaf)..run.end).collect(),
        }
    }

    /// Its parts by piece, where pieces have `leaves` leaves.
    pub fn pieces(&self, leaves: u64) -> Vec<Self> {
        let mut pieces: Vec<Self> = Vec::new();
        let mut last = None;
        for run in &self.runs {
            let mut start = run.start;
            while start < run.end {
                let piece = start / leaves;
                let end = run.end.min((piece + 1) * leaves);
                match pieces.last_mut().filter(|_| last == Some(piece)) {
                    Some(same) => same.runs.push(start..end),
                    None => pieces.push(Self {
                        size: self.size,
                        runs: std::iter::once(start..end).collect(),
                    }),
                }
                (start, last) = (end, Some(piece));
            }
        }
        pieces
    }

    /// Adds another selection of the same blob that lies behind this one.
    pub fn append(&mut self, other: &Self) {
        for run in &other.runs {
            push(&mut self.runs, run.clone());
        }
    }

    /// Bytes of the blob.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Runs of adjacent leaves, in order.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// Bytes of the blob that are selected.
    pub fn bytes(&self) -> u64 {
        self.runs
            .iter()
            .map(|run| self.byte(run.end) - self.byte(run.start))
            .sum()
    }

    /// How much of `range` (in leaves, not empty) is selected.
    pub fn cover(&self, range: Range<u64>) -> Cover {
        let next = self.runs.partition_point(|run| run.end <= range.start);
        match self.runs.get(next) {
            Some(run) if run.start <= range.start && range.end <= run.end => Cover::Full,
            Some(run) if run.start < range.end => Cover::Part,
            _ => Cover::None,
        }
    }

    /// The end of the selected run around leaf `leaf`, or `leaf` when it is not selected.
    pub fn run_end(&self, leaf: u64) -> u64 {
        let next = self.runs.partition_point(|run| run.end <= leaf);
        self.runs
            .get(next)
            .filter(|run| run.start <= leaf)
            .map_or(leaf, |run| run.end)
    }

    fn byte(&self, leaf: u64) -> u64 {
        (leaf * LEAF_BYTES).min(self.size)
    }
}

/// Adds a range that starts at or after the last one's start, joining what touches.
fn push(runs: &mut Vec<Range<u64>>, range: Range<u64>) {
    if range.start >= range.end {
        return;
    }
    match runs.last_mut() {
        Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
        _ => runs.push(range),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
    use super::*;

    #[test]
    fn what_lies_behind_the_end_selects_the_last_leaf() {
        for boundaries in [&[u64::MAX][..], &[5], &[4, 9], &[700, 800]] {
            let last = Selection::of_boundaries(5000, boundaries);
            assert_eq!(last.runs(), &[4..5]);
            assert_eq!(last.bytes(), 5000 - 4096);
        }
        let empty = Selection::of_boundaries(0, &[0]);
        assert_eq!(empty.runs(), &[0..1]);
        assert_eq!(empty.bytes(), 0);
        assert!(Selection::of_boundaries(5000, &[]).is_empty());
    }

    #[test]
    fn long_runs_are_widened_to_groups_and_others_to_leaves() {
        let selection = Selection::of_bytes(100_000, [10..20, 30_000..60_000, 99_999..100_000]);
        assert_eq!(selection.runs(), &[0..1, 29..59, 97..98]);
        let groups = |range| Selection::of_bytes(10 << 20, [range]).runs().to_vec();
        assert_eq!(groups(16_384..32_768), [16..32]);
        // one leaf is more than a 32nd of 31, and less than one of 47
        assert_eq!(groups(1024..32 << 10), [1..32]);
        assert_eq!(groups(1024..48 << 10), [0..48]);
        assert_eq!(groups(15 * 1024 + 5..(527 << 10) - 1), [0..528]);
        assert_eq!(groups(15 * 1024 + 5..(526 << 10) - 1), [15..526]);
        // the end of a blob is the end of its last group
        assert_eq!(
            Selection::of_bytes(17_000, [16_384..17_000]).runs(),
            &[16..17]
        );
    }

    #[test]
    fn pieces_put_together_are_the_whole() {
        let selection = Selection::of_bytes(10 << 20, [0..100, 5000..5001, 1 << 20..9 << 20]);
        let pieces = selection.pieces(1024);
        assert_eq!(pieces.len(), 9);
        assert_eq!(pieces[0].runs(), &[0..1, 4..5]);
        let mut whole = pieces[0].clone();
        pieces[1..].iter().for_each(|piece| whole.append(piece));
        assert_eq!(whole, selection);
    }

    #[test]
    fn cover_and_runs_agree() {
        let selection = Selection::of_bytes(10 << 20, [0..100, 5000..5001, 1 << 20..2 << 20]);
        assert_eq!(selection.cover(0..1), Cover::Full);
        assert_eq!(selection.cover(0..2), Cover::Part);
        assert_eq!(selection.cover(1..4), Cover::None);
        assert_eq!(selection.cover(1024..2048), Cover::Full);
        assert_eq!(selection.run_end(1500), 2048);
        assert_eq!(selection.run_end(2), 2);
    }
}
