//! Where weights come from: singles in memory, or the bytes of a row of any block type.

use crate::block::{BlockType, RowError};
use crate::half;
use crate::kernel;

/// Weights that follow one another in one row: what a quantizer reads.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a>(Source<'a>);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Singles(&'a [f32]),
    /// Whole blocks, little endian as in a file.
    Blocks(BlockType, &'a [u8]),
}

impl<'a> From<&'a [f32]> for Weights<'a> {
    fn from(singles: &'a [f32]) -> Self {
        Self(Source::Singles(singles))
    }
}

impl<'a> Weights<'a> {
    /// Reads the bytes of a tensor, little endian as in a file: floats, or blocks that are themselves
    /// quantized.
    ///
    /// # Errors
    /// When the bytes end within a block, or hold more weights than a row can have.
    pub fn from_bytes(block_type: BlockType, bytes: &'a [u8]) -> Result<Self, RowError> {
        let blocks = bytes.len() / block_type.bytes();
        let weights = blocks as u64 * block_type.weights() as u64;
        if !bytes.len().is_multiple_of(block_type.bytes()) {
            return Err(RowError::CutBlock {
                block_type,
                bytes: bytes.len() as u64,
            });
        }
        block_type.row_bytes(weights)?;
        Ok(Self(Source::Blocks(block_type, bytes)))
    }

    /// How many weights they are.
    pub fn len(&self) -> usize {
        match self.0 {
            Source::Singles(singles) => singles.len(),
            Source::Blocks(ty, bytes) => bytes.len() / ty.bytes() * ty.weights(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn source(&self) -> Source<'a> {
        self.0
    }
}

impl Source<'_> {
    /// The source of `count` weights from `start`. Both are multiples of its block length, or reach its end.
    pub(crate) fn part(&self, start: usize, count: usize) -> Self {
        match *self {
            Self::Singles(singles) => Self::Singles(&singles[start..start + count]),
            Self::Blocks(ty, bytes) => {
                let at = |weights: usize| weights / ty.weights() * ty.bytes();
                Self::Blocks(ty, &bytes[at(start)..at(start + count)])
            }
        }
    }

    /// Decodes all of it into `out`, which is as long; gives the largest magnitude, which is NaN when one
    /// weight is.
    pub(crate) fn decode(&self, out: &mut [f32]) -> f32 {
        match *self {
            Self::Singles(singles) => out.copy_from_slice(singles),
            Self::Blocks(BlockType::F32, bytes) => {
                for (v, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *v = f32::from_le_bytes(*b);
                }
            }
            Self::Blocks(BlockType::F16, bytes) => {
                for (v, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *v = half::from_f16(u16::from_le_bytes(*b));
                }
            }
            Self::Blocks(BlockType::BF16, bytes) => {
                for (v, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *v = half::from_bf16(u16::from_le_bytes(*b));
                }
            }
            Self::Blocks(ty, bytes) => kernel::dequantize(ty, bytes, out),
        }
        // As bits, whose order is that of the magnitudes, with NaN above all.
        let largest = out.iter().fold(0, |all, v| v.abs().to_bits().max(all));
        f32::from_bits(largest)
    }
}
