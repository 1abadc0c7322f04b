//! The rotation that all sketches share: it spreads what a vector says evenly over its components, so that their signs
//! alone say much.
//!
//! Four rounds of: signs flipped at random, a Walsh-Hadamard transform of the first (then the last) 2^k components, and, where
//! these are not all, one step of Kac's walk between the halves. That is the rotation of the RaBitQ library
//! (`FhtKacRotator`), with signs that are a function of their place alone: the same on every machine, no byte stored.
//! Additions and products of singles in a fixed order, so that a vector has the same bits everywhere.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::mix::{STEP, mix};

/// Components that are flipped by one word of random bits; vectors have a multiple of it.
pub(super) const WORD_BITS: usize = 64;

const ROUNDS: u64 = 4;

/// Rotates a vector, whose length stays.
///
/// # Panics
///
/// A number of components that is not a multiple of 64, or 0.
#[inline(always)]
pub(super) fn rotate(vector: &mut [f32]) {
    assert!(vector.len().is_multiple_of(WORD_BITS));
    let len = vector.len();
    let block = 1 << len.ilog2();
    #[allow(clippy::cast_precision_loss)] // a power of two
    let scale = 1.0 / (block as f32).sqrt();
    for round in 0..ROUNDS {
        flip(vector, round);
        let start = if round % 2 == 0 { 0 } else { len - block };
        hadamard(&mut vector[start..start + block], scale);
        if block < len {
            let (low, high) = vector.split_at_mut(len / 2);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = ((*a + *b) * FRAC_1_SQRT_2, (*a - *b) * FRAC_1_SQRT_2);
            }
        }
    }
}

/// Flips the sign of each component whose random bit is set.
#[inline(always)]
fn flip(vector: &mut [f32], round: u64) {
    for (at, word) in (0u64..).zip(vector.as_chunks_mut::<WORD_BITS>().0) {
        let bits = signs(round << 32 | at);
        for (bit, x) in word.iter_mut().enumerate() {
            let sign = ((bits >> bit & 1) as u32) << 31;
            *x = f32::from_bits(x.to_bits() ^ sign);
        }
    }
}

/// 64 random bits of a place.
#[inline(always)]
fn signs(place: u64) -> u64 {
    mix(place.wrapping_mul(STEP))
}

/// The Walsh-Hadamard transform, then each component times `scale`.
#[inline(always)]
fn hadamard(block: &mut [f32], scale: f32) {
    // Strides below a register's width within arrays whose length is known, so that compilers unroll them.
    for eight in block.as_chunks_mut::<8>().0 {
        for half in [1, 2, 4] {
            let before = *eight;
            for (at, x) in eight.iter_mut().enumerate() {
                let other = before[at ^ half];
                *x = if at & half == 0 {
                    before[at] + other
                } else {
                    other - before[at]
                };
            }
        }
    }
    let mut half = 8;
    while half < block.len() {
        for pair in block.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    for x in block {
        *x *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_products_stay() {
        for len in [64, 128, 192, 384, 960, 1024, 1536] {
            let vector = |seed: u64| -> Vec<f32> {
                let words = (0..len as u64).map(|at| signs(seed << 40 | at));
                words.map(|word| (word >> 40) as f32 / 1e7 - 0.8).collect()
            };
            let (mut a, mut b) = (vector(1), vector(2));
            let product =
                |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
            let before = (product(&a, &a), product(&a, &b));
            rotate(&mut a);
            rotate(&mut b);
            let after = (product(&a, &a), product(&a, &b));
            assert!((before.0 - after.0).abs() < 1e-4 * before.0, "{len}");
            assert!((before.1 - after.1).abs() < 1e-4 * before.0, "{len}");
        }
    }

    /// Were it not so, the signs of vectors with few components would say little.
    #[test]
    fn one_component_is_spread_over_all() {
        for len in [64, 128, 192, 384, 448, 960, 1024, 1536] {
            for at in [0, len / 2, len - 1] {
                let mut vector = vec![0f32; len];
                vector[at] = 1.0;
                rotate(&mut vector);
                let magnitudes: f32 = vector.iter().map(|x| x.abs()).sum();
                // As great as can be: sqrt(len). A random direction has 0.8 of it.
                let share = magnitudes / (len as f32).sqrt();
                assert!(share > 0.65, "{len} {at}: {share}");
            }
        }
    }

    /// Sketches in files depend on it.
    #[test]
    fn the_rotation_is_the_same_for_ever() {
        let mut vector: Vec<f32> = (0..384u16).map(|at| f32::from(at % 7) - 3.0).collect();
        rotate(&mut vector);
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(blake3::hash(&bytes).to_hex()[..16], *"5bed84e8bdb2edee");
    }
}
