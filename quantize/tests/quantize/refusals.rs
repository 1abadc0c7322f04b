//! What cannot be quantized is refused by name, on every path alike, and never makes half a row.

use crate::inputs;
use lode_quantize::{
    BlockType, DequantizeError, Path, QuantizeError, RowError, Weights, dequantize_row, limits,
    quantize_row, quantize_row_on,
};

fn bytes(ty: BlockType, weights: usize) -> usize {
    ty.row_bytes(weights as u64).unwrap() as usize
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let places = [0, 7, 31, 32, 300, 511, 512, 1023];
    for &ty in BlockType::ALL {
        let mut out = vec![0; bytes(ty, 1024)];
        for path in Path::available() {
            for (at, bad) in places
                .into_iter()
                .flat_map(|at| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(|bad| (at, bad)))
            {
                let mut x = vec![0.5f32; 1024];
                x[at] = bad;
                let refused = Err(QuantizeError::NotFinite { at });
                let found = quantize_row_on(path, &Weights::from(&x[..]), ty, &mut out);
                assert_eq!(found, refused, "{ty} of {bad} on {}", path.name());
                // The same from the bytes of brain floats and halves.
                for from in [BlockType::BF16, BlockType::F16] {
                    let half = if from == BlockType::BF16 {
                        (bad.to_bits() >> 16) as u16
                    } else {
                        (bad.to_bits() >> 16 & 0x8000 | 0x7c00) as u16 + u16::from(bad.is_nan())
                    };
                    let mut source = vec![0u8; 2048];
                    source[2 * at..][..2].copy_from_slice(&half.to_le_bytes());
                    let source = Weights::from_bytes(from, &source).unwrap();
                    let found = quantize_row_on(path, &source, ty, &mut out);
                    assert_eq!(found, refused, "{ty} of {from} on {}", path.name());
                }
            }
        }
    }
}

#[test]
fn quantized_sources_with_endless_scales_are_refused() {
    let mut block = vec![0u8; BlockType::Q8_0.bytes()];
    block[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    block[2] = 1;
    let source = Weights::from_bytes(BlockType::Q8_0, &block).unwrap();
    let mut out = vec![0; bytes(BlockType::F32, 32)];
    let found = quantize_row(&source, BlockType::F32, &mut out);
    assert!(matches!(found, Err(QuantizeError::NotFinite { .. })));
    // A copy is checked as well.
    let mut out = vec![0; block.len()];
    let found = quantize_row(&source, BlockType::Q8_0, &mut out);
    assert!(matches!(found, Err(QuantizeError::NotFinite { .. })));
}

#[test]
fn weights_beyond_the_scales_are_refused() {
    let mut random = inputs::Random(1);
    for &ty in BlockType::ALL {
        let mut x = inputs::input_of("bell", &mut random);
        x.truncate(1024);
        for v in &mut x[512..] {
            *v *= f32::MAX;
        }
        x[513] = f32::MAX;
        let mut out = vec![0; bytes(ty, 1024)];
        for path in Path::available() {
            let found = quantize_row_on(path, &Weights::from(&x[..]), ty, &mut out);
            let wide = matches!(ty, BlockType::F32 | BlockType::MXFP4);
            match found {
                Ok(()) => assert!(wide, "{ty} took {}", f32::MAX),
                Err(QuantizeError::TooLarge { at, block_type }) => {
                    assert!(!wide && (512..=513).contains(&at), "{ty} refused {at}");
                    assert_eq!(block_type, ty);
                }
                Err(other) => panic!("{ty}: {other}"),
            }
        }
    }
}

#[test]
fn rows_that_no_block_divides_are_refused() {
    for &ty in BlockType::ALL.iter().filter(|ty| ty.weights() > 1) {
        for count in [1, ty.weights() - 1, ty.weights() + 1, 3 * ty.weights() / 2] {
            let x = vec![0.5f32; count];
            let mut out = vec![0; 1024];
            assert_eq!(
                quantize_row(&Weights::from(&x[..]), ty, &mut out),
                Err(QuantizeError::Row(RowError::Ragged {
                    block_type: ty,
                    weights: count as u64
                }))
            );
        }
        let cut = vec![0u8; 2 * ty.bytes() - 1];
        let error = RowError::CutBlock {
            block_type: ty,
            bytes: cut.len() as u64,
        };
        assert_eq!(Weights::from_bytes(ty, &cut).unwrap_err(), error);
        assert_eq!(
            dequantize_row(ty, &cut, &mut [0.0; 512]),
            Err(DequantizeError::Row(error))
        );
    }
    // No weights are no blocks.
    quantize_row(&Weights::from(&[][..]), BlockType::Q4_K, &mut []).unwrap();
}

#[test]
fn outputs_of_another_length_are_refused() {
    for &ty in BlockType::ALL {
        let x = vec![0.5f32; 256];
        let expected = bytes(ty, 256);
        for found in [0, expected - 1, expected + 1] {
            let refused = Err(QuantizeError::Output {
                expected: expected as u64,
                found: found as u64,
            });
            let mut out = vec![0; found];
            assert_eq!(quantize_row(&Weights::from(&x[..]), ty, &mut out), refused);
        }
        let blocks = vec![0u8; expected];
        let refused = Err(DequantizeError::Output {
            expected: 256,
            found: 255,
        });
        assert_eq!(dequantize_row(ty, &blocks, &mut [0.0; 255]), refused);
    }
}

#[test]
fn weight_max() {
    // No type can say so much: at the limit its scale overflows, and the limit is not what refuses.
    for &ty in BlockType::ALL {
        let mut out = vec![0; bytes(ty, 256)];
        let over = f32::from_bits(limits::WEIGHT_MAX.to_bits() + 1);
        for largest in [limits::WEIGHT_MAX, over] {
            let mut x = vec![0.5f32; 256];
            x[200] = largest;
            let found = quantize_row(&Weights::from(&x[..]), ty, &mut out);
            let has_room = matches!(ty, BlockType::F32 | BlockType::BF16 | BlockType::MXFP4);
            assert_eq!(found.is_ok(), has_room, "{ty} of {largest}: {found:?}");
        }
    }
    // What a type can just say is taken.
    let x = [65_504.0 * 127.0; 32];
    let mut out = vec![0; 34];
    quantize_row(&Weights::from(&x[..]), BlockType::Q8_0, &mut out).unwrap();
}

#[test]
fn row_weights() {
    let max = limits::ROW_WEIGHTS_MAX;
    assert_eq!(BlockType::F16.row_bytes(max), Ok(2 * max));
    assert_eq!(
        BlockType::F16.row_bytes(max + 1),
        Err(RowError::TooLong { weights: max + 1 })
    );
    assert!(BlockType::Q8_0.row_bytes(u64::MAX).is_err());
}
