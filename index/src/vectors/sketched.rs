//! A scan of sketches before codes: it finds what a scan of codes finds, but for a few rows, and reads less.

use super::{
    kernel::{CodeQuery, Kernel},
    pool::{Entry, Pool},
    records::Records,
    scan::candidates,
    sketch::{BLOCK, BLOCK_ROWS, SketchQuery, Sketches},
};
use crate::rows::RowSet;

/// Blocks whose floors are computed before the codes of any row are looked at: 16,384 rows.
const WINDOW: usize = 512;

/// Rows whose codes are looked at together, before the bound is lowered.
const BATCH: usize = 32;

/// Such a scan.
pub(crate) struct Sketched<'a, A> {
    pub(crate) kernel: Kernel,
    pub(crate) sketches: Sketches<'a>,
    pub(crate) sketch: SketchQuery,
    pub(crate) records: Records<'a>,
    pub(crate) code: CodeQuery<'a>,
    /// How many rows are wanted, at least 1.
    pub(crate) k: usize,
    /// Asks for the codes of rows, which may be on a disk.
    pub(crate) ask: A,
}

/// What such scans of a thread share.
#[derive(Debug, Default)]
pub(crate) struct SketchScratch {
    blocks: Vec<u32>,
    floors: Vec<f32>,
    near: Pool,
    chosen: Vec<u32>,
    keys: Vec<f32>,
}

impl<A: Fn(&[u32])> Sketched<'_, A> {
    /// Leaves the rows with the lowest keys in `pool`. Of each window of rows, it looks at the codes of those with the lowest
    /// floors, and then of all whose floor is below the key of the last wanted row.
    pub(crate) fn run(
        &self,
        filter: Option<&RowSet>,
        scratch: &mut SketchScratch,
        pool: &mut Pool,
    ) {
        let rows = u32::try_from(self.records.len()).expect("rows have 31 bits");
        let members = |block: u32| members(block, rows, filter);
        let blocks = 0..rows.div_ceil(BLOCK);
        let mut blocks = blocks.filter(|block| members(*block) != 0);
        loop {
            scratch.blocks.clear();
            scratch.blocks.extend(blocks.by_ref().take(WINDOW));
            if scratch.blocks.is_empty() {
                return;
            }
            self.window(members, scratch, pool);
        }
    }

    fn window(&self, members: impl Fn(u32) -> u32, scratch: &mut SketchScratch, pool: &mut Pool) {
        let SketchScratch {
            blocks,
            floors,
            near,
            chosen,
            keys,
        } = scratch;
        floors.clear();
        self.kernel
            .floors(&self.sketches, &self.sketch, blocks, floors);
        let (of_blocks, _) = floors.as_chunks_mut::<BLOCK_ROWS>();
        near.reset(candidates(self.k));
        let mut limit = self.bound(pool);
        for ((block, floors), at) in blocks
            .iter()
            .zip(of_blocks)
            .zip((0u32..).step_by(BLOCK_ROWS))
        {
            mask(floors, members(*block));
            if !any_below(floors, limit) {
                continue;
            }
            for (floor, at) in floors.iter().zip(at..) {
                if *floor < limit {
                    near.offer(Entry::new(*floor, at));
                    limit = limit.min(near.bound_key());
                }
            }
        }
        let row = |at: u32| blocks[(at / BLOCK) as usize] * BLOCK + at % BLOCK;
        chosen.clear();
        for entry in near.entries() {
            chosen.push(row(entry.row()));
            floors[entry.row() as usize] = f32::INFINITY;
        }
        let mut bound = self.look(chosen, keys, pool);
        let (of_blocks, _) = floors.as_chunks::<BLOCK_ROWS>();
        for (floors, first) in of_blocks.iter().zip((0..).step_by(BLOCK_ROWS)) {
            if !any_below(floors, bound) {
                continue;
            }
            for (floor, at) in floors.iter().zip(first..) {
                if *floor < bound {
                    chosen.push(row(at));
                    if chosen.len() == BATCH {
                        bound = self.look(chosen, keys, pool);
                    }
                }
            }
        }
        self.look(chosen, keys, pool);
    }

    /// Looks at the codes of the chosen rows, which are then none; gives the new bound.
    fn look(&self, chosen: &mut Vec<u32>, keys: &mut Vec<f32>, pool: &mut Pool) -> f32 {
        (self.ask)(chosen);
        self.kernel.keys(&self.records, &self.code, chosen, keys);
        for (row, key) in chosen.iter().zip(&*keys) {
            if *key < f32::INFINITY {
                pool.offer(Entry::new(*key, *row));
            }
        }
        chosen.clear();
        self.bound(pool)
    }

    /// The key that rows must stay below to be among those that are wanted.
    fn bound(&self, pool: &Pool) -> f32 {
        let last = pool.entries().get(self.k - 1);
        last.map_or(f32::INFINITY, |entry| entry.key())
    }
}

/// Tells whether a floor is below `bound`, without a branch for each.
#[inline]
fn any_below(floors: &[f32; BLOCK_ROWS], bound: f32) -> bool {
    floors
        .iter()
        .fold(false, |any, floor| any | (*floor < bound))
}

/// Lets nothing be below the floors of those that are no members, without a branch for each.
#[inline]
fn mask(floors: &mut [f32; BLOCK_ROWS], members: u32) {
    if members == u32::MAX {
        return;
    }
    for (bit, floor) in floors.iter_mut().enumerate() {
        let is_member = members >> bit & 1 == 1;
        *floor = if is_member { *floor } else { f32::INFINITY };
    }
}

/// Which rows of a block there are and may be found, one bit each.
fn members(block: u32, rows: u32, filter: Option<&RowSet>) -> u32 {
    let left = rows - block * BLOCK;
    let there = if left < 32 { (1 << left) - 1 } else { u32::MAX };
    there & filter.map_or(u32::MAX, |filter| filter.bits(block))
}
