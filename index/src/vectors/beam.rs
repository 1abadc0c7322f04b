//! The search loop: from a few rows, along links, always on from the nearest whose links were not followed.
//!
//! Rows come out of files. Each is compared with the number of rows before it is used, and is met once.

use super::{
    kernel::{CodeQuery, Kernel},
    pool::{Entry, Pool},
    records::Records,
};
use crate::rows::{Row, RowSet};

/// Of how many rows that are to be followed a search asks for the links at a time, where these may be on a disk.
const AHEAD: usize = 4;

/// Layer 0 of a graph, or an upper one whose rows are all that there are.
pub(crate) trait Links {
    /// Appends the links of a row to `out`; they may be anything.
    fn links(&self, row: u32, out: &mut Vec<u32>);

    /// Asks for the links of a row that is likely to be next.
    fn prefetch(&self, kernel: Kernel, row: u32);

    /// Asks for the records of rows, all of which are next, if they may be on a disk; says whether some were not asked for before.
    fn ask(&self, _rows: &[u32]) -> bool {
        false
    }

    /// Asks for the records of what a row links to, which are likely to be next.
    fn ask_linked(&self, _row: u32) {}
}

/// What a search needs beside its result; kept from search to search.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) visited: Visited,
    pub(crate) pool: Pool,
    pub(crate) fresh: Vec<u32>,
    pub(crate) keys: Vec<f32>,
}

/// The rows that a search has met, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    touched: Vec<u32>,
}

impl Visited {
    /// Forgets all, and makes room for `rows`.
    pub(crate) fn reset(&mut self, rows: usize) {
        let words = rows.div_ceil(64);
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
        for word in self.touched.drain(..) {
            self.words[word as usize] = 0;
        }
    }

    /// Notes a row; tells whether it was new.
    #[inline]
    pub(crate) fn insert(&mut self, row: u32) -> bool {
        let word = &mut self.words[row as usize / 64];
        let bit = 1 << (row % 64);
        if *word == 0 {
            self.touched.push(row / 64);
        }
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// One search of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beam<'a, G> {
    pub(crate) kernel: Kernel,
    pub(crate) records: Records<'a>,
    pub(crate) graph: &'a G,
    pub(crate) query: CodeQuery<'a>,
}

impl<G: Links> Beam<'_, G> {
    /// Leaves the `breadth` nearest rows that it met in the pool of `scratch`.
    pub(crate) fn run(&self, starts: &[u32], breadth: usize, scratch: &mut Scratch) {
        self.begin(starts, breadth, scratch);
        let Scratch {
            visited,
            pool,
            fresh,
            keys,
        } = scratch;
        while let Some(entry) = pool.follow() {
            self.gather(entry.row(), visited, fresh);
            self.ask(pool, fresh);
            if let Some(next) = pool.peek() {
                self.graph.prefetch(self.kernel, next.row());
            }
            self.kernel.keys(&self.records, &self.query, fresh, keys);
            for (row, key) in fresh.iter().zip(&*keys) {
                pool.offer(Entry::new(*key, *row));
            }
        }
    }

    /// As [`Beam::run`], for members of `filter` alone: these go to `found`, which has room for as many as are
    /// wanted. Other rows are ways and no results. Ends when what is left is farther than all that was found,
    /// and gives up (`false`) after `keys_max` keys.
    pub(crate) fn run_filtered(
        &self,
        starts: &[u32],
        breadth: usize,
        filter: &RowSet,
        keys_max: usize,
        found: &mut Pool,
        scratch: &mut Scratch,
    ) -> bool {
        self.begin(starts, breadth, scratch);
        let Scratch {
            visited,
            pool,
            fresh,
            keys,
        } = scratch;
        for entry in pool.entries() {
            if filter.contains(Row(entry.row())) {
                found.offer(*entry);
            }
        }
        let mut computed = 0;
        while let Some(entry) = pool.follow() {
            if entry >= found.bound() {
                break;
            }
            if computed > keys_max {
                return false;
            }
            self.gather(entry.row(), visited, fresh);
            self.ask(pool, fresh);
            if let Some(next) = pool.peek() {
                self.graph.prefetch(self.kernel, next.row());
            }
            self.kernel.keys(&self.records, &self.query, fresh, keys);
            computed += fresh.len();
            for (row, key) in fresh.iter().zip(&*keys) {
                let entry = Entry::new(*key, *row);
                pool.offer(entry);
                if filter.contains(Row(*row)) {
                    found.offer(entry);
                }
            }
        }
        true
    }

    fn begin(&self, starts: &[u32], breadth: usize, scratch: &mut Scratch) {
        scratch.pool.reset(breadth);
        scratch.visited.reset(self.records.len());
        scratch.fresh.clear();
        for row in starts {
            if (*row as usize) < self.records.len() && scratch.visited.insert(*row) {
                scratch.fresh.push(*row);
            }
        }
        let Scratch {
            pool, fresh, keys, ..
        } = scratch;
        self.graph.ask(fresh);
        self.kernel.keys(&self.records, &self.query, fresh, keys);
        for (row, key) in fresh.iter().zip(&*keys) {
            pool.offer(Entry::new(*key, *row));
        }
    }

    /// Asks for rows that are next. If one of them was not asked for before, the search is on a part of a file that is not in
    /// memory: then also for those that come soon, so that it waits a few times for many rows, not many times for few.
    #[inline]
    fn ask(&self, pool: &Pool, fresh: &[u32]) {
        if self.graph.ask(fresh) {
            for entry in pool.to_follow().take(AHEAD) {
                self.graph.ask_linked(entry.row());
            }
        }
    }

    /// The links of a row that were not met yet.
    #[inline]
    fn gather(&self, row: u32, visited: &mut Visited, fresh: &mut Vec<u32>) {
        fresh.clear();
        self.graph.links(row, fresh);
        let rows = self.records.len();
        let mut kept = 0;
        for at in 0..fresh.len() {
            let link = fresh[at];
            fresh[kept] = link;
            kept += usize::from((link as usize) < rows && visited.insert(link));
        }
        fresh.truncate(kept);
    }
}
