//! The arithmetic: a scale for weights that share one, and a code for each weight. All in singles, nothing fused.
//!
//! ```text
//! scale = max(round(largest / divisor), 2^-126)    rounded half to even to the type that it is stored in
//! code  = round(clamp(weight / scale, least, most))    half to even, by the stored scale
//! ```
//!
//! The division by the divisor and that by the scale are divisions of singles, never products with an inverse. The
//! least scale is the smallest normal number: of weights that are all zero, too, so that no reader divides by zero.
//! Codes of 4 bits reach further down than up, so that the scale of a group whose largest weight is positive is negative:
//! that weight gets the code -8, and next to nothing is clamped.

use lode_tensors::ByteRange;

use crate::block::BlockType;
use crate::block_rows::SourceRows;
use crate::half::{from_bf16, to_bf16};
use crate::limits::STRIP_WEIGHTS;
use crate::path::Path;
use crate::search::nearest_int;
use crate::source::SourceRange;
use crate::virtual_file::EncodeError;
use crate::weights::Source;

/// The smallest scale.
const SCALE_MIN: f32 = f32::MIN_POSITIVE;

/// What a weight becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// An 8-bit float of 4 exponent and 3 fraction bits, without infinities: E4M3, up to 448.
    Float8,
    /// A whole number of 8 bits.
    Int8,
    /// A whole number of 4 bits plus 8, two to a byte, the first in the low half.
    Int4,
}

impl Code {
    /// The least and the largest value.
    pub(crate) const fn bounds(self) -> (f32, f32) {
        match self {
            Self::Float8 => (-448.0, 448.0),
            Self::Int8 => (-128.0, 127.0),
            Self::Int4 => (-8.0, 7.0),
        }
    }

    /// What the largest magnitude is divided by: of 8 bits half of their span, as compressed-tensors does.
    const fn divisor(self) -> f32 {
        match self {
            Self::Float8 => 448.0,
            Self::Int8 => 127.5,
            Self::Int4 => 8.0,
        }
    }

    /// Codes in a byte.
    pub(crate) const fn per_byte(self) -> usize {
        match self {
            Self::Float8 | Self::Int8 => 1,
            Self::Int4 => 2,
        }
    }

    /// The scale of weights of this largest magnitude, as the bits of a brain float.
    pub(crate) fn brain_scale(self, largest: f32) -> u16 {
        to_bf16((largest / self.divisor()).max(SCALE_MIN))
    }

    /// The same of weights whose largest should get the least code, so that the scale may be negative.
    pub(crate) fn signed_brain_scale(self, x: &[f32], largest: f32) -> u16 {
        const NEGATIVE: u16 = 0x8000;
        let positive = x.iter().fold(false, |any, &v| any | (v == largest));
        let bits = self.brain_scale(largest);
        if positive && largest > 0.0 {
            bits | NEGATIVE
        } else {
            bits
        }
    }

    /// The scale of weights of this largest magnitude.
    pub(crate) fn single_scale(self, largest: f32) -> f32 {
        (largest / self.divisor()).max(SCALE_MIN)
    }

    /// Codes of finite weights that a scale was made for. [`Code::Int4`] takes an even number of them.
    pub(crate) fn put(self, x: &[f32], scale: f32, out: &mut [u8]) {
        let (least, most) = self.bounds();
        let value = |v: f32| (v / scale).clamp(least, most);
        // Whole numbers of few bits: nothing is cut off below.
        let low = |whole: i32| whole.to_le_bytes()[0];
        match self {
            Self::Float8 => {
                for (out, v) in out.iter_mut().zip(x) {
                    *out = to_e4m3(value(*v));
                }
            }
            Self::Int8 => {
                for (out, v) in out.iter_mut().zip(x) {
                    *out = low(nearest_int(value(*v)));
                }
            }
            Self::Int4 => {
                for (out, [a, b]) in out.iter_mut().zip(x.as_chunks().0) {
                    let code = |v: f32| low(nearest_int(value(v)) + 8);
                    *out = code(*a) | code(*b) << 4;
                }
            }
        }
    }
}

