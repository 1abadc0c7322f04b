//! Vectors that are not in a segment yet: appended in memory, searched by looking at all of them.

use super::{
    coder::Coder,
    floor::{Unsaid, Worst},
    kernel::{CodeQuery, Kernel},
    pool::Pool,
    query::{Hit, Query, Search},
    records::{Layout, Records, head},
    scan::{self, Stored},
};
use crate::{limits::SEGMENT_ROWS_MAX, params::VectorParams, rows::Row};

/// The vectors of one field of the live part, by row.
#[derive(Debug, Clone)]
pub struct LiveRows {
    params: VectorParams,
    present: Vec<bool>,
    vectors: Vec<u8>,
    coder: Option<Coder>,
    layout: Layout,
    records: Vec<u8>,
    /// What the codes leave unsaid.
    unsaid: Vec<Unsaid>,
    worst: Worst,
}

impl LiveRows {
    /// No rows.
    #[must_use]
    pub fn new(params: VectorParams) -> Self {
        Self {
            params,
            present: Vec::new(),
            vectors: Vec::new(),
            coder: Coder::blind(params),
            layout: Layout::new(params.dim.get(), 0).expect("no links are never too many"),
            records: Vec::new(),
            unsaid: Vec::new(),
            worst: Worst::default(),
        }
    }

    /// What the vectors have in common.
    #[must_use]
    pub fn params(&self) -> VectorParams {
        self.params
    }

    /// Appends a row with the stored form of its vector ([`super::encode`]), or without one.
    ///
    /// # Panics
    ///
    /// Bytes of another length, and more rows than a segment may have.
    pub fn push(&mut self, vector: Option<&[u8]>) -> Row {
        let row = u32::try_from(self.present.len()).expect("fewer rows than a segment has");
        assert!(row < SEGMENT_ROWS_MAX);
        let start = self.vectors.len();
        self.vectors.resize(start + self.params.row_bytes(), 0);
        if let Some(vector) = vector {
            self.vectors[start..].copy_from_slice(vector);
        }
        if let Some(coder) = &self.coder {
            let start = self.records.len();
            self.records.resize(start + self.layout.stride, 0);
            let record = &mut self.records[start..];
            coder.encode(vector, self.layout, record);
            let unsaid = coder.unsaid(vector, self.layout, record);
            if vector.is_some() {
                self.worst.take(unsaid, head(record, self.layout).bias);
            }
            self.unsaid.push(unsaid);
        }
        self.present.push(vector.is_some());
        Row(row)
    }

    /// The stored form of a row's vector.
    #[must_use]
    pub fn vector(&self, row: Row) -> Option<&[u8]> {
        Stored::vector(self, row)
    }

    /// How many rows it has, with and without vector.
    #[must_use]
    pub fn rows(&self) -> u32 {
        Stored::rows(self)
    }

    fn records(&self) -> Records<'_> {
        Records::new(&self.records, self.layout).expect("whole records")
    }
}

/// Blocks of rows of one field, which are searched as one.
#[derive(Debug, Clone)]
pub struct LiveBlocks<'a> {
    /// Each after the number of its first row, in their order.
    blocks: Vec<(u32, &'a LiveRows)>,
}

