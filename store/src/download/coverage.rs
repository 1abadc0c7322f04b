//! Which bytes of a download are there: a bit a piece of 1 MiB, and for pieces that come in parts, a bit
//! for each KiB.
//!
//! A piece is *done* once all of it that is wanted was written and journalled; bits never go back, but
//! for chunks whose bytes turn out to have changed on disk.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
};

use blake3::{
    Hasher,
    hazmat::{self, HasherExt as _, Mode},
};

use super::layout::Plan;
use crate::{
    ChunkHash,
    limits::{GROUP_BYTES, PIECE_BYTES},
    piece::Parent,
    tree::ChunkList,
};

const BLOCK: u32 = 1024;
const WORDS: usize = (PIECE_BYTES / BLOCK / 64) as usize;

/// The blocks of 1 KiB of one piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Blocks([u64; WORDS]);

impl Blocks {
    /// The blocks of piece `piece` that `range` of a chunk of `len` bytes touches, or, if `inside`, those
    /// that lie in it.
    fn of(piece: u8, range: &Range<u32>, len: u32, inside: bool) -> Self {
        let span = piece_range(piece, len);
        let (start, end) = (range.start.max(span.start), range.end.min(span.end));
        let mut blocks = Self::default();
        if start >= end {
            return blocks;
        }
        let (from, to) = (start - span.start, end - span.start);
        let (first, last) = if inside {
            let last = if end == len {
                to.div_ceil(BLOCK)
            } else {
                to / BLOCK
            };
            (from.div_ceil(BLOCK), last)
        } else {
            (from / BLOCK, to.div_ceil(BLOCK))
        };
        for block in first..last {
            blocks.0[(block / 64) as usize] |= 1 << (block % 64);
        }
        blocks
    }

    /// The blocks of a piece of which something is wanted.
    fn needed(plan: &Plan, chunk: u32, len: u32, piece: u8) -> Self {
        let mut blocks = Self::default();
        for span in plan.spans(chunk, &piece_range(piece, len)) {
            for part in span.parts() {
                blocks.add(&Self::of(piece, &part, len, false));
            }
        }
        blocks
    }

    /// Those that are not in `other`, as ranges of a chunk of `len` bytes, behind those in `out`.
    fn without(&self, other: &Self, piece: u8, len: u32, out: &mut Vec<Range<u32>>) {
        let start = piece_range(piece, len).start;
        for (word, at) in self
            .0
            .iter()
            .zip(&other.0)
            .map(|(a, b)| a & !b)
            .zip(0_u32..)
        {
            let mut bits = word;
            while bits != 0 {
                let from = bits.trailing_zeros();
                let count = (bits >> from).trailing_ones();
                let first = start + (at * 64 + from) * BLOCK;
                push(out, first..(first + count * BLOCK).min(len));
                if from + count == 64 {
                    break;
                }
                bits = bits >> (from + count) << (from + count);
            }
        }
    }

    fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    fn covers(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .all(|(has, need)| need & !has == 0)
    }
}

/// Adds a range behind all others, joining it with the last one if it touches it.
fn push(ranges: &mut Vec<Range<u32>>, range: Range<u32>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// A piece that came in part.
#[derive(Debug)]
struct Partial {
    /// What must come.
    needed: Blocks,
    /// What came.
    blocks: Blocks,
    /// Its chaining value, once a pair of the outboard told it.
    value: Option<[u8; 32]>,
}

/// A piece of which everything wanted has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complete {
    pub(super) piece: u8,
    /// Its hash for the journal, where it is known without reading the piece again.
    pub(super) value: Option<[u8; 32]>,
}

#[derive(Debug)]
pub(super) struct Coverage {
    /// For each chunk, its pieces that are done.
    done: Vec<u16>,
    partial: HashMap<(u32, u8), Partial>,
}

impl Coverage {
    pub(super) fn new(chunks: usize) -> Self {
        Self {
            done: vec![0; chunks],
            partial: HashMap::new(),
        }
    }

    pub(super) fn is_done(&self, chunk: u32, pieces: u16) -> bool {
        pieces & !self.done[chunk as usize] == 0
    }

    /// The pieces of a chunk that are done.
    pub(super) fn done(&self, chunk: u32) -> u16 {
        self.done[chunk as usize]
    }

