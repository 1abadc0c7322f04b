//! Segments: never a panic, searches end, and give rows that there are.
//!
//! Input: 8 bytes of a query and how it is searched, then a segment without the hash over its table, which is made
//! anew, so that what lies behind it is reached. Scans of sketches are planned from some 300 rows on: the seed
//! `euclid-u8-sketch` (one bit a component) and `euclid-u8-two-bits` have so many.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use lode_index::{
    Row, RowSet,
    segment::SegmentFile,
    vectors::{Query, Search, VectorPart},
};

fuzz_target!(|input: &[u8]| {
    let Some((how, segment)) = input.split_first_chunk::<8>() else {
        return;
    };
    let mut bytes = segment.to_vec();
    let count = bytes.get(12).copied().unwrap_or(0) as usize;
    if bytes.len() >= 16_384 {
        let hash = blake3::hash(&bytes[64..64 + 64 * count]);
        bytes[32..64].copy_from_slice(hash.as_bytes());
    }
    let Ok(segment) = SegmentFile::from_bytes(bytes) else {
        return;
    };
    let _ = segment.verify();
    for field in 0..2 {
        let Ok(part) = VectorPart::open(&segment, field) else {
            continue;
        };
        let dim = part.params().dim.get();
        let vector: Vec<f32> = (0..dim).map(|at| f32::from(how[at % 8])).collect();
        let Ok(query) = Query::new(part.params(), &vector) else {
            continue;
        };
        let least = Some(f32::from(how[3]));
        let mut filter = RowSet::empty(part.rows());
        for row in (0..part.rows()).step_by(1 + usize::from(how[0] % 4)) {
            filter.insert(Row(row));
        }
        for filter in [None, Some(&filter)] {
            for (exact, threshold) in [(false, None), (false, least), (true, None)] {
                let search = Search {
                    k: usize::from(how[1]),
                    breadth: usize::from(how[2]),
                    filter,
                    exact,
                    threshold,
                };
                let hits = part.search(&query, &search);
                assert!(hits.len() <= search.k);
                let rows: HashSet<_> = hits.iter().map(|hit| hit.row).collect();
                assert_eq!(rows.len(), hits.len(), "no row twice");
                for hit in &hits {
                    assert!(part.vector(hit.row).is_some());
                    assert!(filter.is_none_or(|filter| filter.contains(hit.row)));
                }
            }
        }
        let _ = part.check();
    }
});
