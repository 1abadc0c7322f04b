#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
use super::*;
use crate::xet::xorb::XorbReader;
use sha2::{Digest as _, Sha256};

/// Bytes that look random, the same in `hf_xet`'s run.
fn noise(len: usize) -> Vec<u8> {
    let block = |number: u64| Sha256::digest(number.to_le_bytes());
    let mut bytes: Vec<u8> = (0..).flat_map(block).take(len + 31).collect();
    bytes.truncate(len);
    bytes
}

fn mixed() -> Vec<u8> {
    [noise(3_000_000), vec![0; 1_000_000], noise(700_001)].concat()
}

fn outline(data: &[u8]) -> Outline {
    let mut outliner = Outliner::default();
    outliner.push(data);
    outliner.finish().unwrap()
}

/// A range of a xorb, in steps of which the file gives at most `step` bytes.
fn packed(layout: &Layout, data: &[u8], mut range: ByteRange, step: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while range.start < range.end {
        let needed = layout.file_range(range);
        let given = &data[needed.start as usize..needed.end as usize];
        let bytes = layout.join(range, &given[..given.len().min(step)]);
        assert!(!bytes.is_empty() && bytes.len() as u64 <= range.len());
        range.start += bytes.len() as u64;
        out.extend(bytes);
    }
    out
}

#[test]
fn hashes_of_files_are_those_of_the_reference() {
    // hf_xet 1.8.0, `hash_files`
    for (data, expected) in [
        (
            b"hello".to_vec(),
            "48a3213a086cad271381aafe47232eb5df291a963cebbfec071972eff45eb422",
        ),
        (
            noise(8192),
            "3ba502c52782ff02a3decfec78879ed62c90c1447b29b88d4a5b15d1bd5b641a",
        ),
        (
            noise(5_000_000),
            "77cfd8f368b713d3910649a150d53e5d29b2c23ec142d8b15f727672ade119ef",
        ),
        (
            mixed(),
            "73bfd5f448aecc77435af2448a0025c1ecd29c33addf95b0c7070c0ceca48688",
        ),
    ] {
        assert_eq!(outline(&data).hash().to_string(), expected);
        let mut in_parts = Outliner::default();
        for part in data.chunks(99_991) {
            in_parts.push(part);
        }
        assert_eq!(in_parts.finish(), Some(outline(&data)));
    }
    assert_eq!(Outliner::default().finish(), None);
}

#[test]
fn a_files_xorbs_are_xorbs_by_any_range() {
    let data = mixed();
    let outline = outline(&data);
    let (hash, layout) = outline.xorb(0).unwrap();
    assert!(outline.xorb(1).is_none());
    let whole = ByteRange {
        start: 0,
        end: layout.len(),
    };
    let bytes = packed(&layout, &data, whole, usize::MAX);
    assert_eq!(bytes.len() as u64, layout.len());
    let mut reader = XorbReader::new(&bytes[..]);
    let mut raw = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        raw.extend_from_slice(chunk);
    }
    assert_eq!(raw, data);
    assert_eq!(reader.finish(), hash);
    // Ranges that start and end in, before and behind heads, whatever the file gives at a time.
    let chunk = layout.starts[3];
    for start in chunk - 2..chunk + 11 {
        for len in [1, 2, 7, 8, 9, 20_000, layout.len() - start] {
            let range = ByteRange {
                start,
                end: start + len,
            };
            let expected = &bytes[start as usize..(start + len) as usize];
            for step in [1009, usize::MAX] {
                assert_eq!(packed(&layout, &data, range, step), expected, "{range:?}");
            }
        }
    }
}

#[test]
fn terms_cover_what_was_asked_for_and_no_more() {
    let data = vec![7; XORB_BYTES_MAX as usize + 300_000];
    let outline = outline(&data);
    assert_eq!(outline.xorbs.len(), 2);
    let second = outline.xorbs[1].start;
    assert_eq!(second, XORB_BYTES_MAX);
    let chunk = XORB_CHUNK_BYTES_MAX as u64;
    for (start, end) in [
        (0, 1),
        (0, outline.len()),
        (chunk - 1, chunk + 1),
        (second - 1, second),
        (second - 1, second + 1),
        (second, outline.len()),
        (outline.len() - 1, outline.len()),
    ] {
        let (skipped, terms) = outline.terms(ByteRange { start, end });
        let covered: u64 = terms.iter().map(|term| term.len).sum();
        let first = outline.xorbs[terms[0].xorb].start + u64::from(terms[0].chunks.start) * chunk;
        assert_eq!(first + skipped, start);
        assert!(skipped < chunk && covered >= skipped + (end - start));
        assert!(covered < skipped + (end - start) + chunk, "{start}..{end}");
        for term in &terms {
            let heads = term.chunks.len() as u64 * HEAD_BYTES as u64;
            assert_eq!(term.packed.len(), term.len + heads);
        }
    }
}

#[test]
fn a_xorb_is_no_longer_than_one_may_be() {
    // Chunks of 8 KiB, of which as many fit into a xorb as one may have.
    let mut outliner = Outliner::default();
    for _ in 0..XORB_CHUNKS_MAX + 1 {
        outliner.open = 8;
        outliner.close_chunk();
    }
    let outline = outliner.finish().unwrap();
    let counts: Vec<usize> = outline.xorbs.iter().map(|at| at.chunks.len()).collect();
    assert_eq!(counts, [XORB_CHUNKS_MAX, 1]);
    assert_eq!(Outline::decode(&outline.encode()), Some(outline));
}

#[test]
fn an_outline_is_read_back_and_any_other_byte_makes_it_none() {
    let outline = outline(&noise(400_000));
    let bytes = outline.encode();
    assert_eq!(Outline::decode(&bytes).as_ref(), Some(&outline));
    assert_eq!(
        Outline::peek(bytes.first_chunk().unwrap()),
        Some(outline.hash)
    );
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(Outline::decode(&other).is_none(), "byte {at}");
        assert!(Outline::decode(&bytes[..at]).is_none(), "{at} bytes");
    }
    // Sealed and wrong: lengths that do not add up, or that no chunk has.
    for (at, value) in [(40, 399_999), (48, 2), (52, 1), (bytes.len() - 36, 0)] {
        let mut other = bytes[..bytes.len() - SEAL_BYTES].to_vec();
        other[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        other.extend_from_slice(blake3::hash(&other).as_bytes());
        assert!(Outline::decode(&other).is_none(), "{value} at {at}");
    }
}
