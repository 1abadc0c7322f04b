//! `Q3_K`: 16 sub-blocks of 16 codes of 3 bits, each with a scale of 6 bits.
//!
//! 32 bytes of high bits (bit p of byte l belongs to code 32p + l), 64 bytes of low bits packed as in `Q2_K`, 12
//! bytes of scales (low halves of scale j and j + 8 in byte j, then two bits of scales j, j + 4, j + 8, j + 12 in
//! byte 8 + j), then the half `d`. Weight = d * (scale - 32) * (q - 4). Reference: `quantize_row_q3_K_ref`.

#![allow(clippy::cast_possible_truncation)] // codes are clamped to 3 bits; scales narrow as the reference's

use crate::half::{put_scale, scale};
use crate::q2_k::{code, pack};
use crate::search::{descent, nearest_int};

pub(crate) const WEIGHTS: usize = 256;
pub(crate) const BYTES: usize = 110;
pub(crate) const PARTS: usize = 16;
pub(crate) const PART: usize = 16;
const LOW: std::ops::Range<usize> = 32..96;
const SCALES: std::ops::Range<usize> = 96..108;
const D: usize = 108;

/// The scale of a sub-block, from -32 to 31.
fn part_scale(packed: &[u8], part: usize) -> i8 {
    let low = packed[part % 8] >> (part / 8 * 4) & 15;
    let high = packed[8 + part % 4] >> (part / 4 * 2) & 3;
    (low | high << 4).cast_signed() - 32
}

/// Writes the scales; gives those that codes are taken with.
pub(crate) fn put_scales(scales: &[f32; PARTS], block: &mut [u8; BYTES]) -> [f32; PARTS] {
    let (mut largest, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > largest {
            largest = scale.abs();
            max = scale;
        }
    }
    block.fill(0);
    let mut d = 0.0;
    if max != 0.0 {
        let iscale = -32.0 / max;
        for (j, &scale) in scales.iter().enumerate() {
            let l = ((nearest_int(iscale * scale) as i8).clamp(-32, 31) + 32).cast_unsigned();
            let packed = &mut block[SCALES];
            packed[j % 8] |= (l & 15) << (j / 8 * 4);
            packed[8 + j % 4] |= l >> 4 << (j / 4 * 2);
        }
        d = put_scale(block, D, 1.0 / iscale);
    }
    std::array::from_fn(|j| d * f32::from(part_scale(&block[SCALES], j)))
}

/// Packs 256 codes into a block whose high bits are clear.
pub(crate) fn put_codes(codes: &[u8; WEIGHTS], block: &mut [u8; BYTES]) {
    for (part, codes) in codes.chunks_exact(32).enumerate() {
        for (byte, code) in block.iter_mut().zip(codes) {
            *byte |= code >> 2 << part;
        }
    }
    pack(&codes.map(|code| code & 3), &mut block[LOW]);
}

pub(crate) fn quantize(x: &[f32; WEIGHTS], block: &mut [u8; BYTES]) {
    let mut codes = [0; WEIGHTS];
    let mut scales = [0.0f32; PARTS];
    let (parts, _) = x.as_chunks::<PART>();
    let (code_parts, _) = codes.as_chunks_mut::<PART>();
    for ((part, codes), scale) in parts.iter().zip(&mut *code_parts).zip(&mut scales) {
        *scale = descent(part, codes);
    }
    let read = put_scales(&scales, block);
    for ((part, codes), scale) in parts.iter().zip(code_parts).zip(read) {
        if scale == 0.0 {
            continue; // the search's codes stay
        }
        for (code, v) in codes.iter_mut().zip(part) {
            *code = (nearest_int(v / scale).clamp(-4, 3) + 4) as u8;
        }
    }
    put_codes(&codes, block);
}

pub(crate) fn dequantize(block: &[u8; BYTES], y: &mut [f32; WEIGHTS]) {
    let d = scale(block, D);
    for (at, v) in y.iter_mut().enumerate() {
        let scale = d * f32::from(part_scale(&block[SCALES], at / PART));
        let code = code(&block[LOW], at) | (block[at % 32] >> (at / 32) & 1) << 2;
        *v = scale * (f32::from(code) - 4.0);
    }
}
