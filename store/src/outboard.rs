//! A chunk's hash tree: BLAKE3 pre-order outboards with 16 KiB groups.
//!
//! An outboard is the list of the 64-byte pairs (left, right chaining value) of all inner nodes of
//! the BLAKE3 tree above the groups, in pre-order, without a size prefix: what bao-tree calls a
//! pre-order outboard with block size 16 KiB. A chunk of `n` groups has `n - 1` pairs; a chunk of
//! one group has none. [`compute`] makes root and outboard from a slice in one pass;
//! [`Outboard::parse`] trusts nothing: it hashes every pair up to the root before a value of
//! [`Outboard`] exists, so a held `Outboard` always leads from its root to its groups.
//!
//! The arithmetic is `blake3::hazmat`; tests compare it with bao-tree.

use std::ops::Range;

use blake3::{
    Hasher,
    hazmat::{self, ChainingValue, HasherExt, Mode},
};
use bytes::Bytes;

use crate::{ChunkHash, limits::GROUP_BYTES};

const GROUP: usize = GROUP_BYTES as usize;
const PAIR: usize = 64;

/// The outboard, or data, does not lead to the chunk's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The outboard has another length than a chunk of this length needs.
    #[error("an outboard of {found} bytes where {expected} belong")]
    Length {
        /// Bytes that a chunk of this length needs.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A pair does not hash to what its parent, or the root, says.
    #[error("the outboard does not lead to the chunk's hash")]
    Pair,
    /// Data do not hash to what the outboard says.
    #[error("the bytes of group {group} do not match the chunk's hash")]
    Group {
        /// Number of the first group that differs, from 0.
        group: u32,
    },
    /// The range is not made of whole groups of the chunk.
    #[error("a range that is not made of whole groups")]
    Range,
}

/// Groups of a chunk of `len` bytes; an empty chunk has one.
pub const fn groups(len: u32) -> u32 {
    if len == 0 {
        1
    } else {
        len.div_ceil(GROUP_BYTES)
    }
}

/// Bytes of the outboard of a chunk of `len` bytes: 64 for each group but one.
pub const fn size(len: u32) -> u32 {
    (groups(len) - 1) * 64
}

/// The hash and the outboard of `data`, which is at most 4 GiB.
pub fn compute(data: &[u8]) -> (ChunkHash, Vec<u8>) {
    if data.len() <= GROUP {
        return (ChunkHash::of(data), Vec::new());
    }
    let mut pairs = vec![0; (data.len().div_ceil(GROUP) - 1) * PAIR];
    let (left, right) = children(data, 0, &mut pairs);
    pairs[..32].copy_from_slice(&left);
    pairs[32..64].copy_from_slice(&right);
    (
        hazmat::merge_subtrees_root(&left, &right, Mode::Hash).into(),
        pairs,
    )
}

/// Chaining values of both halves of `data` (more than one group), the pairs below them filled in.
fn children(data: &[u8], offset: u64, pairs: &mut [u8]) -> (ChainingValue, ChainingValue) {
    let left_len = left_len(data.len());
    let (left, right) = data.split_at(left_len);
    let (left_pairs, right_pairs) = pairs[PAIR..].split_at_mut((left_len / GROUP - 1) * PAIR);
    (
        subtree(left, offset, left_pairs),
        subtree(right, offset + left_len as u64, right_pairs),
    )
}

fn subtree(data: &[u8], offset: u64, pairs: &mut [u8]) -> ChainingValue {
    if data.len() <= GROUP {
        return leaf(data, offset);
    }
    let (left, right) = children(data, offset, pairs);
    pairs[..32].copy_from_slice(&left);
    pairs[32..64].copy_from_slice(&right);
    hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
}

/// The chaining value of the group that starts `offset` bytes into its chunk.
fn leaf(data: &[u8], offset: u64) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset).update(data);
    hasher.finalize_non_root()
}

/// Bytes in the left subtree of a tree over `len` bytes (more than one group).
fn left_len(len: usize) -> usize {
    (len.div_ceil(GROUP).next_power_of_two() / 2) * GROUP
}

