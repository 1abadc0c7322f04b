#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init
)]
//! Our encoding of requests is that of iroh-blobs, both ways.

use bao_tree::{ChunkNum, ChunkRanges};
use iroh_blobs::{
    Hash,
    protocol::{
        ChunkRangesExt, ChunkRangesSeq, GetManyRequest, GetRequest, ObserveItem, ObserveRequest,
        Request,
    },
};
use proptest::prelude::*;

use super::*;

fn ranges() -> impl Strategy<Value = ChunkRanges> {
    prop::collection::btree_set(0u64..3000, 0..7).prop_map(|set| {
        let list: Vec<u64> = set.into_iter().collect();
        let mut ranges = ChunkRanges::empty();
        for pair in list.chunks(2) {
            ranges |= match *pair {
                [start, end] => ChunkRanges::from(ChunkNum(start)..ChunkNum(end)),
                _ => ChunkRanges::from(ChunkNum(pair[0])..),
            };
        }
        ranges
    })
}

fn boundaries_of(ranges: &ChunkRanges) -> Vec<u64> {
    ranges
        .boundaries()
        .iter()
        .map(|boundary| boundary.0)
        .collect()
}

proptest! {
    #[test]
    fn requests_of_iroh_blobs_are_read_and_written_alike(
        list in prop::collection::vec(ranges(), 0..9),
        open in any::<bool>(),
        many in any::<bool>(),
    ) {
        let seq = if open {
            ChunkRangesSeq::from_ranges_infinite(list.clone())
        } else {
            ChunkRangesSeq::from_ranges(list.clone())
        };
        let hashes = vec![Hash::new(b"a"), Hash::new(b"b")];
        let theirs = if many {
            Request::GetMany(GetManyRequest::new(hashes, seq.clone()))
        } else {
            Request::Get(GetRequest::new(Hash::new(b"root"), seq.clone()))
        };
        let bytes = postcard::to_allocvec(&theirs).unwrap();
        let ours = BlobRequest::decode(&bytes).unwrap();
        prop_assert_eq!(ours.encode(), bytes);
        let (BlobRequest::Get { ranges, .. } | BlobRequest::GetMany { ranges, .. }) = ours else {
            return Err(TestCaseError::fail("another request"));
        };
        for number in 0..list.len() as u64 + 3 {
            prop_assert_eq!(ranges.of_blob(number), boundaries_of(&seq[number]));
            let next = (number..20).find(|number| !seq[*number].is_empty());
            prop_assert_eq!(ranges.next_asked(number), next);
        }
    }

    #[test]
    fn selections_become_the_request_that_iroh_blobs_would_build(
        picks in prop::collection::btree_map(0u64..30, (1u64..100_000, 0u64..100_000), 1..8),
    ) {
        let selections: Vec<(u64, Selection)> = picks
            .into_iter()
            .map(|(number, (size, from))| {
                let from = from % size;
                (number, Selection::of_bytes(size, [from..(from + 20_000).min(size)]))
            })
            .collect();
        let ours = RangesSeq::of_selections(selections.iter().map(|(n, s)| (*n, s)));
        let mut builder = GetRequest::builder();
        for (number, selection) in &selections {
            let mut ranges = ChunkRanges::empty();
            for pair in boundaries(selection).chunks(2) {
                ranges |= match *pair {
                    [start, end] => ChunkRanges::from(ChunkNum(start)..ChunkNum(end)),
                    _ => ChunkRanges::from(ChunkNum(pair[0])..),
                };
            }
            builder = builder.offset(*number, ranges);
        }
        let theirs = Request::Get(builder.build(Hash::new(b"root")));
        let root = ChunkHash::of(b"root");
        let bytes = BlobRequest::Get { root, ranges: ours }.encode();
        let theirs = postcard::to_allocvec(&theirs).unwrap();
        prop_assert_eq!(
            BlobRequest::decode(&bytes).unwrap(),
            BlobRequest::decode(&theirs).unwrap()
        );
        prop_assert_eq!(postcard::from_bytes::<Request>(&bytes).is_ok(), true);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let request = BlobRequest::decode(&bytes);
        if let Ok(request @ (BlobRequest::Get { .. } | BlobRequest::GetMany { .. })) = request {
            prop_assert_eq!(BlobRequest::decode(&request.encode()).unwrap(), request);
        }
    }
}

#[test]
fn observe_is_that_of_iroh_blobs() {
    let theirs = Request::Observe(ObserveRequest::new(Hash::new(b"x")));
    let bytes = postcard::to_allocvec(&theirs).unwrap();
    let ours = BlobRequest::decode(&bytes).unwrap();
    assert_eq!(
        ours,
        BlobRequest::Observe {
            hash: ChunkHash::of(b"x")
        }
    );
    assert_eq!(ours.encode(), bytes);
    let ranges = ChunkRanges::chunks(3..700);
    let item = postcard::to_allocvec(&ObserveItem {
        size: 1 << 20,
        ranges,
    })
    .unwrap();
    let ours = encode_observed(1 << 20, &[3, 700]);
    assert_eq!(ours[0] as usize, item.len());
    assert_eq!(&ours[1..], item);
}

#[test]
fn one_more_blob_or_range_than_a_request_may_name_is_refused() {
    let many = |count: usize| {
        let hashes = vec![ChunkHash::of(b""); count];
        BlobRequest::decode(
            &BlobRequest::GetMany {
                hashes,
                ranges: RangesSeq::default(),
            }
            .encode(),
        )
    };
    assert!(many(REQUEST_BLOBS_MAX).is_ok());
    assert!(many(REQUEST_BLOBS_MAX + 1).is_err());
    let ranges = |count: usize| {
        let mut ranges = RangesSeq::default();
        ranges.push(0, (0..count as u64).map(|at| at + 1));
        BlobRequest::decode(
            &BlobRequest::Get {
                root: ChunkHash::of(b""),
                ranges,
            }
            .encode(),
        )
    };
    assert!(ranges(REQUEST_BOUNDARIES_MAX).is_ok());
    assert!(ranges(REQUEST_BOUNDARIES_MAX + 1).is_err());
    let entries = |count: u64| {
        let mut ranges = RangesSeq::default();
        (0..count).for_each(|at| ranges.push(at, []));
        BlobRequest::decode(
            &BlobRequest::Get {
                root: ChunkHash::of(b""),
                ranges,
            }
            .encode(),
        )
    };
    assert!(entries(REQUEST_BOUNDARIES_MAX as u64).is_ok());
    assert!(entries(REQUEST_BOUNDARIES_MAX as u64 + 1).is_err());
}

#[test]
fn offsets_that_are_far_away_cost_nothing() {
    let mut ranges = RangesSeq::default();
    ranges.push(u64::MAX - 1, [0]);
    let request = BlobRequest::Get {
        root: ChunkHash::of(b""),
        ranges: ranges.clone(),
    };
    assert_eq!(BlobRequest::decode(&request.encode()).unwrap(), request);
    assert_eq!(ranges.next_asked(0), Some(u64::MAX - 1));
    assert_eq!(ranges.next_asked(u64::MAX - 1), Some(u64::MAX - 1));
}
