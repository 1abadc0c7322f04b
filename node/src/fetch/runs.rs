//! The parts of one chunk that are in memory.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

/// Byte runs of a chunk: disjoint, by their first byte.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: BTreeMap<u32, Bytes>,
    bytes: usize,
}

fn end_of(start: u32, run: &Bytes) -> u32 {
    start + u32::try_from(run.len()).expect("a run lies in a chunk, which has at most 16 MiB")
}

impl Runs {
    /// Bytes of all runs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts in what of `data`, which begins at `offset`, is not there yet; how many bytes that was.
    pub(super) fn insert(&mut self, offset: u32, data: &[u8]) -> usize {
        let Ok(len) = u32::try_from(data.len()) else {
            return 0;
        };
        let before = self.bytes;
        for gap in self.missing(&(offset..offset.saturating_add(len))) {
            let part = &data[(gap.start - offset) as usize..(gap.end - offset) as usize];
            self.bytes += part.len();
            self.runs.insert(gap.start, Bytes::copy_from_slice(part));
        }
        self.bytes - before
    }

    /// The first bytes of `range`, as far as one run has them.
    pub(super) fn first(&self, range: &Range<u32>) -> Option<Bytes> {
        let (start, run) = self.runs.range(..=range.start).next_back()?;
        let end = end_of(*start, run).min(range.end);
        (range.start < end)
            .then(|| run.slice((range.start - start) as usize..(end - start) as usize))
    }

    /// What of `range` no run has.
    pub(super) fn missing(&self, range: &Range<u32>) -> Vec<Range<u32>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let before = self.runs.range(..=range.start).next_back();
        let inside = self
            .runs
            .range(range.start.saturating_add(1)..range.end.max(range.start + 1));
        for (start, run) in before.into_iter().chain(inside) {
            if *start >= range.end {
                break;
            }
            if *start > at {
                gaps.push(at..*start);
            }
            at = at.max(end_of(*start, run));
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// All runs one after the other.
    pub(super) fn joined(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.bytes);
        self.runs
            .values()
            .for_each(|run| all.extend_from_slice(run));
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation)]
    use super::*;

    /// Small enough to try every insert after every other one.
    const LEN: u32 = 7;

    #[test]
    fn runs_hold_exactly_what_was_put_in_whatever_the_order() {
        let whole: Vec<u8> = (0..LEN as u8).collect();
        let ranges = || (0..LEN).flat_map(|start| (start..=LEN).map(move |end| start..end));
        for first in ranges() {
            for second in ranges() {
                let mut runs = Runs::default();
                let mut there = vec![false; LEN as usize];
                for range in [&first, &second] {
                    let (start, end) = (range.start as usize, range.end as usize);
                    let new = there[start..end].iter().filter(|is| !**is).count();
                    assert_eq!(runs.insert(range.start, &whole[start..end]), new);
                    there[start..end].fill(true);
                }
                for asked in ranges() {
                    let missing = runs.missing(&asked);
                    let absent: Vec<u32> =
                        asked.clone().filter(|at| !there[*at as usize]).collect();
                    let found: Vec<u32> = missing.into_iter().flatten().collect();
                    assert_eq!(found, absent, "{first:?} {second:?} {asked:?}");
                    let read = runs.first(&asked);
                    let is = !asked.is_empty() && there[asked.start as usize];
                    assert_eq!(read.is_some(), is, "{first:?} {second:?} {asked:?}");
                    if let Some(read) = read {
                        let start = asked.start as usize;
                        assert!(!read.is_empty() && read.len() <= asked.len());
                        assert_eq!(read, whole[start..start + read.len()]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_chunk_is_joined_from_its_runs_in_order() {
        let mut runs = Runs::default();
        runs.insert(3, b"def");
        runs.insert(0, b"abcd");
        assert_eq!(
            (runs.joined().as_slice(), runs.bytes()),
            (&b"abcdef"[..], 6)
        );
    }
}
