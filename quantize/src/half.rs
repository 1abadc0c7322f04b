//! Half floats (IEEE 754 binary16) and brain floats, rounded half to even as the hardware does.
//!
//! All by integer operations and one exact addition, so the bits do not depend on the machine.

/// Rounds to binary16; what is beyond its range becomes infinite.
#[allow(clippy::cast_possible_truncation)] // each branch leaves 16 bits
pub(crate) fn to_f16(value: f32) -> u16 {
    /// Bits of 65,536, of 2^-14 (the least normal half) and of the shift between the exponents.
    const BEYOND: u32 = 0x4780_0000;
    const LEAST_NORMAL: u32 = 0x3880_0000;
    const EXPONENT_SHIFT: u32 = 0x3800_0000;
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= BEYOND {
        0x7c00
    } else if magnitude >= LEAST_NORMAL {
        let shifted = magnitude - EXPONENT_SHIFT;
        (shifted + 0xfff + (shifted >> 13 & 1)) >> 13
    } else {
        // The spacing of singles from 0.5 up to 1 is that of subnormal halves, so the addition rounds.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
    };
    (bits >> 16 & 0x8000 | half) as u16
}

/// Widens a binary16; exact.
pub(crate) fn from_f16(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let fraction = u32::from(half & 0x3ff);
    let bits = match half >> 10 & 31 {
        0 => (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(), // 2^-24
        31 => 0x7f80_0000 | fraction << 13,
        exponent => (u32::from(exponent) + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | bits)
}

/// Rounds to a brain float; the largest singles become infinite.
#[allow(clippy::cast_possible_truncation)] // shifted down by 16
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        return (bits >> 16) as u16 | 64;
    }
    ((bits + (0x7fff + (bits >> 16 & 1))) >> 16) as u16
}

/// Widens a brain float; exact.
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Writes a scale as a half at a place in a block, and gives back what readers will see there.
pub(crate) fn put_scale(block: &mut [u8], at: usize, scale: f32) -> f32 {
    let half = to_f16(scale);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    from_f16(half)
}

/// Reads a scale from a place in a block.
pub(crate) fn scale(block: &[u8], at: usize) -> f32 {
    from_f16(u16::from_le_bytes([block[at], block[at + 1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for half in 0..=u16::MAX {
            let wide = from_f16(half);
            if wide.is_nan() {
                assert!(half & 0x7c00 == 0x7c00 && half & 0x3ff != 0);
            } else {
                assert_eq!(to_f16(wide), half, "{half:#06x}");
            }
            assert!(from_bf16(half).is_nan() || to_bf16(from_bf16(half)) == half);
        }
    }

    #[test]
    fn what_lies_between_two_halves_goes_to_the_nearer_and_ties_to_even() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (from_f16(half), from_f16(half + 1));
            let middle = low + (high - low) / 2.0; // exact: a single has 13 more bits
            let even = half + (half & 1);
            assert_eq!(to_f16(middle), even, "{half:#06x}");
            assert_eq!(to_f16(f32::from_bits(middle.to_bits() - 1)), half);
            assert_eq!(to_f16(f32::from_bits(middle.to_bits() + 1)), half + 1);
            assert_eq!(to_f16(-middle), even | 0x8000);
        }
    }

    #[test]
    fn what_lies_between_two_brain_floats_goes_to_the_nearer_and_ties_to_even() {
        for bits in 0..0x7f7f_u16 {
            let middle = u32::from(bits) << 16 | 0x8000;
            assert_eq!(to_bf16(f32::from_bits(middle)), bits + (bits & 1));
            assert_eq!(to_bf16(f32::from_bits(middle - 1)), bits);
            assert_eq!(to_bf16(f32::from_bits(middle + 1)), bits + 1);
        }
    }

    #[test]
    fn the_largest_values_become_infinite() {
        assert_eq!(to_f16(65_519.0), 0x7bff);
        assert_eq!(to_f16(65_520.0), 0x7c00);
        assert_eq!(to_f16(-f32::MAX), 0xfc00);
        assert_eq!(to_bf16(f32::MAX), 0x7f80);
    }
}
