//! Decodes float tensors to `f64`, and compares two of them, for `diff --stats`.
//!
//! Every value of these types is exactly an `f64`. Sources: IEEE 754; OCP 8-bit floating point
//! specification 1.0 (E4M3 has no infinity, E5M2 has); <https://arxiv.org/abs/2206.02915> (FNUZ:
//! no negative zero, 0x80 is NaN, bias one higher); OCP microscaling 1.0 (E8M0).

use crate::Dtype;

/// Iterates over the values of a float tensor. Made by [`floats`].
#[derive(Debug, Clone)]
pub struct Floats<'b> {
    chunks: std::slice::ChunksExact<'b, u8>,
    decode: fn(&[u8]) -> f64,
}

impl Iterator for Floats<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        self.chunks.next().map(self.decode)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }
}

impl ExactSizeIterator for Floats<'_> {}

/// The values in `bytes`, or nothing when `dtype` is no plain float type. A last incomplete element
/// is left out.
pub fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Floats<'_>> {
    let (width, decode): (usize, fn(&[u8]) -> f64) = match dtype {
        Dtype::F64 => (8, f64_le),
        Dtype::F32 => (4, f32_le),
        Dtype::BF16 => (2, bf16_le),
        Dtype::F16 => (2, f16_le),
        Dtype::F8_E4M3 => (1, e4m3),
        Dtype::F8_E5M2 => (1, e5m2),
        Dtype::F8_E8M0 => (1, e8m0),
        Dtype::F8_E4M3FNUZ => (1, e4m3_fnuz),
        Dtype::F8_E5M2FNUZ => (1, e5m2_fnuz),
        _ => return None,
    };
    Some(Floats {
        chunks: bytes.chunks_exact(width),
        decode,
    })
}

/// How far two runs of values are apart.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Difference {
    /// Pairs where both are finite.
    pub compared: u64,
    /// Pairs where either is not finite; they do not count in the figures below.
    pub not_finite: u64,
    /// Pairs whose values differ.
    pub changed: u64,
    /// The largest absolute difference.
    pub largest: f64,
    /// The sum of absolute differences.
    pub sum: f64,
}

impl Difference {
    /// The mean absolute difference, 0 where nothing was compared.
    pub fn mean(&self) -> f64 {
        if self.compared == 0 {
            return 0.0;
        }
        self.sum / self.compared as f64
    }

    /// Adds what another part of the same tensor gave.
    pub fn merge(&mut self, other: &Self) {
        self.compared += other.compared;
        self.not_finite += other.not_finite;
        self.changed += other.changed;
        self.largest = self.largest.max(other.largest);
        self.sum += other.sum;
    }

    fn add(&mut self, a: f64, b: f64) {
        let apart = (a - b).abs();
        if apart.is_finite() {
            self.compared += 1;
            self.changed += u64::from(apart != 0.0);
            self.largest = self.largest.max(apart);
            self.sum += apart;
        } else {
            self.not_finite += 1;
            self.changed += u64::from(a != b && !(a.is_nan() && b.is_nan()));
        }
    }
}

/// Compares two runs of values of the given types, element by element, up to the shorter one.
/// Nothing when either type is no plain float type.
pub fn difference(a: (Dtype, &[u8]), b: (Dtype, &[u8])) -> Option<Difference> {
    let mut out = Difference::default();
    match (a.0, b.0) {
        // The common cases without a call per element.
        (Dtype::BF16, Dtype::BF16) => pairs::<2>(a.1, b.1, bf16_le, &mut out),
        (Dtype::F16, Dtype::F16) => pairs::<2>(a.1, b.1, f16_le, &mut out),
        (Dtype::F32, Dtype::F32) => pairs::<4>(a.1, b.1, f32_le, &mut out),
        _ => {
            for (x, y) in floats(a.0, a.1)?.zip(floats(b.0, b.1)?) {
                out.add(x, y);
            }
        }
    }
    Some(out)
}

fn pairs<const N: usize>(a: &[u8], b: &[u8], decode: impl Fn(&[u8]) -> f64, out: &mut Difference) {
    for (x, y) in a.chunks_exact(N).zip(b.chunks_exact(N)) {
        if x == y && decode(x).is_finite() {
            out.compared += 1;
        } else {
            out.add(decode(x), decode(y));
        }
    }
}

fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("chunks are as wide as the type")
}

fn f64_le(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(word(bytes))
}

fn f32_le(bytes: &[u8]) -> f64 {
    f32::from_le_bytes(word(bytes)).into()
}

fn bf16_le(bytes: &[u8]) -> f64 {
    f32::from_bits(u32::from(u16::from_le_bytes(word(bytes))) << 16).into()
}

fn f16_le(bytes: &[u8]) -> f64 {
    let bits = u16::from_le_bytes(word(bytes));
    small(u32::from(bits), 5, 10, 15, true)
}

fn e5m2(bytes: &[u8]) -> f64 {
    small(bytes[0].into(), 5, 2, 15, true)
}

fn e4m3(bytes: &[u8]) -> f64 {
    match bytes[0] {
        0x7f | 0xff => f64::NAN,
        bits => small(bits.into(), 4, 3, 7, false),
    }
}

fn e4m3_fnuz(bytes: &[u8]) -> f64 {
    match bytes[0] {
        0x80 => f64::NAN,
        bits => small(bits.into(), 4, 3, 8, false),
    }
}

fn e5m2_fnuz(bytes: &[u8]) -> f64 {
    match bytes[0] {
        0x80 => f64::NAN,
        bits => small(bits.into(), 5, 2, 16, false),
    }
}

