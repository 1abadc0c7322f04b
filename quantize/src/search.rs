//! The searches for the best scale of a sub-block, and how a quotient becomes a code.
//!
//! Ported from `ggml-quants.c` of llama.cpp (October 2026): `nearest_int`, `best_index_int8`,
//! `make_qx_quants`, `make_q3_quants`, `make_qkx2_quants`. Every sum runs in the reference's order and
//! every product is rounded before it is added: another order, or a fused operation, gives other bytes.

#![allow(clippy::cast_possible_truncation)] // codes are clamped to a few bits before they narrow

/// Below this a sub-block counts as zero.
pub(crate) const ZERO_BELOW: f32 = 1e-15;

/// Rounds half to even by adding 1.5 * 2^23, and reads the sum's low bits. Beyond 2^22 it wraps, as the
/// reference does.
pub(crate) fn nearest_int(value: f32) -> i32 {
    ((value + 12_582_912.0).to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000
}

/// Cuts towards zero as `cvttss2si` does: what does not fit becomes `i32::MIN`.
pub(crate) fn truncate(value: f32) -> i32 {
    if (-2_147_483_648.0..2_147_483_648.0).contains(&value) {
        value as i32
    } else {
        i32::MIN
    }
}

/// The largest value; zero when none is above it.
pub(crate) fn largest(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |largest, &v| if v > largest { v } else { largest })
}

/// The value with the largest magnitude, the first of equals; zero when there is none.
pub(crate) fn extreme(x: &[f32]) -> f32 {
    let (mut largest, mut value) = (0.0, 0.0);
    for &v in x {
        if v.abs() > largest {
            largest = v.abs();
            value = v;
        }
    }
    value
}

/// Finds the scale of codes from `-levels` to `levels - 1`, weighting each square error with the square
/// of the weight. `codes` become 0 to `2 * levels - 1`, or all 0 when the sub-block counts as zero.
pub(crate) fn symmetric<const N: usize>(x: &[f32; N], levels: i32, codes: &mut [u8; N]) -> f32 {
    let max = extreme(x);
    if max.abs() < ZERO_BELOW {
        codes.fill(0);
        return 0.0;
    }
    let code = |iscale: f32, v: f32| nearest_int(iscale * v).clamp(-levels, levels - 1);
    let sums = |iscale: f32| {
        let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
        for &v in x {
            let l = code(iscale, v) as f32;
            let w = v * v;
            sum_lx += w * v * l;
            sum_l2 += w * l * l;
        }
        (sum_lx, sum_l2)
    };
    let mut best_iscale = -levels as f32 / max;
    let (sum_lx, sum_l2) = sums(best_iscale);
    let mut scale = if sum_l2 != 0.0 { sum_lx / sum_l2 } else { 0.0 };
    let mut best = scale * sum_lx;
    for step in (-9..=9).filter(|&step| step != 0) {
        let iscale = symmetric_trial(levels, step) / max;
        let (sum_lx, sum_l2) = sums(iscale);
        if sum_l2 > 0.0 && sum_lx * sum_lx > best * sum_l2 {
            best_iscale = iscale;
            scale = sum_lx / sum_l2;
            best = scale * sum_lx;
        }
    }
    for (l, &v) in codes.iter_mut().zip(x) {
        *l = (code(best_iscale, v) + levels) as u8;
    }
    scale
}

/// The trial's scale before it is divided by the extreme value.
pub(crate) fn symmetric_trial(levels: i32, step: i32) -> f32 {
    -(levels as f32 + 0.1 * step as f32)
}

