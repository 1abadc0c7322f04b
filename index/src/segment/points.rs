//! A segment as a part: its sections opened together, and read as rows of points.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::{
    SectionBytes, SectionName, SegmentFile, SegmentId,
    field::FieldIndex,
    ids::Ids,
    payloads::{Frames, Payloads},
    sparse::SparsePart,
};
use crate::{
    filter::{Condition, Scalar},
    id::PointId,
    limits::{META_BYTES_MAX, SECTIONS_MAX},
    part::Part,
    payload::{Payload, PayloadPath},
    point::{SparseVector, Vector},
    rows::{Row, RowSet},
    schema::FieldType,
    vectors::{self, VectorPart},
    view::{Counted, DenseQuery, OrderRequest, PartError},
};

pub(crate) const META: SectionName = SectionName::new("points", 0);
pub(crate) const IDS: SectionName = SectionName::new("ids", 0);
pub(crate) const PAYLOAD_FRAMES: SectionName = SectionName::new("payload-frames", 0);
pub(crate) const PAYLOAD_TABLE: SectionName = SectionName::new("payload-table", 0);

pub(crate) fn payload_index(field: u32) -> SectionName {
    SectionName::new("payload-index", field)
}

pub(crate) fn sparse_rows(field: u32) -> SectionName {
    SectionName::new("sparse-rows", field)
}

pub(crate) fn sparse_lists(field: u32) -> SectionName {
    SectionName::new("sparse-lists", field)
}

/// What the numbers of fields stand for: each list is in the order of the numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meta {
    pub(crate) vectors: Vec<String>,
    pub(crate) sparse: Vec<String>,
    pub(crate) fields: Vec<(String, FieldType)>,
}

/// A segment whose sections fit together.
#[derive(Debug)]
pub(crate) struct SegmentPart {
    file: SegmentFile,
    ids: Ids,
    payloads: Payloads,
    fields: Vec<FieldIndex>,
    dense: BTreeMap<String, VectorPart>,
    sparse: BTreeMap<String, SparsePart>,
}

impl SegmentPart {
    /// Opens what is in a segment.
    pub(crate) fn open(file: SegmentFile) -> Result<Self, PartError> {
        let section = |name: SectionName| -> Result<SectionBytes, PartError> {
            file.section(name)
                .ok_or(PartError::Damaged("a section is missing"))
        };
        let meta = section(META)?;
        let meta: Option<Meta> = (meta.len() <= META_BYTES_MAX)
            .then(|| serde_json::from_slice(&meta).ok())
            .flatten();
        let meta = meta.ok_or(PartError::Damaged("points"))?;
        let named = meta.vectors.len() + meta.sparse.len() + meta.fields.len();
        if named > SECTIONS_MAX {
            return Err(PartError::Damaged("points"));
        }
        let ids = Ids::open(section(IDS)?)?;
        let rows = ids.rows();
        let payloads = Payloads::open(section(PAYLOAD_FRAMES)?, section(PAYLOAD_TABLE)?, rows)?;
        let mut part = Self {
            ids,
            payloads,
            fields: Vec::new(),
            dense: BTreeMap::new(),
            sparse: BTreeMap::new(),
            file: file.clone(),
        };
        for (field, (path, kind)) in (0..).zip(&meta.fields) {
            let path = path.parse().map_err(|_| PartError::Damaged("points"))?;
            let bytes = section(payload_index(field))?;
            part.fields
                .push(FieldIndex::open(path, *kind, bytes, rows)?);
        }
        for (field, name) in (0..).zip(meta.vectors) {
            let opened = VectorPart::open(&file, field);
            let opened = opened.map_err(|_| PartError::Damaged("vectors"))?;
            if opened.rows() != rows {
                return Err(PartError::Damaged("vectors"));
            }
            part.dense.insert(name, opened);
        }
        for (field, name) in (0..).zip(meta.sparse) {
            let (by_row, by_dim) = (section(sparse_rows(field))?, section(sparse_lists(field))?);
            part.sparse
                .insert(name, SparsePart::open(by_row, by_dim, rows)?);
        }
        Ok(part)
    }

