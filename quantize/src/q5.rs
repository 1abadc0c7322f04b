//! `Q5_0` and `Q5_1`: 32 codes of 5 bits under one scale.
//!
//! A half `d` (and a half `m` in `Q5_1`), a 32-bit word with the fifth bit of code j at bit j, and the low
//! four bits packed as in `Q4_0`. Weight = d * (q - 16), or d * q + m.
//! Reference: `quantize_row_q5_0_ref`, `quantize_row_q5_1_ref`.

#![allow(clippy::cast_possible_truncation)] // the reference narrows by dropping high bits

use crate::half::{put_scale, scale};
use crate::q4::{bounds, unpack};
use crate::search::{extreme, truncate};

pub(crate) const WEIGHTS: usize = 32;
pub(crate) const BYTES_0: usize = 22;
pub(crate) const BYTES_1: usize = 24;

/// Writes the word of fifth bits and the packed low bits.
fn put_codes(out: &mut [u8], code: impl Fn(usize) -> u8) {
    let mut high = 0u32;
    let (word, packed) = out.split_at_mut(4);
    for (j, byte) in packed.iter_mut().enumerate() {
        let (a, b) = (code(j), code(j + WEIGHTS / 2));
        *byte = a & 15 | (b & 15) << 4;
        high |= u32::from(a >> 4 & 1) << j | u32::from(b >> 4 & 1) << (j + WEIGHTS / 2);
    }
    word.copy_from_slice(&high.to_le_bytes());
}

/// The codes of a word of fifth bits and packed low bits.
fn codes(bytes: &[u8]) -> [u8; WEIGHTS] {
    let mut codes = unpack(&bytes[4..]);
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= (bytes[j / 8] >> (j % 8) & 1) << 4;
    }
    codes
}

pub(crate) fn quantize_0(x: &[f32; WEIGHTS], block: &mut [u8; BYTES_0]) {
    let d = extreme(x) / -16.0;
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_scale(block, 0, d);
    put_codes(&mut block[2..], |at| {
        (truncate(x[at] * id + 16.5) as i8).min(31).cast_unsigned()
    });
}

pub(crate) fn dequantize_0(block: &[u8; BYTES_0], y: &mut [f32; WEIGHTS]) {
    let d = scale(block, 0);
    for (v, q) in y.iter_mut().zip(codes(&block[2..])) {
        *v = (f32::from(q) - 16.0) * d;
    }
}

pub(crate) fn quantize_1(x: &[f32; WEIGHTS], block: &mut [u8; BYTES_1]) {
    let (min, max) = bounds(x);
    let d = (max - min) / 31.0;
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_scale(block, 0, d);
    put_scale(block, 2, min);
    put_codes(&mut block[4..], |at| {
        truncate((x[at] - min) * id + 0.5) as u8
    });
}

pub(crate) fn dequantize_1(block: &[u8; BYTES_1], y: &mut [f32; WEIGHTS]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for (v, q) in y.iter_mut().zip(codes(&block[4..])) {
        *v = f32::from(q) * d + m;
    }
}
