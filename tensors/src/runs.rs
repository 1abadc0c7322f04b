//! Ranges of bytes of one length at one distance: rows of a tensor are one run, columns are one a row.
//!
//! A cut of a 70B model by columns has millions of runs; here it is four numbers.

use crate::ByteRange;

/// `count` runs of `len` bytes each, of which each starts `step` bytes after the one before it.
/// None of them is empty, they do not overlap, and the last one ends below 2^64. Runs that touch are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Runs {
    start: u64,
    len: u64,
    step: u64,
    count: u64,
}

/// A part of one run: where it is, and how many bytes of the runs come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPart {
    /// Its bytes.
    pub range: ByteRange,
    /// Bytes of all runs before it: where it goes when they are put one after the other.
    pub before: u64,
}

impl Runs {
    /// The runs that begin at `start`; nothing when they are empty, overlap or overflow.
    pub fn new(start: u64, len: u64, step: u64, count: u64) -> Option<Self> {
        if len == 0 || count == 0 || (count > 1 && step < len) {
            return None;
        }
        let last = step.checked_mul(count - 1)?.checked_add(start)?;
        last.checked_add(len)?;
        if count == 1 || step == len {
            let len = len * count;
            let step = len;
            return Some(Self {
                start,
                len,
                step,
                count: 1,
            });
        }
        Some(Self {
            start,
            len,
            step,
            count,
        })
    }

    /// One run; nothing when the range is empty.
    pub fn of(range: ByteRange) -> Option<Self> {
        Self::new(range.start, range.len(), range.len(), 1)
    }

    /// From the first byte of the first run to the last byte of the last one.
    pub fn span(self) -> ByteRange {
        ByteRange {
            start: self.start,
            end: self.start + self.step * (self.count - 1) + self.len,
        }
    }

    /// Bytes of all runs.
    pub fn bytes(self) -> u64 {
        self.len * self.count
    }

    /// How many runs there are.
    pub fn count(self) -> u64 {
        self.count
    }

    /// Bytes of one run.
    pub fn run_bytes(self) -> u64 {
        self.len
    }

    /// Bytes from the start of one run to the start of the next; those of the run when it is the only one.
    pub fn step(self) -> u64 {
        self.step
    }

    /// How many bytes of the runs lie before byte `at`.
    pub fn bytes_before(self, at: u64) -> u64 {
        let Some(into) = at.checked_sub(self.start) else {
            return 0;
        };
        let index = into / self.step;
        if index >= self.count {
            return self.bytes();
        }
        index * self.len + (into % self.step).min(self.len)
    }

    /// What of the runs lies in `window`, in order, cut at its ends.
    pub fn inside(self, window: ByteRange) -> impl Iterator<Item = RunPart> {
        let first = window.start.saturating_sub(self.start) / self.step;
        let last = window.end.saturating_sub(self.start).div_ceil(self.step);
        (first..last.min(self.count)).filter_map(move |index| {
            let start = self.start + index * self.step;
            let run = ByteRange {
                start,
                end: start + self.len,
            };
            let range = run.intersection(window)?;
            Some(RunPart {
                range,
                before: index * self.len + (range.start - start),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn windows_see_what_a_list_of_runs_shows() {
        for (len, step) in [(1, 1), (1, 3), (2, 5), (4, 4), (3, 4)] {
            for count in 1..5 {
                let runs = Runs::new(7, len, step, count).unwrap();
                let bytes: Vec<u64> = (0..count)
                    .flat_map(|index| (0..len).map(move |at| 7 + index * step + at))
                    .collect();
                assert_eq!(runs.bytes(), bytes.len() as u64);
                assert_eq!(runs.span().start, bytes[0]);
                assert_eq!(runs.span().end, bytes[bytes.len() - 1] + 1);
                for start in 0..32 {
                    let before = bytes.iter().filter(|at| **at < start).count() as u64;
                    assert_eq!(runs.bytes_before(start), before, "{runs:?} {start}");
                    for end in start..32 {
                        let window = ByteRange { start, end };
                        let mut found = Vec::new();
                        for part in runs.inside(window) {
                            assert_eq!(bytes[part.before as usize], part.range.start);
                            found.extend(part.range.start..part.range.end);
                        }
                        let expected = bytes.iter().copied().filter(|at| (start..end).contains(at));
                        assert_eq!(found, expected.collect::<Vec<_>>(), "{runs:?} {window:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn runs_that_are_empty_overlap_or_overflow_are_none() {
        assert_eq!(Runs::new(0, 0, 5, 1), None);
        assert_eq!(Runs::new(0, 5, 5, 0), None);
        assert_eq!(Runs::new(0, 5, 4, 2), None);
        assert_eq!(Runs::new(u64::MAX, 1, 1, 1), None);
        assert_eq!(Runs::new(1, 1, u64::MAX, 2), None);
        assert_eq!(Runs::new(0, 2, 1 << 40, 1 << 40), None);
        assert_eq!(Runs::of(ByteRange { start: 3, end: 3 }), None);
        let touching = Runs::new(8, 4, 4, 6).unwrap();
        assert_eq!((touching.count(), touching.run_bytes()), (1, 24));
    }
}