    /// The name of its bytes.
    pub(crate) fn segment_id(&self) -> SegmentId {
        self.file.id()
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Holds every byte to its hash, and ids to their order.
    pub(crate) fn verify(&self) -> Result<(), PartError> {
        self.file
            .verify()
            .map_err(|_| PartError::Damaged("a section has another hash"))?;
        self.ids.check()
    }

    /// Payloads of many rows.
    pub(crate) fn payload_frames(&self) -> Frames<'_> {
        self.payloads.frames()
    }

    /// The stored form of a dense vector.
    pub(crate) fn stored(&self, name: &str, row: u32) -> Option<&[u8]> {
        self.dense.get(name)?.vector(Row(row))
    }

    /// A sparse vector.
    pub(crate) fn sparse(&self, name: &str, row: u32) -> Result<Option<SparseVector>, PartError> {
        self.sparse
            .get(name)
            .map_or(Ok(None), |part| part.vector(row))
    }

    /// The indexed fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&PayloadPath, FieldType)> {
        self.fields.iter().map(|field| (field.path(), field.kind()))
    }

    /// The dense vectors by name.
    pub(crate) fn dense(&self) -> impl Iterator<Item = (&str, &VectorPart)> {
        self.dense.iter().map(|(name, part)| (name.as_str(), part))
    }

    /// The names of the sparse vectors.
    pub(crate) fn sparse_names(&self) -> impl Iterator<Item = &str> {
        self.sparse.keys().map(String::as_str)
    }

    /// All ids with their rows, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Result<(PointId, u32), PartError>> {
        self.ids.from(None)
    }

    /// The hashes of all sections.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (SectionName, [u8; 32])> {
        let sections = self.file.sections().iter();
        sections.map(|info| (info.name, info.hash))
    }

    /// How many vectors of a name a search looks at one by one, since no graph links them.
    pub(crate) fn scanned(&self, name: &str) -> u64 {
        let part = self.dense.get(name).filter(|part| !part.has_graph());
        part.map_or(0, |part| u64::from(part.vectors()))
    }

    /// How many rows have a dense vector, whatever its name, that a graph links.
    pub(crate) fn vectors(&self) -> u64 {
        self.dense
            .values()
            .map(|part| u64::from(part.vectors()))
            .sum()
    }

    fn field<'a>(&'a self, path: &'a PayloadPath) -> impl Iterator<Item = &'a FieldIndex> {
        self.fields.iter().filter(move |field| field.path() == path)
    }
}

/// The field that a condition is about.
fn path_of(condition: &Condition) -> Option<&PayloadPath> {
    match condition {
        Condition::Field(path, _) | Condition::IsEmpty(path) | Condition::IsNull(path) => {
            Some(path)
        }
        _ => None,
    }
}

impl Part for SegmentPart {
    fn rows(&self) -> u32 {
        self.ids.rows()
    }

    fn id(&self, row: u32) -> Result<PointId, PartError> {
        self.ids.id(row)
    }

    fn version(&self, row: u32) -> Result<u64, PartError> {
        self.ids.version(row)
    }

    fn find(&self, id: PointId) -> Result<Option<u32>, PartError> {
        self.ids.find(id)
    }

    fn payload(&self, row: u32) -> Result<Payload, PartError> {
        self.payloads.payload(row)
    }

    fn payloads(
        &self,
        rows: &RoaringBitmap,
        found: &mut dyn FnMut(u32, &Payload) -> Result<(), PartError>,
    ) -> Result<(), PartError> {
        self.payloads.each(rows, found)
    }

    fn vector(&self, name: &str, row: u32) -> Result<Option<Vector>, PartError> {
        let Some(part) = self.dense.get(name) else {
            return Ok(self.sparse(name, row)?.map(Vector::Sparse));
        };
        Ok(part.vector(Row(row)).map(|stored| {
            let mut numbers = Vec::new();
            vectors::decode(part.params().dtype, stored, &mut numbers);
            Vector::Dense(numbers)
        }))
    }

