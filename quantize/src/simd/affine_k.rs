//! [`crate::affine_k`] and the search behind it, eight sub-blocks at once.

use std::arch::x86_64::{
    __m256, _CMP_EQ_OQ, _CMP_GT_OQ, _CMP_LT_OQ, _CMP_NEQ_UQ, _mm256_add_ps, _mm256_and_ps,
    _mm256_blendv_ps, _mm256_cmp_ps, _mm256_div_ps, _mm256_max_ps, _mm256_min_ps,
    _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_sqrt_ps,
    _mm256_sub_ps,
};

use super::{LANES, ROUNDING_BELOW, abs, code, gather, lanes, load, spread};
use crate::affine_k::{
    BYTES_4, BYTES_5, PART, SEARCH_4, SEARCH_5, WEIGHTS, pack, pack_high, put_scales,
};
use crate::search::Affine;

/// What a search found, one sub-block a lane.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub scale: __m256,
    /// The minimum itself, not its negative.
    pub min: __m256,
    /// With what the best codes were taken.
    iscale: __m256,
    from: __m256,
    /// The least and the largest weight.
    bounds: (__m256, __m256),
}

/// Whether in all lanes `(x + shift) * factor` stays where rounding is exact, for every x within bounds:
/// subtraction and multiplication keep the order, so the ends tell.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn is_exact(bounds: (__m256, __m256), shift: __m256, factor: __m256) -> bool {
    let reach = _mm256_max_ps(
        abs(_mm256_add_ps(bounds.0, shift)),
        abs(_mm256_add_ps(bounds.1, shift)),
    );
    let most = _mm256_mul_ps(reach, abs(factor));
    let inside = _mm256_cmp_ps::<_CMP_LT_OQ>(most, _mm256_set1_ps(ROUNDING_BELOW));
    _mm256_movemask_ps(inside) == 0xff
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn negative(v: __m256) -> __m256 {
    std::arch::x86_64::_mm256_xor_ps(v, _mm256_set1_ps(-0.0))
}