/// Finds the scale of codes from -4 to 3 by descent: five rounds in which each code may change when
/// that lowers the error. `codes` become 0 to 7, or all 0 when the sub-block counts as zero.
pub(crate) fn descent(x: &[f32; 16], codes: &mut [u8; 16]) -> f32 {
    const LEVELS: i32 = 4;
    let max = extreme(x);
    if max.abs() < ZERO_BELOW {
        codes.fill(0);
        return 0.0;
    }
    let iscale = -LEVELS as f32 / max;
    let mut l = [0i32; 16];
    let (mut sum_lx, mut sum_l2) = (0.0f32, 0.0f32);
    for (l, &v) in l.iter_mut().zip(x) {
        *l = nearest_int(iscale * v).clamp(-LEVELS, LEVELS - 1);
        let w = v * v;
        sum_lx += w * v * *l as f32;
        sum_l2 += w * *l as f32 * *l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (l, &v) in l.iter_mut().zip(x) {
            let w = v * v;
            let mut lx = sum_lx - w * v * *l as f32;
            if lx > 0.0 {
                let mut l2 = sum_l2 - w * *l as f32 * *l as f32;
                let new = nearest_int(v * l2 / lx).clamp(-LEVELS, LEVELS - 1);
                if new != *l {
                    lx += w * v * new as f32;
                    l2 += w * new as f32 * new as f32;
                    if l2 > 0.0 && lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                        (*l, sum_lx, sum_l2) = (new, lx, l2);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    for (code, l) in codes.iter_mut().zip(l) {
        *code = (l + LEVELS) as u8;
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// How a search for scale and minimum runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    /// The largest code.
    pub max_code: u8,
    /// What the first trial adds to it.
    pub first: f32,
    /// Trials after the first, each 0.1 further.
    pub steps: i32,
    /// Sums absolute errors instead of squares.
    pub absolute: bool,
}

impl Affine {
    /// What a trial divides by the range of the sub-block.
    pub(crate) fn trial(self, step: i32) -> f32 {
        self.first + 0.1 * step as f32 + f32::from(self.max_code)
    }

    /// Finds scale and minimum for codes from 0 to `max_code`; gives the scale and the minimum's
    /// negative. The minimum moves during the search, and later trials start from it.
    pub(crate) fn search<const N: usize>(
        self,
        x: &[f32; N],
        weights: &[f32; N],
        codes: &mut [u8; N],
    ) -> (f32, f32) {
        let (mut min, mut max) = (x[0], x[0]);
        let mut sum_w = weights[0];
        let mut sum_x = sum_w * x[0];
        for (&v, &w) in x.iter().zip(weights).skip(1) {
            if v < min {
                min = v;
            }
            if v > max {
                max = v;
            }
            sum_w += w;
            sum_x += w * v;
        }
        if min > 0.0 {
            min = 0.0;
        }
        if max == min {
            codes.fill(0);
            return (0.0, -min);
        }
        let code = |iscale: f32, min: f32, v: f32| {
            nearest_int(iscale * (v - min)).clamp(0, i32::from(self.max_code)) as u8
        };
        let error = |codes: &[u8; N], scale: f32, min: f32| {
            let mut sum = 0.0;
            for ((&v, &w), &l) in x.iter().zip(weights).zip(codes) {
                let apart = scale * f32::from(l) + min - v;
                let apart = if self.absolute {
                    apart.abs()
                } else {
                    apart * apart
                };
                sum += w * apart;
            }
            sum
        };
        let iscale = f32::from(self.max_code) / (max - min);
        let mut scale = 1.0 / iscale;
        for (l, &v) in codes.iter_mut().zip(x) {
            *l = code(iscale, min, v);
        }
        let mut best = error(codes, scale, min);
        let mut trial = [0u8; N];
        for step in 0..=self.steps {
            let iscale = self.trial(step) / (max - min);
            let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
            for ((l, &v), &w) in trial.iter_mut().zip(x).zip(weights) {
                *l = code(iscale, min, v);
                let wide = f32::from(*l);
                sum_l += w * wide;
                sum_l2 += w * wide * wide;
                sum_xl += w * wide * v;
            }
            let determinant = sum_w * sum_l2 - sum_l * sum_l;
            if determinant > 0.0 {
                let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
                let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
                if this_min > 0.0 {
                    this_min = 0.0;
                    this_scale = sum_xl / sum_l2;
                }
                let found = error(&trial, this_scale, this_min);
                if found < best {
                    *codes = trial;
                    best = found;
                    scale = this_scale;
                    min = this_min;
                }
            }
        }
        (scale, -min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_half_to_even_and_wrap_far_out() {
        for (value, expected) in [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2)] {
            assert_eq!(nearest_int(value), expected, "{value}");
        }
        assert_eq!(nearest_int(f32::INFINITY), -0x0040_0000);
        assert_eq!(nearest_int(f32::NAN), 0);
        assert_eq!(nearest_int(4_194_303.0), 4_194_303);
    }

    #[test]
    fn what_fits_no_integer_is_the_least() {
        assert_eq!(truncate(-3.9), -3);
        assert_eq!(truncate(2_147_483_648.0), i32::MIN);
        assert_eq!(truncate(f32::NAN), i32::MIN);
        assert_eq!(truncate(f32::NEG_INFINITY), i32::MIN);
    }
}
