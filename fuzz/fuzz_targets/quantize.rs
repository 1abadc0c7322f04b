//! Quantizing and reading rows: never a panic, every path the same bytes or the same error, and what was made
//! reads back as finite weights.
//!
//! Input: a byte for the source's type, a byte for the target's, then the source's bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_quantize::{BlockType, Path, Weights, dequantize_row, dequantize_row_on, quantize_row_on};

/// More than the strip that is decoded at a time, so that strips follow one another.
const WEIGHTS_MAX: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let [from, to, bytes @ ..] = input else {
        return;
    };
    let ty = |at: &u8| BlockType::ALL[usize::from(*at) % BlockType::ALL.len()];
    let (from, to) = (ty(from), ty(to));
    let weights = match Weights::from_bytes(from, bytes) {
        Ok(weights) => weights,
        Err(_) => {
            assert!(bytes.len() % from.bytes() != 0);
            return;
        }
    };
    if weights.len() > WEIGHTS_MAX {
        return;
    }
    let mut singles = vec![0.0; weights.len()];
    dequantize_row(from, bytes, &mut singles).expect("whole blocks are read");
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for path in Path::available() {
        let mut again = vec![0.0; weights.len()];
        dequantize_row_on(path, from, bytes, &mut again).expect("whole blocks are read");
        let same = singles
            .iter()
            .zip(&again)
            .all(|(a, b)| a == b || a.is_nan() && b.is_nan());
        assert!(
            same,
            "{from} on {}: {:?} {:?}",
            path.name(),
            bits(&singles),
            bits(&again)
        );
    }

    let Ok(len) = to.row_bytes(weights.len() as u64) else {
        assert!(weights.len() % to.weights() != 0);
        return;
    };
    let mut blocks = vec![0; len as usize];
    let made = quantize_row_on(Path::SCALAR, &weights, to, &mut blocks);
    for path in Path::available() {
        let mut other = vec![0; blocks.len()];
        let found = quantize_row_on(path, &weights, to, &mut other);
        assert_eq!(found, made, "{from} to {to} on {}", path.name());
        assert!(
            made.is_err() || other == blocks,
            "{from} to {to} on {}",
            path.name()
        );
    }
    if made.is_ok() {
        assert!(singles.iter().all(|v| v.is_finite()));
        dequantize_row(to, &blocks, &mut singles).expect("whole blocks were made");
        assert!(
            singles.iter().all(|v| v.is_finite()),
            "{from} to {to} is not finite"
        );
    }
});
