//! The live part: points that came in since the last segment was made, in memory, all of which a search looks at.
//!
//! Rows are only ever appended. They lie in blocks that are shared between states of the collection; a writer
//! copies the last block before it appends to it, so that readers of older states never see a change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use roaring::RoaringBitmap;

use crate::{
    filter::{Condition, Scalar},
    id::PointId,
    limits::{LIVE_BYTES_MAX, LIVE_POINTS_MAX},
    params::VectorParams,
    part::Part,
    payload::{Payload, PayloadPath},
    point::{SparseVector, StoredVectors, Vector},
    rows::{Row, RowSet},
    top::Best,
    vectors::{self, LiveBlocks, LiveRows},
    view::{Counted, DenseQuery, OrderRequest, PartError},
};

/// Rows of a block: what a writer copies before it appends.
const BLOCK_ROWS: u32 = 512;

/// Points in memory. Clones share their blocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    blocks: Vec<Arc<Block>>,
    rows: u32,
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct Block {
    points: Vec<Arc<LivePoint>>,
    ids: HashMap<PointId, u32>,
    dense: BTreeMap<String, LiveRows>,
}

#[derive(Debug, Clone)]
struct LivePoint {
    id: PointId,
    version: u64,
    payload: Payload,
    sparse: BTreeMap<String, Arc<SparseVector>>,
}

/// A point whose vectors have the form in which they are stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredPoint {
    pub(crate) id: PointId,
    pub(crate) version: u64,
    pub(crate) payload: Payload,
    pub(crate) vectors: StoredVectors,
}

impl Live {
    /// Appends a row.
    pub(crate) fn push(
        &mut self,
        point: StoredPoint,
        params: &BTreeMap<String, VectorParams>,
    ) -> u32 {
        if self.rows.is_multiple_of(BLOCK_ROWS) {
            let dense = params
                .iter()
                .map(|(name, params)| (name.clone(), LiveRows::new(*params)));
            let block = Block {
                dense: dense.collect(),
                ..Block::default()
            };
            self.blocks.push(Arc::new(block));
        }
        let block = Arc::make_mut(self.blocks.last_mut().expect("pushed above"));
        let row = self.rows;
        self.bytes += point.payload.as_bytes().len()
            + point.vectors.dense.values().map(Vec::len).sum::<usize>()
            + point
                .vectors
                .sparse
                .values()
                .map(|sparse| sparse.indices().len() * 8)
                .sum::<usize>();
        for (name, rows) in &mut block.dense {
            rows.push(point.vectors.dense.get(name).map(Vec::as_slice));
        }
        block.ids.insert(point.id, row % BLOCK_ROWS);
        block.points.push(Arc::new(LivePoint {
            id: point.id,
            version: point.version,
            payload: point.payload,
            sparse: point.vectors.sparse,
        }));
        self.rows += 1;
        row
    }

    /// Whether it is as large as a live part may be.
    pub(crate) fn is_full(&self) -> bool {
        self.rows >= LIVE_POINTS_MAX || self.bytes >= LIVE_BYTES_MAX
    }

    /// Bytes of vectors and payloads.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The stored form of a dense vector.
    pub(crate) fn stored(&self, name: &str, row: u32) -> Option<&[u8]> {
        let block = self.blocks.get((row / BLOCK_ROWS) as usize)?;
        block.dense.get(name)?.vector(Row(row % BLOCK_ROWS))
    }

    /// A sparse vector.
    pub(crate) fn sparse(&self, name: &str, row: u32) -> Option<&Arc<SparseVector>> {
        self.point(row).ok()?.sparse.get(name)
    }

    fn point(&self, row: u32) -> Result<&LivePoint, PartError> {
        let block = self.blocks.get((row / BLOCK_ROWS) as usize);
        let point = block.and_then(|block| block.points.get((row % BLOCK_ROWS) as usize));
        point
            .map(|point| &**point)
            .ok_or(PartError::Damaged("a row of the live part is missing"))
    }
}

/// Whether a row may be found.
pub(crate) fn is_allowed(allowed: Option<&RowSet>, row: u32) -> bool {
    allowed.is_none_or(|rows| rows.contains(Row(row)))
}

impl Part for Live {
    fn rows(&self) -> u32 {
        self.rows
    }

    fn id(&self, row: u32) -> Result<PointId, PartError> {
        Ok(self.point(row)?.id)
    }

    fn version(&self, row: u32) -> Result<u64, PartError> {
        Ok(self.point(row)?.version)
    }

    fn find(&self, id: PointId) -> Result<Option<u32>, PartError> {
        let at = (0u32..).zip(&self.blocks).filter_map(|(at, block)| {
            let row = block.ids.get(&id)?;
            Some(at * BLOCK_ROWS + row)
        });
        Ok(at.last())
    }

