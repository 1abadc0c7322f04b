//! Thousands of small collections are cheap: what is open and small holds no descriptor, no mapping and little memory.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeMap, fs};

use lode_index::{
    Collection, CollectionConfig, Dim, Dtype, Metric, Payload, Point, Vector, VectorParams,
    operation::Operation,
};

/// Collections that are open at once.
const COLLECTIONS: usize = 5_000;

/// Bytes that they may take together: 200 MiB.
const BYTES_MAX: u64 = 200 << 20;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = pages
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap();
    pages * 4096
}

#[test]
fn five_thousand_empty_or_tiny_collections_open_within_200_mib() {
    let parent = tempfile::tempdir().unwrap();
    let config = CollectionConfig::single(VectorParams {
        dim: Dim::new(64).unwrap(),
        metric: Metric::Cosine,
        dtype: Dtype::F32,
    });
    // made once and copied: making them syncs, which is not what is measured
    let templates = [("empty", 0u64), ("tiny", 3)].map(|(name, points)| {
        let dir = parent.path().join(name);
        let collection = Collection::create(&dir, config.clone()).unwrap();
        for id in 0..points {
            let vectors = BTreeMap::from([(String::new(), Vector::Dense(vec![1.0; 64]))]);
            let point = Point {
                id: id.into(),
                vectors,
                payload: Payload::empty(),
            };
            collection.apply(Operation::Upsert(vec![point])).unwrap();
        }
        dir
    });
    let dirs: Vec<_> = (0..COLLECTIONS)
        .map(|number| {
            let dir = parent.path().join(number.to_string());
            fs::create_dir(&dir).unwrap();
            for entry in fs::read_dir(&templates[number % 2]).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
            }
            dir
        })
        .collect();
    let before = resident();
    let open: Vec<_> = dirs
        .iter()
        .map(|dir| Collection::open(dir).unwrap())
        .collect();
    let points: u64 = open.iter().map(|collection| collection.view().len()).sum();
    assert_eq!(points, 3 * COLLECTIONS as u64 / 2);
    let taken = resident() - before;
    assert!(taken < BYTES_MAX, "{} KiB", taken >> 10);
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(descriptors < 64, "{descriptors} descriptors");
}
