//! Sparse vectors of a segment: by row, to be read back, and by dimension, to be searched
//! (docs/format/segment.md, `sparse-rows` and `sparse-lists`).

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use roaring::RoaringBitmap;

use super::{
    SectionBytes,
    lists::{Lists, bytes_of_u32, bytes_of_u64, write_lists},
};
use crate::{live::is_allowed, point::SparseVector, rows::RowSet, top::Best, view::PartError};

/// Where the components of each row end.
const ENDS: usize = 0;
const INDICES: usize = 1;
const VALUES: usize = 2;
/// Rows that have the vector, as a bitmap: one without components is there too.
const PRESENT: usize = 3;

/// Dimensions that some row has, ascending.
const DIMS: usize = 0;
/// Where the list of each dimension ends.
const LIST_ENDS: usize = 1;
const LIST_ROWS: usize = 2;
const LIST_VALUES: usize = 3;

const DAMAGED: PartError = PartError::Damaged("sparse vectors");

/// Gathers the sparse vectors of a name, row by row.
#[derive(Debug, Default)]
pub(crate) struct SparseWriter {
    ends: Vec<u64>,
    indices: Vec<u32>,
    values: Vec<f32>,
    present: RoaringBitmap,
    lists: BTreeMap<u32, Vec<(u32, f32)>>,
}

impl SparseWriter {
    /// Takes the next row's vector.
    pub(crate) fn push(&mut self, vector: Option<&SparseVector>) {
        let row = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        if let Some(vector) = vector {
            self.present.insert(row);
            self.indices.extend_from_slice(vector.indices());
            self.values.extend_from_slice(vector.values());
            for (dim, value) in vector.iter() {
                self.lists.entry(dim).or_default().push((row, value));
            }
        }
        self.ends.push(self.indices.len() as u64);
    }

    /// Writes the section by row; the bytes of the one by dimension.
    pub(crate) fn finish(self, out: &mut impl Write) -> io::Result<Vec<u8>> {
        let mut present = Vec::new();
        self.present.serialize_into(&mut present)?;
        let floats = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
            values.flat_map(f32::to_le_bytes).collect()
        };
        let values = floats(&mut self.values.into_iter());
        let (ends, indices) = (bytes_of_u64(self.ends), bytes_of_u32(self.indices));
        write_lists(out, &[&ends, &indices, &values, &present])?;
        let mut end = 0;
        let ends = self.lists.values().map(|list| {
            end += list.len() as u64;
            end
        });
        let ends = bytes_of_u64(ends);
        let entries = || self.lists.values().flatten();
        let dims = bytes_of_u32(self.lists.keys().copied());
        let rows = bytes_of_u32(entries().map(|(row, _)| *row));
        let values = floats(&mut entries().map(|(_, value)| *value));
        let mut lists = Vec::new();
        write_lists(&mut lists, &[&dims, &ends, &rows, &values])?;
        Ok(lists)
    }
}

/// The sparse vectors of one name.
#[derive(Debug, Clone)]
pub(crate) struct SparsePart {
    by_row: Lists<4>,
    by_dim: Lists<4>,
    present: RoaringBitmap,
    rows: u32,
}

impl SparsePart {
    pub(crate) fn open(
        by_row: SectionBytes,
        by_dim: SectionBytes,
        rows: u32,
    ) -> Result<Self, PartError> {
        let by_row: Lists<4> = Lists::open(by_row).ok_or(DAMAGED)?;
        let by_dim: Lists<4> = Lists::open(by_dim).ok_or(DAMAGED)?;
        let fits = by_row.list(ENDS).len() == 8 * rows as usize
            && by_row.list(INDICES).len() == by_row.list(VALUES).len()
            && by_dim.list(LIST_ENDS).len() == 2 * by_dim.list(DIMS).len()
            && by_dim.list(LIST_ROWS).len() == by_dim.list(LIST_VALUES).len();
        if !fits {
            return Err(DAMAGED);
        }
        let present = super::field::read_bitmap(by_row.list(PRESENT), rows).map_err(|_| DAMAGED)?;
        Ok(Self {
            by_row,
            by_dim,
            present,
            rows,
        })
    }