    fn payload(&self, row: u32) -> Result<Payload, PartError> {
        Ok(self.point(row)?.payload.clone())
    }

    fn payloads(
        &self,
        rows: &RoaringBitmap,
        found: &mut dyn FnMut(u32, &Payload) -> Result<(), PartError>,
    ) -> Result<(), PartError> {
        rows.iter()
            .try_for_each(|row| found(row, &self.point(row)?.payload))
    }

    fn vector(&self, name: &str, row: u32) -> Result<Option<Vector>, PartError> {
        if let Some(sparse) = self.sparse(name, row) {
            return Ok(Some(Vector::Sparse((**sparse).clone())));
        }
        let block = self.blocks.get((row / BLOCK_ROWS) as usize);
        let Some(rows) = block.and_then(|block| block.dense.get(name)) else {
            return Ok(None);
        };
        Ok(rows.vector(Row(row % BLOCK_ROWS)).map(|stored| {
            let mut numbers = Vec::new();
            vectors::decode(rows.params().dtype, stored, &mut numbers);
            Vector::Dense(numbers)
        }))
    }

    fn with_vector(&self, name: &str) -> Result<RoaringBitmap, PartError> {
        let has =
            |row: &u32| self.stored(name, *row).is_some() || self.sparse(name, *row).is_some();
        Ok((0..self.rows).filter(has).collect())
    }

    fn search_dense(
        &self,
        query: &DenseQuery<'_>,
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Result<Vec<(u32, f32)>, PartError> {
        let starts = (0u32..).step_by(BLOCK_ROWS as usize);
        let blocks = starts
            .zip(&self.blocks)
            .filter_map(|(start, block)| Some((start, block.dense.get(query.name)?)));
        let hits = LiveBlocks::new(blocks).search(query.query, &query.search(k, allowed));
        Ok(hits.iter().map(|hit| (hit.row.0, hit.score)).collect())
    }

    fn search_sparse(
        &self,
        name: &str,
        query: &SparseVector,
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Result<Vec<(u32, f32)>, PartError> {
        let mut best = Best::new(k, true);
        for row in (0..self.rows).filter(|row| is_allowed(allowed, *row)) {
            if let Some(score) = self.sparse(name, row).and_then(|sparse| sparse.dot(query)) {
                best.offer(row, score);
            }
        }
        Ok(best.into_sorted())
    }

    fn sparse_counts(
        &self,
        name: &str,
        dims: &[u32],
        allowed: Option<&RowSet>,
    ) -> Result<Vec<u64>, PartError> {
        let mut counts = vec![0; dims.len()];
        for row in (0..self.rows).filter(|row| is_allowed(allowed, *row)) {
            let Some(sparse) = self.sparse(name, row) else {
                continue;
            };
            for (count, dim) in counts.iter_mut().zip(dims) {
                *count += u64::from(sparse.indices().binary_search(dim).is_ok());
            }
        }
        Ok(counts)
    }

    fn answer(&self, condition: &Condition) -> Result<Option<RoaringBitmap>, PartError> {
        match condition {
            Condition::HasId(ids) => {
                let rows = ids.iter().filter_map(|id| self.find(*id).transpose());
                rows.collect::<Result<_, _>>().map(Some)
            }
            Condition::HasVector(name) => self.with_vector(name).map(Some),
            _ => Ok(None),
        }
    }

    fn estimate(&self, condition: &Condition) -> Result<Option<u64>, PartError> {
        Ok(match condition {
            Condition::HasId(ids) => Some(ids.len() as u64),
            Condition::HasVector(_) => Some(u64::from(self.rows)),
            _ => None,
        })
    }

    fn by_id(
        &self,
        from: Option<PointId>,
        limit: usize,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<(PointId, u32)>, PartError> {
        let mut found = Vec::new();
        for row in (0..self.rows).filter(|row| allowed(*row)) {
            let id = self.point(row)?.id;
            if from.is_none_or(|from| id >= from) {
                found.push((id, row));
            }
        }
        if found.len() > limit {
            found.select_nth_unstable(limit);
            found.truncate(limit);
        }
        found.sort_unstable();
        Ok(found)
    }

    fn facet(
        &self,
        _: &PayloadPath,
        _: &RoaringBitmap,
    ) -> Result<Option<Vec<(Scalar, u64)>>, PartError> {
        Ok(None)
    }

    fn first_by(
        &self,
        _: &OrderRequest,
        _: Counted,
        _: usize,
        _: &RoaringBitmap,
    ) -> Result<Option<RoaringBitmap>, PartError> {
        Ok(None)
    }
}