/// An outboard every pair of which was checked against its root.
#[derive(Debug, Clone)]
pub struct Outboard {
    root: ChunkHash,
    len: u32,
    pairs: Bytes,
}

impl Outboard {
    /// Checks every pair of `pairs` as the outboard of the chunk `root` of `len` bytes.
    ///
    /// # Errors
    /// [`VerifyError::Length`] or [`VerifyError::Pair`].
    pub fn parse(root: ChunkHash, len: u32, pairs: Bytes) -> Result<Self, VerifyError> {
        let expected = size(len) as usize;
        if pairs.len() != expected {
            return Err(VerifyError::Length {
                expected,
                found: pairs.len(),
            });
        }
        if !pairs.is_empty() {
            let (left, right) = pair(&pairs);
            let found = hazmat::merge_subtrees_root(&left, &right, Mode::Hash);
            if found.as_bytes() != root.as_bytes() || !check(len as usize, &pairs) {
                return Err(VerifyError::Pair);
            }
        }
        Ok(Self { root, len, pairs })
    }

    /// Computes the outboard of `data`.
    pub fn of(data: &[u8]) -> Self {
        let (root, pairs) = compute(data);
        let len = u32::try_from(data.len()).expect("a chunk is at most 4 GiB");
        Self {
            root,
            len,
            pairs: pairs.into(),
        }
    }

    /// The chunk's hash.
    pub fn root(&self) -> ChunkHash {
        self.root
    }

    /// The pairs in pre-order.
    pub fn pairs(&self) -> &Bytes {
        &self.pairs
    }

    /// The smallest range of whole groups around `range`; `range.end` is at most the chunk's length.
    pub fn around(&self, range: Range<u32>) -> Range<u32> {
        let start = range.start / GROUP_BYTES * GROUP_BYTES;
        let end = range.end.div_ceil(GROUP_BYTES).saturating_mul(GROUP_BYTES);
        start..end.min(self.len)
    }

    /// Checks `data`, the bytes of whole groups from byte `start` of the chunk on.
    ///
    /// # Errors
    /// [`VerifyError::Range`] when these are not whole groups, [`VerifyError::Group`] otherwise.
    pub fn verify(&self, start: u32, data: &[u8]) -> Result<(), VerifyError> {
        let end = start as usize + data.len();
        let whole =
            end == self.len as usize || (end < self.len as usize && end.is_multiple_of(GROUP));
        if !start.is_multiple_of(GROUP_BYTES) || !whole {
            return Err(VerifyError::Range);
        }
        if self.pairs.is_empty() {
            let same = ChunkHash::of(data) == self.root;
            return if same {
                Ok(())
            } else {
                Err(VerifyError::Group { group: 0 })
            };
        }
        for (group, bytes) in (start / GROUP_BYTES..).zip(data.chunks(GROUP)) {
            let offset = u64::from(group) * u64::from(GROUP_BYTES);
            if leaf(bytes, offset) != self.value_of(group) {
                return Err(VerifyError::Group { group });
            }
        }
        Ok(())
    }

    /// The chaining value that the outboard has for a group.
    fn value_of(&self, group: u32) -> ChainingValue {
        let (mut len, mut pairs) = (self.len as usize, &self.pairs[..]);
        let mut offset = group as usize * GROUP;
        loop {
            let (left, right) = pair(pairs);
            let left_bytes = left_len(len);
            let left_pairs = (left_bytes / GROUP - 1) * PAIR;
            let (value, rest) = if offset < left_bytes {
                len = left_bytes;
                (left, &pairs[PAIR..PAIR + left_pairs])
            } else {
                offset -= left_bytes;
                len -= left_bytes;
                (right, &pairs[PAIR + left_pairs..])
            };
            if rest.is_empty() {
                return value;
            }
            pairs = rest;
        }
    }
}

fn pair(pairs: &[u8]) -> (ChainingValue, ChainingValue) {
    let (mut left, mut right) = ([0; 32], [0; 32]);
    left.copy_from_slice(&pairs[..32]);
    right.copy_from_slice(&pairs[32..PAIR]);
    (left, right)
}

