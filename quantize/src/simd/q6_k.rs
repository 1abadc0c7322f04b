//! [`crate::q6_k`], sixteen sub-blocks at once, eight in a register.

use std::arch::x86_64::{
    __m256, _CMP_EQ_OQ, _CMP_GE_OQ, _CMP_GT_OQ, _CMP_LT_OQ, _CMP_NEQ_UQ, _mm256_add_ps,
    _mm256_and_ps, _mm256_blendv_ps, _mm256_cmp_ps, _mm256_div_ps, _mm256_movemask_ps,
    _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps,
};

use super::{LANES, ROUNDING_BELOW, abs, code, gather, lanes, load, spread};
use crate::q6_k::{BYTES, LEVELS, PART, PARTS, WEIGHTS, pack, put_scales, quantize as scalar};
use crate::search::{ZERO_BELOW, symmetric_trial};

const GROUPS: usize = PARTS / LANES;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<WEIGHTS>().0.iter();
    for (x, block) in blocks.zip(out.as_chunks_mut::<BYTES>().0) {
        if !quantize_block(x, block) {
            scalar(x, block);
        }
    }
}

/// False when the scalar code is needed.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn quantize_block(x: &[f32; WEIGHTS], block: &mut [u8; BYTES]) -> bool {
    let zero = _mm256_setzero_ps();
    let one = _mm256_set1_ps(1.0);
    let parts = [spread::<PART>(&x[..WEIGHTS / 2]), spread(&x[WEIGHTS / 2..])];
    // The largest magnitudes, and the first values that have them.
    let mut largest = [zero; GROUPS];
    let mut extreme = [zero; GROUPS];
    let mut squares = [[zero; PART]; GROUPS];
    let mut cubes = [[zero; PART]; GROUPS];
    for i in 0..PART {
        for g in 0..GROUPS {
            let v = parts[g][i];
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(abs(v), largest[g]);
            largest[g] = _mm256_blendv_ps(largest[g], abs(v), above);
            extreme[g] = _mm256_blendv_ps(extreme[g], v, above);
            squares[g][i] = _mm256_mul_ps(v, v);
            cubes[g][i] = _mm256_mul_ps(squares[g][i], v);
        }
    }
    let mut active = [zero; GROUPS];
    for g in 0..GROUPS {
        active[g] = _mm256_cmp_ps::<_CMP_GE_OQ>(largest[g], _mm256_set1_ps(ZERO_BELOW));
        extreme[g] = _mm256_blendv_ps(one, extreme[g], active[g]);
    }

    let first = _mm256_set1_ps(-(LEVELS as f32));
    let mut best_iscale = extreme.map(|v| _mm256_div_ps(first, v));
    let (sum_lx, sum_l2) = sums(&parts, &squares, &cubes, &best_iscale);
    let mut scale = [zero; GROUPS];
    let mut best = [zero; GROUPS];
    for g in 0..GROUPS {
        let some = _mm256_cmp_ps::<_CMP_NEQ_UQ>(sum_l2[g], zero);
        scale[g] = _mm256_and_ps(_mm256_div_ps(sum_lx[g], sum_l2[g]), some);
        best[g] = _mm256_mul_ps(scale[g], sum_lx[g]);
    }
    for step in (-9..=9).filter(|&step| step != 0) {
        let trial = _mm256_set1_ps(symmetric_trial(LEVELS, step));
        let iscale = extreme.map(|v| _mm256_div_ps(trial, v));
        let (sum_lx, sum_l2) = sums(&parts, &squares, &cubes, &iscale);
        for g in 0..GROUPS {
            let better = _mm256_and_ps(
                _mm256_cmp_ps::<_CMP_GT_OQ>(sum_l2[g], zero),
                _mm256_cmp_ps::<_CMP_GT_OQ>(
                    _mm256_mul_ps(sum_lx[g], sum_lx[g]),
                    _mm256_mul_ps(best[g], sum_l2[g]),
                ),
            );
            let this = _mm256_div_ps(sum_lx[g], sum_l2[g]);
            best_iscale[g] = _mm256_blendv_ps(best_iscale[g], iscale[g], better);
            scale[g] = _mm256_blendv_ps(scale[g], this, better);
            best[g] = _mm256_blendv_ps(best[g], _mm256_mul_ps(this, sum_lx[g]), better);
        }
    }

    let mut scales = [0.0; PARTS];
    for (g, scales) in scales.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        *scales = lanes(_mm256_and_ps(scale[g], active[g]));
    }
    let Some(read) = put_scales(&scales, block) else {
        return true;
    };
    let mut codes = [0; WEIGHTS];
    let halves = codes.as_chunks_mut::<{ WEIGHTS / GROUPS }>().0.iter_mut();
    for (g, (codes, read)) in halves.zip(read.as_chunks::<LANES>().0).enumerate() {
        if !take_codes(
            &parts[g],
            largest[g],
            best_iscale[g],
            active[g],
            load(read),
            codes,
        ) {
            return false;
        }
    }
    pack(&codes, block);
    true
}

