//! What is searched for, and how near a stored vector is to it.

use super::{
    kernel::{Kernel, Sum},
    stored::{self, VectorError},
};
use crate::{
    params::{Dtype, Metric, VectorParams},
    rows::{Row, RowSet},
};

/// A vector that others are compared with: checked, and normalised under cosine.
#[derive(Debug, Clone)]
pub struct Query {
    params: VectorParams,
    vector: Vec<f32>,
    kernel: Kernel,
    norm: f32,
}

impl Query {
    /// Prepares a query for vectors of `params`.
    ///
    /// # Errors
    ///
    /// What cannot be compared: see [`VectorError`].
    pub fn new(params: VectorParams, vector: &[f32]) -> Result<Self, VectorError> {
        let vector = stored::checked(&params, vector)?;
        #[allow(clippy::cast_possible_truncation)] // components are bounded
        let norm = stored::norm(&vector) as f32;
        Ok(Self {
            params,
            vector,
            kernel: Kernel::detect(),
            norm,
        })
    }

    /// The vectors that it can be compared with.
    #[must_use]
    pub fn params(&self) -> VectorParams {
        self.params
    }

    /// The score of a stored vector: higher is nearer for cosine and dot, lower for Euclid and Manhattan.
    ///
    /// # Panics
    ///
    /// Bytes of another length than that of a stored vector.
    #[must_use]
    pub fn score(&self, stored: &[u8]) -> f32 {
        self.score_of_key(self.key(stored))
    }

    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(crate) fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// A number that is lower for what is nearer.
    #[inline]
    pub(crate) fn key(&self, stored: &[u8]) -> f32 {
        let sum = match self.params.metric {
            Metric::Cosine | Metric::Dot => Sum::Products,
            Metric::Euclid => Sum::Squares,
            Metric::Manhattan => Sum::Differences,
        };
        let dtype = self.params.dtype;
        let sum = self.kernel.sum(sum, &self.vector, dtype, stored);
        match (self.params.metric, dtype) {
            (Metric::Cosine, Dtype::U8) => {
                let squares: u64 = stored.iter().map(|x| u64::from(*x) * u64::from(*x)).sum();
                #[allow(clippy::cast_precision_loss)]
                let norms = self.norm * (squares as f32).sqrt();
                if norms > 0.0 { -sum / norms } else { 0.0 }
            }
            (Metric::Cosine | Metric::Dot, _) => -sum,
            (Metric::Euclid | Metric::Manhattan, _) => sum,
        }
    }

    #[inline]
    pub(crate) fn score_of_key(&self, key: f32) -> f32 {
        match self.params.metric {
            Metric::Cosine | Metric::Dot => -key,
            Metric::Euclid => key.sqrt(),
            Metric::Manhattan => key,
        }
    }
}

/// What a search is to find.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// How many rows.
    pub k: usize,
    /// How many near rows a search along links keeps in sight: more is slower and finds more of the nearest.
    pub breadth: usize,
    /// The rows that may be found; all if there is none.
    pub filter: Option<&'a RowSet>,
    /// Compare every vector that may be found, as it is stored.
    pub exact: bool,
    /// The score that a row must have at least (cosine, dot) or at most (Euclid, Manhattan).
    pub threshold: Option<f32>,
}

impl Search<'_> {
    /// The `k` nearest rows, found with a breadth that serves most.
    #[must_use]
    pub fn nearest(k: usize) -> Self {
        Self {
            k,
            breadth: k.max(64),
            filter: None,
            exact: false,
            threshold: None,
        }
    }
}

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which one.
    pub row: Row,
    /// How near it is: see [`Query::score`].
    pub score: f32,
}
