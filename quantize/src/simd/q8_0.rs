//! [`crate::q8_0`], 32 weights at once, and the scales of eight blocks at once.

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_and_ps, _mm256_cvttps_epi32, _mm256_div_ps, _mm256_max_ps,
    _mm256_mul_ps, _mm256_or_ps, _mm256_packs_epi16, _mm256_packs_epi32,
    _mm256_permutevar8x32_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps,
};

use super::{LANES, abs, halves, inverses, largest_each, registers, store_all_bytes};
use crate::q8_0::{BYTES, WEIGHTS, quantize as scalar};

/// The largest single below a half: added with the sign of a number and cut, it rounds half away from zero.
const BELOW_HALF: f32 = 0.499_999_97;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let x = x.as_chunks::<WEIGHTS>().0.chunks(LANES);
    for (x, out) in x.zip(out.as_chunks_mut::<BYTES>().0.chunks_mut(LANES)) {
        let mut largest = [_mm256_setzero_ps(); LANES];
        for (largest, x) in largest.iter_mut().zip(x) {
            let [a, b, c, d] = registers(x);
            let pairs = (_mm256_max_ps(abs(a), abs(b)), _mm256_max_ps(abs(c), abs(d)));
            *largest = _mm256_max_ps(pairs.0, pairs.1);
        }
        let d = _mm256_div_ps(largest_each(largest), _mm256_set1_ps(127.0));
        let (scales, inverse) = (halves(d), inverses(d));
        for (at, (x, block)) in x.iter().zip(out).enumerate() {
            if inverse[at].is_infinite() {
                scalar(x, block);
                continue;
            }
            let (scale, codes) = block.split_at_mut(2);
            scale.copy_from_slice(&scales[at]);
            let codes = codes.try_into().expect("32 codes follow");
            put_codes(registers(x), inverse[at], codes);
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn put_codes(x: [__m256; 4], inverse: f32, codes: &mut [u8; WEIGHTS]) {
    let sign = _mm256_set1_ps(-0.0);
    let half = _mm256_set1_ps(BELOW_HALF);
    let inverse = _mm256_set1_ps(inverse);
    let q = x.map(|v| {
        let q = _mm256_mul_ps(v, inverse);
        let half = _mm256_or_ps(half, _mm256_and_ps(q, sign));
        _mm256_cvttps_epi32(_mm256_add_ps(q, half))
    });
    let packed = _mm256_packs_epi16(
        _mm256_packs_epi32(q[0], q[1]),
        _mm256_packs_epi32(q[2], q[3]),
    );
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    store_all_bytes(_mm256_permutevar8x32_epi32(packed, order), codes);
}
