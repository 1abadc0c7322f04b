//! `IQ4_NL` and `IQ4_XS`: codes of 4 bits that name uneven levels.
//!
//! `IQ4_NL` is a half `d` and 32 codes packed as in `Q4_0`. `IQ4_XS` is a half `d`, a 16-bit word with two high bits
//! of each of 8 scales, 4 bytes with their low halves, and 8 times 16 bytes of codes; a scale stands for
//! itself less 32. Reference: `quantize_row_iq4_nl_impl` as `quantize_iq4_nl` and `quantize_iq4_xs` call it.

#![allow(clippy::cast_possible_truncation)] // codes are 4 bits, scales 6

use crate::half::{put_scale, scale};
use crate::q4::unpack;
use crate::search::{ZERO_BELOW, extreme, nearest_int};

pub(crate) const WEIGHTS_NL: usize = 32;
pub(crate) const BYTES_NL: usize = 18;
pub(crate) const WEIGHTS_XS: usize = 256;
pub(crate) const BYTES_XS: usize = 136;
const PARTS: usize = 8;
const PART: usize = 32;
/// Trials on either side of the first.
const TRIALS: i32 = 7;

const LEVELS: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// The nearest level, the upper one when both are equally near.
fn nearest_level(value: f32) -> u8 {
    let level = |at: usize| f32::from(LEVELS[at]);
    if value <= level(0) {
        return 0;
    }
    if value >= level(15) {
        return 15;
    }
    let (mut low, mut high) = (0, 15);
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if value < level(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    if value - level(high - 1) < level(high) - value {
        (high - 1) as u8
    } else {
        high as u8
    }
}

/// Finds the scale of a sub-block by fifteen trials, weighting each square error with the square of the weight.
fn search(x: &[f32; PART]) -> f32 {
    let max = extreme(x);
    if max.abs() < ZERO_BELOW {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for v in x {
            let q = f32::from(LEVELS[usize::from(nearest_level(inverse * v))]);
            let w = v * v;
            sum_qx += w * q * v;
            sum_q2 += w * q * q;
        }
        (sum_qx, sum_q2)
    };
    let first = f32::from(LEVELS[0]);
    let (sum_qx, sum_q2) = sums(1.0 / (-max / first));
    let mut d = if sum_q2 > 0.0 { sum_qx / sum_q2 } else { 0.0 };
    let mut best = d * sum_qx;
    for trial in -TRIALS..=TRIALS {
        let (sum_qx, sum_q2) = sums((trial as f32 + first) / max);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            d = sum_qx / sum_q2;
            best = d * sum_qx;
        }
    }
    d
}

/// Takes the codes of a sub-block and packs them.
fn put_codes(x: &[f32; PART], scale: f32, out: &mut [u8]) {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (j, byte) in out.iter_mut().enumerate() {
        *byte = nearest_level(inverse * x[j]) | nearest_level(inverse * x[j + 16]) << 4;
    }
}

pub(crate) fn quantize_nl(x: &[f32; WEIGHTS_NL], block: &mut [u8; BYTES_NL]) {
    let d = search(x);
    put_scale(block, 0, d);
    put_codes(x, d, &mut block[2..]);
}

pub(crate) fn dequantize_nl(block: &[u8; BYTES_NL], y: &mut [f32; WEIGHTS_NL]) {
    put_levels(scale(block, 0), &block[2..], y);
}

pub(crate) fn quantize_xs(x: &[f32; WEIGHTS_XS], block: &mut [u8; BYTES_XS]) {
    let (parts, _) = x.as_chunks::<PART>();
    let mut scales = [0.0f32; PARTS];
    let (mut largest, mut max) = (0.0, 0.0);
    for (scale, part) in scales.iter_mut().zip(parts) {
        *scale = search(part);
        if scale.abs() > largest {
            largest = scale.abs();
            max = *scale;
        }
    }
    let d = -max / 32.0;
    put_scale(block, 0, d);
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut high = 0u16;
    block[4..8].fill(0);
    for (j, (part, scale)) in parts.iter().zip(scales).enumerate() {
        let l = nearest_int(id * scale).clamp(-32, 31);
        put_codes(part, d * l as f32, &mut block[8 + 16 * j..][..16]);
        let l = (l + 32) as u8;
        block[4 + j / 2] |= (l & 15) << (j % 2 * 4);
        high |= u16::from(l >> 4) << (2 * j);
    }
    block[2..4].copy_from_slice(&high.to_le_bytes());
}

pub(crate) fn dequantize_xs(block: &[u8; BYTES_XS], y: &mut [f32; WEIGHTS_XS]) {
    let d = scale(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let (parts, _) = y.as_chunks_mut::<PART>();
    for (j, part) in parts.iter_mut().enumerate() {
        let low = block[4 + j / 2] >> (j % 2 * 4) & 15;
        let scale = i16::from(low) | (high >> (2 * j) & 3).cast_signed() << 4;
        put_levels(d * f32::from(scale - 32), &block[8 + 16 * j..][..16], part);
    }
}

fn put_levels(scale: f32, packed: &[u8], y: &mut [f32; PART]) {
    for (v, code) in y.iter_mut().zip(unpack(packed)) {
        *v = scale * f32::from(LEVELS[usize::from(code)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_levels_the_nearer_wins_and_the_upper_one_ties() {
        assert_eq!(nearest_level(-500.0), 0);
        assert_eq!(nearest_level(500.0), 15);
        assert_eq!(nearest_level(7.0), 9);
        assert_eq!(nearest_level(6.9), 8);
        assert_eq!(nearest_level(0.0), 8);
        for (at, &level) in LEVELS.iter().enumerate() {
            assert_eq!(usize::from(nearest_level(f32::from(level))), at);
        }
    }
}
