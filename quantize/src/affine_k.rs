//! `Q4_K` and `Q5_K`: 8 sub-blocks of 32 codes, each with a scale and a minimum of 6 bits.
//!
//! Halves `d` and `dmin`, 12 bytes of scales and minima, in `Q5_K` 32 bytes of fifth bits (bits 2c and
//! 2c + 1 of byte j belong to codes 64c + j and 64c + 32 + j), then 32 bytes for each 64 weights, low halves
//! first. Weight = d * scale * q - dmin * min. Reference: `quantize_row_q4_K_ref`, `quantize_row_q5_K_ref`.

#![allow(clippy::cast_possible_truncation)] // codes are clamped to 5 bits, scales to 6

use crate::half::{put_scale, scale};
use crate::search::{Affine, largest, nearest_int};

pub(crate) const WEIGHTS: usize = 256;
pub(crate) const BYTES_4: usize = 144;
pub(crate) const BYTES_5: usize = 176;
/// Sub-blocks in a block.
pub(crate) const PARTS: usize = 8;
/// Weights in a sub-block.
pub(crate) const PART: usize = 32;
/// Where the 12 bytes of scales and minima stand.
const SCALES: std::ops::Range<usize> = 4..16;

pub(crate) const SEARCH_4: Affine = Affine {
    max_code: 15,
    first: -1.0,
    steps: 20,
    absolute: false,
};
pub(crate) const SEARCH_5: Affine = Affine {
    max_code: 31,
    first: -0.5,
    steps: 15,
    absolute: false,
};

/// Writes `d`, `dmin` and the 6-bit scales and minima; gives for each sub-block what its codes are
/// taken with: its scale and its minimum as readers will see them.
pub(crate) fn put_scales(
    scales: &[f32; PARTS],
    mins: &[f32; PARTS],
    block: &mut [u8],
) -> [(f32, f32); PARTS] {
    let (max_scale, max_min) = (largest(scales), largest(mins));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    let (inv_scale, inv_min) = (inverse(max_scale), inverse(max_min));
    let packed = &mut block[SCALES];
    for j in 0..PARTS {
        let scale = (nearest_int(inv_scale * scales[j]) as u8).min(63);
        let min = (nearest_int(inv_min * mins[j]) as u8).min(63);
        if j < 4 {
            packed[j] = scale;
            packed[j + 4] = min;
        } else {
            packed[j + 4] = scale & 15 | (min & 15) << 4;
            packed[j - 4] |= scale >> 4 << 6;
            packed[j] |= min >> 4 << 6;
        }
    }
    put_scale(block, 0, max_scale / 63.0);
    put_scale(block, 2, max_min / 63.0);
    read_scales(block)
}

/// The scale and the minimum of each sub-block.
fn read_scales(block: &[u8]) -> [(f32, f32); PARTS] {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let packed = &block[SCALES];
    std::array::from_fn(|j| {
        let (scale, min) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (
                packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
                packed[j + 4] >> 4 | packed[j] >> 6 << 4,
            )
        };
        (d * f32::from(scale), dmin * f32::from(min))
    })
}

/// Searches scales and takes codes; everything but the packing of codes.
fn codes(search: Affine, x: &[f32; WEIGHTS], block: &mut [u8]) -> [u8; WEIGHTS] {
    let mut codes = [0; WEIGHTS];
    let (mut scales, mut mins) = ([0.0; PARTS], [0.0; PARTS]);
    let (parts, _) = x.as_chunks::<PART>();
    let (code_parts, _) = codes.as_chunks_mut::<PART>();
    for (j, (part, codes)) in parts.iter().zip(&mut *code_parts).enumerate() {
        let mut sum = 0.0;
        for v in part {
            sum += v * v;
        }
        let mean = (sum / PART as f32).sqrt();
        let weights = part.map(|v| mean + v.abs());
        (scales[j], mins[j]) = search.search(part, &weights, codes);
    }
    let read = put_scales(&scales, &mins, block);
    for ((part, codes), (scale, min)) in parts.iter().zip(code_parts).zip(read) {
        if scale == 0.0 {
            continue; // the search's codes stay
        }
        for (code, v) in codes.iter_mut().zip(part) {
            *code = nearest_int((v + min) / scale).clamp(0, i32::from(search.max_code)) as u8;
        }
    }
    codes
}

/// Packs 256 codes of 4 bits, 64 to 32 bytes.
pub(crate) fn pack(codes: &[u8; WEIGHTS], out: &mut [u8]) {
    for (codes, out) in codes.chunks_exact(64).zip(out.chunks_exact_mut(32)) {
        for (j, byte) in out.iter_mut().enumerate() {
            *byte = codes[j] & 15 | codes[j + 32] << 4;
        }
    }
}

/// Collects the fifth bits of 256 codes.
pub(crate) fn pack_high(codes: &[u8; WEIGHTS], out: &mut [u8]) {
    out.fill(0);
    for (part, codes) in codes.chunks_exact(PART).enumerate() {
        for (byte, code) in out.iter_mut().zip(codes) {
            *byte |= code >> 4 << part;
        }
    }
}

pub(crate) fn quantize_4(x: &[f32; WEIGHTS], block: &mut [u8; BYTES_4]) {
    let codes = codes(SEARCH_4, x, block);
    pack(&codes, &mut block[16..]);
}

pub(crate) fn quantize_5(x: &[f32; WEIGHTS], block: &mut [u8; BYTES_5]) {
    let codes = codes(SEARCH_5, x, block);
    pack_high(&codes, &mut block[16..48]);
    pack(&codes, &mut block[48..]);
}

fn dequantize(block: &[u8], high: Option<&[u8]>, low: &[u8], y: &mut [f32; WEIGHTS]) {
    let read = read_scales(block);
    for (part, (y, (scale, min))) in y.chunks_exact_mut(PART).zip(read).enumerate() {
        let low = &low[part / 2 * PART..];
        for (j, v) in y.iter_mut().enumerate() {
            let mut code = low[j] >> (part % 2 * 4) & 15;
            if let Some(high) = high {
                code |= (high[j] >> part & 1) << 4;
            }
            *v = scale * f32::from(code) - min;
        }
    }
}

pub(crate) fn dequantize_4(block: &[u8; BYTES_4], y: &mut [f32; WEIGHTS]) {
    dequantize(block, None, &block[16..], y);
}

pub(crate) fn dequantize_5(block: &[u8; BYTES_5], y: &mut [f32; WEIGHTS]) {
    dequantize(block, Some(&block[16..48]), &block[48..], y);
}
