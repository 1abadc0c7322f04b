//! The order in which pairs and bytes of a blob travel: pre-order over its BLAKE3 tree.
//!
//! The tree is that of bao-tree with 16 KiB groups: a node of more than 16 leaves always sends its
//! pair of chaining values; inside a group a pair is sent only where the selection does not cover the
//! node. Both ends walk the same [`Selection`], so nothing but pairs and bytes is on the wire.
//! [`Expected`] holds the chaining values that the pairs so far promise.

use std::ops::Range;

use blake3::{
    Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};

use super::{
    limits::{GROUP_BYTES, LEAF_BYTES},
    selection::{Cover, Selection},
};

/// Leaves of a chunk group.
const GROUP_LEAVES: u64 = GROUP_BYTES / LEAF_BYTES;

/// Bytes of a pair of chaining values.
pub(super) const PAIR_BYTES: usize = 64;

/// What comes next on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A pair of chaining values, 64 bytes.
    Pair {
        /// Its place in the pre-order outboard, counted in pairs; none inside a group.
        index: Option<u64>,
        /// The bytes of the blob under it.
        range: Range<u64>,
        /// Bytes of them under the left value.
        left_bytes: u64,
        /// Whether it is the tree's root.
        root: bool,
        /// Whether something under its left value follows.
        left: bool,
        /// Whether something under its right value follows.
        right: bool,
    },
    /// Bytes of the blob, at most a group.
    Data {
        /// Which bytes.
        range: Range<u64>,
        /// Whether they are the whole blob.
        root: bool,
    },
}

impl Item {
    /// Its length on the wire, in bytes.
    pub(super) fn wire_bytes(&self) -> u64 {
        match self {
            Self::Pair { .. } => PAIR_BYTES as u64,
            Self::Data { range, .. } => range.end - range.start,
        }
    }
}

#[derive(Debug, Clone)]
struct Node {
    /// First leaf.
    start: u64,
    /// How many leaves.
    count: u64,
    /// Place of its pair in the outboard, if it has more leaves than a group.
    index: u64,
}

/// Iterates over the [`Item`]s of a selection in wire order.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    selection: Selection,
    stack: Vec<Node>,
    leaves: u64,
}

impl Walk {
    /// Starts at the root.
    pub(super) fn new(selection: Selection) -> Self {
        let leaves = super::selection::leaves(selection.size());
        Self {
            selection,
            stack: vec![Node {
                start: 0,
                count: leaves,
                index: 0,
            }],
            leaves,
        }
    }

    /// What is walked over.
    pub(super) fn selection(&self) -> &Selection {
        &self.selection
    }
}

impl Iterator for Walk {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            let node = self.stack.pop()?;
            let end = node.start + node.count;
            let cover = self.selection.cover(node.start..end);
            if cover == Cover::None {
                continue;
            }
            let size = self.selection.size();
            let range = node.start * LEAF_BYTES..(end * LEAF_BYTES).min(size);
            let root = node.count == self.leaves;
            if node.count == 1 || (cover == Cover::Full && node.count <= GROUP_LEAVES) {
                return Some(Item::Data { range, root });
            }
            let left_count = node.count.next_power_of_two() / 2;
            let mid = node.start + left_count;
            let left = self.selection.cover(node.start..mid) != Cover::None;
            let right = self.selection.cover(mid..end) != Cover::None;
            let (index, right_index) = if node.count > GROUP_LEAVES {
                // A left subtree of n groups has n - 1 pairs.
                (Some(node.index), node.index + left_count / GROUP_LEAVES)
            } else {
                (None, 0)
            };
            if right {
                let count = node.count - left_count;
                self.stack.push(Node {
                    start: mid,
                    count,
                    index: right_index,
                });
            }
            if left {
                let index = node.index + 1;
                self.stack.push(Node {
                    start: node.start,
                    count: left_count,
                    index,
                });
            }
            let left_bytes = left_count * LEAF_BYTES;
            return Some(Item::Pair {
                index,
                range,
                left_bytes,
                root,
                left,
                right,
            });
        }
    }
}

/// The chaining values that the items to come must have, the next one last.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    stack: Vec<ChainingValue>,
}

impl Expected {
    /// Starts with the blob's hash.
    pub(super) fn new(root: [u8; 32]) -> Self {
        Self { stack: vec![root] }
    }

    /// Takes a pair: whether it is what its parent promised.
    pub(super) fn pair(
        &mut self,
        pair: &[u8; PAIR_BYTES],
        root: bool,
        left: bool,
        right: bool,
    ) -> bool {
        let Some(expected) = self.stack.pop() else {
            return false;
        };
        let (mut left_value, mut right_value) = ([0; 32], [0; 32]);
        left_value.copy_from_slice(&pair[..32]);
        right_value.copy_from_slice(&pair[32..]);
        let found = if root {
            *merge_subtrees_root(&left_value, &right_value, Mode::Hash).as_bytes()
        } else {
            merge_subtrees_non_root(&left_value, &right_value, Mode::Hash)
        };
        if right {
            self.stack.push(right_value);
        }
        if left {
            self.stack.push(left_value);
        }
        found == expected
    }

    /// Takes the bytes from `offset` of the blob on: whether they are what was promised.
    pub(super) fn data(&mut self, offset: u64, data: &[u8], root: bool) -> bool {
        self.stack.pop() == Some(chaining_value(offset, data, root))
    }

    /// Takes bytes that are trusted, or were verified before.
    pub(super) fn skip(&mut self) {
        self.stack.pop();
    }
}

/// The chaining value of the subtree over `data`, which starts at byte `offset` of its blob.
pub(super) fn chaining_value(offset: u64, data: &[u8], root: bool) -> ChainingValue {
    if root {
        return *blake3::hash(data).as_bytes();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset).update(data);
    hasher.finalize_non_root()
}