    /// The rows that have the vector.
    pub(crate) fn present(&self) -> &RoaringBitmap {
        &self.present
    }

    /// The vector of a row.
    pub(crate) fn vector(&self, row: u32) -> Result<Option<SparseVector>, PartError> {
        if !self.present.contains(row) {
            return Ok(None);
        }
        let end = |row: u32| {
            let end = self.by_row.u64(ENDS, row as usize).ok_or(DAMAGED)?;
            usize::try_from(end).map_err(|_| DAMAGED)
        };
        let span = if row == 0 { 0 } else { end(row - 1)? }..end(row)?;
        let indices = self.by_row.u32s(INDICES).get(span.clone()).ok_or(DAMAGED)?;
        let values = self.by_row.u32s(VALUES).get(span).ok_or(DAMAGED)?;
        let indices: Vec<u32> = indices.iter().map(|n| u32::from_le_bytes(*n)).collect();
        let values: Vec<f32> = values.iter().map(|n| f32::from_le_bytes(*n)).collect();
        SparseVector::new(&indices, &values)
            .map(Some)
            .map_err(|_| DAMAGED)
    }

    /// The rows and values of a dimension.
    fn list(&self, dim: u32) -> Result<impl Iterator<Item = (u32, f32)> + '_, PartError> {
        let dims = self.by_dim.u32s(DIMS);
        let found = dims.binary_search_by_key(&dim, |other| u32::from_le_bytes(*other));
        let span = match found {
            Err(_) => 0..0,
            Ok(at) => {
                let end = |at| {
                    let end = self.by_dim.u64(LIST_ENDS, at).ok_or(DAMAGED)?;
                    usize::try_from(end).map_err(|_| DAMAGED)
                };
                if at == 0 {
                    0..end(0)?
                } else {
                    end(at - 1)?..end(at)?
                }
            }
        };
        let rows = self
            .by_dim
            .u32s(LIST_ROWS)
            .get(span.clone())
            .ok_or(DAMAGED)?;
        let values = self.by_dim.u32s(LIST_VALUES).get(span).ok_or(DAMAGED)?;
        if rows.iter().any(|row| u32::from_le_bytes(*row) >= self.rows) {
            return Err(DAMAGED);
        }
        let rows = rows.iter().map(|row| u32::from_le_bytes(*row));
        Ok(rows.zip(values.iter().map(|value| f32::from_le_bytes(*value))))
    }

    /// How many rows of a set have each dimension.
    pub(crate) fn counts(
        &self,
        dims: &[u32],
        allowed: Option<&RowSet>,
    ) -> Result<Vec<u64>, PartError> {
        let count = |dim: &u32| {
            let rows = self
                .list(*dim)?
                .filter(|(row, _)| is_allowed(allowed, *row));
            Ok(rows.count() as u64)
        };
        dims.iter().map(count).collect()
    }

    /// The best rows of a set; sums run from the lowest dimension up, as [`SparseVector::dot`]'s do.
    pub(crate) fn search(
        &self,
        query: &SparseVector,
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Result<Vec<(u32, f32)>, PartError> {
        let mut scores = vec![f32::NAN; self.rows as usize];
        let mut touched = Vec::new();
        for (dim, weight) in query.iter() {
            for (row, value) in self.list(dim)? {
                let score = &mut scores[row as usize];
                if score.is_nan() {
                    touched.push(row);
                    *score = 0.0;
                }
                *score += value * weight;
            }
        }
        let mut best = Best::new(k, true);
        for row in touched {
            let score = scores[row as usize];
            if is_allowed(allowed, row) && !score.is_nan() {
                best.offer(row, score);
            }
        }
        Ok(best.into_sorted())
    }
}
