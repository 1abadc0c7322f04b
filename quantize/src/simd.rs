//! AVX2 twins of the scalar code, for x86-64 machines that have it with F16C.
//!
//! The searches run on eight sub-blocks at once, one in each lane, and every lane keeps the order of the
//! scalar sums, so the bytes are the same. Where scalar code would leave the range in which its way of
//! rounding is exact, the block is left to it. No operation here is fused: FMA is never enabled.
//!
//! Unsafe are only the moves between memory and registers and the calls into code that needs the features.

#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // one index runs over several arrays of registers

mod affine_k;
mod casts;
mod codes;
mod q2_k;
mod q3_k;
mod q4_0;
mod q6_k;
mod q8_0;

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_EQ_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT,
    _mm_loadu_si128, _mm_storeu_si128, _mm256_and_ps, _mm256_and_si256, _mm256_andnot_ps,
    _mm256_castpd_ps, _mm256_castps_pd, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_epu32, _mm256_max_ps, _mm256_min_ps,
    _mm256_or_si256, _mm256_permute2f128_ps, _mm256_permute2x128_si256, _mm256_round_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi32,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
    _mm256_unpacklo_pd, _mm256_unpacklo_ps,
};

use crate::block::BlockType;
use crate::compressed::Code;
use crate::kernel;
use crate::weights::Source;

/// Lanes of a register.
const LANES: usize = 8;

/// The proof that this machine has AVX2 and F16C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Looks for the features.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }

    /// As [`Source::decode`].
    pub(crate) fn decode(self, source: &Source<'_>, out: &mut [f32]) -> f32 {
        match *source {
            // SAFETY: a value of this type exists only where `detect` found the features.
            Source::Singles(singles) => unsafe { copy(singles, out) },
            // SAFETY: as above.
            Source::Blocks(BlockType::F32, bytes) => unsafe { read(bytes, out) },
            // SAFETY: as above.
            Source::Blocks(BlockType::BF16, bytes) => unsafe { decode::<true>(bytes, out) },
            // SAFETY: as above.
            Source::Blocks(BlockType::F16, bytes) => unsafe { decode::<false>(bytes, out) },
            _ => source.decode(out),
        }
    }

    /// As [`Code::put`].
    pub(crate) fn code(self, code: Code, x: &[f32], scale: f32, out: &mut [u8]) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { codes::put(code, x, scale, out) }
    }

    /// As [`kernel::quantize`].
    pub(crate) fn quantize(self, to: BlockType, x: &[f32], out: &mut [u8]) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe {
            match to {
                BlockType::F16 => casts::to_halves(x, out),
                BlockType::BF16 => casts::to_brains(x, out),
                BlockType::Q8_0 => q8_0::quantize(x, out),
                BlockType::Q4_0 => q4_0::quantize(x, out),
                BlockType::Q2_K => q2_k::quantize(x, out),
                BlockType::Q3_K => q3_k::quantize(x, out),
                BlockType::Q4_K => affine_k::quantize_4(x, out),
                BlockType::Q5_K => affine_k::quantize_5(x, out),
                BlockType::Q6_K => q6_k::quantize(x, out),
                _ => kernel::quantize(to, x, out),
            }
        }
    }
}

/// Copies singles; gives the largest magnitude.
#[target_feature(enable = "avx2,f16c")]
fn copy(singles: &[f32], out: &mut [f32]) -> f32 {
    let mut largest = _mm256_setzero_si256();
    let (from, tail) = singles.as_chunks::<LANES>();
    let (to, to_tail) = out.as_chunks_mut::<LANES>();
    for (from, to) in from.iter().zip(to) {
        let v = load(from);
        largest = larger(largest, v);
        store(v, to);
    }
    largest_of(largest, Source::Singles(tail).decode(to_tail))
}

