//! Rows in, blocks out; and back.

use crate::block::{BlockType, RowError};
use crate::kernel;
use crate::limits::{STRIP_WEIGHTS, WEIGHT_MAX};
use crate::path::Path;
use crate::weights::{Source, Weights};

/// Why a row was not quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The row is not made of whole blocks.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The output is not as long as the blocks.
    #[error("{found} bytes of output for {expected} bytes of blocks")]
    Output {
        /// Bytes that the blocks take.
        expected: u64,
        /// Bytes that were given for them.
        found: u64,
    },
    /// A weight is NaN or infinite.
    #[error("weight {at} is not finite")]
    NotFinite {
        /// Which one, counted from the first that was given.
        at: usize,
    },
    /// Weights beyond what the scales of the type can say.
    #[error("the weights from {at} on are too large for {block_type}")]
    TooLarge {
        /// The first weight of the block, counted from the first that was given.
        at: usize,
        /// The type of the blocks.
        block_type: BlockType,
    },
}

/// Why blocks were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DequantizeError {
    /// The bytes are not whole blocks.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The output is not as long as the weights.
    #[error("room for {found} weights, of which there are {expected}")]
    Output {
        /// Weights that the blocks hold.
        expected: usize,
        /// Weights that there is room for.
        found: usize,
    },
}

/// Makes blocks of a row, or of any part of it that starts and ends between blocks.
///
/// Blocks do not see one another: parts give the bytes that they have in the whole row. Weights that already
/// have the type are copied.
///
/// # Errors
/// When the weights do not fill whole blocks, `out` is not [as long](BlockType::row_bytes), a weight is not
/// finite, or a scale would not be. What `out` then holds has no meaning.
pub fn quantize_row(
    weights: &Weights<'_>,
    to: BlockType,
    out: &mut [u8],
) -> Result<(), QuantizeError> {
    quantize_row_on(Path::best(), weights, to, out)
}

/// [`quantize_row`] on a path of the caller's choice, to compare and to measure.
///
/// # Errors
/// As [`quantize_row`], on every path the same.
pub fn quantize_row_on(
    path: Path,
    weights: &Weights<'_>,
    to: BlockType,
    out: &mut [u8],
) -> Result<(), QuantizeError> {
    let expected = to.row_bytes(weights.len() as u64)?;
    if out.len() as u64 != expected {
        return Err(QuantizeError::Output {
            expected,
            found: out.len() as u64,
        });
    }
    let source = weights.source();
    let copied = match source {
        Source::Blocks(from, bytes) if from == to => {
            out.copy_from_slice(bytes);
            true
        }
        _ => false,
    };
    let mut strip = [0.0; STRIP_WEIGHTS];
    let strip_bytes = STRIP_WEIGHTS / to.weights() * to.bytes();
    let starts = (0..weights.len()).step_by(STRIP_WEIGHTS);
    for (start, out) in starts.zip(out.chunks_mut(strip_bytes)) {
        let strip = &mut strip[..STRIP_WEIGHTS.min(weights.len() - start)];
        let largest = path.decode(&source.part(start, strip.len()), strip);
        if !largest.is_finite() {
            let at = strip.iter().position(|v| !v.is_finite()).unwrap_or(0);
            return Err(QuantizeError::NotFinite { at: start + at });
        }
        if copied {
            continue;
        }
        if to.has_half_scales() && largest > WEIGHT_MAX {
            let at = strip.iter().position(|v| v.abs() > WEIGHT_MAX).unwrap_or(0);
            return Err(QuantizeError::TooLarge {
                at: start + at / to.weights() * to.weights(),
                block_type: to,
            });
        }
        path.quantize(to, strip, out);
        if let Some(block) = kernel::overflowing(to, out) {
            return Err(QuantizeError::TooLarge {
                at: start + block * to.weights(),
                block_type: to,
            });
        }
    }
    Ok(())
}

/// Reads the weights of whole blocks. Hostile blocks give some weights, at worst NaN or infinite ones.
///
/// # Errors
/// When the bytes end within a block, or `out` has not as many places as they hold weights.
pub fn dequantize_row(
    from: BlockType,
    blocks: &[u8],
    out: &mut [f32],
) -> Result<(), DequantizeError> {
    dequantize_row_on(Path::best(), from, blocks, out)
}

/// [`dequantize_row`] on a path of the caller's choice, to compare and to measure.
///
/// # Errors
/// As [`dequantize_row`], on every path the same.
pub fn dequantize_row_on(
    path: Path,
    from: BlockType,
    blocks: &[u8],
    out: &mut [f32],
) -> Result<(), DequantizeError> {
    let weights = Weights::from_bytes(from, blocks)?;
    if out.len() != weights.len() {
        return Err(DequantizeError::Output {
            expected: weights.len(),
            found: out.len(),
        });
    }
    // Blocks that are not finite are the caller's to judge.
    path.decode(&weights.source(), out);
    Ok(())
}
