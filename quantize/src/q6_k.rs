//! `Q6_K`: 16 sub-blocks of 16 codes of 6 bits, each with a scale of 8 bits.
//!
//! 128 bytes of low halves, 64 bytes of high bits, 16 signed scales, and the half `d` last. Each 128 weights
//! take 64 and 32 bytes: low halves of codes l and l + 64 share byte l (those of l + 32 and l + 96 byte
//! l + 32), and the high bits of all four share byte l. Weight = d * scale * (q - 32).
//! Reference: `quantize_row_q6_K_ref`.

#![allow(clippy::cast_possible_truncation)] // codes are clamped to 6 bits; scales narrow as the reference's

use crate::half::{put_scale, scale};
use crate::search::{ZERO_BELOW, nearest_int, symmetric};

pub(crate) const WEIGHTS: usize = 256;
pub(crate) const BYTES: usize = 210;
/// Sub-blocks in a block.
pub(crate) const PARTS: usize = 16;
/// Weights in a sub-block.
pub(crate) const PART: usize = 16;
/// Half of the codes.
pub(crate) const LEVELS: i32 = 32;
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

/// Writes the scales; gives those that codes are taken with, or nothing when the block counts as zero.
pub(crate) fn put_scales(scales: &[f32; PARTS], block: &mut [u8; BYTES]) -> Option<[f32; PARTS]> {
    let (mut largest, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > largest {
            largest = scale.abs();
            max = scale;
        }
    }
    if largest < ZERO_BELOW {
        block.fill(0);
        return None;
    }
    let iscale = -128.0 / max;
    let d = put_scale(block, D, 1.0 / iscale);
    Some(std::array::from_fn(|part| {
        let scale = nearest_int(iscale * scales[part]).min(127) as i8;
        block[SCALES + part] = scale.cast_unsigned();
        d * f32::from(scale)
    }))
}

/// Packs 256 codes.
pub(crate) fn pack(codes: &[u8; WEIGHTS], block: &mut [u8; BYTES]) {
    for (half, codes) in codes.chunks_exact(128).enumerate() {
        let (low, high) = block.split_at_mut(HIGH);
        let (low, high) = (&mut low[64 * half..][..64], &mut high[32 * half..][..32]);
        for l in 0..32 {
            let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
            low[l] = a & 15 | c << 4;
            low[l + 32] = b & 15 | d << 4;
            high[l] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
}

pub(crate) fn quantize(x: &[f32; WEIGHTS], block: &mut [u8; BYTES]) {
    let mut codes = [0; WEIGHTS];
    let mut scales = [0.0; PARTS];
    let (parts, _) = x.as_chunks::<PART>();
    let (code_parts, _) = codes.as_chunks_mut::<PART>();
    for ((part, codes), scale) in parts.iter().zip(&mut *code_parts).zip(&mut scales) {
        *scale = symmetric(part, LEVELS, codes);
    }
    let Some(read) = put_scales(&scales, block) else {
        return;
    };
    for ((part, codes), scale) in parts.iter().zip(code_parts).zip(read) {
        if scale == 0.0 {
            continue; // the search's codes stay
        }
        for (code, v) in codes.iter_mut().zip(part) {
            *code = (nearest_int(v / scale).clamp(-LEVELS, LEVELS - 1) + LEVELS) as u8;
        }
    }
    pack(&codes, block);
}

pub(crate) fn dequantize(block: &[u8; BYTES], y: &mut [f32; WEIGHTS]) {
    let d = scale(block, D);
    for (at, v) in y.iter_mut().enumerate() {
        let (half, quarter, l) = (at / 128, at % 128 / 32, at % 32);
        let low = block[64 * half + 32 * (quarter % 2) + l] >> (quarter / 2 * 4) & 15;
        let high = block[HIGH + 32 * half + l] >> (2 * quarter) & 3;
        let scale = block[SCALES + at / PART].cast_signed();
        *v = d * f32::from(scale) * (f32::from(low | high << 4) - 32.0);
    }
}
