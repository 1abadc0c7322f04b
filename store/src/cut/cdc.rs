//! `cdc/1`: cuts that follow content, by FastCDC (2020, normalization level 1, seed 0) with chunks of
//! 256 KiB, 1 MiB and 4 MiB.
//!
//! Source: Wen Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems" (<https://ieeexplore.ieee.org/document/9055082>), in the variety of the crate
//! `fastcdc` 5, whose tables and masks are used. Its cutter wants 4 MiB in one slice; this one goes
//! on from any byte, and a test holds both to the same cuts.

use std::borrow::Cow;
use std::sync::LazyLock;

use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};

use super::{CDC_1, Cuts};

/// Shortest chunk but for the last one, in bytes.
pub(super) const MIN_BYTES: u32 = 256 * 1024;
/// Where the easier mask takes over, in bytes.
pub(super) const AVERAGE_BYTES: u32 = 1024 * 1024;
/// Longest chunk, in bytes.
pub(super) const MAX_BYTES: u32 = 4 * 1024 * 1024;

struct Gear {
    /// What a byte adds to the hash, and the same shifted left by one.
    second: [u64; 256],
    first: [u64; 256],
    mask_below_average: u64,
    mask_above_average: u64,
}

static GEAR: LazyLock<Box<Gear>> = LazyLock::new(|| {
    let (second, first) = get_gear_with_seed(0);
    let table = |values: Cow<'static, [u64]>| -> [u64; 256] {
        values
            .as_ref()
            .try_into()
            .expect("a gear table has 256 entries")
    };
    let (mask_below_average, mask_above_average) =
        select_masks(AVERAGE_BYTES as usize, Normalization::Level1);
    let (second, first) = (table(second), table(first));
    Box::new(Gear {
        second,
        first,
        mask_below_average,
        mask_above_average,
    })
});

/// Finds the cuts of `cdc/1` in bytes that come in parts of any size. Keeps at most one of them.
#[derive(Debug, Clone, Default)]
pub struct CdcCutter {
    /// Bytes of the open chunk, `held` included.
    open: u32,
    hash: u64,
    /// The first byte of a pair whose second has not come yet: bytes are judged in pairs.
    held: Option<u8>,
}

impl CdcCutter {
    /// A cutter at the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives the lengths of the chunks that they complete, in order.
    ///
    /// The first of these chunks may end one byte before `data` begins: who hashes while pushing
    /// keeps back what [`settled`](Self::settled) does not count.
    pub fn push(&mut self, data: &[u8]) -> Vec<u32> {
        let mut lengths = Vec::new();
        let mut taken = 0;
        while taken < data.len() {
            taken += self.step(&data[taken..], &mut lengths);
        }
        lengths
    }

    /// Bytes of the open chunk that no later cut can take away from it.
    pub fn settled(&self) -> u32 {
        self.open - u32::from(self.held.is_some())
    }

    /// The length of the last chunk, unless the file ended with a cut.
    pub fn finish(self) -> Option<u32> {
        (self.open > 0).then_some(self.open)
    }

    /// Takes bytes up to the next change of state; says how many.
    fn step(&mut self, data: &[u8], lengths: &mut Vec<u32>) -> usize {
        if self.open < MIN_BYTES {
            let skipped = data.len().min((MIN_BYTES - self.open) as usize);
            self.open += within_chunk(skipped);
            return skipped;
        }
        if let Some(first) = self.held.take() {
            // The pair began with the last byte pushed before.
            self.open -= 1;
            return match self.scan(&[first, data[0]]) {
                Some(0) => {
                    lengths.push(self.cut());
                    self.open = 1;
                    0
                }
                Some(_) => {
                    lengths.push(self.cut());
                    0
                }
                None => {
                    self.cut_at_max(lengths);
                    1
                }
            };
        }
        let limit = if self.open < AVERAGE_BYTES {
            AVERAGE_BYTES
        } else {
            MAX_BYTES
        };
        let pairs = (data.len() / 2).min((limit - self.open) as usize / 2);
        if pairs == 0 {
            self.held = Some(data[0]);
            self.open += 1;
            return 1;
        }
        if let Some(before) = self.scan(&data[..2 * pairs]) {
            lengths.push(self.cut());
            return before;
        }
        self.cut_at_max(lengths);
        2 * pairs
    }