fn e8m0(bytes: &[u8]) -> f64 {
    match bytes[0] {
        0xff => f64::NAN,
        bits => power_of_two(i32::from(bits) - 127),
    }
}

/// A sign, an exponent and a fraction of the given widths in the low bits of `bits`; with `special`,
/// the highest exponent means infinity and NaN.
#[inline]
fn small(bits: u32, exponent_bits: u32, fraction_bits: u32, bias: i32, special: bool) -> f64 {
    let fraction = bits & ((1 << fraction_bits) - 1);
    let highest = (1 << exponent_bits) - 1;
    let exponent = (bits >> fraction_bits) & highest;
    let sign = if bits >> (exponent_bits + fraction_bits) & 1 == 1 {
        -1.0
    } else {
        1.0
    };
    let magnitude = if special && exponent == highest {
        if fraction == 0 {
            f64::INFINITY
        } else {
            f64::NAN
        }
    } else {
        let implied = if exponent == 0 { 0 } else { 1 << fraction_bits };
        let shift = exponent.max(1).cast_signed() - bias - fraction_bits.cast_signed();
        f64::from(implied + fraction) * power_of_two(shift)
    };
    sign * magnitude
}

/// `2^exponent` for exponents of normal `f64` values.
fn power_of_two(exponent: i32) -> f64 {
    let biased = u64::try_from(exponent + 1023).expect("no type here has an exponent below -1022");
    f64::from_bits(biased << 52)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    fn one(dtype: Dtype, bytes: &[u8]) -> f64 {
        let mut values = floats(dtype, bytes).unwrap();
        let value = values.next().unwrap();
        assert_eq!(values.next(), None);
        value
    }

    #[test]
    fn known_values_decode() {
        assert_eq!(one(Dtype::F16, &0x3c00_u16.to_le_bytes()), 1.0);
        assert_eq!(one(Dtype::F16, &0xc000_u16.to_le_bytes()), -2.0);
        assert_eq!(one(Dtype::F16, &0x0001_u16.to_le_bytes()), 2f64.powi(-24));
        assert_eq!(one(Dtype::F16, &0x7bff_u16.to_le_bytes()), 65504.0);
        assert_eq!(one(Dtype::F16, &0x7c00_u16.to_le_bytes()), f64::INFINITY);
        assert!(one(Dtype::F16, &0x7e00_u16.to_le_bytes()).is_nan());
        assert_eq!(one(Dtype::BF16, &0x3f80_u16.to_le_bytes()), 1.0);
        assert_eq!(
            one(Dtype::BF16, &0xff80_u16.to_le_bytes()),
            f64::NEG_INFINITY
        );
        assert_eq!(one(Dtype::F8_E4M3, &[0x7e]), 448.0);
        assert_eq!(one(Dtype::F8_E4M3, &[0x01]), 2f64.powi(-9));
        assert!(one(Dtype::F8_E4M3, &[0xff]).is_nan());
        assert_eq!(one(Dtype::F8_E5M2, &[0x7b]), 57344.0);
        assert_eq!(one(Dtype::F8_E5M2, &[0xfc]), f64::NEG_INFINITY);
        assert_eq!(one(Dtype::F8_E4M3FNUZ, &[0x7f]), 240.0);
        assert!(one(Dtype::F8_E4M3FNUZ, &[0x80]).is_nan());
        assert_eq!(one(Dtype::F8_E5M2FNUZ, &[0x7f]), 57344.0);
        assert_eq!(one(Dtype::F8_E8M0, &[127]), 1.0);
        assert_eq!(one(Dtype::F8_E8M0, &[0]), 2f64.powi(-127));
        assert!(one(Dtype::F8_E8M0, &[255]).is_nan());
    }

    #[test]
    fn every_half_agrees_with_an_arithmetic_twin() {
        for bits in 0..=u16::MAX {
            let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, bits & 1023);
            let magnitude = match (exponent, fraction) {
                (31, 0) => f64::INFINITY,
                (31, _) => f64::NAN,
                (0, f) => f64::from(f) / 1024.0 * 2f64.powi(-14),
                (e, f) => (1.0 + f64::from(f) / 1024.0) * 2f64.powi(i32::from(e) - 15),
            };
            let expected = if sign == 1 { -magnitude } else { magnitude };
            let found = one(Dtype::F16, &bits.to_le_bytes());
            assert!(
                found == expected || found.is_nan() && expected.is_nan(),
                "{bits:#06x}"
            );
        }
    }

    #[test]
    fn integer_and_quantized_types_are_no_floats() {
        assert!(floats(Dtype::I8, &[0]).is_none());
        assert!(difference((Dtype::Q8_0, &[]), (Dtype::F32, &[])).is_none());
    }

    #[test]
    fn difference_counts_what_changed() {
        let bytes = |values: &[f32]| {
            values
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let a = bytes(&[1.0, 2.0, f32::NAN, f32::INFINITY, -1.0]);
        let b = bytes(&[1.0, 2.5, f32::NAN, 3.0, 1.0]);
        let found = difference((Dtype::F32, &a), (Dtype::F32, &b)).unwrap();
        let expected = Difference {
            compared: 3,
            not_finite: 2,
            changed: 3,
            largest: 2.0,
            sum: 2.5,
        };
        assert_eq!(found, expected);
        let across = difference((Dtype::F32, &a[..4]), (Dtype::BF16, &[0x80, 0x3f])).unwrap();
        assert_eq!((across.compared, across.largest), (1, 0.0));
    }
}