    fn with_vector(&self, name: &str) -> Result<RoaringBitmap, PartError> {
        if let Some(part) = self.dense.get(name) {
            return Ok((0..self.rows())
                .filter(|row| part.vector(Row(*row)).is_some())
                .collect());
        }
        Ok(self
            .sparse
            .get(name)
            .map(|part| part.present().clone())
            .unwrap_or_default())
    }

    fn search_dense(
        &self,
        query: &DenseQuery<'_>,
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Result<Vec<(u32, f32)>, PartError> {
        let Some(part) = self.dense.get(query.name) else {
            return Ok(Vec::new());
        };
        if part.params() != query.query.params() {
            return Err(PartError::Damaged(
                "vectors of other parameters than the collection's",
            ));
        }
        let hits = part.search(query.query, &query.search(k, allowed));
        self.ids.ask(hits.iter().map(|hit| hit.row.0));
        Ok(hits.into_iter().map(|hit| (hit.row.0, hit.score)).collect())
    }

    fn search_sparse(
        &self,
        name: &str,
        query: &SparseVector,
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Result<Vec<(u32, f32)>, PartError> {
        let part = self.sparse.get(name);
        part.map_or_else(|| Ok(Vec::new()), |part| part.search(query, k, allowed))
    }

    fn sparse_counts(
        &self,
        name: &str,
        dims: &[u32],
        allowed: Option<&RowSet>,
    ) -> Result<Vec<u64>, PartError> {
        let part = self.sparse.get(name);
        part.map_or_else(
            || Ok(vec![0; dims.len()]),
            |part| part.counts(dims, allowed),
        )
    }

    fn answer(&self, condition: &Condition) -> Result<Option<RoaringBitmap>, PartError> {
        match condition {
            Condition::HasId(ids) => {
                let rows = ids.iter().filter_map(|id| self.find(*id).transpose());
                return rows.collect::<Result<_, _>>().map(Some);
            }
            Condition::HasVector(name) => return self.with_vector(name).map(Some),
            _ => {}
        }
        let Some(path) = path_of(condition) else {
            return Ok(None);
        };
        for field in self.field(path) {
            let look = &mut |rows: &RoaringBitmap| self.look(rows, condition);
            if let Some(rows) = field.answer(condition, look)? {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }

    fn estimate(&self, condition: &Condition) -> Result<Option<u64>, PartError> {
        match condition {
            Condition::HasId(ids) => return Ok(Some(ids.len() as u64)),
            Condition::HasVector(_) => return Ok(Some(u64::from(self.rows()))),
            _ => {}
        }
        let Some(path) = path_of(condition) else {
            return Ok(None);
        };
        for field in self.field(path) {
            if let Some(estimate) = field.estimate(condition)? {
                return Ok(Some(estimate));
            }
        }
        Ok(None)
    }

    fn by_id(
        &self,
        from: Option<PointId>,
        limit: usize,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<(PointId, u32)>, PartError> {
        let rows = self.ids.from(from);
        rows.filter(|found| found.as_ref().map_or(true, |(_, row)| allowed(*row)))
            .take(limit)
            .collect()
    }

    fn facet(
        &self,
        path: &PayloadPath,
        allowed: &RoaringBitmap,
    ) -> Result<Option<Vec<(Scalar, u64)>>, PartError> {
        for field in self.field(path) {
            if let Some(found) = field.facet(allowed)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn first_by(
        &self,
        order: &OrderRequest,
        counted: Counted,
        limit: usize,
        allowed: &RoaringBitmap,
    ) -> Result<Option<RoaringBitmap>, PartError> {
        for field in self.field(&order.path) {
            if let Some(rows) = field.first_by(order, counted, limit, allowed)? {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }
}

impl SegmentPart {
    /// The rows of a set for which a condition holds, by their payloads.
    fn look(
        &self,
        rows: &RoaringBitmap,
        condition: &Condition,
    ) -> Result<RoaringBitmap, PartError> {
        let mut kept = RoaringBitmap::new();
        self.payloads.each(rows, &mut |row, payload| {
            let candidate = crate::filter::Candidate {
                id: PointId::Number(0),
                payload: payload.root(),
                has_vector: &|_| false,
            };
            if condition.check(&candidate) {
                kept.insert(row);
            }
            Ok(())
        })?;
        Ok(kept)
    }
}
