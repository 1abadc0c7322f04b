//! Every twin that this machine has is held to the scalar code.

use proptest::prelude::*;

use super::*;
use crate::vectors::{
    records::{Layout, put_head},
    sketch::Bits,
};

/// Records of `dim` components with codes from `byte`, none of which is -128.
fn records(dim: usize, rows: usize, mut byte: impl FnMut() -> u8) -> (Layout, Vec<u8>) {
    let layout = Layout::new(dim, 4).unwrap();
    let mut bytes = vec![0; layout.stride * rows];
    for record in bytes.chunks_exact_mut(layout.stride) {
        for code in &mut record[..dim] {
            *code = byte().cast_signed().max(-127).cast_unsigned();
        }
        let sum = record[..dim]
            .iter()
            .map(|b| i32::from(b.cast_signed()))
            .sum();
        let head = Head {
            scale: 0.013,
            bias: 0.7,
            sum,
        };
        put_head(record, layout, head);
    }
    (layout, bytes)
}

fn keys_agree(dim: usize, seed: u64) {
    let mut state = seed | 1;
    let (layout, bytes) = records(dim, 40, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Often the extremes, where sums of pairs come near to what 16 bits hold.
        match state >> 60 {
            0..3 => 127,
            3..6 => 0x81,
            _ => state.to_le_bytes()[4],
        }
    });
    let records = Records::new(&bytes, layout).unwrap();
    let rows: Vec<u32> = (0..40).rev().chain([7, 7]).collect();
    for sum in [CodeSum::Products, CodeSum::Differences] {
        let query = CodeQuery {
            code: records.code(3),
            factor: -1.7,
            bias: 0.0,
            sum,
        };
        let mut expected = Vec::new();
        Kernel::Scalar.keys(&records, &query, &rows, &mut expected);
        for kernel in Kernel::all() {
            let mut found = vec![1.0];
            kernel.keys(&records, &query, &rows, &mut found);
            assert_eq!(found, expected, "{kernel:?} {sum:?} dim {dim} seed {seed}");
        }
    }
}

/// The extremes of tables and signs too, where sums come near to what 8 and 16 bits hold.
fn floors_agree(dim: usize, seed: u64) {
    for bits in [Bits::One, Bits::Two] {
        floors_of_agree(dim, seed, bits);
    }
}

fn floors_of_agree(dim: usize, seed: u64, bits: Bits) {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[5]
    };
    let bytes: Vec<u8> = (0..3 * bits.block_bytes(dim)).map(|_| next()).collect();
    let sketches = Sketches::new(&bytes, dim, bits);
    let highest = seed.is_multiple_of(4);
    let query = SketchQuery {
        tables: (0..dim.next_multiple_of(64) / 8)
            .map(|_| [0, 1].map(|_| [0; 16].map(|_: u8| if highest { 124 } else { next() % 125 })))
            .collect(),
        offset: 17.3,
        slope: 0.037,
    };
    let found = |kernel: Kernel| {
        let mut floors = vec![1.0];
        kernel.floors(&sketches, &query, &[2, 0, 1, 1], &mut floors);
        floors
            .iter()
            .map(|floor| floor.to_bits())
            .collect::<Vec<_>>()
    };
    let expected = found(Kernel::Scalar);
    assert_eq!(expected.len(), 1 + 4 * 32);
    for kernel in Kernel::all() {
        let is_nan = |bits: &u32| f32::from_bits(*bits).is_nan();
        let found = found(kernel);
        let pairs = found.iter().zip(&expected);
        let equal = |(a, b): (&u32, &u32)| a == b || is_nan(a) && is_nan(b);
        assert!(pairs.clone().all(equal), "{kernel:?} dim {dim} seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn keys_have_the_same_bits_on_every_kernel(dim in 1usize..900, seed: u64) {
        keys_agree(dim, seed);
    }

    #[test]
    fn floors_have_the_same_bits_on_every_kernel(dim in 1usize..3000, seed: u64) {
        floors_agree(dim, seed);
    }

    #[test]
    fn scores_are_near_on_every_kernel(
        pairs in proptest::collection::vec((-8.0f32..8.0, 0u8..=255), 1..700),
    ) {
        let query: Vec<f32> = pairs.iter().map(|(q, _)| *q).collect();
        let stored: Vec<u8> = pairs.iter().map(|(_, x)| *x).collect();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::U8] {
            let bytes: Vec<u8> = stored.iter().flat_map(|x| match dtype {
                Dtype::F32 => (f32::from(*x) / 16.0).to_le_bytes().to_vec(),
                Dtype::F16 => half::from_single(f32::from(*x) / 16.0).to_le_bytes().to_vec(),
                Dtype::U8 => vec![*x],
            }).collect();
            for sum in [Sum::Products, Sum::Squares, Sum::Differences] {
                let exact: f64 = query.iter().enumerate().map(|(at, q)| {
                    let x = f64::from(component(dtype, &bytes, at));
                    let q = f64::from(*q);
                    match sum {
                        Sum::Products => q * x,
                        Sum::Squares => (q - x) * (q - x),
                        Sum::Differences => (q - x).abs(),
                    }
                }).sum();
                let size: f64 = query.iter().enumerate().map(|(at, q)| {
                    let x = f64::from(component(dtype, &bytes, at)).abs() + 1.0;
                    (x + f64::from(q.abs())).powi(2)
                }).sum();
                for kernel in Kernel::all() {
                    let found = f64::from(kernel.sum(sum, &query, dtype, &bytes));
                    prop_assert!((found - exact).abs() <= size * 1e-5, "{kernel:?} {sum:?} {dtype:?}: {found} {exact}");
                }
            }
        }
    }
}

#[test]
fn the_longest_vectors_do_not_overflow() {
    floors_agree(crate::limits::DIM_MAX as usize, 4);
    for extreme in [127u8, 0x81] {
        let (layout, bytes) = records(crate::limits::DIM_MAX as usize, 2, || extreme);
        let records = Records::new(&bytes, layout).unwrap();
        for sum in [CodeSum::Products, CodeSum::Differences] {
            let query = CodeQuery {
                code: records.code(0),
                factor: 1.0,
                bias: 0.0,
                sum,
            };
            let mut expected = Vec::new();
            Kernel::Scalar.keys(&records, &query, &[0, 1], &mut expected);
            assert!(expected[0] >= 0.0);
            for kernel in Kernel::all() {
                let mut found = Vec::new();
                kernel.keys(&records, &query, &[0, 1], &mut found);
                assert_eq!(found, expected, "{kernel:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "range end index")]
fn a_row_beyond_the_records_is_never_read() {
    let (layout, bytes) = records(64, 2, || 1);
    let records = Records::new(&bytes, layout).unwrap();
    let query = CodeQuery {
        code: records.code(0),
        factor: 1.0,
        bias: 0.0,
        sum: CodeSum::Products,
    };
    Kernel::detect().keys(&records, &query, &[2], &mut Vec::new());
}