/// Rounds a magnitude up to 448 to E4M3, half to even.
fn to_e4m3(value: f32) -> u8 {
    /// Bits of 2^-6, the least normal number, and of the shift between the exponents.
    const LEAST_NORMAL: u32 = 0x3c80_0000;
    const EXPONENT_SHIFT: u32 = 120 << 23;
    /// Singles from here up to twice as much lie as far apart as the smallest numbers of the format do: 2^-9.
    const SPACING: f32 = 16_384.0;
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let code = if magnitude >= LEAST_NORMAL {
        let shifted = magnitude - EXPONENT_SHIFT;
        (shifted + 0x7_ffff + (shifted >> 20 & 1)) >> 20
    } else {
        (f32::from_bits(magnitude) + SPACING).to_bits() - SPACING.to_bits()
    };
    (bits >> 24 & 0x80 | code).to_le_bytes()[0]
}

/// The scale that a brain float says.
pub(crate) fn brain(bits: u16) -> f32 {
    from_bf16(bits)
}

/// A place for weights that are read, to be used again and again.
pub(crate) type Strip = [f32; STRIP_WEIGHTS];
pub(crate) const NO_WEIGHTS: Strip = [0.0; STRIP_WEIGHTS];

/// Weights of a matrix: where they lie, and where the first stands in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    from: BlockType,
    bytes: &'a [u8],
    start: u64,
}

impl<'a> Run<'a> {
    /// The bytes are whole floats of the matrix, as those that [`weights_at`] names.
    pub(crate) fn new(matrix: &SourceRows, start: u64, bytes: &'a [u8]) -> Self {
        debug_assert_eq!(bytes.len() % width(matrix.from), 0, "floats are whole");
        Self {
            from: matrix.from,
            bytes,
            start,
        }
    }

    /// Calls `f` with pieces of singles and the position of each, after it was found finite, with its magnitude.
    pub(crate) fn pieces(
        self,
        path: Path,
        strip: &mut Strip,
        mut f: impl FnMut(usize, &[f32], f32),
    ) -> Result<(), EncodeError> {
        let width = width(self.from);
        let pieces = self.bytes.chunks(STRIP_WEIGHTS * width);
        for (at, bytes) in (0..).step_by(STRIP_WEIGHTS).zip(pieces) {
            let strip = &mut strip[..bytes.len() / width];
            let largest = path.decode(&Source::Blocks(self.from, bytes), strip);
            if !largest.is_finite() {
                let bad = strip.iter().position(|v| !v.is_finite()).unwrap_or(0);
                return Err(EncodeError::NotFinite {
                    at: self.start + (at + bad) as u64,
                });
            }
            f(at, strip, largest);
        }
        Ok(())
    }

    /// The largest magnitude.
    pub(crate) fn largest(self, path: Path, strip: &mut Strip) -> Result<f32, EncodeError> {
        let mut all = 0.0_f32;
        self.pieces(path, strip, |_, _, largest| all = all.max(largest))?;
        Ok(all)
    }

    /// Codes of one scale, one to a byte.
    pub(crate) fn put(
        self,
        path: Path,
        strip: &mut Strip,
        code: Code,
        scale: f32,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        debug_assert_eq!(code.per_byte(), 1, "bytes are counted like weights");
        self.pieces(path, strip, |at, x, _| {
            path.code(code, x, scale, &mut out[at..at + x.len()]);
        })
    }
}

/// Bytes of a float.
fn width(from: BlockType) -> usize {
    match from {
        BlockType::F32 => 4,
        _ => 2,
    }
}

