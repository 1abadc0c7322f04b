//! Kernels: keys of codes and scores of stored vectors, in scalar code, which is the specification, and in the
//! fastest twin that the machine has.
//!
//! Keys of codes are sums of whole numbers and three roundings in a fixed order, so every twin gives the same
//! bits: graphs are the same on every machine. Scores of stored vectors are sums of singles, whose order
//! differs between twins.

use super::{
    half,
    records::{Head, Records},
    sketch::{SketchQuery, Sketches, floors as floors_of},
};
use crate::params::Dtype;

#[cfg(target_arch = "x86_64")]
use super::simd;

/// A code that others are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeQuery<'a> {
    /// As long as the codes of the records.
    pub(crate) code: &'a [u8],
    /// What a sum is multiplied by, beside the scale of the record.
    pub(crate) factor: f32,
    /// What makes a whole distance of a key.
    pub(crate) bias: f32,
    /// What is summed.
    pub(crate) sum: CodeSum,
}

/// What is summed over two codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeSum {
    /// Products.
    Products,
    /// Magnitudes of differences.
    Differences,
}

/// The key of a record: lower is nearer.
#[inline(always)]
pub(super) fn key(head: Head, factor: f32, sum: i32) -> f32 {
    head.bias + factor * (head.scale * sum as f32)
}

/// What is summed over the components of a query and of a stored vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// Products.
    Products,
    /// Squares of differences.
    Squares,
    /// Magnitudes of differences.
    Differences,
}

/// Which twin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Plain code.
    Scalar,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(simd::Avx2),
    /// AVX-512 with VNNI for products of codes, AVX2 for the rest.
    #[cfg(target_arch = "x86_64")]
    Avx512(simd::Avx512),
}

impl Kernel {
    /// The fastest that this machine has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = simd::Avx512::detect() {
            return Self::Avx512(avx512);
        } else if let Some(avx2) = simd::Avx2::detect() {
            return Self::Avx2(avx2);
        }
        Self::Scalar
    }

    /// All that this machine has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(simd::Avx2::detect().map(Self::Avx2));
            all.extend(simd::Avx512::detect().map(Self::Avx512));
        }
        all
    }

    /// The keys of `rows`, in their order. Replaces what is in `keys`.
    ///
    /// # Panics
    ///
    /// A row beyond the records, and a query of another length.
    #[inline]
    pub(crate) fn keys(
        self,
        records: &Records<'_>,
        query: &CodeQuery<'_>,
        rows: &[u32],
        keys: &mut Vec<f32>,
    ) {
        assert_eq!(query.code.len(), records.layout().code_bytes);
        keys.clear();
        match (self, query.sum) {
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512(avx512), CodeSum::Products) => {
                avx512.products(records, query, rows, keys);
            }
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512(avx512), CodeSum::Differences) => {
                avx512.avx2().differences(records, query, rows, keys);
            }
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(avx2), CodeSum::Products) => avx2.products(records, query, rows, keys),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(avx2), CodeSum::Differences) => {
                avx2.differences(records, query, rows, keys);
            }
            (Self::Scalar, sum) => keys.extend(rows.iter().map(|row| {
                let code = records.code(*row);
                let sum = match sum {
                    CodeSum::Products => products(query.code, code),
                    CodeSum::Differences => differences(query.code, code),
                };
                key(records.head(*row), query.factor, sum)
            })),
        }
    }

    /// Appends the floors of the keys of the rows of `blocks`: see [`super::sketch`].
    ///
    /// # Panics
    ///
    /// A block beyond the sketches, and a query of another length.
    #[inline]
    pub(crate) fn floors(
        self,
        sketches: &Sketches<'_>,
        query: &SketchQuery,
        blocks: &[u32],
        floors: &mut Vec<f32>,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.avx2().floors(sketches, query, blocks, floors),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.floors(sketches, query, blocks, floors),
            Self::Scalar => {
                for block in blocks {
                    floors.extend(floors_of(&sketches.block(*block), query));
                }
            }
        }
    }

    /// The sum over a query and a stored vector, which has as many components.
    ///
    /// # Panics
    ///
    /// Bytes of another length.
    #[inline]
    pub(crate) fn sum(self, sum: Sum, query: &[f32], dtype: Dtype, bytes: &[u8]) -> f32 {
        assert_eq!(query.len() * dtype.bytes(), bytes.len());
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.avx2().sum(sum, query, dtype, bytes),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.sum(sum, query, dtype, bytes),
            Self::Scalar => scalar_sum(sum, query, dtype, bytes),
        }
    }

    /// Asks for links that are read next.
    #[inline]
    pub(crate) fn prefetch_rows(self, rows: &[u32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) | Self::Avx512(_) => simd::prefetch_rows(rows),
            Self::Scalar => {}
        }
    }

    /// Asks for bytes that are read next.
    #[inline]
    pub(crate) fn prefetch(self, bytes: &[u8]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) | Self::Avx512(_) => simd::prefetch(bytes),
            Self::Scalar => {}
        }
    }
}

/// The sum of products of signed bytes.
fn products(a: &[u8], b: &[u8]) -> i32 {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b.cast_signed()))
        .sum()
}

/// The sum of magnitudes of differences of signed bytes.
fn differences(a: &[u8], b: &[u8]) -> i32 {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(a, b)| i32::from(a.cast_signed().abs_diff(b.cast_signed())))
        .sum()
}

/// One component of a stored vector.
#[inline]
pub(super) fn component(dtype: Dtype, bytes: &[u8], at: usize) -> f32 {
    match dtype {
        Dtype::F32 => f32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().expect("4 bytes")),
        Dtype::F16 => half::to_single(u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]])),
        Dtype::U8 => f32::from(bytes[at]),
    }
}

/// As [`Kernel::sum`].
pub(super) fn scalar_sum(sum: Sum, query: &[f32], dtype: Dtype, bytes: &[u8]) -> f32 {
    let terms = query.iter().enumerate().map(|(at, q)| {
        let x = component(dtype, bytes, at);
        match sum {
            Sum::Products => q * x,
            Sum::Squares => (q - x) * (q - x),
            Sum::Differences => (q - x).abs(),
        }
    });
    terms.sum()
}

#[cfg(test)]
mod tests;
