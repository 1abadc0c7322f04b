//! `Q4_0` and `Q4_1`: 32 codes of 4 bits under one scale.
//!
//! `Q4_0` is a half `d` and 16 bytes; weight = d * (q - 8). `Q4_1` has a half `m` after `d`; weight =
//! d * q + m. Byte j holds code j in its low and code j + 16 in its high half.
//! Reference: `quantize_row_q4_0_ref`, `quantize_row_q4_1_ref`.

#![allow(clippy::cast_possible_truncation)] // the reference narrows by dropping high bits

use crate::half::{put_scale, scale};
use crate::search::{extreme, truncate};

pub(crate) const WEIGHTS: usize = 32;
pub(crate) const BYTES_0: usize = 18;
pub(crate) const BYTES_1: usize = 20;

/// The codes of 16 bytes.
pub(crate) fn unpack(bytes: &[u8]) -> [u8; WEIGHTS] {
    let mut codes = [0; WEIGHTS];
    let (low, high) = codes.split_at_mut(WEIGHTS / 2);
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
    codes
}

/// Cuts a quotient to a signed byte and clamps it from above, as the reference's `MIN(15, (int8_t)(x))`.
fn code(quotient: f32) -> u8 {
    (truncate(quotient) as i8).min(15).cast_unsigned()
}

/// As the reference's `|` of two codes, of which the lower one may have high bits in degenerate blocks.
fn put_codes(out: &mut [u8], code: impl Fn(usize) -> u8) {
    for (j, byte) in out.iter_mut().enumerate() {
        *byte = code(j) | code(j + WEIGHTS / 2) << 4;
    }
}

pub(crate) fn quantize_0(x: &[f32; WEIGHTS], block: &mut [u8; BYTES_0]) {
    let d = extreme(x) / -8.0;
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_scale(block, 0, d);
    put_codes(&mut block[2..], |at| code(x[at] * id + 8.5));
}

pub(crate) fn dequantize_0(block: &[u8; BYTES_0], y: &mut [f32; WEIGHTS]) {
    let d = scale(block, 0);
    for (v, q) in y.iter_mut().zip(unpack(&block[2..])) {
        *v = (f32::from(q) - 8.0) * d;
    }
}

/// The least and the largest weight.
pub(crate) fn bounds(x: &[f32; WEIGHTS]) -> (f32, f32) {
    x.iter().fold((f32::MAX, -f32::MAX), |(min, max), &v| {
        (if v < min { v } else { min }, if v > max { v } else { max })
    })
}

pub(crate) fn quantize_1(x: &[f32; WEIGHTS], block: &mut [u8; BYTES_1]) {
    let (min, max) = bounds(x);
    let d = (max - min) / 15.0;
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_scale(block, 0, d);
    put_scale(block, 2, min);
    put_codes(&mut block[4..], |at| code((x[at] - min) * id + 0.5));
}

pub(crate) fn dequantize_1(block: &[u8; BYTES_1], y: &mut [f32; WEIGHTS]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for (v, q) in y.iter_mut().zip(unpack(&block[4..])) {
        *v = f32::from(q) * d + m;
    }
}
