#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
//! What is received is what was asked for, or is refused: against our encoder, for any split of parts.

use std::{collections::BTreeMap, sync::Arc};

use lode_tensors::{ByteRange, Runs};
use proptest::prelude::*;

use super::*;
use crate::sync::{
    encode::{Batch, Encoder},
    limits::{GROUP_BYTES, PLAN_BYTES},
    request::{BlobRequest, RangesSeq},
    source::ChunkRead,
    testing::{MemChunk, sample},
};

/// Collects pieces, and checks how they are cut.
#[derive(Default)]
struct Collect {
    /// Bytes of each blob, and whether they came.
    blobs: Vec<(Vec<u8>, Vec<bool>)>,
    parents: BTreeMap<(usize, u32), [u8; 64]>,
}

impl Collect {
    fn new(blobs: &[(MemChunk, Selection)]) -> Self {
        let empty = |(chunk, _): &(MemChunk, Selection)| {
            (vec![0; chunk.data.len()], vec![false; chunk.data.len()])
        };
        Self {
            blobs: blobs.iter().map(empty).collect(),
            parents: BTreeMap::new(),
        }
    }

    /// Whether what came is right, and how much it is.
    fn check(&self, blobs: &[(MemChunk, Selection)]) -> u64 {
        let mut count = 0;
        for ((bytes, came), (chunk, _)) in self.blobs.iter().zip(blobs) {
            for at in (0..bytes.len()).filter(|at| came[*at]) {
                assert_eq!(bytes[at], chunk.data[at]);
                count += 1;
            }
        }
        for ((blob, index), pair) in &self.parents {
            let at = *index as usize * 64;
            assert_eq!(&blobs[*blob].0.outboard[at..at + 64], &pair[..]);
        }
        count
    }
}

impl Target for Collect {
    fn piece(
        &mut self,
        blob: usize,
        offset: u64,
        data: &[u8],
        parents: &[Parent],
    ) -> io::Result<()> {
        let end = offset + data.len() as u64;
        assert!(data.is_empty() || offset / PIECE_BYTES == (end - 1) / PIECE_BYTES);
        let range = offset as usize..end as usize;
        self.blobs[blob].0[range.clone()].copy_from_slice(data);
        assert!(self.blobs[blob].1[range.clone()].iter().all(|came| !came));
        self.blobs[blob].1[range].fill(true);
        self.parents
            .extend(parents.iter().map(|(index, pair)| ((blob, *index), *pair)));
        Ok(())
    }
}