/// Reads singles; gives the largest magnitude.
#[target_feature(enable = "avx2,f16c")]
fn read(bytes: &[u8], out: &mut [f32]) -> f32 {
    let mut largest = _mm256_setzero_si256();
    let (from, tail) = bytes.as_chunks::<{ 4 * LANES }>();
    let (to, to_tail) = out.as_chunks_mut::<LANES>();
    for (from, to) in from.iter().zip(to) {
        let v = _mm256_castsi256_ps(load_all_bytes(from));
        largest = larger(largest, v);
        store(v, to);
    }
    let tail = Source::Blocks(BlockType::F32, tail);
    largest_of(largest, tail.decode(to_tail))
}

/// Widens brain floats or halves; gives the largest magnitude.
#[target_feature(enable = "avx2,f16c")]
fn decode<const BRAIN: bool>(bytes: &[u8], out: &mut [f32]) -> f32 {
    let mut largest = _mm256_setzero_si256();
    let (from, tail) = bytes.as_chunks::<{ 2 * LANES }>();
    let (to, to_tail) = out.as_chunks_mut::<LANES>();
    for (from, to) in from.iter().zip(to) {
        let narrow = load_bytes(from);
        let v = if BRAIN {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(narrow)))
        } else {
            _mm256_cvtph_ps(narrow)
        };
        largest = larger(largest, v);
        store(v, to);
    }
    let ty = if BRAIN {
        BlockType::BF16
    } else {
        BlockType::F16
    };
    largest_of(largest, Source::Blocks(ty, tail).decode(to_tail))
}

/// The larger magnitudes, as bits: their order is that of the magnitudes.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn larger(largest: __m256i, v: __m256) -> __m256i {
    let magnitude = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(i32::MAX));
    _mm256_max_epu32(largest, magnitude)
}

/// The largest of eight lanes of magnitudes and one more.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn largest_of(magnitudes: __m256i, tail: f32) -> f32 {
    let magnitudes = lanes(_mm256_castsi256_ps(magnitudes));
    let largest = magnitudes
        .iter()
        .fold(tail.to_bits(), |all, v| v.to_bits().max(all));
    f32::from_bits(largest)
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn load(from: &[f32; LANES]) -> __m256 {
    // SAFETY: an array of eight singles is as long as a register, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn store(v: __m256, to: &mut [f32; LANES]) {
    // SAFETY: an array of eight singles is as long as a register, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn load_bytes(from: &[u8; 16]) -> __m128i {
    // SAFETY: an array of 16 bytes is as long as half a register, and the load needs no alignment.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn load_all_bytes(from: &[u8; 32]) -> __m256i {
    // SAFETY: an array of 32 bytes is as long as a register, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn store_bytes(v: __m128i, to: &mut [u8; 16]) {
    // SAFETY: an array of 16 bytes is as long as half a register, and the store needs no alignment.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), v) }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn store_all_bytes(v: __m256i, to: &mut [u8; 32]) {
    // SAFETY: an array of 32 bytes is as long as a register, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) }
}

/// Eight lanes as an array.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn lanes(v: __m256) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    store(v, &mut out);
    out
}

/// Rounds to halves, as [`crate::half::to_f16`]; their bytes as in a file.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn halves(v: __m256) -> [[u8; 2]; LANES] {
    let mut bytes = [0; 2 * LANES];
    store_bytes(_mm256_cvtps_ph::<0>(v), &mut bytes);
    std::array::from_fn(|lane| [bytes[2 * lane], bytes[2 * lane + 1]])
}

/// One through each lane; zero for those that are zero.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn inverses(v: __m256) -> [f32; LANES] {
    let none = _mm256_cmp_ps::<_CMP_EQ_OQ>(v, _mm256_setzero_ps());
    let inverse = _mm256_div_ps(_mm256_set1_ps(1.0), v);
    lanes(_mm256_andnot_ps(none, inverse))
}

/// A block of 32 weights.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn registers(x: &[f32; 4 * LANES]) -> [__m256; 4] {
    let rows = x.as_chunks::<LANES>().0;
    [
        load(&rows[0]),
        load(&rows[1]),
        load(&rows[2]),
        load(&rows[3]),
    ]
}

