//! Quantizes a file of weights on one thread and prints the CPU time, for bench/quantize.py.
//!
//! usage: measure PATH SOURCE TYPE INPUT OUTPUT REPEATS, where PATH is `scalar` or `avx2`, SOURCE the element type of
//! the raw little-endian INPUT. Rows have 4,096 weights, and each repeat writes the same output. Prints the least
//! CPU time of a repeat in seconds. Linux alone tells CPU time in nanoseconds without unsafe code.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::env;
use std::fs;

use lode_quantize::{BlockType, Path, Weights, dequantize_row_on, quantize_row_on};

const ROW_WEIGHTS: usize = 4096;

/// Nanoseconds that this process has spent on a CPU.
fn cpu_nanoseconds() -> u64 {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn named(name: &str) -> BlockType {
    BlockType::from_dtype(name.parse().unwrap()).expect("a block type")
}

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [path, source, to, input, output, repeats] = &arguments[..] else {
        panic!("usage: measure PATH SOURCE TYPE INPUT OUTPUT REPEATS");
    };
    let path = Path::available()
        .into_iter()
        .find(|p| p.name() == path)
        .expect("a path of this machine");
    let (source, to) = (named(source), named(to));
    let bytes = fs::read(input).unwrap();
    let row = |ty: BlockType| ROW_WEIGHTS / ty.weights() * ty.bytes();
    let mut out = vec![0; bytes.len() / row(source) * row(to)];
    let mut singles = vec![0.0; ROW_WEIGHTS];
    let mut least = u64::MAX;
    for _ in 0..repeats.parse().unwrap() {
        let start = cpu_nanoseconds();
        for (row, out) in bytes
            .chunks_exact(row(source))
            .zip(out.chunks_exact_mut(row(to)))
        {
            if to == BlockType::F32 && source != BlockType::F32 {
                dequantize_row_on(path, source, row, &mut singles).unwrap();
                for (out, v) in out.as_chunks_mut().0.iter_mut().zip(&singles) {
                    *out = v.to_le_bytes();
                }
            } else {
                let weights = Weights::from_bytes(source, row).unwrap();
                quantize_row_on(path, &weights, to, out).unwrap();
            }
        }
        least = least.min(cpu_nanoseconds() - start);
    }
    fs::write(output, out).unwrap();
    println!("{}", least as f64 / 1e9);
}
