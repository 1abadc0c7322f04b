//! `MXFP4`: a power of two (E8M0) and 32 floats of 4 bits (E2M1), packed as in `Q4_0`.
//!
//! Weight = 2^(e - 128) * v, with the levels v doubled to be whole. Reference: `quantize_row_mxfp4_ref`, but for
//! the exponent: the reference takes `floorf(log2f(max))`, whose bits depend on the C library, and here it is the
//! exponent of the largest weight itself. They differ where `log2f` rounds up to a whole number, within a few
//! units in the last place below a power of two (never for weights that were half or brain floats), and
//! below 2^-125, where the reference's exponent leaves its byte and here it stays 0.

#![allow(clippy::cast_possible_truncation)] // codes are 4 bits, exponents 8

use crate::q4::unpack;

pub(crate) const WEIGHTS: usize = 32;
pub(crate) const BYTES: usize = 17;

/// The levels, doubled.
const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the power of two that an exponent stands for.
fn half_power(exponent: u8) -> f32 {
    f32::from_bits(match exponent {
        0 => 0x0020_0000,
        1 => 0x0040_0000,
        e => u32::from(e - 1) << 23,
    })
}

/// The nearest level, the first of those equally near.
fn nearest_level(value: f32, scale: f32) -> u8 {
    let mut best = (0, (f32::from(LEVELS[0]) * scale - value).abs());
    for (at, &level) in LEVELS.iter().enumerate().skip(1) {
        let error = (f32::from(level) * scale - value).abs();
        if error < best.1 {
            best = (at as u8, error);
        }
    }
    best.0
}

pub(crate) fn quantize(x: &[f32; WEIGHTS], block: &mut [u8; BYTES]) {
    let largest = x.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    let exponent = ((largest.to_bits() >> 23) as u8).saturating_sub(2);
    let scale = half_power(exponent);
    block[0] = exponent;
    for (j, byte) in block[1..].iter_mut().enumerate() {
        *byte = nearest_level(x[j], scale) | nearest_level(x[j + 16], scale) << 4;
    }
}

pub(crate) fn dequantize(block: &[u8; BYTES], y: &mut [f32; WEIGHTS]) {
    let scale = half_power(block[0]);
    for (v, code) in y.iter_mut().zip(unpack(&block[1..])) {
        *v = f32::from(LEVELS[usize::from(code)]) * scale;
    }
}
