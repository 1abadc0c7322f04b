//! A part: rows of points, in memory or in a segment, that are searched alike.
//!
//! Rows of a part never change; which of them are dead is said beside it ([`RoaringBitmap`]s in a
//! [`State`](crate::state::State)). Of the rows of an id in all parts at most one is alive.

use roaring::RoaringBitmap;

use crate::{
    filter::{Condition, Scalar},
    id::PointId,
    payload::{Payload, PayloadPath},
    point::{SparseVector, Vector},
    rows::RowSet,
    view::{Counted, DenseQuery, OrderRequest, PartError},
};

/// Rows that are searched alike, wherever they are.
pub(crate) trait Part: Send + Sync {
    /// How many rows there are, dead ones too.
    fn rows(&self) -> u32;

    /// The id of a row.
    fn id(&self, row: u32) -> Result<PointId, PartError>;

    /// The sequence number of the operation that made the row.
    fn version(&self, row: u32) -> Result<u64, PartError>;

    /// The last row that an id has.
    fn find(&self, id: PointId) -> Result<Option<u32>, PartError>;

    /// The payload of a row.
    fn payload(&self, row: u32) -> Result<Payload, PartError>;

    /// Hands the payloads of rows to `found`, ascending.
    fn payloads(
        &self,
        rows: &RoaringBitmap,
        found: &mut dyn FnMut(u32, &Payload) -> Result<(), PartError>,
    ) -> Result<(), PartError>;

    /// A vector of a row.
    fn vector(&self, name: &str, row: u32) -> Result<Option<Vector>, PartError>;

    /// The rows that have a vector.
    fn with_vector(&self, name: &str) -> Result<RoaringBitmap, PartError>;

    /// The best `k` of the rows that are in `allowed`, or of all, best first.
    fn search_dense(
        &self,
        query: &DenseQuery<'_>,
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Result<Vec<(u32, f32)>, PartError>;

    /// The best `k` of the rows that are in `allowed` and share a dimension, best first.
    fn search_sparse(
        &self,
        name: &str,
        query: &SparseVector,
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Result<Vec<(u32, f32)>, PartError>;

    /// For each dimension how many rows of `allowed` have it.
    fn sparse_counts(
        &self,
        name: &str,
        dims: &[u32],
        allowed: Option<&RowSet>,
    ) -> Result<Vec<u64>, PartError>;

    /// The rows for which a condition holds, if that can be told without looking at payloads.
    fn answer(&self, condition: &Condition) -> Result<Option<RoaringBitmap>, PartError>;

    /// About how many rows [`Part::answer`] would give, if it can tell.
    fn estimate(&self, condition: &Condition) -> Result<Option<u64>, PartError>;

    /// The first `limit` rows that are allowed, by id, ascending, from an id on.
    fn by_id(
        &self,
        from: Option<PointId>,
        limit: usize,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<(PointId, u32)>, PartError>;

    /// How often each scalar value stands at an indexed field in the rows of `allowed`, if an index can tell.
    fn facet(
        &self,
        path: &PayloadPath,
        allowed: &RoaringBitmap,
    ) -> Result<Option<Vec<(Scalar, u64)>>, PartError>;

    /// Rows of `allowed` among which are those with the first `limit` values of a field, if an index can tell.
    fn first_by(
        &self,
        order: &OrderRequest,
        counted: Counted,
        limit: usize,
        allowed: &RoaringBitmap,
    ) -> Result<Option<RoaringBitmap>, PartError>;
}