/// The two sums that tell how good a scale is.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn sums(
    parts: &[[__m256; PART]; GROUPS],
    squares: &[[__m256; PART]; GROUPS],
    cubes: &[[__m256; PART]; GROUPS],
    iscale: &[__m256; GROUPS],
) -> ([__m256; GROUPS], [__m256; GROUPS]) {
    let least = _mm256_set1_ps(-(LEVELS as f32));
    let most = _mm256_set1_ps((LEVELS - 1) as f32);
    let mut sum_lx = [_mm256_setzero_ps(); GROUPS];
    let mut sum_l2 = [_mm256_setzero_ps(); GROUPS];
    for i in 0..PART {
        for g in 0..GROUPS {
            // The extreme value gives the largest product, at most 33, so that rounding is exact.
            let l = code(_mm256_mul_ps(iscale[g], parts[g][i]), least, most);
            sum_lx[g] = _mm256_add_ps(sum_lx[g], _mm256_mul_ps(cubes[g][i], l));
            let wl = _mm256_mul_ps(squares[g][i], l);
            sum_l2[g] = _mm256_add_ps(sum_l2[g], _mm256_mul_ps(wl, l));
        }
    }
    (sum_lx, sum_l2)
}

/// Takes the codes of eight sub-blocks; those whose scale is zero keep the search's. False when the
/// scalar code is needed.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn take_codes(
    x: &[__m256; PART],
    largest: __m256,
    iscale: __m256,
    active: __m256,
    scale: __m256,
    out: &mut [u8],
) -> bool {
    let zero = _mm256_setzero_ps();
    let least = _mm256_set1_ps(-(LEVELS as f32));
    let most = _mm256_set1_ps((LEVELS - 1) as f32);
    let levels = _mm256_set1_ps(LEVELS as f32);
    let empty = _mm256_cmp_ps::<_CMP_EQ_OQ>(scale, zero);
    let divisor = _mm256_blendv_ps(scale, _mm256_set1_ps(f32::INFINITY), empty);
    let reach = abs(_mm256_div_ps(largest, divisor));
    let inside = _mm256_cmp_ps::<_CMP_LT_OQ>(reach, _mm256_set1_ps(ROUNDING_BELOW));
    if _mm256_movemask_ps(inside) != 0xff {
        return false;
    }
    let mut codes = [zero; PART];
    for (code_, &v) in codes.iter_mut().zip(x) {
        let l = code(_mm256_div_ps(v, divisor), least, most);
        *code_ = _mm256_add_ps(l, levels);
    }
    if _mm256_movemask_ps(empty) != 0 {
        for (code_, &v) in codes.iter_mut().zip(x) {
            let kept = code(_mm256_mul_ps(iscale, v), least, most);
            let kept = _mm256_and_ps(_mm256_add_ps(kept, levels), active);
            *code_ = _mm256_blendv_ps(*code_, kept, empty);
        }
    }
    gather(&codes, out);
    true
}
