//! [`crate::q4`]'s `Q4_0`, 32 weights at once.

use std::arch::x86_64::{
    _CMP_EQ_OQ, _mm_packus_epi16, _mm256_add_ps, _mm256_castsi256_si128, _mm256_cmp_ps,
    _mm256_cvttps_epi32, _mm256_extracti128_si256, _mm256_max_ps, _mm256_min_epi16,
    _mm256_movemask_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_packs_epi32,
    _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_set1_ps, _mm256_slli_epi16,
};

use super::{LANES, abs, lanes, load, store_bytes, to_f16};
use crate::q4::{BYTES_0, WEIGHTS, quantize_0 as scalar};

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<WEIGHTS>().0.iter();
    for (x, block) in blocks.zip(out.as_chunks_mut::<BYTES_0>().0) {
        let (rows, _) = x.as_chunks();
        let v = [
            load(&rows[0]),
            load(&rows[1]),
            load(&rows[2]),
            load(&rows[3]),
        ];
        let sizes = v.map(|v| abs(v));
        let pairs = (
            _mm256_max_ps(sizes[0], sizes[1]),
            _mm256_max_ps(sizes[2], sizes[3]),
        );
        let largest = lanes(_mm256_max_ps(pairs.0, pairs.1))
            .into_iter()
            .fold(0.0, |a: f32, b| if a > b { a } else { b });
        // The sign is that of the first weight so large.
        let wanted = _mm256_set1_ps(largest);
        let mut places = 0u32;
        for (row, &size) in sizes.iter().enumerate() {
            let equal = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(size, wanted));
            places |= equal.cast_unsigned() << (row * LANES);
        }
        let extreme = if largest == 0.0 {
            0.0
        } else {
            x[places.trailing_zeros() as usize % WEIGHTS]
        };
        let d = extreme / -8.0;
        let id = if d == 0.0 { 0.0 } else { 1.0 / d };
        if id.is_infinite() {
            scalar(x, block);
            continue;
        }
        let (scale, codes) = block.split_at_mut(2);
        scale.copy_from_slice(&to_f16(d).to_le_bytes());
        let (id, shift) = (_mm256_set1_ps(id), _mm256_set1_ps(8.5));
        let q = v.map(|v| _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(v, id), shift)));
        let most = _mm256_set1_epi16(15);
        let low = _mm256_min_epi16(_mm256_packs_epi32(q[0], q[1]), most);
        let high = _mm256_min_epi16(_mm256_packs_epi32(q[2], q[3]), most);
        let both = _mm256_or_si256(low, _mm256_slli_epi16::<4>(high));
        let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(both);
        let packed = _mm_packus_epi16(
            _mm256_castsi256_si128(both),
            _mm256_extracti128_si256::<1>(both),
        );
        store_bytes(packed, codes.try_into().expect("16 bytes follow"));
    }
}
