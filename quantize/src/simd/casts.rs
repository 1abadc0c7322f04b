//! [`crate::half`]'s roundings, eight weights at once.

use std::arch::x86_64::{
    _mm256_add_epi32, _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_si128,
    _mm256_cvtps_ph, _mm256_packus_epi32, _mm256_permute4x64_epi64, _mm256_set1_epi32,
    _mm256_srli_epi32,
};

use super::{LANES, load, store_bytes};
use crate::block::BlockType;
use crate::kernel;

/// Rounds finite weights to halves.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn to_halves(x: &[f32], out: &mut [u8]) {
    let (whole, tail) = x.as_chunks::<LANES>();
    let (out, tail_out) = out.split_at_mut(whole.len() * 2 * LANES);
    for (x, out) in whole.iter().zip(out.as_chunks_mut().0) {
        store_bytes(_mm256_cvtps_ph::<0>(load(x)), out);
    }
    kernel::quantize(BlockType::F16, tail, tail_out);
}

/// Rounds finite weights to brain floats.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn to_brains(x: &[f32], out: &mut [u8]) {
    let (whole, tail) = x.as_chunks::<LANES>();
    let (out, tail_out) = out.split_at_mut(whole.len() * 2 * LANES);
    let (half, one) = (_mm256_set1_epi32(0x7fff), _mm256_set1_epi32(1));
    for (x, out) in whole.iter().zip(out.as_chunks_mut().0) {
        let bits = _mm256_castps_si256(load(x));
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), one);
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(half, odd));
        let high = _mm256_srli_epi32::<16>(rounded);
        let packed = _mm256_permute4x64_epi64::<0b10_00>(_mm256_packus_epi32(high, high));
        store_bytes(_mm256_castsi256_si128(packed), out);
    }
    kernel::quantize(BlockType::BF16, tail, tail_out);
}