    /// Marks pieces of a chunk as done; whether any was not.
    pub(super) fn mark(&mut self, chunk: u32, pieces: u16) -> bool {
        let done = &mut self.done[chunk as usize];
        let new = pieces & !*done;
        *done |= pieces;
        for piece in each(new) {
            self.partial.remove(&(chunk, piece));
        }
        new != 0
    }

    /// Forgets a chunk whose bytes are not what they were.
    pub(super) fn forget(&mut self, chunk: u32) {
        self.done[chunk as usize] = 0;
        self.partial.retain(|(number, _), _| *number != chunk);
    }

    /// Notes that `range` of a chunk was written; returns the pieces of which all is there now, which
    /// [`mark`](Self::mark) makes done.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        chunk: u32,
        len: u32,
        range: Range<u32>,
        values: &[(u8, [u8; 32])],
    ) -> Vec<Complete> {
        let mut out = Vec::new();
        for piece in each(pieces_of(&range) & plan.pieces(chunk)) {
            if self.is_done(chunk, 1 << piece) {
                continue;
            }
            let value = values.iter().find(|(p, _)| *p == piece).map(|(_, v)| *v);
            let new = Blocks::of(piece, &range, len, true);
            let partial = match self.partial.entry((chunk, piece)) {
                Entry::Occupied(partial) => partial.into_mut(),
                Entry::Vacant(place) => {
                    let needed = Blocks::needed(plan, chunk, len, piece);
                    if new.covers(&needed) {
                        out.push(Complete { piece, value });
                        continue;
                    }
                    place.insert(Partial {
                        needed,
                        blocks: Blocks::default(),
                        value: None,
                    })
                }
            };
            partial.blocks.add(&new);
            partial.value = partial.value.or(value);
            if partial.blocks.covers(&partial.needed) {
                let value = partial.value;
                out.push(Complete { piece, value });
            }
        }
        out
    }

    /// What of a chunk is missing: blocks of 1 KiB, cut at the chunk's end, merged.
    pub(super) fn missing(&self, plan: &Plan, chunk: u32, len: u32) -> Vec<Range<u32>> {
        let mut out = Vec::new();
        for piece in each(plan.pieces(chunk) & !self.done[chunk as usize]) {
            match self.partial.get(&(chunk, piece)) {
                Some(partial) => partial
                    .needed
                    .without(&partial.blocks, piece, len, &mut out),
                None if plan.is_whole(chunk, &piece_range(piece, len)) => {
                    push(&mut out, piece_range(piece, len));
                }
                None => Blocks::needed(plan, chunk, len, piece).without(
                    &Blocks::default(),
                    piece,
                    len,
                    &mut out,
                ),
            }
        }
        out
    }
}

/// The number of the piece that a byte of a chunk is in.
pub(super) fn piece_of(offset: u32) -> u8 {
    u8::try_from(offset / PIECE_BYTES).expect("a chunk has at most 16 pieces")
}

/// The bytes of a piece of a chunk of `len` bytes.
pub(super) fn piece_range(piece: u8, len: u32) -> Range<u32> {
    let start = u32::from(piece) * PIECE_BYTES;
    start.min(len)..(start + PIECE_BYTES).min(len)
}

/// The pieces that a range touches.
pub(super) fn pieces_of(range: &Range<u32>) -> u16 {
    if range.start >= range.end {
        return 0;
    }
    (piece_of(range.start)..=piece_of(range.end - 1)).fold(0, |bits, piece| bits | (1 << piece))
}

/// The numbers of the bits that are set.
pub(super) fn each(bits: u16) -> impl Iterator<Item = u8> {
    (0..16).filter(move |bit| bits & (1 << bit) != 0)
}

/// The hash of a piece in the journal; `bytes` are those of it that are wanted, one after the other.
///
/// Of a piece that is wanted whole it is the value that the chunk's hash tree has for it (the chunk's
/// hash, if it is the only piece), which comes with the outboard; else the hash of its wanted bytes.
pub(super) fn piece_hash(plan: &Plan, chunk: u32, len: u32, piece: u8, bytes: &[u8]) -> [u8; 32] {
    let range = piece_range(piece, len);
    if len > PIECE_BYTES && plan.is_whole(chunk, &range) {
        let mut hasher = Hasher::new();
        hasher
            .set_input_offset(u64::from(range.start))
            .update(bytes);
        return hasher.finalize_non_root();
    }
    *ChunkHash::of(bytes).as_bytes()
}

