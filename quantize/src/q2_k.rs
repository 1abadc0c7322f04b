//! `Q2_K`: 16 sub-blocks of 16 codes of 2 bits, each with a scale and a minimum of 4 bits.
//!
//! 16 bytes of scales (low half) and minima (high half), 64 bytes of codes, then halves `d` and `dmin`.
//! Byte l of each 32 holds codes l, l + 32, l + 64 and l + 96 of its 128. Weight = d * scale * q - dmin * min.
//! Reference: `quantize_row_q2_K_ref`.

#![allow(clippy::cast_possible_truncation)] // codes are clamped to 2 bits; scales narrow as the reference's

use crate::half::{put_scale, scale};
use crate::search::{Affine, largest, nearest_int};

pub(crate) const WEIGHTS: usize = 256;
pub(crate) const BYTES: usize = 84;
pub(crate) const PARTS: usize = 16;
pub(crate) const PART: usize = 16;
pub(crate) const CODES: std::ops::Range<usize> = 16..80;
const D: usize = 80;
const D_MIN: usize = 82;

pub(crate) const SEARCH: Affine = Affine {
    max_code: 3,
    first: -0.5,
    steps: 15,
    absolute: true,
};

/// Packs 256 codes of 2 bits, 128 to 32 bytes.
pub(crate) fn pack(codes: &[u8; WEIGHTS], out: &mut [u8]) {
    for (codes, out) in codes.chunks_exact(128).zip(out.chunks_exact_mut(32)) {
        for (l, byte) in out.iter_mut().enumerate() {
            *byte = codes[l] | codes[l + 32] << 2 | codes[l + 64] << 4 | codes[l + 96] << 6;
        }
    }
}

/// The code of a weight in 64 packed bytes.
pub(crate) fn code(packed: &[u8], at: usize) -> u8 {
    packed[at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3
}

/// Writes scales and minima; gives for each sub-block what its codes are taken with.
pub(crate) fn put_scales(
    scales: &[f32; PARTS],
    mins: &[f32; PARTS],
    block: &mut [u8; BYTES],
) -> [(f32, f32); PARTS] {
    let (max_scale, max_min) = (largest(scales), largest(mins));
    let code = |max: f32, value: f32| {
        if max > 0.0 {
            nearest_int(15.0 / max * value) as u8
        } else {
            0
        }
    };
    for j in 0..PARTS {
        block[j] = code(max_scale, scales[j]) | code(max_min, mins[j]) << 4;
    }
    let part_of = |max: f32| if max > 0.0 { max / 15.0 } else { 0.0 };
    let d = put_scale(block, D, part_of(max_scale));
    let d_min = put_scale(block, D_MIN, part_of(max_min));
    std::array::from_fn(|j| {
        (
            d * f32::from(block[j] & 15),
            d_min * f32::from(block[j] >> 4),
        )
    })
}

pub(crate) fn quantize(x: &[f32; WEIGHTS], block: &mut [u8; BYTES]) {
    let mut codes = [0; WEIGHTS];
    let (mut scales, mut mins) = ([0.0f32; PARTS], [0.0f32; PARTS]);
    let (parts, _) = x.as_chunks::<PART>();
    let (code_parts, _) = codes.as_chunks_mut::<PART>();
    for (j, (part, codes)) in parts.iter().zip(&mut *code_parts).enumerate() {
        (scales[j], mins[j]) = SEARCH.search(part, &part.map(f32::abs), codes);
    }
    let read = put_scales(&scales, &mins, block);
    for ((part, codes), (scale, min)) in parts.iter().zip(code_parts).zip(read) {
        if scale == 0.0 {
            continue; // the search's codes stay
        }
        for (code, v) in codes.iter_mut().zip(part) {
            *code = nearest_int((v + min) / scale).clamp(0, 3) as u8;
        }
    }
    pack(&codes, &mut block[CODES]);
}

pub(crate) fn dequantize(block: &[u8; BYTES], y: &mut [f32; WEIGHTS]) {
    let (d, d_min) = (scale(block, D), scale(block, D_MIN));
    for (at, v) in y.iter_mut().enumerate() {
        let packed = block[at / PART];
        let (scale, min) = (d * f32::from(packed & 15), d_min * f32::from(packed >> 4));
        *v = scale * f32::from(code(&block[CODES], at)) - min;
    }
}