fn encoded(blobs: &[(MemChunk, Selection)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (chunk, selection) in blobs {
        let reader: Arc<dyn ChunkRead> = Arc::new(chunk.clone());
        let hash = ChunkHash::of(&chunk.data);
        let boundaries: Vec<u64> = selection
            .runs()
            .iter()
            .flat_map(|run| [run.start, run.end])
            .collect();
        let mut encoder = Encoder::new(&hash, reader, &boundaries).unwrap();
        let mut batch = Batch::default();
        assert!(encoder.fill(&mut batch, usize::MAX).unwrap());
        out.extend(batch.into_segments().concat());
    }
    out
}

fn response(blobs: &[(MemChunk, Selection)]) -> (Planner, Decoder) {
    let blob = |(chunk, selection): &(MemChunk, Selection)| Blob {
        hash: ChunkHash::of(&chunk.data),
        selection: selection.clone(),
    };
    let blobs: Arc<[Blob]> = blobs.iter().map(blob).collect();
    (Planner::new(Arc::clone(&blobs)), Decoder::new(blobs))
}

/// Feeds `wire` in parts of `limit` bytes.
fn decode(
    blobs: &[(MemChunk, Selection)],
    wire: &[u8],
    limit: usize,
    target: &mut Collect,
) -> Result<Option<usize>, Fault> {
    let (mut planner, mut decoder) = response(blobs);
    let mut at = 0;
    while let Some(plan) = planner.plan(limit) {
        let end = (at + plan.bytes).min(wire.len());
        let mut part = wire[at..end].to_vec();
        if let Some(blob) = decoder.decode(&plan, &mut part, target)? {
            return Ok(Some(blob));
        }
        at = end;
    }
    assert_eq!(at, wire.len());
    Ok(None)
}

fn blobs() -> impl Strategy<Value = Vec<(MemChunk, Selection)>> {
    let blob = (
        prop_oneof![0usize..3000, 0usize..90_000, 0usize..1_400_000],
        prop::collection::vec((0u64..1_400_000, 1u64..300_000), 1..5),
    );
    prop::collection::vec(blob, 1..4).prop_map(|blobs| {
        let blobs = blobs.into_iter().map(|(size, mut ranges)| {
            ranges.sort_unstable();
            let ranges = ranges.into_iter().map(|(start, len)| start..start + len);
            let chunk = MemChunk::new(sample(size, size as u64));
            let selection = Selection::of_bytes(size as u64, ranges);
            let empty = selection.is_empty();
            (
                chunk,
                if empty {
                    Selection::all(size as u64)
                } else {
                    selection
                },
            )
        });
        blobs.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_selected_byte_arrives_once_with_its_pairs(
        blobs in blobs(),
        limit in prop_oneof![1usize..5000, 5000usize..3_000_000],
    ) {
        let wire = encoded(&blobs);
        let mut target = Collect::new(&blobs);
        prop_assert!(matches!(decode(&blobs, &wire, limit, &mut target), Ok(None)));
        let selected: u64 = blobs.iter().map(|(_, selection)| selection.bytes()).sum();
        prop_assert_eq!(target.check(&blobs), selected);
    }

    #[test]
    fn a_flipped_bit_never_reaches_the_sink(
        blobs in blobs(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        limit in 5000usize..3_000_000,
    ) {
        let mut wire = encoded(&blobs);
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        let mut target = Collect::new(&blobs);
        let wrong = matches!(decode(&blobs, &wire, limit, &mut target), Err(Fault::Wrong { .. }));
        prop_assert!(wrong);
        target.check(&blobs);
    }

    #[test]
    fn a_response_cut_short_keeps_what_came_whole(
        blobs in blobs(),
        at in any::<prop::sample::Index>(),
        limit in 5000usize..3_000_000,
    ) {
        let wire = encoded(&blobs);
        let cut = at.index(wire.len());
        let mut target = Collect::new(&blobs);
        prop_assert!(matches!(decode(&blobs, &wire[..cut], limit, &mut target), Ok(Some(_))));
        let kept = target.check(&blobs);
        let parents = target.parents.len() as u64 * 64;
        let whole_groups = kept + parents + 100 * 64 + 3 * (GROUP_BYTES + 8);
        prop_assert!(whole_groups >= cut as u64, "{} of {} bytes kept", kept, cut);
    }
}

#[test]
fn a_full_chunk_comes_in_pieces_of_one_mebibyte() {
    let size = 16 << 20;
    let blobs = [(MemChunk::new(sample(size, 7)), Selection::all(size as u64))];
    let wire = encoded(&blobs);
    let (mut planner, mut decoder) = response(&blobs);
    let mut at = 0;
    let mut target = Count(Vec::new());
    while let Some(plan) = planner.plan(PLAN_BYTES) {
        let mut part = wire[at..at + plan.bytes].to_vec();
        assert!(plan.bytes < (1 << 20) + (1 << 15));
        decoder.decode(&plan, &mut part, &mut target).unwrap();
        at += plan.bytes;
    }
    assert_eq!(target.0, vec![1 << 20; 16]);
}

struct Count(Vec<usize>);

impl Target for Count {
    fn piece(&mut self, _: usize, offset: u64, data: &[u8], parents: &[Parent]) -> io::Result<()> {
        assert!(offset.is_multiple_of(1 << 20) && !parents.is_empty());
        self.0.push(data.len());
        Ok(())
    }
}

/// Columns `start..end` of `of` parts of each row of a BF16 matrix that starts a chunk, or its rows.
fn slice_cost(rows: u64, columns: u64, rank: u64, of: u64, by_columns: bool) -> (u64, u64) {
    let row = columns * 2;
    let runs = if by_columns {
        Runs::new(row / of * rank, row / of, row, rows).unwrap()
    } else {
        let (len, start) = (rows / of * row, rows / of * row * rank);
        Runs::new(start, len, len, 1).unwrap()
    };
    // `tensors/1`: chunks of whole rows
    let chunk_rows = ((16 << 20) / row).min(rows);
    let (mut wire, mut asked) = (0, Vec::new());
    for (number, first) in (0..rows).step_by(chunk_rows as usize).enumerate() {
        let size = (rows - first).min(chunk_rows) * row;
        let window = ByteRange {
            start: first * row,
            end: first * row + size,
        };
        let ranges = runs
            .inside(window)
            .map(|part| part.range.start - window.start..part.range.end - window.start);
        let selection = Selection::of_bytes(size, ranges);
        if selection.is_empty() {
            continue;
        }
        asked.push((number as u64 + 1, selection.clone()));
        let hash = ChunkHash::of(b"");
        let mut planner = Planner::new(vec![Blob { hash, selection }].into());
        while let Some(plan) = planner.plan(PLAN_BYTES) {
            wire += plan.bytes as u64;
        }
    }
    let ranges = RangesSeq::of_selections(asked.iter().map(|(number, of)| (*number, of)));
    let root = ChunkHash::of(b"");
    wire += BlobRequest::Get { root, ranges }.encode().len() as u64;
    (runs.bytes(), wire)
}

#[test]
fn a_slice_costs_little_more_than_its_own_bytes() {
    // hidden, query and key/value columns, inner, vocabulary, layers: Llama 3.2 1B, 3.1 8B, 70B
    for (name, hidden, q, kv, ffn, vocab, layers) in [
        ("1B", 2048, 2048, 512, 8192, 128_256, 16),
        ("8B", 4096, 4096, 1024, 14_336, 128_256, 32),
        ("70B", 8192, 8192, 1024, 28_672, 128_256, 80),
    ] {
        for of in [2, 4, 8] {
            for rank in [0, of - 1] {
                let layer = [
                    (q, hidden, false),
                    (kv, hidden, false),
                    (kv, hidden, false),
                    (hidden, q, true),
                    (ffn, hidden, false),
                    (ffn, hidden, false),
                    (hidden, ffn, true),
                ];
                let cost = |&(rows, columns, by_columns): &(u64, u64, bool)| {
                    slice_cost(rows, columns, rank, of, by_columns)
                };
                let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a + c, b + d);
                let (own, wire) = layer.iter().map(cost).fold((0, 0), sum);
                let ends = cost(&(vocab, hidden, false));
                let (own, wire) = (own * layers + ends.0, wire * layers + ends.1);
                let times = wire as f64 / own as f64;
                // shown when the test fails
                #[allow(clippy::print_stderr)]
                {
                    eprintln!("{name} tp={rank}/{of}: {times:.4}");
                }
                assert!(times <= 1.15, "{name} tp={rank}/{of}: {times}");
            }
        }
    }
}