/// The journal's hashes of those pieces in `range` that need no hashing: `parents` tell them.
pub(super) fn known_values(
    list: &ChunkList,
    plan: &Plan,
    chunk: u32,
    range: &Range<u32>,
    parents: &[Parent],
) -> Vec<(u8, [u8; 32])> {
    let (hash, len) = (&list.hashes[chunk as usize], list.lengths[chunk as usize]);
    each(pieces_of(range))
        .filter(|piece| plan.is_whole(chunk, &piece_range(*piece, len)))
        .filter_map(|piece| {
            if len <= PIECE_BYTES {
                return Some((piece, *hash.as_bytes()));
            }
            let node = node_of(len, piece)?;
            let (_, pair) = parents.iter().find(|(index, _)| *index == node)?;
            let (left, right) = pair.split_at(32);
            let left = left.try_into().expect("32 of 64 bytes");
            let right = right.try_into().expect("32 of 64 bytes");
            let value = hazmat::merge_subtrees_non_root(left, right, Mode::Hash);
            Some((piece, value))
        })
        .collect()
}

/// Where in the pre-order outboard of a chunk the pair of a piece is; none for a piece of one group.
fn node_of(len: u32, piece: u8) -> Option<u32> {
    let range = piece_range(piece, len);
    let (mut start, mut len, mut index) = (0, len, 0);
    while len > PIECE_BYTES {
        let left = (len.div_ceil(GROUP_BYTES).next_power_of_two() / 2) * GROUP_BYTES;
        if range.start < start + left {
            (len, index) = (left, index + 1);
        } else {
            index += left / GROUP_BYTES;
            (start, len) = (start + left, len - left);
        }
    }
    (len > GROUP_BYTES).then_some(index)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use super::*;
    use crate::{download::Layout, outboard};

    #[test]
    fn the_pair_of_a_piece_tells_its_value_in_the_tree() {
        for len in [
            2 << 20,
            (1 << 20) + 1,
            (1 << 20) + 16_385,
            (3 << 20) + 500_000,
            (7 << 20) + 20_000,
            16 << 20,
            (15 << 20) + 16_384,
        ] {
            let data: Vec<u8> = (0..len).map(|i: u32| (i * 7 + i / 1000) as u8).collect();
            let (hash, pairs) = outboard::compute(&data);
            let parents: Vec<Parent> = (0..)
                .zip(pairs.chunks_exact(64))
                .map(|(i, pair)| (i, pair.try_into().unwrap()))
                .collect();
            let list = ChunkList {
                hashes: vec![hash],
                lengths: vec![len],
            };
            let plan = Plan::new(&Layout::whole(&list), &list).unwrap();
            let known = known_values(&list, &plan, 0, &(0..len), &parents);
            let pieces = len.div_ceil(PIECE_BYTES) as usize;
            let single = (len - 1) % PIECE_BYTES < GROUP_BYTES;
            assert_eq!(known.len(), pieces - usize::from(single), "{len}");
            for (piece, value) in known {
                let range = piece_range(piece, len);
                let bytes = &data[range.start as usize..range.end as usize];
                let again = piece_hash(&plan, 0, len, piece, bytes);
                assert_eq!(value, again, "{len} {piece}");
            }
        }
    }

    #[test]
    fn a_block_that_came_in_halves_only_is_not_there() {
        let list = ChunkList {
            hashes: vec![ChunkHash::of(b"x")],
            lengths: vec![40_000],
        };
        let plan = Plan::new(&Layout::whole(&list), &list).unwrap();
        let mut coverage = Coverage::new(1);
        assert!(coverage.add(&plan, 0, 40_000, 0..512, &[]).is_empty());
        assert!(coverage.add(&plan, 0, 40_000, 512..40_000, &[]).is_empty());
        assert_eq!(coverage.missing(&plan, 0, 40_000), vec![0..1024]);
        let complete = coverage.add(&plan, 0, 40_000, 0..1024, &[]);
        assert_eq!(complete.len(), 1);
        coverage.mark(0, 1);
        assert!(coverage.missing(&plan, 0, 40_000).is_empty());
    }
}
