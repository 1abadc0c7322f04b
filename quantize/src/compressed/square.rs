//! One scale to a square of 128 x 128 weights: `weight` with a code to a byte, and `weight_scale_inv`, a single to a
//! square, by which readers multiply despite its name.
//!
//! A scale is made of its whole square, and kept once it is known, as those of [`super::channel`] are. Of a band of 128
//! rows a range within one row needs the squares that it touches; a longer one needs the band.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lode_tensors::ByteRange;

use super::code::{Code, NO_WEIGHTS, Run, Strip, weights_at};
use super::kept::{Budget, Kept};
use super::{in_units, put_values};
use crate::block_rows::SourceRows;
use crate::path::Path;
use crate::source::{Gathered, SourceRange};
use crate::virtual_file::{Encode, EncodeError};

/// Rows and columns of a square.
pub(super) const SIDE: u64 = 128;
/// Bytes of a scale.
const SCALE_BYTES: u64 = 4;
const CODE: Code = Code::Float8;

/// The matrix with its scales, as far as they are known. [`SIDE`] divides its rows and columns.
#[derive(Debug)]
struct Squares {
    matrix: SourceRows,
    /// The bits of each square's scale, by row and column.
    scales: Kept<AtomicU32>,
}

impl Squares {
    /// Squares in a band.
    fn across(&self) -> u64 {
        self.matrix.row_weights / SIDE
    }

    fn count(&self) -> u64 {
        self.matrix.rows / SIDE * self.across()
    }

    fn known(&self, square: u64) -> Option<f32> {
        // The bits are all that is handed over.
        let bits = self.scales.at(square)?.load(Ordering::Relaxed);
        (bits != 0).then_some(f32::from_bits(bits))
    }

    /// The weights of a row of the band, from the first square's to the last's: `row` is below [`SIDE`].
    fn part(&self, first: u64, last: u64, row: u64) -> (u64, u64) {
        let (band, across) = (first / self.across(), self.across());
        let start = (band * SIDE + row) * self.matrix.row_weights;
        (
            start + first % across * SIDE,
            start + (last % across + 1) * SIDE,
        )
    }

    /// What the squares `first..=last` of one band need to become known, if they are not.
    fn needs(&self, first: u64, last: u64, needs: &mut Vec<SourceRange>) {
        let unknown = |square: &u64| self.known(*square).is_none();
        let (Some(first), Some(last)) = (
            (first..=last).find(unknown),
            (first..=last).rev().find(unknown),
        ) else {
            return;
        };
        if last - first + 1 == self.across() {
            let start = self.part(first, last, 0).0;
            let end = start + SIDE * self.matrix.row_weights;
            needs.push(weights_at(&self.matrix, start, end));
            return;
        }
        needs.extend((0..SIDE).map(|row| {
            let (start, end) = self.part(first, last, row);
            weights_at(&self.matrix, start, end)
        }));
    }

    fn scale(
        &self,
        path: Path,
        strip: &mut Strip,
        square: u64,
        source: &Gathered<'_>,
    ) -> Result<f32, EncodeError> {
        if let Some(scale) = self.known(square) {
            return Ok(scale);
        }
        let mut all = 0.0_f32;
        for row in 0..SIDE {
            let (start, end) = self.part(square, square, row);
            let weights = source.get(weights_at(&self.matrix, start, end))?;
            all = all.max(Run::new(&self.matrix, start, weights).largest(path, strip)?);
        }
        let scale = CODE.single_scale(all);
        if let Some(kept) = self.scales.make_at(square, self.count()) {
            kept.store(scale.to_bits(), Ordering::Relaxed);
        }
        Ok(scale)
    }
}

/// The codes and the scales of a matrix.
pub(super) fn encodes(
    matrix: SourceRows,
    budget: &mut Budget,
) -> (impl Encode + 'static, impl Encode + 'static) {
    let squares = Arc::new(Squares {
        matrix,
        scales: budget.kept(matrix.rows / SIDE * (matrix.row_weights / SIDE) * SCALE_BYTES),
    });
    (Weights(Arc::clone(&squares)), Scales(squares))
}

#[derive(Debug)]
struct Weights(Arc<Squares>);

impl Encode for Weights {
    fn len(&self) -> u64 {
        self.0.matrix.rows * self.0.matrix.row_weights
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        if range.is_empty() {
            return;
        }
        needs.push(weights_at(&self.0.matrix, range.start, range.end));
        let columns = self.0.matrix.row_weights;
        let band = SIDE * columns;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / band + 1) * band);
            let first = at / band * self.0.across();
            if at / columns == (end - 1) / columns {
                let square = |weight: u64| first + weight % columns / SIDE;
                self.0.needs(square(at), square(end - 1), needs);
            } else {
                self.0.needs(first, first + self.0.across() - 1, needs);
            }
            at = end;
        }
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let (path, mut strip) = (Path::best(), NO_WEIGHTS);
        let matrix = &self.0.matrix;
        // Rows are whole squares wide, so that each part lies in one.
        in_units(range, SIDE, out, |part, made| {
            let (row, column) = (
                part.start / matrix.row_weights,
                part.start % matrix.row_weights,
            );
            let square = row / SIDE * self.0.across() + column / SIDE;
            let scale = self.0.scale(path, &mut strip, square, source)?;
            let weights = source.get(weights_at(matrix, part.start, part.end))?;
            let run = Run::new(matrix, part.start, weights);
            run.put(path, &mut strip, CODE, scale, made)
        })
    }
}

#[derive(Debug)]
struct Scales(Arc<Squares>);

impl Encode for Scales {
    fn len(&self) -> u64 {
        self.0.count() * SCALE_BYTES
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        let across = self.0.across();
        let (mut at, end) = (range.start / SCALE_BYTES, range.end.div_ceil(SCALE_BYTES));
        while at < end {
            let last = end.min((at / across + 1) * across) - 1;
            self.0.needs(at, last, needs);
            at = last + 1;
        }
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let (path, mut strip) = (Path::best(), NO_WEIGHTS);
        put_values(range, out, |square| {
            self.0
                .scale(path, &mut strip, square, source)
                .map(f32::to_le_bytes)
        })
    }
}