impl<'a> LiveBlocks<'a> {
    /// Blocks, each after the number of its first row, in the order of these.
    pub fn new(blocks: impl IntoIterator<Item = (u32, &'a LiveRows)>) -> Self {
        let blocks = blocks.into_iter().collect();
        Self { blocks }
    }

    /// The nearest rows, nearest first; equally near ones by row. Always exact: codes only choose the rows that are left out, by the
    /// floors of their keys ([`super::floor`]). Where there are none, and if the search is to be exact, all are scored.
    ///
    /// # Panics
    ///
    /// A query for other vectors.
    #[must_use]
    pub fn search(&self, query: &Query, search: &Search<'_>) -> Vec<Hit> {
        let Some((_, any)) = self.blocks.first() else {
            return Vec::new();
        };
        let same = |(_, rows): &(u32, &LiveRows)| rows.params == query.params();
        assert!(self.blocks.iter().all(same), "a query for other vectors");
        let mut pool = Pool::default();
        // That of all blocks: it knows the parameters and no vectors.
        let coder = any.coder.as_ref().filter(|_| !search.exact);
        let Some(coder) = coder else {
            return scan::exact(self, query, search, &mut pool);
        };
        let coded = coder.query(query.vector(), any.layout);
        let floors = coder.floors(query.vector(), &coded);
        let (near, seen) = self.seen(&coded.as_query(), query.kernel(), search);
        pool.reset(search.k);
        let mut scored = Vec::with_capacity(near.entries().len());
        for entry in near.entries() {
            scan::offer(self, query, Row(entry.row()), &mut pool);
            scored.push(entry.row());
        }
        scored.sort_unstable();
        for ((start, block), seen) in self.blocks.iter().zip(&seen) {
            let records = block.records();
            let limit = floors.limit(pool.bound_key(), block.worst);
            for (row, key) in seen.rows.iter().zip(&seen.keys) {
                if *key > limit {
                    continue;
                }
                let unsaid = block.unsaid[*row as usize];
                let floor = floors.floor(*key, records.head(*row).bias, unsaid);
                // An equally near row may come before the last one.
                let above = floor > pool.bound_key();
                if !above && scored.binary_search(&(start + row)).is_err() {
                    scan::offer(self, query, Row(start + row), &mut pool);
                }
            }
        }
        scan::hits(query, search, &pool)
    }

    /// The nearest rows by their codes, and of each block the keys of all rows that may be found.
    fn seen(&self, code: &CodeQuery<'_>, kernel: Kernel, search: &Search<'_>) -> (Pool, Vec<Seen>) {
        let mut near = Pool::default();
        near.reset(scan::candidates(search.k));
        let seen = self.blocks.iter().map(|(start, block)| {
            let may = |row: &u32| {
                let filter = search.filter;
                filter.is_none_or(|filter| filter.contains(Row(start + row)))
            };
            let rows = (0..Stored::rows(*block)).filter(may);
            let room = Stored::rows(*block) as usize;
            let mut seen = Seen {
                rows: Vec::with_capacity(room),
                keys: Vec::with_capacity(room),
            };
            scan::codes(kernel, &block.records(), code, rows, |rows, keys| {
                seen.rows.extend_from_slice(rows);
                seen.keys.extend_from_slice(keys);
                scan::offer_keys(*start, rows, keys, &mut near);
            });
            seen
        });
        let seen = seen.collect();
        (near, seen)
    }
}

/// Rows of a block, and their keys by their codes.
#[derive(Debug)]
struct Seen {
    rows: Vec<u32>,
    keys: Vec<f32>,
}

impl Stored for LiveBlocks<'_> {
    fn rows(&self) -> u32 {
        let last = self.blocks.last();
        last.map_or(0, |(start, rows)| start + Stored::rows(*rows))
    }

    #[inline]
    fn vector(&self, row: Row) -> Option<&[u8]> {
        let behind = self.blocks.partition_point(|(start, _)| *start <= row.0);
        let (start, rows) = self.blocks.get(behind.checked_sub(1)?)?;
        Stored::vector(*rows, Row(row.0 - start))
    }
}

impl Stored for LiveRows {
    fn rows(&self) -> u32 {
        u32::try_from(self.present.len()).expect("fewer rows than a segment has")
    }

    #[inline]
    fn vector(&self, row: Row) -> Option<&[u8]> {
        let present = self.present.get(row.index()).copied().unwrap_or(false);
        let bytes = self.params.row_bytes();
        present.then(|| &self.vectors[row.index() * bytes..][..bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        params::{Dim, Dtype, Metric},
        vectors::encode,
    };

    /// Sentence embeddings are as far from each other as these are.
    #[test]
    fn codes_leave_out_all_but_some_hundredths_of_the_rows() {
        let params = VectorParams {
            dim: Dim::new(384).unwrap(),
            metric: Metric::Cosine,
            dtype: Dtype::F32,
        };
        let vector = |seed: u32| -> Vec<f32> {
            let wave = |of: u32, at: u32| f32::sin((of * 7 + 3) as f32 * (at * at + 1) as f32);
            (0..384)
                .map(|at| wave(seed % 40, at) + wave(seed + 100, at))
                .collect()
        };
        let mut rows = LiveRows::new(params);
        for seed in 0..2_000 {
            rows.push(Some(&encode(&params, &vector(seed)).unwrap()));
        }
        let blocks = LiveBlocks::new([(0, &rows)]);
        let query = Query::new(params, &vector(5_000)).unwrap();
        let search = Search::nearest(10);
        let coder = rows.coder.as_ref().unwrap();
        let coded = coder.query(query.vector(), rows.layout);
        let floors = coder.floors(query.vector(), &coded);
        let (_, seen) = blocks.seen(&coded.as_query(), query.kernel(), &search);
        let limit = floors.limit(-blocks.search(&query, &search)[9].score, rows.worst);
        let scored = seen[0].keys.iter().filter(|key| **key <= limit).count();
        assert_eq!(seen[0].keys.len(), 2_000);
        assert!((10..100).contains(&scored), "{scored}");
    }
}
