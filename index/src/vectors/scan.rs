//! Searches that look at every row: of the stored vectors, or of codes whose best are then scored by the stored vectors.
//! Where there are sketches, they choose the codes that are looked at ([`super::sketched`]).

use super::{
    kernel::{CodeQuery, Kernel},
    pool::{Entry, Pool},
    query::{Hit, Query, Search},
    records::Records,
};
use crate::rows::Row;

/// Rows whose keys are computed at a time.
const STEP: usize = 256;

/// How many candidates are scored by their stored vectors, for `k` wanted rows. On sentence embeddings of 384 components,
/// five more than ten find what twenty more do.
pub(crate) fn candidates(k: usize) -> usize {
    k + k.max(10)
}

/// Stored vectors by row.
pub(crate) trait Stored {
    /// Rows, with and without vector.
    fn rows(&self) -> u32;

    /// The bytes of a row's vector.
    fn vector(&self, row: Row) -> Option<&[u8]>;

    /// Asks for the vector of a row that is next, if it may be on a disk.
    fn ask(&self, _row: Row) {}
}

/// Gives some rows of `records` and their keys to `found`, some at a time. Keys of rows without a vector are infinite.
pub(crate) fn codes(
    kernel: Kernel,
    records: &Records<'_>,
    query: &CodeQuery<'_>,
    mut rows: impl Iterator<Item = u32>,
    mut found: impl FnMut(&[u32], &[f32]),
) {
    let mut keys = Vec::with_capacity(STEP);
    let mut some = Vec::with_capacity(STEP);
    loop {
        some.clear();
        some.extend(rows.by_ref().take(STEP));
        if some.is_empty() {
            break;
        }
        kernel.keys(records, query, &some, &mut keys);
        found(&some, &keys);
    }
}

/// Offers rows, under their numbers from `start` on, with their keys.
pub(crate) fn offer_keys(start: u32, rows: &[u32], keys: &[f32], pool: &mut Pool) {
    for (row, key) in rows.iter().zip(keys) {
        if *key < f32::INFINITY {
            pool.offer(Entry::new(*key, start + row));
        }
    }
}

/// The nearest rows by all stored vectors.
pub(crate) fn exact(
    stored: &impl Stored,
    query: &Query,
    search: &Search<'_>,
    pool: &mut Pool,
) -> Vec<Hit> {
    pool.reset(search.k);
    let mut one = |row: Row| offer(stored, query, row, pool);
    match search.filter {
        Some(filter) => filter.iter().for_each(&mut one),
        None => (0..stored.rows()).map(Row).for_each(&mut one),
    }
    hits(query, search, pool)
}

/// Scores the nearest of `found` by their stored vectors.
pub(crate) fn rescore(
    stored: &impl Stored,
    query: &Query,
    search: &Search<'_>,
    found: &[Entry],
    pool: &mut Pool,
) -> Vec<Hit> {
    pool.reset(search.k);
    let found = &found[..found.len().min(candidates(search.k))];
    for entry in found {
        stored.ask(Row(entry.row()));
    }
    for entry in found {
        if let Some(bytes) = stored.vector(Row(entry.row())) {
            query.kernel().prefetch(bytes);
        }
    }
    for entry in found {
        offer(stored, query, Row(entry.row()), pool);
    }
    hits(query, search, pool)
}

/// Scores a row by its stored vector and offers it.
#[inline]
pub(crate) fn offer(stored: &impl Stored, query: &Query, row: Row, pool: &mut Pool) {
    if let Some(bytes) = stored.vector(row) {
        let key = query.key(bytes);
        if !key.is_nan() {
            pool.offer(Entry::new(key, row.0));
        }
    }
}

/// What of a pool of scored rows is near enough.
pub(crate) fn hits(query: &Query, search: &Search<'_>, pool: &Pool) -> Vec<Hit> {
    let higher = query.params().metric.higher_is_nearer();
    let entries = pool.entries().iter();
    entries
        .map(|entry| Hit {
            row: Row(entry.row()),
            score: query.score_of_key(entry.key()),
        })
        .filter(|hit| match search.threshold {
            Some(least) if higher => hit.score >= least,
            Some(most) => hit.score <= most,
            None => true,
        })
        .collect()
}