/// [`Affine::search`] on `G` times eight sub-blocks; nothing when one of them needs the scalar code. The
/// groups do not depend on one another, so that one's sums fill the other's waits.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn search<const N: usize, const G: usize, const ABSOLUTE: bool>(
    search: Affine,
    x: &[[__m256; N]; G],
    weights: &[[__m256; N]; G],
) -> Option<[Found; G]> {
    let zero = _mm256_setzero_ps();
    let one = _mm256_set1_ps(1.0);
    let most = _mm256_set1_ps(f32::from(search.max_code));
    let mut min = [zero; G];
    let mut max = [zero; G];
    let mut least = [zero; G];
    let mut sum_w = [zero; G];
    let mut sum_x = [zero; G];
    let mut active = [zero; G];
    for g in 0..G {
        min[g] = x[g][0];
        max[g] = x[g][0];
        sum_w[g] = weights[g][0];
        sum_x[g] = _mm256_mul_ps(weights[g][0], x[g][0]);
    }
    for i in 1..N {
        for g in 0..G {
            let (v, w) = (x[g][i], weights[g][i]);
            min[g] = _mm256_min_ps(v, min[g]);
            max[g] = _mm256_max_ps(v, max[g]);
            sum_w[g] = _mm256_add_ps(sum_w[g], w);
            sum_x[g] = _mm256_add_ps(sum_x[g], _mm256_mul_ps(w, v));
        }
    }
    let mut codes = [[zero; N]; G];
    let mut iscale = [zero; G];
    let mut scale = [zero; G];
    for g in 0..G {
        least[g] = min[g];
        min[g] = _mm256_min_ps(zero, min[g]);
        active[g] = _mm256_cmp_ps::<_CMP_NEQ_UQ>(max[g], min[g]);
        let range = _mm256_blendv_ps(one, _mm256_sub_ps(max[g], min[g]), active[g]);
        iscale[g] = _mm256_div_ps(most, range);
        scale[g] = _mm256_div_ps(one, iscale[g]);
        if !is_exact((least[g], max[g]), negative(min[g]), iscale[g]) {
            return None;
        }
    }
    for i in 0..N {
        for g in 0..G {
            let v = _mm256_mul_ps(iscale[g], _mm256_sub_ps(x[g][i], min[g]));
            codes[g][i] = code(v, zero, most);
        }
    }
    let mut best = errors::<N, G, ABSOLUTE>(x, weights, &codes, &scale, &min);
    let mut best_iscale = iscale;
    let mut from = min;
    for step in 0..=search.steps {
        let trial = _mm256_set1_ps(search.trial(step));
        for g in 0..G {
            let range = _mm256_blendv_ps(one, _mm256_sub_ps(max[g], min[g]), active[g]);
            iscale[g] = _mm256_div_ps(trial, range);
            if !is_exact((least[g], max[g]), negative(min[g]), iscale[g]) {
                return None;
            }
        }
        let mut sum_l = [zero; G];
        let mut sum_l2 = [zero; G];
        let mut sum_xl = [zero; G];
        for i in 0..N {
            for g in 0..G {
                let v = x[g][i];
                let l = code(
                    _mm256_mul_ps(iscale[g], _mm256_sub_ps(v, min[g])),
                    zero,
                    most,
                );
                codes[g][i] = l;
                let wl = _mm256_mul_ps(weights[g][i], l);
                sum_l[g] = _mm256_add_ps(sum_l[g], wl);
                sum_l2[g] = _mm256_add_ps(sum_l2[g], _mm256_mul_ps(wl, l));
                sum_xl[g] = _mm256_add_ps(sum_xl[g], _mm256_mul_ps(wl, v));
            }
        }
        let mut good = [zero; G];
        let mut this_scale = [zero; G];
        let mut this_min = [zero; G];
        for g in 0..G {
            let determinant = _mm256_sub_ps(
                _mm256_mul_ps(sum_w[g], sum_l2[g]),
                _mm256_mul_ps(sum_l[g], sum_l[g]),
            );
            good[g] = _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(determinant, zero), active[g]);
            let scaled = _mm256_sub_ps(
                _mm256_mul_ps(sum_w[g], sum_xl[g]),
                _mm256_mul_ps(sum_x[g], sum_l[g]),
            );
            let shifted = _mm256_sub_ps(
                _mm256_mul_ps(sum_l2[g], sum_x[g]),
                _mm256_mul_ps(sum_l[g], sum_xl[g]),
            );
            let found = _mm256_div_ps(shifted, determinant);
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(found, zero);
            this_min[g] = _mm256_blendv_ps(found, zero, above);
            // One division for either case.
            this_scale[g] = _mm256_div_ps(
                _mm256_blendv_ps(scaled, sum_xl[g], above),
                _mm256_blendv_ps(determinant, sum_l2[g], above),
            );
        }
        let error = errors::<N, G, ABSOLUTE>(x, weights, &codes, &this_scale, &this_min);
        for g in 0..G {
            let better = _mm256_and_ps(good[g], _mm256_cmp_ps::<_CMP_LT_OQ>(error[g], best[g]));
            best[g] = _mm256_blendv_ps(best[g], error[g], better);
            best_iscale[g] = _mm256_blendv_ps(best_iscale[g], iscale[g], better);
            from[g] = _mm256_blendv_ps(from[g], min[g], better);
            scale[g] = _mm256_blendv_ps(scale[g], this_scale[g], better);
            min[g] = _mm256_blendv_ps(min[g], this_min[g], better);
        }
    }
    Some(std::array::from_fn(|g| Found {
        scale: _mm256_and_ps(scale[g], active[g]),
        min: min[g],
        iscale: _mm256_and_ps(best_iscale[g], active[g]),
        from: from[g],
        bounds: (least[g], max[g]),
    }))
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn errors<const N: usize, const G: usize, const ABSOLUTE: bool>(
    x: &[[__m256; N]; G],
    weights: &[[__m256; N]; G],
    codes: &[[__m256; N]; G],
    scale: &[__m256; G],
    min: &[__m256; G],
) -> [__m256; G] {
    let mut sum = [_mm256_setzero_ps(); G];
    for i in 0..N {
        for g in 0..G {
            let read = _mm256_add_ps(_mm256_mul_ps(scale[g], codes[g][i]), min[g]);
            let apart = _mm256_sub_ps(read, x[g][i]);
            let apart = if ABSOLUTE {
                abs(apart)
            } else {
                _mm256_mul_ps(apart, apart)
            };
            sum[g] = _mm256_add_ps(sum[g], _mm256_mul_ps(weights[g][i], apart));
        }
    }
    sum
}

