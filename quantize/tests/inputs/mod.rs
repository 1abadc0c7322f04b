//! Weights that golden/make.py makes too, number for number.

#![allow(clippy::cast_possible_truncation, dead_code)] // each test uses a part

/// splitmix64.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A whole number of so many bits, sign included.
    fn signed(&mut self, bits: u32) -> f64 {
        let half = 1i64 << (bits - 1);
        ((self.next() >> (64 - bits)).cast_signed() - half) as f64
    }

    fn bell(&mut self) -> f64 {
        (0..4).map(|_| self.signed(22)).sum()
    }
}

/// Weights of each input.
pub(crate) const WEIGHTS: usize = 4096;

/// The names, in the order of make.py: the place tells the seed.
pub(crate) const INPUTS: [&str; 23] = [
    "uniform",
    "bell",
    "brain",
    "half",
    "zeros",
    "minus-zeros",
    "constant",
    "minus-constant",
    "alternating",
    "positive",
    "negative",
    "ties",
    "outliers",
    "mixed",
    "sparse",
    "lone",
    "zero-parts",
    "zero-blocks",
    "equal-parts",
    "steps",
    "faint-parts",
    "faint",
    "denormal",
];

/// The weights of an input.
pub(crate) fn input(name: &str) -> Vec<f32> {
    let seed = INPUTS
        .iter()
        .position(|&n| n == name)
        .expect("a known input")
        + 1;
    input_of(name, &mut Random(seed as u64))
}

/// Weights like those of an input, from another seed.
pub(crate) fn input_of(name: &str, random: &mut Random) -> Vec<f32> {
    (0..WEIGHTS).map(|at| weight(name, random, at)).collect()
}

fn weight(name: &str, r: &mut Random, at: usize) -> f32 {
    let two = |exponent: i32| 2f64.powi(exponent);
    let when = |yes: bool| f64::from(u8::from(yes));
    let value = match name {
        "uniform" => r.signed(24) * two(-23),
        "bell" | "brain" => r.bell() * two(-26),
        "half" => r.signed(11) * two(-12),
        "zeros" => 0.0,
        "minus-zeros" => -0.0,
        "constant" => 0.25,
        "minus-constant" => -0.25,
        "alternating" => when(at % 2 == 1) * 2.0 - 1.0,
        "positive" => (r.signed(23) + two(23)) * two(-23),
        "negative" => -(r.signed(23) + two(23)) * two(-23),
        "ties" => r.signed(6) * 0.5,
        "outliers" => r.bell() * two(if at % 37 == 5 { -20 } else { -28 }),
        "mixed" => r.signed(24) * two((r.next() % 50) as i32 - 63),
        "sparse" => r.signed(24) * two(-23) * when(r.next().is_multiple_of(8)),
        "lone" => r.signed(24) * two(-23) * when(at % 256 == 77),
        "zero-parts" => r.bell() * two(-26) * when(!(at / 32).is_multiple_of(3)),
        "zero-blocks" => r.bell() * two(-26) * when(!(at / 256).is_multiple_of(2)),
        "equal-parts" => {
            let step = (at / 16 * 2_654_435_761 % 65_536) as f64 - 32_768.0;
            step * two(-18)
        }
        "steps" => (at % 256) as f64 * two(-8),
        "faint-parts" => r.bell() * two(-26 - 10 * (at / 32 % 4) as i32),
        "faint" => r.bell() * two(-86),
        "denormal" => r.signed(22) * two(-149),
        other => panic!("no input {other}"),
    };
    let single = value as f32;
    if name == "brain" {
        f32::from_bits(single.to_bits() & 0xffff_0000)
    } else {
        single
    }
}

/// Random blocks whose scales are finite, as make.py makes them.
pub(crate) fn random_blocks(
    ty: lode_quantize::BlockType,
    count: usize,
    random: &mut Random,
) -> Vec<u8> {
    use lode_quantize::BlockType as T;
    let mut blocks: Vec<u8> = (0..count * ty.bytes())
        .map(|_| random.next() as u8)
        .collect();
    let scales: &[usize] = match ty {
        T::Q4_1 | T::Q5_1 | T::Q4_K | T::Q5_K => &[0, 2],
        T::Q2_K => &[80, 82],
        T::Q3_K => &[108],
        T::Q6_K => &[208],
        T::MXFP4 => &[],
        _ => &[0],
    };
    for block in blocks.chunks_exact_mut(ty.bytes()) {
        for at in scales {
            block[at + 1] &= 0xbf;
        }
    }
    blocks
}

/// The name as files spell it.
pub(crate) fn named(name: &str) -> lode_quantize::BlockType {
    let dtype = name.parse().expect("an element type");
    lode_quantize::BlockType::from_dtype(dtype).expect("a block type")
}
