//! The BLAKE3 tree of a whole file, made from its bytes in order or from its segments in any order.
//!
//! A segment is 16 MiB of the file, aligned: 1024 groups, a subtree of its own. Pairs are kept in
//! pre-order as in [`crate::outboard`], so all pairs of a segment lie together, and where they lie
//! follows from the number of segments alone. No more is held in memory than the values of one
//! segment's groups and one value a segment.

use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};

use crate::{ChunkHash, limits::GROUP_BYTES};

/// Bytes of a group.
const GROUP: usize = GROUP_BYTES as usize;

/// Bytes of a pair.
const PAIR: usize = 64;

/// Groups of a segment.
const SEGMENT_GROUPS: usize = 1024;

/// Bytes of a segment: 16 MiB.
pub(crate) const SEGMENT_BYTES: u64 = (SEGMENT_GROUPS * GROUP) as u64;

/// Bytes of the outboard of a file of `size` bytes: 64 for each group but one.
pub(crate) const fn outboard_len(size: u64) -> u64 {
    match size.div_ceil(GROUP as u64) {
        0 => 0,
        groups => (groups - 1) * PAIR as u64,
    }
}

/// Segments of a file of `size` bytes.
pub(super) const fn segments(size: u64) -> u64 {
    size.div_ceil(SEGMENT_BYTES)
}

/// The value of a segment that is not the whole file, and its pairs.
pub(super) fn segment(number: u64, data: &[u8]) -> (ChainingValue, Vec<u8>) {
    let start = number * SEGMENT_BYTES;
    let values: Vec<ChainingValue> = (start..)
        .step_by(GROUP)
        .zip(data.chunks(GROUP))
        .map(|(offset, group)| leaf(offset, group))
        .collect();
    fold_segment(&values)
}

/// Where the pairs of segment `number` of `count` begin in the outboard, in bytes.
pub(super) fn segment_offset(count: u64, number: u64) -> u64 {
    let (mut index, mut count, mut number) = (0, count, number);
    while count > 1 {
        let left = count.next_power_of_two() / 2;
        if number < left {
            index += 1;
            count = left;
        } else {
            index += left * SEGMENT_GROUPS as u64;
            number -= left;
            count -= left;
        }
    }
    index * PAIR as u64
}

/// The root over all segments, of which there are several; `emit` takes each pair above them with its
/// place in the outboard, in bytes.
pub(super) fn root(values: &[ChainingValue], emit: &mut impl FnMut(u64, &[u8])) -> ChunkHash {
    let (left, right) = above(values, 0, emit);
    hazmat::merge_subtrees_root(&left, &right, Mode::Hash).into()
}

fn above(
    values: &[ChainingValue],
    index: u64,
    emit: &mut impl FnMut(u64, &[u8]),
) -> (ChainingValue, ChainingValue) {
    let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
    let right_index = index + (left.len() * SEGMENT_GROUPS) as u64;
    let mut value = |values: &[ChainingValue], index| {
        if let [value] = values {
            return *value;
        }
        let (left, right) = above(values, index, emit);
        hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
    };
    let (left, right) = (value(left, index + 1), value(right, right_index));
    emit(index * PAIR as u64, &pair(&left, &right));
    (left, right)
}

fn fold_segment(values: &[ChainingValue]) -> (ChainingValue, Vec<u8>) {
    let mut pairs = vec![0; (values.len() - 1) * PAIR];
    (fold(values, &mut pairs), pairs)
}

/// The value of a subtree that is not the root, over the values of its groups; fills in its pairs.
fn fold(values: &[ChainingValue], pairs: &mut [u8]) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
    let (own, below) = pairs.split_at_mut(PAIR);
    let (left_pairs, right_pairs) = below.split_at_mut((left.len() - 1) * PAIR);
    let (left, right) = (fold(left, left_pairs), fold(right, right_pairs));
    own.copy_from_slice(&pair(&left, &right));
    hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
}

fn pair(left: &ChainingValue, right: &ChainingValue) -> [u8; PAIR] {
    let mut pair = [0; PAIR];
    pair[..32].copy_from_slice(left);
    pair[32..].copy_from_slice(right);
    pair
}

fn leaf(offset: u64, data: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset).update(data);
    hasher.finalize_non_root()
}

/// Whether every pair of an outboard leads to `root`, for a file of `size` bytes.
pub(super) fn leads_to(root: &ChunkHash, size: u64, pairs: &[u8]) -> bool {
    if pairs.len() as u64 != outboard_len(size) {
        return false;
    }
    let Some((left, right)) = first_pair(pairs) else {
        return true;
    };
    let found = hazmat::merge_subtrees_root(&left, &right, Mode::Hash);
    found.as_bytes() == root.as_bytes() && below(pairs)
}

/// Whether the pairs below the first one hash to what it says.
fn below(pairs: &[u8]) -> bool {
    let Some((left, right)) = first_pair(pairs) else {
        return true;
    };
    let groups = pairs.len() / PAIR + 1;
    let left_pairs = groups.next_power_of_two() / 2 - 1;
    let (left_rest, right_rest) = pairs[PAIR..].split_at(left_pairs * PAIR);
    [(left, left_rest), (right, right_rest)]
        .into_iter()
        .all(|(value, pairs)| {
            first_pair(pairs).is_none_or(|(left, right)| {
                hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash) == value && below(pairs)
            })
        })
}