/// Takes the codes of eight sub-blocks with their scales and minima as readers will see them; those whose
/// scale is zero keep the search's. False when the scalar code is needed.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn take_codes<const N: usize>(
    x: &[__m256; N],
    found: &Found,
    scale: &[f32; LANES],
    min: &[f32; LANES],
    max_code: u8,
    out: &mut [u8],
) -> bool {
    let zero = _mm256_setzero_ps();
    let most = _mm256_set1_ps(f32::from(max_code));
    let (scale, min) = (load(scale), load(min));
    let empty = _mm256_cmp_ps::<_CMP_EQ_OQ>(scale, zero);
    let divisor = _mm256_blendv_ps(scale, _mm256_set1_ps(f32::INFINITY), empty);
    let mut codes = [zero; N];
    // A quotient is beyond its range only if the product with the inverse is nearly so.
    if !is_exact(
        found.bounds,
        min,
        _mm256_div_ps(_mm256_set1_ps(2.0), divisor),
    ) {
        return false;
    }
    for (code_, &v) in codes.iter_mut().zip(x) {
        *code_ = code(_mm256_div_ps(_mm256_add_ps(v, min), divisor), zero, most);
    }
    if _mm256_movemask_ps(empty) != 0 {
        for (code_, &v) in codes.iter_mut().zip(x) {
            let kept = _mm256_mul_ps(found.iscale, _mm256_sub_ps(v, found.from));
            *code_ = _mm256_blendv_ps(*code_, code(kept, zero, most), empty);
        }
    }
    gather(&codes, out);
    true
}

/// Searches and takes the codes of `G` blocks; false when one needs the scalar code.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn blocks<const G: usize, const B: usize>(
    affine: Affine,
    x: [&[f32; WEIGHTS]; G],
    out: &mut [[u8; B]; G],
    codes: &mut [[u8; WEIGHTS]; G],
) -> bool {
    let mut spread_x = [[_mm256_setzero_ps(); PART]; G];
    let mut weights = spread_x;
    for g in 0..G {
        spread_x[g] = spread(x[g]);
        let mut sum = _mm256_setzero_ps();
        for &v in &spread_x[g] {
            sum = _mm256_add_ps(sum, _mm256_mul_ps(v, v));
        }
        let mean = _mm256_sqrt_ps(_mm256_div_ps(sum, _mm256_set1_ps(PART as f32)));
        for (weight, &v) in weights[g].iter_mut().zip(&spread_x[g]) {
            *weight = _mm256_add_ps(mean, abs(v));
        }
    }
    let Some(found) = search::<PART, G, false>(affine, &spread_x, &weights) else {
        return false;
    };
    for g in 0..G {
        let mins = lanes(negative(found[g].min));
        let read = put_scales(&lanes(found[g].scale), &mins, &mut out[g]);
        let scales = read.map(|(scale, _)| scale);
        let mins = read.map(|(_, min)| min);
        let most = affine.max_code;
        if !take_codes(&spread_x[g], &found[g], &scales, &mins, most, &mut codes[g]) {
            return false;
        }
    }
    true
}

/// Runs over all blocks, two at a time while there are two.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn all<const B: usize>(
    affine: Affine,
    x: &[f32],
    out: &mut [u8],
    put_codes: fn(&[u8; WEIGHTS], &mut [u8; B]),
    scalar: fn(&[f32; WEIGHTS], &mut [u8; B]),
) {
    let (x, _) = x.as_chunks::<WEIGHTS>();
    let (out, _) = out.as_chunks_mut::<B>();
    let (x_pairs, x_last) = x.as_chunks::<2>();
    let (out_pairs, out_last) = out.as_chunks_mut::<2>();
    for ([a, b], out) in x_pairs.iter().zip(out_pairs) {
        let mut codes = [[0; WEIGHTS]; 2];
        if blocks(affine, [a, b], out, &mut codes) {
            put_codes(&codes[0], &mut out[0]);
            put_codes(&codes[1], &mut out[1]);
        } else {
            scalar(a, &mut out[0]);
            scalar(b, &mut out[1]);
        }
    }
    for (x, out) in x_last.iter().zip(out_last.as_chunks_mut::<1>().0) {
        let mut codes = [[0; WEIGHTS]];
        if blocks(affine, [x], out, &mut codes) {
            put_codes(&codes[0], &mut out[0]);
        } else {
            scalar(x, &mut out[0]);
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize_4(x: &[f32], out: &mut [u8]) {
    let put = |codes: &[u8; WEIGHTS], block: &mut [u8; BYTES_4]| pack(codes, &mut block[16..]);
    all(SEARCH_4, x, out, put, crate::affine_k::quantize_4);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize_5(x: &[f32], out: &mut [u8]) {
    let put = |codes: &[u8; WEIGHTS], block: &mut [u8; BYTES_5]| {
        pack_high(codes, &mut block[16..48]);
        pack(codes, &mut block[48..]);
    };
    all(SEARCH_5, x, out, put, crate::affine_k::quantize_5);
}
