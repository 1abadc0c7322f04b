//! IEEE half precision: 1 sign bit, 5 bits of exponent, 10 of mantissa.

/// The single that equals a half.
pub(crate) fn to_single(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10 & 0x1f);
    let mantissa = u32::from(half & 0x3ff);
    match (exponent, mantissa) {
        (0, _) => {
            // Subnormal: a multiple of 2^-24, exact in a single.
            let magnitude = f32::from(half & 0x3ff) * f32::from_bits(0x3380_0000);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        (0x1f, _) => f32::from_bits(sign | 0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13),
    }
}

/// The half nearest to a finite single, ties to even; what is too large becomes infinite.
pub(crate) fn from_single(single: f32) -> u16 {
    let bits = single.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: adding 0.5 lets the adder round to multiples of 2^-24.
        let rounded = f32::from_bits(magnitude) + 0.5;
        return sign | (rounded.to_bits() & 0xffff) as u16;
    }
    let even = magnitude >> 13 & 1;
    let rounded = (magnitude + 0xfff + even - (112 << 23)) >> 13;
    sign | (rounded & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_through_a_single() {
        for half in 0..=u16::MAX {
            let single = to_single(half);
            if single.is_nan() {
                assert!(half & 0x7c00 == 0x7c00 && half & 0x3ff != 0);
            } else {
                assert_eq!(from_single(single), half, "{half:#x}");
            }
        }
    }

    #[test]
    fn a_single_becomes_the_nearest_half_ties_to_even() {
        for half in 0..0x7bffu16 {
            let (low, high) = (to_single(half), to_single(half + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(
                from_single(middle),
                half + (half & 1),
                "between {half:#x} and the next"
            );
            assert_eq!(from_single(middle.next_down()), half);
            assert_eq!(from_single(-middle.next_up()), (half + 1) | 0x8000);
        }
        assert_eq!(from_single(65_519.9), 0x7bff);
        assert_eq!(from_single(65_520.0), 0x7c00);
    }
}
