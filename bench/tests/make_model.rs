//! Generated checkpoints are valid, deterministic, and differ by what was asked.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use lode_bench::llama::{Options, make};
use lode_tensors::{Dtype, Header, ShardIndex, parse};

fn options(size: u64) -> Options {
    Options {
        size,
        shard_size: size / 3,
        seed: 7,
        changed: None,
        threads: 2,
    }
}

fn shards(folder: &Path) -> BTreeMap<String, (Vec<u8>, Header)> {
    let mut shards = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            let bytes = std::fs::read(&path).unwrap();
            let header = parse(&bytes, bytes.len() as u64).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            shards.insert(name, (bytes, header));
        }
    }
    shards
}

fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tensors = BTreeMap::new();
    for (bytes, header) in shards(folder).into_values() {
        for tensor in header.tensors {
            tensors.insert(tensor.name, tensor.range.of(&bytes).unwrap().to_vec());
        }
    }
    tensors
}

#[test]
fn a_checkpoint_is_valid_and_of_the_size_asked() {
    for size in [500_000, 30_000_000, 300_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let made = make(folder.path(), &options(size)).unwrap();
        assert!(
            made.bytes <= size && made.bytes >= size / 2,
            "{} of {size}",
            made.bytes
        );
        let shards = shards(folder.path());
        assert_eq!(shards.len(), made.shards);
        assert!(made.shards >= 3);
        let headers: BTreeMap<_, _> = shards
            .into_iter()
            .map(|(name, (_, header))| (name, header))
            .collect();
        let index = std::fs::read(folder.path().join("model.safetensors.index.json")).unwrap();
        let index = ShardIndex::parse(&index).unwrap();
        index.check(&headers).unwrap();
        assert_eq!(index.unlisted(&headers).count(), 0);
        assert_eq!(index.tensors().len(), made.tensors);
        assert_eq!(index.total_size(), Some(made.bytes));
        assert!(
            headers
                .values()
                .all(|h| h.tensors.iter().all(|t| t.dtype == Dtype::BF16))
        );
    }
}

#[test]
fn equal_seeds_give_equal_files_on_any_number_of_threads() {
    let (a, b, c) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let one = options(20_000_000);
    make(a.path(), &one).unwrap();
    make(
        b.path(),
        &Options {
            threads: 1,
            shard_size: u64::MAX,
            ..one.clone()
        },
    )
    .unwrap();
    make(c.path(), &Options { seed: 8, ..one }).unwrap();
    assert!(b.path().join("model.safetensors").exists());
    let (a, b, c) = (tensors(a.path()), tensors(b.path()), tensors(c.path()));
    assert!(a == b, "sharding and threads change nothing");
    assert!(
        a.iter().all(|(name, bytes)| bytes != &c[name]),
        "another seed changes all"
    );
}

#[test]
fn no_two_blocks_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &options(50_000_000)).unwrap();
    let mut seen = HashSet::new();
    for bytes in tensors(folder.path()).into_values() {
        for block in bytes.chunks_exact(128) {
            assert!(seen.insert(block.to_vec()));
        }
    }
}

#[test]
fn a_second_version_changes_the_fraction_asked() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let base = options(200_000_000);
    let made = make(a.path(), &base).unwrap();
    let changed = make(
        b.path(),
        &Options {
            changed: Some((0.1, 99)),
            ..base
        },
    )
    .unwrap();
    let (a, b) = (tensors(a.path()), tensors(b.path()));
    let differ: usize = a
        .iter()
        .filter(|(name, bytes)| *bytes != &b[*name])
        .map(|(_, b)| b.len())
        .sum();
    assert_eq!(differ as u64, changed.changed.1);
    let fraction = differ as f64 / made.bytes as f64;
    assert!((0.08..=0.1).contains(&fraction), "{fraction}");
}
