#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
//! What is sent is byte for byte what bao-tree sends, for any selection of any blob.

use bao_tree::{
    BaoTree, BlockSize, ChunkNum, ChunkRanges,
    io::{outboard::PreOrderMemOutboard, sync::encode_ranges_validated},
};
use proptest::prelude::*;

use super::*;
use crate::sync::testing::{MemChunk, sample};

fn encode(chunk: &MemChunk, boundaries: &[u64], limit: usize) -> io::Result<Vec<u8>> {
    let reader: Arc<dyn ChunkRead> = Arc::new(chunk.clone());
    let mut encoder = Encoder::new(&ChunkHash::of(&chunk.data), reader, boundaries)?;
    let mut out = Vec::new();
    loop {
        let mut batch = Batch::default();
        let done = encoder.fill(&mut batch, limit)?;
        out.extend(batch.into_segments().concat());
        if done {
            return Ok(out);
        }
    }
}

fn reference(data: &[u8], ranges: &ChunkRanges) -> Vec<u8> {
    let outboard = PreOrderMemOutboard::create(data, BlockSize::from_chunk_log(4));
    assert_eq!(
        outboard.tree,
        BaoTree::new(data.len() as u64, BlockSize::from_chunk_log(4))
    );
    let mut out = (data.len() as u64).to_le_bytes().to_vec();
    encode_ranges_validated(data, &outboard, ranges, &mut out).unwrap();
    out
}

fn ranges_of(boundaries: &[u64]) -> ChunkRanges {
    let mut ranges = ChunkRanges::empty();
    for pair in boundaries.chunks(2) {
        ranges |= match *pair {
            [start, end] => ChunkRanges::from(ChunkNum(start)..ChunkNum(end)),
            _ => ChunkRanges::from(ChunkNum(pair[0])..),
        };
    }
    ranges
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn equals_bao_tree(
        size in prop_oneof![0usize..40_000, 0usize..1_300_000],
        boundaries in prop_oneof![
            prop::collection::btree_set(0u64..60, 0..9),
            prop::collection::btree_set(0u64..1400, 0..9),
        ],
        limit in 1usize..200_000,
    ) {
        let data = sample(size, size as u64);
        let boundaries: Vec<u64> = boundaries.into_iter().collect();
        let chunk = MemChunk::new(data.clone());
        let ours = encode(&chunk, &boundaries, limit).unwrap();
        prop_assert_eq!(ours, reference(&data, &ranges_of(&boundaries)));
    }
}

#[test]
fn a_wrong_outboard_is_not_served() {
    let mut chunk = MemChunk::new(sample(200_000, 1));
    let mut outboard = chunk.outboard.to_vec();
    outboard[70] ^= 1;
    chunk.outboard = outboard.into();
    let error = encode(&chunk, &[0], 1 << 20).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    chunk.outboard = chunk.outboard.slice(64..);
    assert!(encode(&chunk, &[0], 1 << 20).is_err());
}

#[test]
fn a_wrong_byte_in_a_partly_asked_group_is_not_served() {
    let good = MemChunk::new(sample(40_000, 2));
    let mut data = good.data.to_vec();
    data[300] ^= 1;
    let reader: Arc<dyn ChunkRead> = Arc::new(MemChunk {
        data: data.into(),
        ..good.clone()
    });
    let mut encoder = Encoder::new(&ChunkHash::of(&good.data), reader, &[3, 4]).unwrap();
    assert!(encoder.fill(&mut Batch::default(), 1 << 20).is_err());
}
