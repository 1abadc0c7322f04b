//! One scale to a row: `weight` with a code to a byte, and `weight_scale`, a brain float to a row.
//!
//! A scale is made of its whole row, and kept once it is known: whoever reads the weights and then the scales passes
//! over the source once. A kept scale is never forgotten, so that what [`Encode::needs`] left out is never missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use lode_tensors::ByteRange;

use super::code::{Code, NO_WEIGHTS, Run, Strip, brain, weights_at};
use super::kept::{Budget, Kept};
use super::{in_units, put_values};
use crate::block_rows::SourceRows;
use crate::path::Path;
use crate::source::{Gathered, SourceRange};
use crate::virtual_file::{Encode, EncodeError};

/// Bytes of a scale.
const SCALE_BYTES: u64 = 2;

/// The matrix with its scales, as far as they are known.
#[derive(Debug)]
struct Channels {
    matrix: SourceRows,
    code: Code,
    /// The bits of each row's scale.
    scales: Kept<AtomicU16>,
}

impl Channels {
    fn known(&self, row: u64) -> Option<u16> {
        // The bits are all that is handed over.
        let bits = self.scales.at(row)?.load(Ordering::Relaxed);
        (bits != 0).then_some(bits)
    }

    /// The weights of a row.
    fn row(&self, row: u64) -> SourceRange {
        let columns = self.matrix.row_weights;
        weights_at(&self.matrix, row * columns, (row + 1) * columns)
    }

    fn scale(
        &self,
        path: Path,
        strip: &mut Strip,
        row: u64,
        source: &Gathered<'_>,
    ) -> Result<u16, EncodeError> {
        if let Some(bits) = self.known(row) {
            return Ok(bits);
        }
        let start = row * self.matrix.row_weights;
        let weights = Run::new(&self.matrix, start, source.get(self.row(row))?);
        let bits = self.code.brain_scale(weights.largest(path, strip)?);
        if let Some(kept) = self.scales.make_at(row, self.matrix.rows) {
            kept.store(bits, Ordering::Relaxed);
        }
        Ok(bits)
    }
}

/// The codes and the scales of a matrix.
pub(super) fn encodes(
    matrix: SourceRows,
    code: Code,
    budget: &mut Budget,
) -> (impl Encode + 'static, impl Encode + 'static) {
    let channels = Arc::new(Channels {
        matrix,
        code,
        scales: budget.kept(matrix.rows * SCALE_BYTES),
    });
    (Weights(Arc::clone(&channels)), Scales(channels))
}

#[derive(Debug)]
struct Weights(Arc<Channels>);

impl Encode for Weights {
    fn len(&self) -> u64 {
        self.0.matrix.rows * self.0.matrix.row_weights
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        if range.is_empty() {
            return;
        }
        let columns = self.0.matrix.row_weights;
        let (first, last) = (range.start / columns, (range.end - 1) / columns);
        // Rows between the first and the last are needed whole in any case.
        let start = match self.0.known(first) {
            Some(_) => range.start,
            None => first * columns,
        };
        let end = match self.0.known(last) {
            Some(_) => range.end,
            None => (last + 1) * columns,
        };
        needs.push(weights_at(&self.0.matrix, start, end));
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let (path, mut strip) = (Path::best(), NO_WEIGHTS);
        let matrix = &self.0.matrix;
        in_units(range, matrix.row_weights, out, |part, made| {
            let row = part.start / matrix.row_weights;
            let scale = brain(self.0.scale(path, &mut strip, row, source)?);
            let weights = source.get(weights_at(matrix, part.start, part.end))?;
            let run = Run::new(matrix, part.start, weights);
            run.put(path, &mut strip, self.0.code, scale, made)
        })
    }
}

#[derive(Debug)]
struct Scales(Arc<Channels>);

impl Encode for Scales {
    fn len(&self) -> u64 {
        self.0.matrix.rows * SCALE_BYTES
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        let rows = range.start / SCALE_BYTES..range.end.div_ceil(SCALE_BYTES);
        let unknown = rows.filter(|&row| self.0.known(row).is_none());
        for row in unknown.map(|row| self.0.row(row)) {
            match needs.last_mut() {
                Some(before) if before.file == row.file && before.range.end == row.range.start => {
                    before.range.end = row.range.end;
                }
                _ => needs.push(row),
            }
        }
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let (path, mut strip) = (Path::best(), NO_WEIGHTS);
        put_values(range, out, |row| {
            self.0
                .scale(path, &mut strip, row, source)
                .map(u16::to_le_bytes)
        })
    }
}
