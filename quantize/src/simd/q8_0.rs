//! [`crate::q8_0`], 32 weights at once.

use std::arch::x86_64::{
    _mm256_add_ps, _mm256_and_ps, _mm256_cvttps_epi32, _mm256_max_ps, _mm256_mul_ps, _mm256_or_ps,
    _mm256_packs_epi16, _mm256_packs_epi32, _mm256_permutevar8x32_epi32, _mm256_set1_ps,
    _mm256_setr_epi32,
};

use super::{abs, lanes, load, store_all_bytes, to_f16};
use crate::q8_0::{BYTES, WEIGHTS, quantize as scalar};

/// The largest single below a half: added with the sign of a number and cut, it rounds half away from zero.
const BELOW_HALF: f32 = 0.499_999_97;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<WEIGHTS>().0.iter();
    for (x, block) in blocks.zip(out.as_chunks_mut::<BYTES>().0) {
        let (rows, _) = x.as_chunks();
        let v = [
            load(&rows[0]),
            load(&rows[1]),
            load(&rows[2]),
            load(&rows[3]),
        ];
        let pairs = (
            _mm256_max_ps(abs(v[0]), abs(v[1])),
            _mm256_max_ps(abs(v[2]), abs(v[3])),
        );
        let largest = lanes(_mm256_max_ps(pairs.0, pairs.1))
            .into_iter()
            .fold(0.0, |a: f32, b| if a > b { a } else { b });
        let d = largest / 127.0;
        let id = if d == 0.0 { 0.0 } else { 1.0 / d };
        if id.is_infinite() {
            scalar(x, block);
            continue;
        }
        let (scale, codes) = block.split_at_mut(2);
        scale.copy_from_slice(&to_f16(d).to_le_bytes());
        let sign = _mm256_set1_ps(-0.0);
        let half = _mm256_set1_ps(BELOW_HALF);
        let id = _mm256_set1_ps(id);
        let q = v.map(|v| {
            let q = _mm256_mul_ps(v, id);
            let half = _mm256_or_ps(half, _mm256_and_ps(q, sign));
            _mm256_cvttps_epi32(_mm256_add_ps(q, half))
        });
        let packed = _mm256_packs_epi16(
            _mm256_packs_epi32(q[0], q[1]),
            _mm256_packs_epi32(q[2], q[3]),
        );
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let packed = _mm256_permutevar8x32_epi32(packed, order);
        store_all_bytes(packed, codes.try_into().expect("32 codes follow"));
    }
}
