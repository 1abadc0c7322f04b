//! Scalar code for runs of whole blocks: the specification that every other path must meet to the byte.

use crate::block::BlockType;
use crate::half::{to_bf16, to_f16};
use crate::{affine_k, iq4, mxfp4, q2_k, q3_k, q4, q5, q6_k, q8_0};

/// Calls `block` for each block of `W` weights and `B` bytes.
fn each<const W: usize, const B: usize>(
    x: &[f32],
    out: &mut [u8],
    block: impl Fn(&[f32; W], &mut [u8; B]),
) {
    for (x, out) in x.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        block(x, out);
    }
}

/// Makes whole blocks of finite weights.
pub(crate) fn quantize(ty: BlockType, x: &[f32], out: &mut [u8]) {
    use BlockType as T;
    match ty {
        T::F32 => each(x, out, |[v], out| *out = v.to_le_bytes()),
        T::F16 => each(x, out, |[v], out| *out = to_f16(*v).to_le_bytes()),
        T::BF16 => each(x, out, |[v], out| *out = to_bf16(*v).to_le_bytes()),
        T::Q8_0 => each(x, out, q8_0::quantize),
        T::Q4_0 => each(x, out, q4::quantize_0),
        T::Q4_1 => each(x, out, q4::quantize_1),
        T::Q5_0 => each(x, out, q5::quantize_0),
        T::Q5_1 => each(x, out, q5::quantize_1),
        T::Q2_K => each(x, out, q2_k::quantize),
        T::Q3_K => each(x, out, q3_k::quantize),
        T::Q4_K => each(x, out, affine_k::quantize_4),
        T::Q5_K => each(x, out, affine_k::quantize_5),
        T::Q6_K => each(x, out, q6_k::quantize),
        T::IQ4_NL => each(x, out, iq4::quantize_nl),
        T::IQ4_XS => each(x, out, iq4::quantize_xs),
        T::MXFP4 => each(x, out, mxfp4::quantize),
    }
}

fn each_back<const W: usize, const B: usize>(
    blocks: &[u8],
    y: &mut [f32],
    block: impl Fn(&[u8; B], &mut [f32; W]),
) {
    for (blocks, y) in blocks.as_chunks().0.iter().zip(y.as_chunks_mut().0) {
        block(blocks, y);
    }
}

/// Reads whole blocks. A scale that is not finite gives weights that are not.
pub(crate) fn dequantize(ty: BlockType, blocks: &[u8], y: &mut [f32]) {
    use BlockType as T;
    match ty {
        T::F32 => each_back(blocks, y, |b, [v]| *v = f32::from_le_bytes(*b)),
        T::F16 => each_back(blocks, y, |b, [v]| {
            *v = crate::half::from_f16(u16::from_le_bytes(*b));
        }),
        T::BF16 => each_back(blocks, y, |b, [v]| {
            *v = crate::half::from_bf16(u16::from_le_bytes(*b));
        }),
        T::Q8_0 => each_back(blocks, y, q8_0::dequantize),
        T::Q4_0 => each_back(blocks, y, q4::dequantize_0),
        T::Q4_1 => each_back(blocks, y, q4::dequantize_1),
        T::Q5_0 => each_back(blocks, y, q5::dequantize_0),
        T::Q5_1 => each_back(blocks, y, q5::dequantize_1),
        T::Q2_K => each_back(blocks, y, q2_k::dequantize),
        T::Q3_K => each_back(blocks, y, q3_k::dequantize),
        T::Q4_K => each_back(blocks, y, affine_k::dequantize_4),
        T::Q5_K => each_back(blocks, y, affine_k::dequantize_5),
        T::Q6_K => each_back(blocks, y, q6_k::dequantize),
        T::IQ4_NL => each_back(blocks, y, iq4::dequantize_nl),
        T::IQ4_XS => each_back(blocks, y, iq4::dequantize_xs),
        T::MXFP4 => each_back(blocks, y, mxfp4::dequantize),
    }
}

/// The first block whose readers would see a scale or a weight that is not finite.
pub(crate) fn overflowing(ty: BlockType, blocks: &[u8]) -> Option<usize> {
    // Of halves and brain floats alike, a full exponent means infinity or NaN.
    let (places, full): (&[usize], u16) = match ty {
        BlockType::BF16 => (&[0], 0x7f80),
        _ => (ty.scales(), 0x7c00),
    };
    if matches!(ty, BlockType::F16 | BlockType::BF16) {
        // As signed numbers, of which every machine has a fast maximum.
        let magnitude = |half: &[u8; 2]| i16::from_le_bytes(*half) & i16::MAX;
        let halves = blocks.as_chunks().0.iter();
        if halves.map(magnitude).fold(0, i16::max) < full.cast_signed() {
            return None;
        }
    }
    let is_full = |block: &[u8]| {
        places
            .iter()
            .any(|&at| u16::from_le_bytes([block[at], block[at + 1]]) & full == full)
    };
    if places.is_empty() {
        return None;
    }
    blocks.chunks_exact(ty.bytes()).position(is_full)
}