/// Whether the pairs below the first one hash to what it says.
fn check(len: usize, pairs: &[u8]) -> bool {
    let (left, right) = pair(pairs);
    let left_bytes = left_len(len);
    let (left_pairs, right_pairs) = pairs[PAIR..].split_at((left_bytes / GROUP - 1) * PAIR);
    [
        (left, left_bytes, left_pairs),
        (right, len - left_bytes, right_pairs),
    ]
    .into_iter()
    .all(|(value, len, pairs)| {
        pairs.is_empty() || {
            let (l, r) = pair(pairs);
            hazmat::merge_subtrees_non_root(&l, &r, Mode::Hash) == value && check(len, pairs)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use bao_tree::{BaoTree, BlockSize, io::outboard::PreOrderMemOutboard};

    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new()
            .update(&len.to_le_bytes())
            .finalize_xof()
            .fill(&mut out);
        out
    }

    const LENGTHS: [usize; 14] = [
        0,
        1,
        1024,
        16 * 1024 - 1,
        16 * 1024,
        16 * 1024 + 1,
        32 * 1024,
        33 * 1024,
        48 * 1024,
        5 * 16 * 1024 + 7,
        256 * 1024,
        1024 * 1024 + 1,
        3_000_000,
        16 * 1024 * 1024,
    ];

    #[test]
    fn roots_and_outboards_equal_those_of_bao_tree() {
        for len in LENGTHS {
            let data = sample(len);
            let (root, pairs) = compute(&data);
            let bao = PreOrderMemOutboard::create(&data, BlockSize::from_chunk_log(4));
            assert_eq!(root, ChunkHash::of(&data), "{len}");
            assert_eq!(root.as_bytes(), bao.root.as_bytes(), "{len}");
            assert_eq!(pairs, bao.data, "{len}");
            let tree = BaoTree::new(len as u64, BlockSize::from_chunk_log(4));
            assert_eq!(u64::from(size(len as u32)), tree.outboard_size(), "{len}");
        }
    }

    #[test]
    fn every_wrong_bit_of_an_outboard_is_found() {
        let data = sample(7 * GROUP + 5);
        let (root, pairs) = compute(&data);
        let len = data.len() as u32;
        Outboard::parse(root, len, pairs.clone().into()).unwrap();
        for bit in 0..pairs.len() * 8 {
            let mut wrong = pairs.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Outboard::parse(root, len, wrong.into()).unwrap_err(),
                VerifyError::Pair,
                "{bit}"
            );
        }
        assert!(matches!(
            Outboard::parse(root, len, pairs[64..].to_vec().into()),
            Err(VerifyError::Length { .. })
        ));
    }

    #[test]
    fn a_wrong_byte_is_found_in_its_group_and_other_groups_pass() {
        for len in LENGTHS
            .into_iter()
            .filter(|len| (1..4_000_000).contains(len))
        {
            let mut data = sample(len);
            let outboard = Outboard::of(&data);
            outboard.verify(0, &data).unwrap();
            let at = len * 2 / 3;
            data[at] ^= 1;
            let group = (at / GROUP) as u32;
            assert_eq!(
                outboard.verify(0, &data),
                Err(VerifyError::Group { group }),
                "{len}"
            );
            for (number, bytes) in data.chunks(GROUP).enumerate() {
                let checked = outboard.verify((number * GROUP) as u32, bytes);
                assert_eq!(checked.is_ok(), number as u32 != group, "{len} {number}");
            }
        }
    }

    #[test]
    fn ranges_that_are_not_whole_groups_are_refused() {
        let data = sample(40 * 1024);
        let outboard = Outboard::of(&data);
        assert_eq!(
            outboard.verify(1, &data[1..GROUP + 1]),
            Err(VerifyError::Range)
        );
        assert_eq!(
            outboard.verify(0, &data[..GROUP + 1]),
            Err(VerifyError::Range)
        );
        assert_eq!(
            outboard.verify(0, &[&data[..], &[0]].concat()),
            Err(VerifyError::Range)
        );
        assert_eq!(outboard.around(20_000..20_001), 16_384..32_768);
        assert_eq!(outboard.around(33_000..40_960), 32_768..40_960);
    }
}
