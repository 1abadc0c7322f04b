//! A tensor whose rows become rows of blocks: any range of it from the weights of the blocks that the range touches.
//!
//! Rows may stand in another order than in the source ([`RowOrder`]); they stay whole, so blocks never see more than
//! one row.

use lode_tensors::ByteRange;

use crate::block::{BlockType, RowError};
use crate::limits::BLOCK_WEIGHTS_MAX;
use crate::row::quantize_row;
use crate::source::{Gathered, SourceRange};
use crate::virtual_file::{Encode, EncodeError};
use crate::weights::Weights;

/// Which row of the source a row of the tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// The same.
    Same,
    /// Within each head of `rows` rows, row `2i + j` is row `j * rows / 2 + i` of the source: rotary pairs that stood
    /// half a head apart come to stand together, as llama.cpp wants the query and key matrices of the llama family.
    PairedHalves {
        /// Rows of a head; even.
        rows: u64,
    },
}

impl RowOrder {
    pub(crate) fn source_row(self, row: u64) -> u64 {
        match self {
            Self::Same => row,
            Self::PairedHalves { rows } => {
                let within = row % rows;
                row - within + (within % 2) * (rows / 2) + within / 2
            }
        }
    }
}

/// Rows of weights in a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceRows {
    /// Position of the file.
    pub(crate) file: usize,
    /// Where the first row starts.
    pub(crate) start: u64,
    /// How its weights are stored.
    pub(crate) from: BlockType,
    /// Weights of a row.
    pub(crate) row_weights: u64,
    /// How many rows there are.
    pub(crate) rows: u64,
}

/// The tensor made of them.
#[derive(Debug)]
pub(crate) struct BlockRows {
    source: SourceRows,
    order: RowOrder,
    to: BlockType,
    /// Bytes of a row of the source, and of one of the tensor.
    from_bytes: u64,
    to_bytes: u64,
}

impl BlockRows {
    /// # Errors
    /// When the blocks of either type do not divide a row.
    pub(crate) fn new(
        source: SourceRows,
        order: RowOrder,
        to: BlockType,
    ) -> Result<Self, RowError> {
        Ok(Self {
            source,
            order,
            to,
            from_bytes: source.from.row_bytes(source.row_weights)?,
            to_bytes: to.row_bytes(source.row_weights)?,
        })
    }

    /// The runs of rows whose source is one run too that `range` touches: each with the bytes of the tensor, and the
    /// bytes and first weight of the blocks that hold them.
    fn runs(&self, range: ByteRange) -> impl Iterator<Item = Run> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let row = at / self.to_bytes;
            let (first, rows) = match self.order {
                RowOrder::Same => (0, self.source.rows),
                RowOrder::PairedHalves { .. } => (row, 1),
            };
            let run_start = first * self.to_bytes;
            let end = range.end.min(run_start + rows * self.to_bytes);
            let blocks = Blocks::of(self.source.from, self.to, at - run_start, end - run_start);
            let source = self.source.start + self.order.source_row(first) * self.from_bytes;
            let run = Run {
                out: ByteRange { start: at, end },
                // Where the first whole block lies, as the tensor counts.
                blocks_start: run_start + blocks.to.start,
                blocks_len: blocks.to.len(),
                source: SourceRange {
                    file: self.source.file,
                    range: ByteRange {
                        start: source + blocks.from.start,
                        end: source + blocks.from.end,
                    },
                },
                weight: first * self.source.row_weights + blocks.weight,
            };
            at = end;
            Some(run)
        })
    }
}

struct Run {
    out: ByteRange,
    blocks_start: u64,
    blocks_len: u64,
    source: SourceRange,
    weight: u64,
}

/// The blocks on both sides that hold a range of bytes, counted from the start of a run of rows.
struct Blocks {
    from: ByteRange,
    to: ByteRange,
    weight: u64,
}

impl Blocks {
    fn of(from: BlockType, to: BlockType, start: u64, end: u64) -> Self {
        // Both lengths are powers of two, so that the larger one is a multiple of the other.
        let unit = from.weights().max(to.weights()) as u64;
        let bytes_of =
            |ty: BlockType, weights: u64| weights / ty.weights() as u64 * ty.bytes() as u64;
        let unit_bytes = bytes_of(to, unit);
        let (first, last) = (start / unit_bytes * unit, end.div_ceil(unit_bytes) * unit);
        let range = |ty| ByteRange {
            start: bytes_of(ty, first),
            end: bytes_of(ty, last),
        };
        Self {
            from: range(from),
            to: range(to),
            weight: first,
        }
    }
}

impl Encode for BlockRows {
    fn len(&self) -> u64 {
        self.to_bytes * self.source.rows
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        needs.extend(self.runs(range).map(|run| run.source));
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let mut out = out;
        for run in self.runs(range) {
            let (made, rest) = out.split_at_mut(index(run.out.len()));
            out = rest;
            self.make_run(&run, source.get(run.source)?, made)?;
        }
        Ok(())
    }
}

impl BlockRows {
    /// Whole blocks go straight to their place; the first and the last, where the range cuts them, by a block aside.
    fn make_run(&self, run: &Run, source: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
        let unit = self.source.from.weights().max(self.to.weights());
        let from_unit = unit / self.source.from.weights() * self.source.from.bytes();
        let to_unit = unit / self.to.weights() * self.to.bytes();
        let units = index(run.blocks_len) / to_unit;
        let skipped = index(run.out.start - run.blocks_start);
        let mut aside = [0; BLOCK_WEIGHTS_MAX * size_of::<f32>()];
        let quantize = |first: usize, count: usize, out: &mut [u8]| {
            let start = run.weight + (first * unit) as u64;
            let weights = &source[first * from_unit..(first + count) * from_unit];
            // Rows are longer than the longest only as a run of many.
            let most = MOST_WEIGHTS_AT_ONCE / unit;
            let pieces = weights
                .chunks(most * from_unit)
                .zip(out.chunks_mut(most * to_unit));
            for (piece, (weights, out)) in pieces.enumerate() {
                let start = start + (piece * most * unit) as u64;
                Weights::from_bytes(self.source.from, weights)
                    .map_err(Into::into)
                    .and_then(|weights| quantize_row(&weights, self.to, out))
                    .map_err(|error| EncodeError::quantize(error, start, self.to))?;
            }
            Ok::<_, EncodeError>(())
        };
        let mut done = 0;
        let mut first = 0;
        if skipped > 0 {
            quantize(0, 1, &mut aside[..to_unit])?;
            let part = &aside[skipped..to_unit];
            done = part.len().min(out.len());
            out[..done].copy_from_slice(&part[..done]);
            first = 1;
        }
        let whole = (out.len() - done) / to_unit;
        quantize(first, whole, &mut out[done..done + whole * to_unit])?;
        done += whole * to_unit;
        if done < out.len() {
            debug_assert_eq!(first + whole + 1, units, "one cut block is left");
            quantize(first + whole, 1, &mut aside[..to_unit])?;
            let left = out.len() - done;
            out[done..].copy_from_slice(&aside[..left]);
        }
        Ok(())
    }
}

/// Weights that are handed to the quantizer at a time: far below what a row may have.
const MOST_WEIGHTS_AT_ONCE: usize = 1 << 24;

fn index(value: u64) -> usize {
    usize::try_from(value).expect("it is part of a slice in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_head_are_paired_as_a_reshape_and_swap_does() {
        // reshape(heads, 2, rows / 2).swap(1, 2) of rows 0..8 with heads of 4.
        let order = RowOrder::PairedHalves { rows: 4 };
        let rows: Vec<_> = (0..8).map(|row| order.source_row(row)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
