//! Blocks are, byte for byte, those of llama.cpp's reference code: golden/make.py ran it.
//!
//! Without this, a variant would not be the file that others know by its hash, and two machines might
//! differ. Every path that this machine has is held to it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use crate::inputs::{INPUTS, Random, input, named, random_blocks};
use lode_quantize::{BlockType, Path, Weights, dequantize_row_on, quantize_row_on};
use sha2::{Digest, Sha256};

const GOLDEN: &str = include_str!("../golden/golden.txt");
const MODEL: &str = "all-minilm-l6-v2";

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn quantize(path: Path, x: &[f32], ty: BlockType) -> Vec<u8> {
    let mut out = vec![0xaa; ty.row_bytes(x.len() as u64).unwrap() as usize];
    quantize_row_on(path, &Weights::from(x), ty, &mut out).unwrap();
    out
}

fn dequantize(path: Path, ty: BlockType, blocks: &[u8]) -> Vec<u8> {
    let mut out = vec![f32::NAN; blocks.len() / ty.bytes() * ty.weights()];
    dequantize_row_on(path, ty, blocks, &mut out).unwrap();
    out.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The lines of one kind, each split in words.
fn lines(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    GOLDEN
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(move |words| words[0] == kind)
}

/// Why MXFP4 may differ from the reference for an input: its exponent has no bits of its own there.
fn is_below_mxfp4(ty: BlockType, source: &str) -> bool {
    ty == BlockType::MXFP4 && source == "denormal"
}

#[test]
fn blocks_are_those_of_the_reference() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for words in lines("quantize").filter(|words| words[2] != MODEL) {
        let (ty, source, expected) = (named(words[1]), words[2], words[3]);
        if is_below_mxfp4(ty, source) {
            continue;
        }
        seen.insert(ty);
        assert!(INPUTS.contains(&source));
        for path in Path::available() {
            if hash(&quantize(path, &input(source), ty)) != expected {
                wrong.push(format!("{ty} of {source} on {}", path.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "other bytes: {wrong:#?}");
    assert_eq!(seen.len(), BlockType::ALL.len() - 3, "a type has no golden");
}

#[test]
fn a_first_block_is_shown_whole() {
    for words in lines("block") {
        let ty = named(words[1]);
        let x = &input("bell")[..ty.weights()];
        for path in Path::available() {
            assert_eq!(hex(&quantize(path, x, ty)), words[2], "{ty}");
        }
    }
}

#[test]
fn weights_read_from_blocks_are_those_of_the_reference() {
    let mut count = 0;
    for words in lines("dequantize") {
        let (ty, source, expected) = (named(words[1]), words[2], words[3]);
        let blocks = match source {
            "random" => random_blocks(ty, 64, &mut Random(1000)),
            source => quantize(Path::SCALAR, &input(source), ty),
        };
        for path in Path::available() {
            let found = hash(&dequantize(path, ty, &blocks));
            assert_eq!(found, expected, "{ty} of {source} on {}", path.name());
            count += 1;
        }
    }
    assert!(count >= 2 * (BlockType::ALL.len() - 3));
}

/// The model comes from `scripts/fetch-models` (or `LODE_TEST_MODELS=FOLDER`, and then it must be there).
#[test]
fn real_weights_give_the_blocks_of_the_reference() {
    let (folder, asked) = match std::env::var_os("LODE_TEST_MODELS") {
        Some(folder) => (PathBuf::from(folder), true),
        None => (
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/models")),
            false,
        ),
    };
    let file = folder.join(MODEL).join("model.safetensors");
    let Ok(bytes) = std::fs::read(&file) else {
        assert!(!asked, "{} is not there", file.display());
        eprintln!("SKIPPED: no {}: run scripts/fetch-models", file.display());
        return;
    };
    let header = lode_tensors::parse(&bytes, bytes.len() as u64).unwrap();
    let tensor = header
        .tensors
        .iter()
        .find(|tensor| tensor.name == "encoder.layer.0.output.dense.weight")
        .unwrap();
    let weights = &bytes[tensor.range.start as usize..tensor.range.end as usize];
    let weights = Weights::from_bytes(BlockType::F32, weights).unwrap();
    for words in lines("quantize").filter(|words| words[2] == MODEL) {
        let ty = named(words[1]);
        let mut out = vec![0; ty.row_bytes(weights.len() as u64).unwrap() as usize];
        for path in Path::available() {
            quantize_row_on(path, &weights, ty, &mut out).unwrap();
            assert_eq!(hash(&out), words[3], "{ty} on {}", path.name());
        }
    }
}
