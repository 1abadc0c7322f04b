//! Vectors that are not in a segment yet: appended in memory, searched by looking at all of them.

use super::{
    coder::Coder,
    pool::Pool,
    query::{Hit, Query, Search},
    records::{Layout, Records},
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
            coder.encode(vector, self.layout, &mut self.records[start..]);
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

    /// The nearest rows, nearest first; equally near ones by row. Looks at all of them: as they are stored if the search is
    /// exact or the metric is Manhattan, else by codes first.
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
        let (kernel, coded) = (query.kernel(), coded.as_query());
        let mut found = Pool::default();
        found.reset(scan::candidates(search.k));
        for (start, block) in &self.blocks {
            let records = Records::new(&block.records, block.layout).expect("whole records");
            let may = |row: &u32| {
                let filter = search.filter;
                filter.is_none_or(|filter| filter.contains(Row(start + row)))
            };
            let rows = (0..Stored::rows(*block)).filter(may);
            scan::codes(kernel, &records, &coded, *start, rows, &mut found);
        }
        scan::rescore(self, query, search, found.entries(), &mut pool)
    }
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
