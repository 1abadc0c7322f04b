//! Twins of the scalar kernels for x86-64: AVX2 with FMA and F16C, and AVX-512 with VNNI.
//!
//! Unsafe are only loads from arrays of the register's length, prefetches of slices, and the calls into code
//! that needs the features.

#![allow(unsafe_code)]

mod avx2;
mod avx512;

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512i, _MM_HINT_T0, _mm_loadl_epi64, _mm_loadu_si128, _mm_prefetch,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_storeu_ps, _mm512_loadu_si512,
};

use super::{
    kernel::{CodeQuery, Sum},
    records::{LINE_BYTES, Records},
    sketch::{SketchQuery, Sketches},
};
use crate::params::Dtype;

/// How many rows ahead their records are asked for.
const AHEAD_ROWS: usize = 8;

/// The proof that this machine has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// The proof that this machine has AVX-512 with VNNI, and what [`Avx2`] proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512(Avx2);

impl Avx2 {
    /// Looks for the features.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }

    /// Appends the keys of `rows` over sums of products.
    #[inline]
    pub(crate) fn products(
        self,
        records: &Records<'_>,
        query: &CodeQuery<'_>,
        rows: &[u32],
        keys: &mut Vec<f32>,
    ) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { avx2::products(records, query, rows, keys) }
    }

    /// Appends the keys of `rows` over sums of differences.
    #[inline]
    pub(crate) fn differences(
        self,
        records: &Records<'_>,
        query: &CodeQuery<'_>,
        rows: &[u32],
        keys: &mut Vec<f32>,
    ) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { avx2::differences(records, query, rows, keys) }
    }

    /// Appends the floors of the keys of the rows of `blocks`.
    #[inline]
    pub(crate) fn floors(
        self,
        sketches: &Sketches<'_>,
        query: &SketchQuery,
        blocks: &[u32],
        floors: &mut Vec<f32>,
    ) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { avx2::floors(sketches, query, blocks, floors) }
    }

    /// The sum over a query and a stored vector of as many components.
    #[inline]
    pub(crate) fn sum(self, sum: Sum, query: &[f32], dtype: Dtype, bytes: &[u8]) -> f32 {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { avx2::sum(sum, query, dtype, bytes) }
    }
}

impl Avx512 {
    /// Looks for the features.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        Avx2::detect().filter(|_| found).map(Self)
    }

    /// The proof of the smaller set.
    #[inline]
    pub(crate) fn avx2(self) -> Avx2 {
        self.0
    }

    /// Appends the keys of `rows` over sums of products.
    #[inline]
    pub(crate) fn products(
        self,
        records: &Records<'_>,
        query: &CodeQuery<'_>,
        rows: &[u32],
        keys: &mut Vec<f32>,
    ) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { avx512::products(records, query, rows, keys) }
    }
}

/// Asks for the lines of `bytes`.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(LINE_BYTES) {
        // SAFETY: a prefetch reads nothing, and the address is inside of a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}

/// Asks for the lines of `rows`.
#[inline(always)]
pub(crate) fn prefetch_rows(rows: &[u32]) {
    for line in rows.chunks(LINE_BYTES / 4) {
        // SAFETY: a prefetch reads nothing, and the address is inside of a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}

/// Asks for the code and the numbers of the row that comes [`AHEAD_ROWS`] after `rows[at]`; before the first one, for
/// all up to it.
#[inline(always)]
fn prefetch_ahead(records: &Records<'_>, rows: &[u32], at: usize) {
    let first = if at == 0 { 0 } else { at + AHEAD_ROWS };
    for row in rows.iter().take(at + AHEAD_ROWS + 1).skip(first) {
        prefetch(&records.record(*row)[..records.layout().code_bytes + 16]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_512(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the array has the 64 bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_256(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array has the 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array has the 16 bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_64(bytes: &[u8; 8]) -> __m128i {
    // SAFETY: the array has the 8 bytes that are read; the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_8_singles(singles: &[f32; 8]) -> __m256 {
    // SAFETY: the array has the 8 singles; the load needs no alignment.
    unsafe { _mm256_loadu_ps(singles.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_8_singles(singles: __m256, out: &mut [f32; 8]) {
    // SAFETY: the array has room for the 8 singles; the store needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), singles) }
}
