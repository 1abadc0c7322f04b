//! What an import checks of vectors that somebody else wrote: every number once, then the graph by what it finds.

use super::{
    VectorPart,
    part::Plan,
    query::{Query, Search},
    scan::Stored,
    stored,
};
use crate::{
    params::{Dtype, Metric},
    rows::Row,
};

/// Rows whose nearest are searched for along links and exactly.
const PROBES: u32 = 32;

/// How many nearest rows of each.
const PROBE_K: usize = 10;

/// How far from 1 the length of a stored vector may be under cosine: halves are that coarse.
const LENGTH_TOLERANCE: f64 = 2e-3;

/// What [`VectorPart::check`] found out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checked {
    /// The part of the nearest rows that searches along links found; 1 without a graph. Signatures say nothing of it:
    /// where it is low, the graph is to be made again.
    pub recall: f64,
}

impl VectorPart {
    /// Reads every vector and every link, and compares searches along links with exact ones.
    ///
    /// # Errors
    ///
    /// The first thing that a builder would not have written.
    pub fn check(&self) -> Result<Checked, CheckVectorsError> {
        let mut present = 0;
        let mut vector = Vec::new();
        for row in (0..self.rows()).map(Row) {
            self.check_links(row)?;
            if !self.sketch_fits(row) {
                return Err(CheckVectorsError::Sketch { row });
            }
            let Some(bytes) = Stored::vector(self, row) else {
                continue;
            };
            present += 1;
            stored::decode(self.params().dtype, bytes, &mut vector);
            self.check_vector(row, &vector)?;
        }
        if present != self.vectors() {
            return Err(CheckVectorsError::Count { found: present });
        }
        Ok(Checked {
            recall: self.recall(),
        })
    }

    fn check_vector(&self, row: Row, vector: &[f32]) -> Result<(), CheckVectorsError> {
        let params = self.params();
        stored::checked(&params, vector).map_err(|_| CheckVectorsError::Vector { row })?;
        let unit = params.metric == Metric::Cosine && params.dtype != Dtype::U8;
        if unit && (stored::norm(vector) - 1.0).abs() > LENGTH_TOLERANCE {
            return Err(CheckVectorsError::Vector { row });
        }
        if !self.code_fits(row) {
            return Err(CheckVectorsError::Code { row });
        }
        Ok(())
    }

    /// How much of what is near some rows a search along links finds.
    fn recall(&self) -> f64 {
        if !self.has_graph() {
            return 1.0;
        }
        let step = (self.rows() / PROBES).max(1);
        let rows = (0..self.rows()).step_by(step as usize).map(Row);
        let search = Search::nearest(PROBE_K.min(self.rows() as usize));
        let exact = Search {
            exact: true,
            ..search
        };
        let (mut found, mut wanted) = (0u32, 0u32);
        let mut vector = Vec::new();
        for row in rows {
            let Some(bytes) = Stored::vector(self, row) else {
                continue;
            };
            stored::decode(self.params().dtype, bytes, &mut vector);
            let Ok(query) = Query::new(self.params(), &vector) else {
                continue;
            };
            let hits = self.search_as(&query, &search, Plan::Graph);
            for right in self.search(&query, &exact) {
                wanted += 1;
                // Rows that are as near as one that is wanted are as good.
                found += u32::from(hits.iter().any(|hit| hit.score == right.score));
            }
        }
        if wanted == 0 {
            return 1.0;
        }
        f64::from(found) / f64::from(wanted)
    }
}

/// Why vectors are not those that a builder writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckVectorsError {
    /// Not the number of vectors that the parameters tell.
    #[error("{found} rows have a vector, the parameters tell another number")]
    Count {
        /// How many there are.
        found: u32,
    },
    /// A vector that no field stores.
    #[error("the vector of row {} is none that is stored", row.0)]
    Vector {
        /// Whose vector.
        row: Row,
    },
    /// A code that is not that of the stored vector.
    #[error("the code of row {} is not that of its vector", row.0)]
    Code {
        /// Whose code.
        row: Row,
    },
    /// Sketches that are not those of stored vectors.
    #[error("the sketches from row {} on are not those of their vectors", row.0)]
    Sketch {
        /// The first of the 32 rows of which one is wrong.
        row: Row,
    },
    /// A link to nowhere.
    #[error("row {} is linked to what is no row", row.0)]
    Link {
        /// Whose link.
        row: Row,
    },
}
