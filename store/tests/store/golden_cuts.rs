//! Cut rules never change: files cut today share chunks with files cut years ago, by any
//! implementation. The golden cuts were made by another one (testdata/cuts/make.py).

use std::path::{Path, PathBuf};

use lode_store::cut::{self, CdcCutter, cdc_cuts, section_cuts, tensor_cuts};
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/cuts")
}

fn golden(rule: &str) -> Vec<serde_json::Value> {
    let json = std::fs::read(folder().join("cuts.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&json).unwrap();
    golden[rule].as_array().unwrap().clone()
}

fn lengths(case: &serde_json::Value) -> Vec<u64> {
    case["lengths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|len| len.as_u64().unwrap())
        .collect()
}

#[test]
fn golden_tensor_cuts_hold() {
    let cases = golden(cut::TENSORS_1);
    assert!(cases.len() >= 10);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let file_len = case["file_len"].as_u64().unwrap();
        let head = std::fs::read(folder().join(format!("{name}.head"))).unwrap();
        let header = lode_tensors::parse(&head, file_len).expect(name);
        assert_eq!(header.len, head.len() as u64, "{name}");
        let cuts = tensor_cuts(&header, file_len);
        let found: Vec<u64> = cuts.lengths.into_iter().map(u64::from).collect();
        assert_eq!(found, lengths(&case), "{name}");
    }
}

#[test]
fn golden_section_cuts_hold() {
    let cases = golden(cut::SECTIONS_1);
    assert!(cases.len() >= 4);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let head = std::fs::read(folder().join(format!("{name}.head"))).unwrap();
        let cuts = section_cuts(&head, case["file_len"].as_u64().unwrap()).expect(name);
        let found: Vec<u64> = cuts.lengths.into_iter().map(u64::from).collect();
        assert_eq!(found, lengths(&case), "{name}");
    }
}

/// SHA-256 of `seed:counter` in ASCII, counter from 0, then zeroes.
fn bytes(case: &serde_json::Value) -> Vec<u8> {
    let seed = case["seed"].as_str().unwrap();
    let size = usize::try_from(case["size"].as_u64().unwrap()).unwrap();
    let zeroes = usize::try_from(case["zeroes"].as_u64().unwrap()).unwrap();
    let mut bytes = Vec::with_capacity(size + zeroes + 32);
    for counter in 0..size.div_ceil(32) {
        bytes.extend_from_slice(&Sha256::digest(format!("{seed}:{counter}")));
    }
    bytes.truncate(size);
    bytes.resize(size + zeroes, 0);
    bytes
}

#[test]
fn golden_content_cuts_hold() {
    let cases = golden(cut::CDC_1);
    assert!(cases.len() >= 7);
    for case in cases {
        let bytes = bytes(&case);
        let found: Vec<u64> = cdc_cuts(&bytes)
            .lengths
            .into_iter()
            .map(u64::from)
            .collect();
        assert_eq!(found, lengths(&case), "{}", case["seed"]);
        let mut cutter = CdcCutter::new();
        let mut in_parts: Vec<_> = bytes
            .chunks(77_777)
            .flat_map(|part| cutter.push(part))
            .collect();
        in_parts.extend(cutter.finish());
        assert_eq!(
            in_parts.into_iter().map(u64::from).collect::<Vec<_>>(),
            found
        );
    }
}
