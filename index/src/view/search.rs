//! Search: the nearest points of all parts, by a dense or a sparse vector.

use super::{DenseQuery, PartError, Record, Report, ScoredPoint, View, With, bounded, select};
use crate::{
    filter::Filter,
    limits::RESULTS_MAX,
    part::Part,
    point::SparseVector,
    rows::RowSet,
    state::PartKey,
    top::Best,
    vectors::{Query, VectorError},
};

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    /// The name of the vector.
    pub vector: String,
    /// What its values should be near.
    pub query: QueryVector,
    /// Which points may be found.
    pub filter: Filter,
    /// How many points, after the first `offset`; both together at most [`RESULTS_MAX`].
    pub limit: usize,
    /// How many of the nearest are left out.
    pub offset: usize,
    /// How many near points a search along a graph keeps in sight; more is slower and finds more of the nearest.
    pub breadth: Option<usize>,
    /// Whether every point that may be found is compared as it is stored.
    pub exact: bool,
    /// The worst score that is wanted.
    pub threshold: Option<f32>,
}

/// A vector to search for.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryVector {
    /// For dense vectors.
    Dense(Vec<f32>),
    /// For sparse vectors; they are scored by the dot product.
    Sparse(SparseVector),
}

/// Why nothing was searched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The collection has no vector of that name and kind.
    #[error("the collection has no {kind} vector named {name:?}")]
    Unknown {
        /// The name.
        name: String,
        /// Dense or sparse.
        kind: &'static str,
    },
    /// The vector cannot be compared with those of the collection.
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// More results than there may be.
    #[error("more than {RESULTS_MAX} results, with those that are skipped")]
    TooMany,
}

impl SearchRequest {
    /// The `limit` nearest to a dense vector without a name.
    pub fn nearest(query: Vec<f32>, limit: usize) -> Self {
        Self {
            vector: String::new(),
            query: QueryVector::Dense(query),
            filter: Filter::default(),
            limit,
            offset: 0,
            breadth: None,
            exact: false,
            threshold: None,
        }
    }
}

/// Where a found row is.
type Found = (PartKey, u32);

/// Searches one part.
type SearchPart<'a> = dyn FnMut(PartKey, &dyn Part, Option<&RowSet>) -> Result<(), PartError> + 'a;

impl View {
    /// The nearest points, nearest first.
    ///
    /// # Errors
    /// [`QueryError`] before anything is searched. Damaged parts are told in the report.
    pub fn search(
        &self,
        request: &SearchRequest,
        report: &mut Report,
    ) -> Result<Vec<ScoredPoint>, QueryError> {
        let found = self.find_nearest(request, report)?;
        Ok(self.named(found, report))
    }

    /// Rows with scores as the points that they are.
    pub(super) fn named(&self, found: Vec<(Found, f32)>, report: &mut Report) -> Vec<ScoredPoint> {
        let mut points = Vec::with_capacity(found.len());
        for ((key, row), score) in found {
            let view = self.state.part(key).expect("found in this state");
            let named = view
                .part
                .id(row)
                .and_then(|id| Ok((id, view.part.version(row)?)));
            let point = report.sound(key, named);
            points.extend(point.map(|(id, version)| ScoredPoint { id, version, score }));
        }
        points
    }

    /// As [`View::search`], with what else is wanted of the points.
    ///
    /// # Errors
    /// As [`View::search`].
    pub fn search_with(
        &self,
        request: &SearchRequest,
        with: &With,
        report: &mut Report,
    ) -> Result<Vec<(Record, f32)>, QueryError> {
        let found = self.find_nearest(request, report)?;
        let mut records = Vec::with_capacity(found.len());
        for ((key, row), score) in found {
            let record = report.sound(key, self.record(key, row, with));
            records.extend(record.map(|record| (record, score)));
        }
        Ok(records)
    }

