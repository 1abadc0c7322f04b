//! Every path gives the same bytes as the scalar code, whatever the weights.
//!
//! Without this, two machines would make different files of one variant. The seed is printed; set
//! LODE_TEST_SEED to run one again.

use crate::inputs::{INPUTS, Random, input_of, random_blocks};
use lode_quantize::{
    BlockType, Path, QuantizeError, Weights, dequantize_row_on, quantize_row, quantize_row_on,
};

fn seed() -> u64 {
    let seed = match std::env::var("LODE_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64,
    };
    eprintln!("LODE_TEST_SEED={seed}");
    seed
}

fn quantize(path: Path, x: &Weights<'_>, ty: BlockType) -> Result<Vec<u8>, QuantizeError> {
    let mut out = vec![0x55; ty.row_bytes(x.len() as u64).unwrap() as usize];
    quantize_row_on(path, x, ty, &mut out)?;
    Ok(out)
}

/// Holds all paths to the scalar code, errors included.
fn assert_twins(x: &Weights<'_>, ty: BlockType, what: &str) {
    let expected = quantize(Path::SCALAR, x, ty);
    for path in Path::available() {
        let found = quantize(path, x, ty);
        if found != expected {
            let block = match (&found, &expected) {
                (Ok(found), Ok(expected)) => found
                    .chunks(ty.bytes())
                    .zip(expected.chunks(ty.bytes()))
                    .position(|(a, b)| a != b),
                _ => None,
            };
            panic!("{ty} of {what} on {}: block {block:?} differs", path.name());
        }
    }
}

#[test]
fn paths_agree_on_made_weights() {
    let mut random = Random(seed());
    for _ in 0..4 {
        for name in INPUTS {
            let x = input_of(name, &mut random);
            for &ty in BlockType::ALL {
                assert_twins(&Weights::from(&x[..]), ty, name);
            }
        }
    }
}

/// Sub-blocks of unlike kinds meet in one block, as lanes of one register.
#[test]
fn paths_agree_on_mixtures() {
    let mut random = Random(seed());
    for round in 0..100 {
        let sources: Vec<Vec<f32>> = (0..4)
            .map(|_| {
                let name = INPUTS[random.next() as usize % INPUTS.len()];
                input_of(name, &mut random)
            })
            .collect();
        // Odd numbers of the largest block too, so that pairs have a last one alone.
        let blocks = 1 + random.next() as usize % 5;
        let scale = 2f32.powi((random.next() % 40) as i32 - 30);
        let mut x: Vec<f32> = (0..blocks * 256)
            .map(|at| sources[at / 16 * 7 % 4][at] * scale)
            .collect();
        for _ in 0..random.next() % 4 {
            let at = random.next() as usize % x.len();
            x[at] = f32::from_bits(random.next() as u32 & 0xbfff_ffff);
        }
        for &ty in BlockType::ALL {
            assert_twins(&Weights::from(&x[..]), ty, &format!("mixture {round}"));
        }
    }
}

/// Any bits at all, most of them far from what a model holds.
#[test]
fn paths_agree_on_any_bits() {
    let mut random = Random(seed());
    for round in 0..60 {
        // Some rounds stay within a few powers of two, the others spread over all.
        let (keep, base) = match round % 3 {
            0 => (0xffff_ffff, 0),
            1 => (0x81ff_ffff, 0x3000_0000),
            _ => (0x807f_ffff, (random.next() as u32 & 0xff) << 23),
        };
        let x: Vec<f32> = (0..512)
            .map(|_| f32::from_bits(random.next() as u32 & keep | base))
            .collect();
        for &ty in BlockType::ALL {
            assert_twins(&Weights::from(&x[..]), ty, &format!("bits {round}"));
        }
    }
}

/// What is read from a file equals what is read from memory, for floats and for blocks.
#[test]
fn sources_of_every_type_are_read_alike() {
    let mut random = Random(seed());
    for &from in BlockType::ALL {
        let count = 512 / from.weights();
        let blocks = match from {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => {
                let x = input_of("bell", &mut random);
                quantize(Path::SCALAR, &Weights::from(&x[..512]), from).unwrap()
            }
            _ => random_blocks(from, count, &mut random),
        };
        let source = Weights::from_bytes(from, &blocks).unwrap();
        assert_eq!(source.len(), 512);
        let mut singles = vec![0.0; 512];
        for path in Path::available() {
            dequantize_row_on(path, from, &blocks, &mut singles).unwrap();
            for to in [BlockType::Q8_0, BlockType::Q4_K, BlockType::F32] {
                assert_twins(&source, to, from.dtype().name());
                if to != from {
                    let direct = quantize(path, &source, to);
                    let expected = quantize(Path::SCALAR, &Weights::from(&singles[..]), to);
                    assert_eq!(direct, expected, "{from} to {to}");
                }
            }
        }
    }
}

/// Blocks do not see one another: any range of a row is what the whole row has there.
#[test]
fn a_range_equals_the_slice_of_the_whole() {
    let mut random = Random(seed());
    let x = input_of("bell", &mut random);
    for &ty in BlockType::ALL {
        let whole = quantize(Path::best(), &Weights::from(&x[..]), ty).unwrap();
        for _ in 0..20 {
            let a = random.next() as usize % whole.len();
            let b = random.next() as usize % whole.len();
            let (start, end) = (a.min(b), a.max(b) + 1);
            let weights = ty.weights_of(start as u64..end as u64).unwrap();
            let part = &x[weights.start as usize..weights.end as usize];
            let mut out = vec![0; ty.row_bytes(part.len() as u64).unwrap() as usize];
            quantize_row(&Weights::from(part), ty, &mut out).unwrap();
            let skip = start - weights.start as usize / ty.weights() * ty.bytes();
            assert_eq!(out[skip..][..end - start], whole[start..end], "{ty}");
        }
    }
}
