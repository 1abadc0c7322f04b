//! [`crate::compressed`]'s codes, 32 weights at once.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm256_add_epi8, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_blendv_epi8, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cmpgt_epi32, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_maddubs_epi16, _mm256_max_ps,
    _mm256_min_ps, _mm256_or_si256, _mm256_packs_epi16, _mm256_packs_epi32, _mm256_packus_epi16,
    _mm256_packus_epi32, _mm256_permute4x64_epi64, _mm256_permutevar8x32_epi32, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_srli_epi32,
    _mm256_sub_epi32,
};

use super::{LANES, registers, store_all_bytes, store_bytes};
use crate::compressed::Code;

/// Weights that are taken at once.
const WEIGHTS: usize = 4 * LANES;

/// As [`Code::put`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn put(code: Code, x: &[f32], scale: f32, out: &mut [u8]) {
    let (whole, tail) = x.as_chunks::<WEIGHTS>();
    let tail_out = match code {
        Code::Float8 => {
            let (out, tail) = out.split_at_mut(whole.len() * WEIGHTS);
            for (x, out) in whole.iter().zip(out.as_chunks_mut().0) {
                let codes = values(code, x, scale).map(|v| to_e4m3(v));
                let [a, b, c, d] = codes;
                let packed =
                    _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
                store_all_bytes(in_order(packed), out);
            }
            tail
        }
        Code::Int8 => {
            let (out, tail) = out.split_at_mut(whole.len() * WEIGHTS);
            for (x, out) in whole.iter().zip(out.as_chunks_mut().0) {
                store_all_bytes(whole_numbers(values(code, x, scale)), out);
            }
            tail
        }
        Code::Int4 => {
            let (out, tail) = out.split_at_mut(whole.len() * WEIGHTS / 2);
            for (x, out) in whole.iter().zip(out.as_chunks_mut().0) {
                let codes = whole_numbers(values(code, x, scale));
                store_bytes(halves_of_bytes(codes), out);
            }
            tail
        }
    };
    code.put(tail, scale, tail_out);
}

/// Divided by the scale, and clamped.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn values(code: Code, x: &[f32; WEIGHTS], scale: f32) -> [__m256; 4] {
    let (least, most) = code.bounds();
    let (least, most) = (_mm256_set1_ps(least), _mm256_set1_ps(most));
    let scale = _mm256_set1_ps(scale);
    registers(x).map(|v| _mm256_min_ps(_mm256_max_ps(_mm256_div_ps(v, scale), least), most))
}

/// Rounded half to even, a byte each, in order.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn whole_numbers(v: [__m256; 4]) -> __m256i {
    let [a, b, c, d] = v.map(|v| _mm256_cvtps_epi32(v));
    in_order(_mm256_packs_epi16(
        _mm256_packs_epi32(a, b),
        _mm256_packs_epi32(c, d),
    ))
}

/// Undoes the interleaving of two rounds of packing.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn in_order(packed: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Bytes from -8 to 7, plus 8, two to a byte, the first of each two in the low half.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn halves_of_bytes(codes: __m256i) -> __m128i {
    let codes = _mm256_add_epi8(codes, _mm256_set1_epi8(8));
    // 1 for the first, 16 for the second.
    let pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001));
    // Each half holds its eight bytes twice.
    let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(pairs, pairs));
    _mm256_castsi256_si128(packed)
}

/// As the scalar code: normal numbers by adding to their bits, smaller ones by adding singles that lie as far apart.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn to_e4m3(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(i32::MAX));
    let shifted = _mm256_sub_epi32(magnitude, _mm256_set1_epi32(120 << 23));
    let odd = _mm256_and_si256(_mm256_srli_epi32::<20>(shifted), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(_mm256_add_epi32(shifted, _mm256_set1_epi32(0x7_ffff)), odd);
    let normal = _mm256_srli_epi32::<20>(rounded);
    let spacing = _mm256_set1_ps(16_384.0);
    let small = _mm256_sub_epi32(
        _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(magnitude), spacing)),
        _mm256_castps_si256(spacing),
    );
    let is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c80_0000), magnitude);
    let code = _mm256_blendv_epi8(normal, small, is_small);
    let sign = _mm256_and_si256(_mm256_srli_epi32::<24>(bits), _mm256_set1_epi32(0x80));
    _mm256_or_si256(code, sign)
}