/// The largest lane of each register.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn largest_each(v: [__m256; LANES]) -> __m256 {
    let [a, b, c, d, e, f, g, h] = v;
    let two = |x, y| _mm256_max_ps(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
    let four = |x, y| {
        let (x, y) = (_mm256_castps_pd(x), _mm256_castps_pd(y));
        let (low, high) = (_mm256_unpacklo_pd(x, y), _mm256_unpackhi_pd(x, y));
        _mm256_max_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high))
    };
    let (left, right) = (four(two(a, b), two(c, d)), four(two(e, f), two(g, h)));
    _mm256_max_ps(
        _mm256_permute2f128_ps::<0x20>(left, right),
        _mm256_permute2f128_ps::<0x31>(left, right),
    )
}

/// Magnitudes.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn abs(v: __m256) -> __m256 {
    _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX)))
}

/// Magnitudes up to which rounding by addition is exact, with room to spare. What may be beyond is left
/// to the scalar code, which wraps as the reference does.
const ROUNDING_BELOW: f32 = 2_097_152.0;

/// Rounds half to even, as [`crate::search::nearest_int`] below [`ROUNDING_BELOW`], and clamps.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn code(v: __m256, least: __m256, largest: __m256) -> __m256 {
    let rounded = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
    _mm256_min_ps(_mm256_max_ps(rounded, least), largest)
}

/// Moves rows to columns.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn transpose(rows: [__m256i; LANES]) -> [__m256i; LANES] {
    let [a, b, c, d, e, f, g, h] = rows;
    let low = |x, y| _mm256_unpacklo_epi32(x, y);
    let high = |x, y| _mm256_unpackhi_epi32(x, y);
    let (ab, ab2, cd, cd2) = (low(a, b), high(a, b), low(c, d), high(c, d));
    let (ef, ef2, gh, gh2) = (low(e, f), high(e, f), low(g, h), high(g, h));
    let first = |x, y| _mm256_unpacklo_epi64(x, y);
    let last = |x, y| _mm256_unpackhi_epi64(x, y);
    let left = [first(ab, cd), last(ab, cd), first(ab2, cd2), last(ab2, cd2)];
    let right = [first(ef, gh), last(ef, gh), first(ef2, gh2), last(ef2, gh2)];
    let join = |at: usize| {
        (
            _mm256_permute2x128_si256::<0x20>(left[at], right[at]),
            _mm256_permute2x128_si256::<0x31>(left[at], right[at]),
        )
    };
    let [(p, t), (q, u), (r, v), (s, w)] = [join(0), join(1), join(2), join(3)];
    [p, q, r, s, t, u, v, w]
}

/// Spreads eight sub-blocks of `N` weights over lanes: one sub-block a lane.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn spread<const N: usize>(x: &[f32]) -> [__m256; N] {
    let mut out = [_mm256_set1_ps(0.0); N];
    let (rows, _) = x.as_chunks::<LANES>();
    for (at, out) in out.chunks_exact_mut(LANES).enumerate() {
        let mut part = [_mm256_setzero_si256(); LANES];
        for (lane, part) in part.iter_mut().enumerate() {
            *part = _mm256_castps_si256(load(&rows[lane * N / LANES + at]));
        }
        for (out, column) in out.iter_mut().zip(transpose(part)) {
            *out = _mm256_castsi256_ps(column);
        }
    }
    out
}

/// Gathers codes, whole numbers below 256 with one sub-block a lane, to bytes in the order of weights.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn gather<const N: usize>(codes: &[__m256; N], out: &mut [u8]) {
    // Four codes of a lane make a word; `N / 4` words make a row.
    let mut words = [_mm256_setzero_si256(); LANES];
    for (word, codes) in words.iter_mut().zip(codes.as_chunks::<4>().0) {
        let [a, b, c, d] = codes.map(|v| _mm256_cvtps_epi32(v));
        let ab = _mm256_or_si256(a, _mm256_slli_epi32::<8>(b));
        let cd = _mm256_or_si256(_mm256_slli_epi32::<16>(c), _mm256_slli_epi32::<24>(d));
        *word = _mm256_or_si256(ab, cd);
    }
    let mut row = [0; 32];
    for (words, out) in transpose(words).into_iter().zip(out.chunks_exact_mut(N)) {
        store_all_bytes(words, &mut row);
        out.copy_from_slice(&row[..N]);
    }
}
