//! The block types: how many weights share a block, and how many bytes it takes.
//!
//! The smallest unit that can be made is one block, so any range of bytes of a row maps to a range
//! of its weights. Sizes come from [`Dtype::block_size`], the one place that knows them.

use std::fmt;
use std::ops::Range;

use lode_tensors::Dtype;

use crate::limits::ROW_WEIGHTS_MAX;

macro_rules! block_types {
    ($($(#[$doc:meta])* $variant:ident [$($scale:literal)*];)*) => {
        /// A type that rows of weights are made into, or read from. Spelled as GGUF spells it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types)]
        #[non_exhaustive]
        pub enum BlockType { $($(#[$doc])* $variant,)* }

        impl BlockType {
            /// Every type, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The element type that a model file names it by.
            pub const fn dtype(self) -> Dtype {
                match self { $(Self::$variant => Dtype::$variant,)* }
            }

            /// Where in a block its half-precision scales stand, in bytes.
            pub(crate) const fn scales(self) -> &'static [usize] {
                match self { $(Self::$variant => &[$($scale),*],)* }
            }
        }
    };
}

block_types! {
    /// IEEE 754 single precision, one weight a block.
    F32 [];
    /// IEEE 754 half precision, one weight a block.
    F16 [0];
    /// The upper half of a single, one weight a block.
    BF16 [];
    /// 32 signed bytes and a scale.
    Q8_0 [0];
    /// 32 codes of 4 bits and a scale; code 8 is zero.
    Q4_0 [0];
    /// 32 codes of 4 bits, a scale and a minimum.
    Q4_1 [0 2];
    /// 32 codes of 5 bits and a scale; code 16 is zero.
    Q5_0 [0];
    /// 32 codes of 5 bits, a scale and a minimum.
    Q5_1 [0 2];
    /// 16 sub-blocks of 16 codes of 2 bits, with 4-bit scales and minima.
    Q2_K [80 82];
    /// 16 sub-blocks of 16 codes of 3 bits, with 6-bit scales.
    Q3_K [108];
    /// 8 sub-blocks of 32 codes of 4 bits, with 6-bit scales and minima.
    Q4_K [0 2];
    /// 8 sub-blocks of 32 codes of 5 bits, with 6-bit scales and minima.
    Q5_K [0 2];
    /// 16 sub-blocks of 16 codes of 6 bits, with 8-bit scales.
    Q6_K [208];
    /// 32 codes of 4 bits that name uneven levels, and a scale.
    IQ4_NL [0];
    /// 8 sub-blocks of 32 codes as in `IQ4_NL`, with 6-bit scales.
    IQ4_XS [0];
    /// 32 floats of 4 bits (E2M1) and a power of two.
    MXFP4 [];
}

/// A row or range that cannot be made of whole blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The block length does not divide the row.
    #[error("{weights} weights do not fill whole blocks of {block_type}, which take {}", block_type.weights())]
    Ragged {
        /// The type of the blocks.
        block_type: BlockType,
        /// Weights in the row.
        weights: u64,
    },
    /// Bytes that end within a block.
    #[error("{bytes} bytes do not end with a whole block of {block_type}, which takes {}", block_type.bytes())]
    CutBlock {
        /// The type of the blocks.
        block_type: BlockType,
        /// Bytes that there are.
        bytes: u64,
    },
    /// A row longer than [`ROW_WEIGHTS_MAX`].
    #[error("a row of {weights} weights is longer than {ROW_WEIGHTS_MAX}")]
    TooLong {
        /// Weights in the row.
        weights: u64,
    },
}

impl BlockType {
    /// The type that a model file names so, if rows can be made into it or read from it.
    pub fn from_dtype(dtype: Dtype) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.dtype() == dtype)
    }

    /// Weights in a block.
    pub fn weights(self) -> usize {
        usize::try_from(self.dtype().block_size().0).expect("a block has at most 256 weights")
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        usize::try_from(self.dtype().block_size().1).expect("a block has at most 256 bytes")
    }

    /// Whether a scale bounds what its weights can be.
    pub(crate) fn has_half_scales(self) -> bool {
        !self.scales().is_empty()
    }

    /// Bytes of a row.
    ///
    /// # Errors
    /// When its blocks do not divide the row, or the row is longer than [`ROW_WEIGHTS_MAX`].
    pub fn row_bytes(self, weights: u64) -> Result<u64, RowError> {
        if weights > ROW_WEIGHTS_MAX {
            return Err(RowError::TooLong { weights });
        }
        self.dtype().bytes_of(weights).ok_or(RowError::Ragged {
            block_type: self,
            weights,
        })
    }

    /// The weights whose blocks hold a range of bytes, both counted from the start of a row.
    /// Nothing when the range is longer than any row can be.
    pub fn weights_of(self, bytes: Range<u64>) -> Option<Range<u64>> {
        let (weights, size) = self.dtype().block_size();
        if bytes.is_empty() {
            let at = (bytes.start / size).checked_mul(weights)?;
            return Some(at..at);
        }
        let first = bytes.start / size;
        let end = bytes.end.div_ceil(size);
        Some(first.checked_mul(weights)?..end.checked_mul(weights)?)
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dtype().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_WEIGHTS_MAX;

    #[test]
    fn every_block_divides_the_largest_and_holds_its_scales() {
        for &ty in BlockType::ALL {
            assert_eq!(BLOCK_WEIGHTS_MAX % ty.weights(), 0, "{ty}");
            assert!(
                ty.scales().iter().all(|at| at + 2 <= ty.bytes()),
                "{ty}: a scale stands outside"
            );
            assert_eq!(BlockType::from_dtype(ty.dtype()), Some(ty));
        }
        assert_eq!(BlockType::from_dtype(Dtype::I32), None);
    }

    #[test]
    fn byte_ranges_map_to_the_blocks_that_hold_them() {
        let ty = BlockType::Q4_K;
        assert_eq!(ty.weights_of(0..1), Some(0..256));
        assert_eq!(ty.weights_of(143..145), Some(0..512));
        assert_eq!(ty.weights_of(144..288), Some(256..512));
        assert_eq!(ty.weights_of(144..144), Some(256..256));
        assert_eq!(BlockType::F32.weights_of(3..5), Some(0..2));
        assert_eq!(ty.weights_of(0..u64::MAX), None);
    }
}
