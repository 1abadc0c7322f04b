//! `Q8_0`: a half `d`, then 32 signed bytes; weight = d * q.
//!
//! Reference: `quantize_row_q8_0_ref`. Quotients are taken with the unrounded scale.

#![allow(clippy::cast_possible_truncation)] // the reference narrows by dropping high bits

use crate::half::{put_scale, scale};
use crate::search::truncate;

pub(crate) const WEIGHTS: usize = 32;
pub(crate) const BYTES: usize = 34;

pub(crate) fn quantize(x: &[f32; WEIGHTS], block: &mut [u8; BYTES]) {
    let largest = x.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    let d = largest / 127.0;
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_scale(block, 0, d);
    for (q, v) in block[2..].iter_mut().zip(x) {
        *q = truncate((v * id).round()) as u8;
    }
}

pub(crate) fn dequantize(block: &[u8; BYTES], y: &mut [f32; WEIGHTS]) {
    let d = scale(block, 0);
    for (v, q) in y.iter_mut().zip(&block[2..]) {
        *v = f32::from(q.cast_signed()) * d;
    }
}