fn first_pair(pairs: &[u8]) -> Option<(ChainingValue, ChainingValue)> {
    let (left, rest) = pairs.split_first_chunk::<32>()?;
    Some((*left, *rest.first_chunk::<32>()?))
}

/// Makes root and outboard of a file of more than one segment, whose bytes come in order.
#[derive(Debug)]
pub(crate) struct RootBuilder {
    size: u64,
    at: u64,
    /// The group that is not complete.
    open: blake3::Hasher,
    /// Values of the groups of the segment that is not complete.
    groups: Vec<ChainingValue>,
    segments: Vec<ChainingValue>,
    root: Option<ChunkHash>,
}

impl RootBuilder {
    /// For a file of `size` bytes, more than a segment.
    pub(crate) fn new(size: u64) -> Self {
        assert!(size > SEGMENT_BYTES, "a smaller file has no segments");
        Self {
            size,
            at: 0,
            open: blake3::Hasher::new(),
            groups: Vec::with_capacity(SEGMENT_GROUPS),
            segments: Vec::new(),
            root: None,
        }
    }

    /// Takes the next bytes; `emit` takes pairs that are complete, with their place in the outboard.
    pub(crate) fn update(&mut self, mut data: &[u8], emit: &mut impl FnMut(u64, &[u8])) {
        while !data.is_empty() {
            let filled = usize::try_from(self.at % GROUP as u64).expect("under 16 KiB");
            let (part, rest) = data.split_at(data.len().min(GROUP - filled));
            data = rest;
            if filled == 0 {
                self.open = blake3::Hasher::new();
                self.open.set_input_offset(self.at);
            }
            self.open.update(part);
            self.at += part.len() as u64;
            if !self.at.is_multiple_of(GROUP as u64) && self.at < self.size {
                continue;
            }
            self.groups.push(self.open.finalize_non_root());
            if self.groups.len() == SEGMENT_GROUPS || self.at == self.size {
                let number = self.segments.len() as u64;
                let (value, pairs) = fold_segment(&self.groups);
                self.groups.clear();
                self.segments.push(value);
                if !pairs.is_empty() {
                    emit(segment_offset(segments(self.size), number), &pairs);
                }
            }
            if self.at == self.size {
                self.root = Some(root(&self.segments, emit));
            }
        }
    }

    /// The root, once all bytes were taken.
    pub(crate) fn root(&self) -> Option<ChunkHash> {
        self.root
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use bao_tree::{BlockSize, io::outboard::PreOrderMemOutboard};

    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&len.to_le_bytes())
            .finalize_xof()
            .fill(&mut out);
        out
    }

    fn lengths() -> Vec<usize> {
        let segment = SEGMENT_BYTES as usize;
        vec![
            segment + 1,
            segment + GROUP + 5,
            2 * segment,
            2 * segment + 3 * GROUP,
            3 * segment - 1,
            5 * segment + 123_456,
        ]
    }

    #[test]
    fn a_file_that_comes_in_order_has_the_tree_of_bao_tree() {
        for len in lengths() {
            let data = sample(len);
            let bao = PreOrderMemOutboard::create(&data, BlockSize::from_chunk_log(4));
            let mut pairs = vec![0xee; outboard_len(len as u64) as usize];
            let mut builder = RootBuilder::new(len as u64);
            for part in data.chunks(1_234_567) {
                assert_eq!(builder.root(), None);
                builder.update(part, &mut |at, block| {
                    pairs[at as usize..][..block.len()].copy_from_slice(block);
                });
            }
            assert_eq!(builder.root(), Some(ChunkHash::of(&data)), "{len}");
            assert_eq!(bao.root.as_bytes(), ChunkHash::of(&data).as_bytes());
            assert!(pairs == bao.data, "{len}: another outboard");
        }
    }

    #[test]
    fn segments_in_any_order_make_the_same_tree() {
        for len in lengths() {
            let data = sample(len);
            let bao = PreOrderMemOutboard::create(&data, BlockSize::from_chunk_log(4));
            let count = segments(len as u64);
            let mut pairs = vec![0xee; outboard_len(len as u64) as usize];
            let mut values = vec![[0; 32]; count as usize];
            for number in (0..count).rev() {
                let start = (number * SEGMENT_BYTES) as usize;
                let end = (start + SEGMENT_BYTES as usize).min(len);
                let (value, block) = segment(number, &data[start..end]);
                values[number as usize] = value;
                let at = segment_offset(count, number) as usize;
                pairs[at..at + block.len()].copy_from_slice(&block);
            }
            let root = root(&values, &mut |at, block| {
                pairs[at as usize..][..block.len()].copy_from_slice(block);
            });
            assert_eq!(root, ChunkHash::of(&data), "{len}");
            assert!(pairs == bao.data, "{len}: another outboard");
        }
    }

    #[test]
    fn every_wrong_pair_of_a_kept_outboard_is_found() {
        let len = SEGMENT_BYTES as usize + 3 * GROUP + 7;
        let data = sample(len);
        let root = ChunkHash::of(&data);
        let mut pairs = PreOrderMemOutboard::create(&data, BlockSize::from_chunk_log(4)).data;
        assert!(leads_to(&root, len as u64, &pairs));
        for at in (0..pairs.len()).step_by(32) {
            pairs[at] ^= 1;
            assert!(!leads_to(&root, len as u64, &pairs), "{at}");
            pairs[at] ^= 1;
        }
        assert!(!leads_to(&root, len as u64, &pairs[PAIR..]));
        assert!(!leads_to(&ChunkHash::of(b"other"), len as u64, &pairs));
    }
}
