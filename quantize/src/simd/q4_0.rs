//! [`crate::q4`]'s `Q4_0`, 32 weights at once, and the scales of eight blocks at once.

use std::arch::x86_64::{
    __m256, _CMP_EQ_OQ, _mm_packus_epi16, _mm256_add_ps, _mm256_castsi256_si128, _mm256_cmp_ps,
    _mm256_cvttps_epi32, _mm256_div_ps, _mm256_extracti128_si256, _mm256_max_ps, _mm256_min_epi16,
    _mm256_movemask_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_packs_epi32, _mm256_permute2f128_ps,
    _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_set1_ps, _mm256_shuffle_ps,
    _mm256_slli_epi16,
};

use super::{LANES, abs, halves, inverses, load, registers, store_bytes};
use crate::q4::{BYTES_0, WEIGHTS, quantize_0 as scalar};

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let x = x.as_chunks::<WEIGHTS>().0.chunks(LANES);
    for (x, out) in x.zip(out.as_chunks_mut::<BYTES_0>().0.chunks_mut(LANES)) {
        let mut extremes = [0.0; LANES];
        for (extreme, x) in extremes.iter_mut().zip(x) {
            *extreme = extreme_of(x);
        }
        let d = _mm256_div_ps(load(&extremes), _mm256_set1_ps(-8.0));
        let (scales, inverse) = (halves(d), inverses(d));
        for (at, (x, block)) in x.iter().zip(out).enumerate() {
            if inverse[at].is_infinite() {
                scalar(x, block);
                continue;
            }
            let (scale, codes) = block.split_at_mut(2);
            scale.copy_from_slice(&scales[at]);
            let codes = codes.try_into().expect("16 bytes follow");
            put_codes(registers(x), inverse[at], codes);
        }
    }
}

/// [`crate::search::extreme`]: the first of the values with the largest magnitude.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn extreme_of(x: &[f32; WEIGHTS]) -> f32 {
    let sizes = registers(x).map(|v| abs(v));
    let pairs = (
        _mm256_max_ps(sizes[0], sizes[1]),
        _mm256_max_ps(sizes[2], sizes[3]),
    );
    let v = _mm256_max_ps(pairs.0, pairs.1);
    let v = _mm256_max_ps(v, _mm256_permute2f128_ps::<1>(v, v));
    let v = _mm256_max_ps(v, _mm256_shuffle_ps::<0b01_00_11_10>(v, v));
    let largest = _mm256_max_ps(v, _mm256_shuffle_ps::<0b10_11_00_01>(v, v));
    let mut places = 0u32;
    for (row, &size) in sizes.iter().enumerate() {
        let equal = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(size, largest));
        places |= equal.cast_unsigned() << (row * LANES);
    }
    // Adding nothing makes a negative zero positive, as the reference starts from.
    x[places.trailing_zeros() as usize % WEIGHTS] + 0.0
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn put_codes(x: [__m256; 4], inverse: f32, codes: &mut [u8; WEIGHTS / 2]) {
    let (inverse, shift) = (_mm256_set1_ps(inverse), _mm256_set1_ps(8.5));
    let q = x.map(|v| _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(v, inverse), shift)));
    let most = _mm256_set1_epi16(15);
    let low = _mm256_min_epi16(_mm256_packs_epi32(q[0], q[1]), most);
    let high = _mm256_min_epi16(_mm256_packs_epi32(q[2], q[3]), most);
    let both = _mm256_or_si256(low, _mm256_slli_epi16::<4>(high));
    let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(both);
    let packed = _mm_packus_epi16(
        _mm256_castsi256_si128(both),
        _mm256_extracti128_si256::<1>(both),
    );
    store_bytes(packed, codes);
}