    fn find_nearest(
        &self,
        request: &SearchRequest,
        report: &mut Report,
    ) -> Result<Vec<(Found, f32)>, QueryError> {
        let k = request
            .limit
            .checked_add(request.offset)
            .filter(|k| *k == bounded(*k));
        let k = k.ok_or(QueryError::TooMany)?;
        let name = request.vector.as_str();
        let unknown = |kind| QueryError::Unknown {
            name: name.to_owned(),
            kind,
        };
        let config = &self.state.config;
        let mut best;
        match &request.query {
            QueryVector::Dense(vector) => {
                let params = *config.vectors.get(name).ok_or_else(|| unknown("dense"))?;
                let query = Query::new(params, vector)?;
                let query = DenseQuery {
                    name,
                    query: &query,
                    breadth: request.breadth,
                    exact: request.exact,
                    threshold: request.threshold,
                };
                best = Best::new(k, params.metric.higher_is_nearer());
                self.each_part(&request.filter, report, &mut |key, part, allowed| {
                    let hits = part.search_dense(&query, k, allowed)?;
                    hits.into_iter()
                        .for_each(|(row, score)| best.offer((key, row), score));
                    Ok(())
                });
            }
            QueryVector::Sparse(query) => {
                let params = *config.sparse.get(name).ok_or_else(|| unknown("sparse"))?;
                let weighed;
                let query = if params.idf {
                    weighed = self.weighed(name, query, report);
                    &weighed
                } else {
                    query
                };
                best = Best::new(k, true);
                self.each_part(&request.filter, report, &mut |key, part, allowed| {
                    let hits = part.search_sparse(name, query, k, allowed)?;
                    let wanted =
                        |(_, score): &(u32, f32)| request.threshold.is_none_or(|t| *score >= t);
                    let hits = hits.into_iter().filter(wanted);
                    hits.for_each(|(row, score)| best.offer((key, row), score));
                    Ok(())
                });
            }
        }
        let mut found = best.into_sorted();
        found.drain(..request.offset.min(found.len()));
        Ok(found)
    }

    /// Hands each part with the rows that may be found to `search`; all rows may if there are none.
    fn each_part(&self, filter: &Filter, report: &mut Report, search: &mut SearchPart<'_>) {
        let filter = (!filter.is_empty()).then(|| self.bound(filter));
        for view in self.state.parts() {
            let rows = view.part.rows();
            if rows == 0 {
                continue;
            }
            let searched = match &filter {
                None => search(view.key, view.part, view.dead.alive(rows)),
                Some(filter) => select::select(view, filter, report).and_then(|selected| {
                    if selected.is_empty() {
                        return Ok(());
                    }
                    search(
                        view.key,
                        view.part,
                        Some(&RowSet::from_bitmap(&selected, rows)),
                    )
                }),
            };
            report.sound(view.key, searched);
        }
    }

    /// A sparse query whose numbers are weighted by how rare their dimensions are among all points:
    /// ln(1 + (n - df + 0.5) / (df + 0.5)), as BM25 has it.
    #[expect(clippy::cast_precision_loss, reason = "counts of points")]
    fn weighed(&self, name: &str, query: &SparseVector, report: &mut Report) -> SparseVector {
        let mut counts = vec![0u64; query.indices().len()];
        let mut total = 0u64;
        for view in self.state.parts() {
            let alive = view.dead.alive(view.part.rows());
            let counted = view
                .part
                .sparse_counts(name, query.indices(), alive)
                .and_then(|found| {
                    let with = view.part.with_vector(name)? - view.dead.rows();
                    Ok((found, with.len()))
                });
            if let Some((found, with)) = report.sound(view.key, counted) {
                total += with;
                counts
                    .iter_mut()
                    .zip(found)
                    .for_each(|(count, found)| *count += found);
            }
        }
        let weighed = query.values().iter().zip(&counts).map(|(value, count)| {
            let (n, df) = (total as f64, *count as f64);
            #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a count")]
            let idf = ((n - df + 0.5) / (df + 0.5)).ln_1p() as f32;
            value * idf
        });
        let weighed: Vec<f32> = weighed.collect();
        SparseVector::new(query.indices(), &weighed).unwrap_or_default()
    }
}
