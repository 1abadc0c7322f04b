//! How rotary frequencies are scaled, and the factors of llama 3 as a tensor.
//!
//! The factors need powers of the rotary base, for which C libraries give different last bits. They are made here from
//! additions, multiplications and divisions of doubles alone, in a fixed order, and rounded to singles once at the
//! end: the same on every machine, and within a unit in the last place of what `convert_hf_to_gguf.py` computes in
//! singles.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// How a model stretches its rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scaling {
    None,
    Linear { factor: f32 },
    Yarn(Yarn),
    Llama3(Llama3),
}

/// Parameters of YaRN; what is not given is left to llama.cpp.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Yarn {
    pub(super) factor: f32,
    pub(super) original_context: u32,
    pub(super) extrapolation: Option<f32>,
    pub(super) attention: Option<f32>,
    pub(super) beta_fast: Option<f32>,
    pub(super) beta_slow: Option<f32>,
}

/// Parameters of llama 3: long waves are stretched, short ones are kept, those between are blended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Llama3 {
    pub(super) base: f64,
    pub(super) head_dim: u32,
    pub(super) factor: f64,
    /// Below `high`.
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) original_context: u32,
}

impl Llama3 {
    /// What each frequency is divided by: `head_dim / 2` factors.
    pub(super) fn factors(&self) -> impl Iterator<Item = f32> {
        let context = f64::from(self.original_context);
        let log_base = ln(self.base);
        (0..self.head_dim).step_by(2).map(move |at| {
            let frequency = exp(-(f64::from(at) / f64::from(self.head_dim) * log_base));
            let wave = 2.0 * PI / frequency;
            let factor = if wave < context / self.high {
                1.0
            } else if wave > context / self.low {
                self.factor
            } else {
                let smooth = (context / wave - self.low) / (self.high - self.low);
                1.0 / ((1.0 - smooth) / self.factor + smooth)
            };
            super::config::single(factor)
        })
    }
}

/// Terms that take either series below the last bit of a double.
const TERMS: u32 = 24;

/// The natural logarithm of a positive normal number.
fn ln(value: f64) -> f64 {
    const FRACTION_BITS: u32 = 52;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    let bits = value.to_bits();
    let mut exponent = f64::from(u32::try_from(bits >> FRACTION_BITS).expect("the sign is plus"));
    exponent -= 1023.0;
    let mut fraction = f64::from_bits(bits & ((1 << FRACTION_BITS) - 1) | ONE);
    if fraction > SQRT_2 {
        fraction /= 2.0;
        exponent += 1.0;
    }
    // 2 artanh(z) = 2 (z + z^3/3 + z^5/5 + ...), with |z| < 0.172.
    let z = (fraction - 1.0) / (fraction + 1.0);
    let square = z * z;
    let sum = (0..TERMS).rev().fold(0.0, |sum, term| {
        sum * square + 1.0 / f64::from(2 * term + 1)
    });
    exponent * LN_2 + 2.0 * z * sum
}

/// The exponential of a number from -700 to 700.
fn exp(value: f64) -> f64 {
    let halvings = (value / LN_2).round();
    let rest = value - halvings * LN_2;
    let sum = (1..=TERMS)
        .rev()
        .fold(1.0, |sum, term| 1.0 + rest / f64::from(term) * sum);
    // Each step is exact.
    let two = if halvings < 0.0 { 0.5 } else { 2.0 };
    let mut scaled = sum;
    let mut left = halvings.abs();
    while left > 0.0 {
        scaled *= two;
        left -= 1.0;
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_as_exact_as_doubles_are() {
        for base in [1.5, 10_000.0, 100_000.0, 500_000.0, 1e6, 1e9] {
            assert!((ln(base) / f64::ln(base) - 1.0).abs() < 1e-15, "{base}");
            for at in 0..64 {
                let power = f64::from(at) / 64.0;
                let found = exp(-(power * ln(base)));
                assert!(
                    (found / base.powf(-power) - 1.0).abs() < 1e-13,
                    "{base} {at}"
                );
            }
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(ln(1.0), 0.0);
    }

    /// The values of `LlamaModel.generate_extra_tensors` for Llama 3.2 1B, whose heads have 64 rows.
    #[test]
    fn the_factors_of_llama_3_are_those_of_the_converter() {
        let scaling = Llama3 {
            base: 500_000.0,
            head_dim: 64,
            factor: 32.0,
            low: 1.0,
            high: 4.0,
            original_context: 8192,
        };
        let factors: Vec<_> = scaling.factors().collect();
        assert_eq!(factors.len(), 32);
        assert!(factors[..15].iter().all(|&factor| factor == 1.0));
        assert!(factors[18..].iter().all(|&factor| factor == 32.0));
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}
