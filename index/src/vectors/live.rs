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

    /// The nearest rows, nearest first; equally near ones by row. Looks at all of them: as they are stored if the search is
    /// exact or the metric is Manhattan, else by codes first.
    ///
    /// # Panics
    ///
    /// A query for other vectors.
    #[must_use]
    pub fn search(&self, query: &Query, search: &Search<'_>) -> Vec<Hit> {
        assert_eq!(query.params(), self.params);
        let mut pool = Pool::default();
        let coder = self.coder.as_ref().filter(|_| !search.exact);
        let Some(coder) = coder else {
            return scan::exact(self, query, search, &mut pool);
        };
        let records = Records::new(&self.records, self.layout).expect("whole records");
        let coded = coder.query(query.vector(), self.layout);
        let mut found = Pool::default();
        found.reset(scan::candidates(search.k));
        scan::codes(
            query.kernel(),
            &records,
            &coded.as_query(),
            search.filter,
            &mut found,
        );
        scan::rescore(self, query, search, found.entries(), &mut pool)
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