/// Where weights of a matrix lie in the source; `start` and `end` count in the matrix.
pub(crate) fn weights_at(matrix: &SourceRows, start: u64, end: u64) -> SourceRange {
    let bytes = width(matrix.from) as u64;
    SourceRange {
        file: matrix.file,
        range: ByteRange {
            start: matrix.start + start * bytes,
            end: matrix.start + end * bytes,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a code of E4M3 says.
    fn from_e4m3(code: u8) -> f32 {
        let fraction = f32::from(code & 7);
        let magnitude = match code >> 3 & 15 {
            0 => fraction / 512.0,
            exponent => (1.0 + fraction / 8.0) * 2f32.powi(i32::from(exponent) - 7),
        };
        if code & 0x80 == 0 {
            magnitude
        } else {
            -magnitude
        }
    }

    #[test]
    fn every_e4m3_comes_back_and_what_lies_between_goes_to_the_nearer_and_ties_to_even() {
        for code in 0..=0x7e_u8 {
            let value = from_e4m3(code);
            assert_eq!(to_e4m3(value), code, "{code:#04x}");
            assert_eq!(to_e4m3(-value), code | 0x80, "{code:#04x}");
            if code == 0x7e {
                assert!(value == 448.0);
                continue;
            }
            let middle = value + (from_e4m3(code + 1) - value) / 2.0; // exact
            assert_eq!(to_e4m3(middle), code + (code & 1), "{code:#04x}");
            assert_eq!(to_e4m3(f32::from_bits(middle.to_bits() - 1)), code);
            assert_eq!(to_e4m3(f32::from_bits(middle.to_bits() + 1)), code + 1);
        }
        assert_eq!(to_e4m3(f32::from_bits(1)), 0);
    }

    #[test]
    fn codes_never_leave_their_range_whatever_the_scale_was_rounded_to() {
        for code in [Code::Float8, Code::Int8, Code::Int4] {
            for largest in [1.0, 0.3, 1e-30, f32::MIN_POSITIVE, 1e-45, 0.0, 1e38] {
                let x = [largest, -largest, 0.0, largest / 2.0];
                let scale = match code {
                    Code::Int4 => brain(code.signed_brain_scale(&x, largest)),
                    _ => brain(code.brain_scale(largest)),
                };
                let negative = code == Code::Int4 && largest > 0.0;
                assert!(
                    scale.is_normal() && (scale < 0.0) == negative,
                    "{code:?} {largest} {scale}"
                );
                let mut out = [0; 4];
                code.put(&x, scale, &mut out[..4 / code.per_byte()]);
                let back: Vec<f32> = match code {
                    Code::Float8 => out.iter().map(|&c| from_e4m3(c)).collect(),
                    Code::Int8 => out.iter().map(|&c| f32::from(c.cast_signed())).collect(),
                    Code::Int4 => (0..4)
                        .map(|i| f32::from(out[i / 2] >> (4 * (i % 2)) & 15) - 8.0)
                        .collect(),
                };
                // A step of the codes next to the largest, and what the scale's rounding makes of the clamp.
                let step = scale.abs() * if code == Code::Float8 { 32.0 } else { 1.05 };
                for (x, code) in x.iter().zip(back) {
                    assert!(
                        (x - code * scale).abs() <= step,
                        "{x} became {code}*{scale}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_largest_weight_of_a_group_gets_the_least_code() {
        for (x, scale, codes) in [
            ([1.0, -0.5, 0.25, 0.0], -0.125, [0, 12, 6, 8]),
            ([-1.0, 0.5, 0.25, 0.0], 0.125, [0, 12, 10, 8]),
            // Either sign: that of the positive one counts.
            ([-1.0, 1.0, 0.0, 0.0], -0.125, [15, 0, 8, 8]),
        ] {
            assert!(brain(Code::Int4.signed_brain_scale(&x, 1.0)) == scale);
            let mut out = [0; 2];
            Code::Int4.put(&x, scale, &mut out);
            let found = [out[0] & 15, out[0] >> 4, out[1] & 15, out[1] >> 4];
            assert_eq!(found, codes, "{x:?}");
        }
    }

    #[test]
    fn every_path_gives_the_same_codes() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 32).to_le_bytes()
        };
        for code in [Code::Float8, Code::Int8, Code::Int4] {
            for round in 0..400 {
                let [count, shift, kind, ..] = next();
                let sign = if count % 2 == 0 { 1.0 } else { -1.0 };
                let scale = sign * 2f32.powi(i32::from(shift % 200) - 120);
                let x: Vec<f32> = (0..usize::from(count) / 2 * 2)
                    .map(|_| {
                        let [a, b, c, d, ..] = next();
                        match kind % 3 {
                            // Any finite bits; ties and their neighbours; what lies in between.
                            0 => f32::from_le_bytes([a, b, c, d & 0x7f]),
                            1 => (f32::from(a) - 128.0) * 0.5 * scale,
                            _ => (f32::from(a) - f32::from(b) / 256.0 - 128.0) * 4.0 * scale,
                        }
                    })
                    .map(|v| if v.is_finite() { v } else { 1.0 })
                    .collect();
                let mut expected = vec![0x55; x.len() / code.per_byte()];
                code.put(&x, scale, &mut expected);
                for path in Path::available() {
                    let mut found = vec![0xaa; expected.len()];
                    path.code(code, &x, scale, &mut found);
                    assert!(found == expected, "{code:?} {round} on {}", path.name());
                }
            }
        }
    }
}
