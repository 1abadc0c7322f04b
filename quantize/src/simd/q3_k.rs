//! [`crate::q3_k`] and the descent behind it, sixteen sub-blocks at once, eight in a register.

use std::arch::x86_64::{
    __m256, _CMP_EQ_OQ, _CMP_GE_OQ, _CMP_GT_OQ, _CMP_NEQ_UQ, _mm256_add_ps, _mm256_and_ps,
    _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256, _mm256_cmp_ps, _mm256_cvtepi32_ps,
    _mm256_div_ps, _mm256_max_epi32, _mm256_min_epi32, _mm256_movemask_ps, _mm256_mul_ps,
    _mm256_or_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_sub_epi32,
    _mm256_sub_ps,
};

use super::{LANES, abs, gather, lanes, load, spread};
use crate::q3_k::{BYTES, PART, PARTS, WEIGHTS, put_codes, put_scales};
use crate::search::ZERO_BELOW;

const GROUPS: usize = PARTS / LANES;
const LEVELS: f32 = 4.0;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<WEIGHTS>().0.iter();
    for (x, block) in blocks.zip(out.as_chunks_mut::<BYTES>().0) {
        let parts = [spread::<PART>(&x[..WEIGHTS / 2]), spread(&x[WEIGHTS / 2..])];
        let (codes, scale) = descent(&parts);
        let mut scales = [0.0; PARTS];
        for (scales, scale) in scales.as_chunks_mut::<LANES>().0.iter_mut().zip(scale) {
            *scales = lanes(scale);
        }
        let read = put_scales(&scales, block);
        let mut out = [0; WEIGHTS];
        for (g, out) in out.chunks_exact_mut(WEIGHTS / GROUPS).enumerate() {
            let scale = load(&read.as_chunks().0[g]);
            let empty = _mm256_cmp_ps::<_CMP_EQ_OQ>(scale, _mm256_setzero_ps());
            let mut taken = codes[g];
            for (taken, &v) in taken.iter_mut().zip(&parts[g]) {
                let code = any_code(_mm256_div_ps(v, scale));
                let code = _mm256_add_ps(code, _mm256_set1_ps(LEVELS));
                *taken = _mm256_blendv_ps(code, *taken, empty);
            }
            gather(&taken, out);
        }
        put_codes(&out, block);
    }
}

/// [`crate::search::nearest_int`] of any number, wrapping as it does, clamped to -4 up to 3.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn any_code(v: __m256) -> __m256 {
    let bits = _mm256_castps_si256(_mm256_add_ps(v, _mm256_set1_ps(12_582_912.0)));
    let low = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
    let l = _mm256_sub_epi32(low, _mm256_set1_epi32(0x0040_0000));
    let l = _mm256_max_epi32(l, _mm256_set1_epi32(-4));
    _mm256_cvtepi32_ps(_mm256_min_epi32(l, _mm256_set1_epi32(3)))
}

/// [`crate::search::descent`]: codes from 0 to 7, and scales. A lane that is done changes nothing in further
/// rounds, so lanes need not stop together.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn descent(x: &[[__m256; PART]; GROUPS]) -> ([[__m256; PART]; GROUPS], [__m256; GROUPS]) {
    let zero = _mm256_setzero_ps();
    let mut largest = [zero; GROUPS];
    let mut extreme = [zero; GROUPS];
    for i in 0..PART {
        for g in 0..GROUPS {
            let v = x[g][i];
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(abs(v), largest[g]);
            largest[g] = _mm256_blendv_ps(largest[g], abs(v), above);
            extreme[g] = _mm256_blendv_ps(extreme[g], v, above);
        }
    }
    let mut active = [zero; GROUPS];
    let mut iscale = [zero; GROUPS];
    for g in 0..GROUPS {
        active[g] = _mm256_cmp_ps::<_CMP_GE_OQ>(largest[g], _mm256_set1_ps(ZERO_BELOW));
        iscale[g] = _mm256_and_ps(
            _mm256_div_ps(_mm256_set1_ps(-LEVELS), extreme[g]),
            active[g],
        );
    }
    let mut codes = [[zero; PART]; GROUPS];
    let mut sum_lx = [zero; GROUPS];
    let mut sum_l2 = [zero; GROUPS];
    for i in 0..PART {
        for g in 0..GROUPS {
            let v = x[g][i];
            let l = any_code(_mm256_mul_ps(iscale[g], v));
            codes[g][i] = l;
            let w = _mm256_mul_ps(v, v);
            sum_lx[g] = _mm256_add_ps(sum_lx[g], lx(w, v, l));
            sum_l2[g] = _mm256_add_ps(sum_l2[g], l2(w, l));
        }
    }
    for _ in 0..5 {
        let mut changed = zero;
        for i in 0..PART {
            for g in 0..GROUPS {
                let (v, l) = (x[g][i], codes[g][i]);
                let w = _mm256_mul_ps(v, v);
                let less_lx = _mm256_sub_ps(sum_lx[g], lx(w, v, l));
                let less_l2 = _mm256_sub_ps(sum_l2[g], l2(w, l));
                let new = any_code(_mm256_div_ps(_mm256_mul_ps(v, less_l2), less_lx));
                let new_lx = _mm256_add_ps(less_lx, lx(w, v, new));
                let new_l2 = _mm256_add_ps(less_l2, l2(w, new));
                let left = _mm256_mul_ps(_mm256_mul_ps(new_lx, new_lx), sum_l2[g]);
                let right = _mm256_mul_ps(_mm256_mul_ps(sum_lx[g], sum_lx[g]), new_l2);
                let may = _mm256_and_ps(
                    _mm256_cmp_ps::<_CMP_GT_OQ>(less_lx, zero),
                    _mm256_cmp_ps::<_CMP_NEQ_UQ>(new, l),
                );
                let better = _mm256_and_ps(
                    _mm256_cmp_ps::<_CMP_GT_OQ>(new_l2, zero),
                    _mm256_cmp_ps::<_CMP_GT_OQ>(left, right),
                );
                let change = _mm256_and_ps(_mm256_and_ps(may, better), active[g]);
                codes[g][i] = _mm256_blendv_ps(l, new, change);
                sum_lx[g] = _mm256_blendv_ps(sum_lx[g], new_lx, change);
                sum_l2[g] = _mm256_blendv_ps(sum_l2[g], new_l2, change);
                changed = _mm256_or_ps(changed, change);
            }
        }
        if _mm256_movemask_ps(changed) == 0 {
            break;
        }
    }
    let mut scale = [zero; GROUPS];
    for g in 0..GROUPS {
        for l in &mut codes[g] {
            *l = _mm256_and_ps(_mm256_add_ps(*l, _mm256_set1_ps(LEVELS)), active[g]);
        }
        let some = _mm256_cmp_ps::<_CMP_GT_OQ>(sum_l2[g], zero);
        let some = _mm256_and_ps(some, active[g]);
        scale[g] = _mm256_and_ps(_mm256_div_ps(sum_lx[g], sum_l2[g]), some);
    }
    (codes, scale)
}

/// `w * v * l`, rounded after each product.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn lx(w: __m256, v: __m256, l: __m256) -> __m256 {
    _mm256_mul_ps(_mm256_mul_ps(w, v), l)
}

/// `w * l * l`, rounded after each product.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn l2(w: __m256, l: __m256) -> __m256 {
    _mm256_mul_ps(_mm256_mul_ps(w, l), l)
}