    /// Judges whole pairs on one side of the average, the first one at an even place of the chunk.
    /// Counts the bytes that stay in it, and says how many if it ends among them.
    fn scan(&mut self, pairs: &[u8]) -> Option<usize> {
        let gear = &**GEAR;
        let second_mask = if self.open < AVERAGE_BYTES {
            gear.mask_below_average
        } else {
            gear.mask_above_average
        };
        let first_mask = second_mask << 1;
        let mut hash = self.hash;
        let mut found = None;
        for (index, pair) in pairs.chunks_exact(2).enumerate() {
            hash = (hash << 2).wrapping_add(gear.first[usize::from(pair[0])]);
            if hash & first_mask == 0 {
                found = Some(2 * index);
                break;
            }
            hash = hash.wrapping_add(gear.second[usize::from(pair[1])]);
            if hash & second_mask == 0 {
                found = Some(2 * index + 1);
                break;
            }
        }
        self.hash = hash;
        self.open += within_chunk(found.unwrap_or(pairs.len()));
        found
    }

    fn cut_at_max(&mut self, lengths: &mut Vec<u32>) {
        if self.open == MAX_BYTES {
            lengths.push(self.cut());
        }
    }

    fn cut(&mut self) -> u32 {
        self.hash = 0;
        std::mem::take(&mut self.open)
    }
}

fn within_chunk(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("steps end at MAX_BYTES")
}

/// Cuts bytes that are all at hand.
pub fn cdc_cuts(data: &[u8]) -> Cuts {
    let mut cutter = CdcCutter::new();
    let mut lengths = cutter.push(data);
    lengths.extend(cutter.finish());
    Cuts {
        rule: CDC_1,
        lengths,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use fastcdc::v2020::FastCDC;

    /// Bytes of a 64-bit linear congruential generator.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn reference(data: &[u8]) -> Vec<u32> {
        let (min, average, max) = (
            MIN_BYTES as usize,
            AVERAGE_BYTES as usize,
            MAX_BYTES as usize,
        );
        FastCDC::new(data, min, average, max)
            .map(|chunk| chunk.length as u32)
            .collect()
    }

    fn in_parts(data: &[u8], mut part: impl FnMut() -> usize) -> Vec<u32> {
        let mut cutter = CdcCutter::new();
        let (mut lengths, mut rest) = (Vec::new(), data);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(part().clamp(1, rest.len()));
            lengths.extend(cutter.push(now));
            assert!(cutter.settled() <= cutter.open);
            rest = later;
        }
        lengths.extend(cutter.finish());
        lengths
    }

    #[test]
    fn cuts_are_those_of_the_fastcdc_crate() {
        for (seed, len) in [
            (1, 9_000_001),
            (2, 5_000_000),
            (3, 262_144),
            (4, 262_145),
            (5, 1),
            (6, 262_147),
        ] {
            let data = noise(seed, len);
            assert_eq!(cdc_cuts(&data).lengths, reference(&data), "seed {seed}");
        }
        for len in [0, 4_194_303, 4_194_304, 4_194_305, 4_194_306, 9_000_000] {
            let zeroes = vec![0; len];
            assert_eq!(
                cdc_cuts(&zeroes).lengths,
                reference(&zeroes),
                "{len} zeroes"
            );
        }
    }

    #[test]
    fn cuts_do_not_depend_on_how_bytes_come() {
        let data = noise(7, 12_000_003);
        let whole = cdc_cuts(&data).lengths;
        assert!(whole.len() > 6, "{whole:?}");
        assert_eq!(
            in_parts(&data[..700_000], || 1),
            cdc_cuts(&data[..700_000]).lengths
        );
        for part in [3, 4095, 65_536, 1_000_001] {
            assert_eq!(in_parts(&data, || part), whole, "parts of {part}");
        }
        let mut state = 9_u64;
        let random = in_parts(&data, || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 45) as usize
        });
        assert_eq!(random, whole);
    }

    #[test]
    fn a_cut_can_fall_before_the_byte_held_back() {
        // Pushes end right after each cut point of the whole file, and one byte later: the pair that
        // decides the cut is then split between two pushes.
        let data = noise(11, 20_000_000);
        let whole = cdc_cuts(&data).lengths;
        let mut ends: Vec<usize> = Vec::new();
        let mut end = 0;
        for length in &whole {
            end += *length as usize;
            ends.extend([end - 1, end, end + 1]);
        }
        let mut from = 0;
        let mut ends = ends.into_iter();
        let split = in_parts(&data, || {
            let to = ends.next().unwrap_or(usize::MAX);
            let part = to.saturating_sub(from);
            from = to;
            part
        });
        assert_eq!(split, whole);
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let before = noise(13, 24_000_000);
        let mut after = before.clone();
        after.splice(1_000_000..1_000_000, noise(14, 1000));
        let same = |lengths: &[u32]| lengths.iter().rev().copied().collect::<Vec<_>>();
        let (before, after) = (
            same(&cdc_cuts(&before).lengths),
            same(&cdc_cuts(&after).lengths),
        );
        let kept = before
            .iter()
            .zip(&after)
            .take_while(|(a, b)| a == b)
            .count();
        assert!(
            kept + 5 >= before.len(),
            "{kept} of {} cuts kept",
            before.len()
        );
    }
}
