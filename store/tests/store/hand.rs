//! What is read without waiting is what a reader of the chunk gets, or nothing.

use std::{fs, path::Path, sync::Arc};

use lode_store::{
    ChunkHash, Store,
    disk::{Access, Disk as _, sim::SimDisk},
    log::Nonces,
    store::Options,
};

use super::common::{file_table, noise};

const CHUNK: usize = 300_000;

fn store(disk: &SimDisk) -> Store {
    let options = Options {
        disk: Arc::new(disk.clone()),
        ids: Nonces::From(1),
        ..Options::default()
    };
    Store::open(Path::new("/home"), options).unwrap()
}

fn whole(store: &Store, data: &[u8]) -> Vec<ChunkHash> {
    let (table, outboards) = file_table(data, CHUNK);
    let writer = store.whole_writer(data.len() as u64).unwrap();
    writer.write_at(0, data).unwrap();
    writer.write_outboard_at(0, &outboards).unwrap();
    writer.seal(&table, outboards.len() as u64).unwrap();
    table.iter().map(|entry| entry.hash).collect()
}

fn outside(store: &Store, disk: &SimDisk, path: &Path, data: &[u8]) -> Vec<ChunkHash> {
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    disk.create(path).unwrap().write_at(data, 0).unwrap();
    let (table, outboards) = file_table(data, CHUNK);
    let pins = store.pins(path).unwrap();
    store.add_outside(path, pins, &table, &outboards).unwrap();
    table.iter().map(|entry| entry.hash).collect()
}

fn read(store: &Store, hash: &ChunkHash) {
    store.chunk(hash).unwrap().unwrap().read(0..1).unwrap();
}

#[test]
fn every_range_of_a_chunk_that_was_read_is_at_hand() {
    let (disk, data) = (SimDisk::new(1), noise(2 * CHUNK, 1));
    let store = store(&disk);
    let other = noise(2 * CHUNK, 2);
    let owned = whole(&store, &data);
    let users = outside(&store, &disk, Path::new("/models/f"), &other);
    for (hashes, data) in [(owned, data), (users, other)] {
        for (number, hash) in hashes.iter().enumerate() {
            assert_eq!(store.read_at_hand(hash, 0..1), None, "nobody read it yet");
            read(&store, hash);
            let chunk = &data[number * CHUNK..][..CHUNK];
            for (start, end) in [(0, 1), (16_383, 16_385), (100_001, 180_000), (0, CHUNK)] {
                let found = store.read_at_hand(hash, start as u32..end as u32);
                assert_eq!(found.as_deref(), Some(&chunk[start..end]), "{start}..{end}");
            }
            for (start, end) in [(5, 5), (0, CHUNK + 1)] {
                assert_eq!(store.read_at_hand(hash, start as u32..end as u32), None);
            }
        }
    }
}

#[test]
fn bytes_of_a_users_file_that_changed_are_never_at_hand() {
    let (disk, data, path) = (SimDisk::new(1), noise(CHUNK, 1), Path::new("/models/f"));
    let store = store(&disk);
    let hashes = outside(&store, &disk, path, &data);
    read(&store, &hashes[0]);
    disk.flip(path, 20_000);
    let at_hand = |range| store.read_at_hand(&hashes[0], range);
    assert_eq!(at_hand(20_001..20_002), None, "its group is wrong");
    assert_eq!(at_hand(0..16_384).as_deref(), Some(&data[..16_384]));
    let file = disk.open(path, Access::Write).unwrap();
    file.write_at(&data[..1], 0).unwrap();
    assert_eq!(at_hand(0..16_384), None, "it was written to");
}

#[test]
fn a_container_that_changed_is_not_trusted_at_hand() {
    let (disk, data) = (SimDisk::new(1), noise(CHUNK, 1));
    let store = store(&disk);
    let hashes = whole(&store, &data);
    read(&store, &hashes[0]);
    let path = store
        .place_of_file(data.len() as u64, &hashes)
        .unwrap()
        .unwrap()
        .path;
    let file = disk.open(&path, Access::Write).unwrap();
    file.write_at(&[data[20_000] ^ 1], 20_000).unwrap();
    assert_eq!(store.read_at_hand(&hashes[0], 20_000..20_001), None);
    // read with its checks, what is still right of it is served again
    read(&store, &hashes[0]);
    assert_eq!(store.read_at_hand(&hashes[0], 20_000..20_001), None);
    let found = store.read_at_hand(&hashes[0], 0..16_384);
    assert_eq!(found.as_deref(), Some(&data[..16_384]));
}

#[test]
fn what_is_given_up_is_not_at_hand_any_more() {
    let (disk, data, path) = (SimDisk::new(1), noise(CHUNK, 1), Path::new("/models/f"));
    let store = store(&disk);
    let hashes = outside(&store, &disk, path, &data);
    read(&store, &hashes[0]);
    assert!(store.read_at_hand(&hashes[0], 0..1).is_some());
    let (known, _) = store.outside_at(path).unwrap().unwrap();
    let before = store.changes();
    store.drop_outside(known.header.id, "a test").unwrap();
    assert_ne!(store.changes(), before);
    assert_eq!(store.read_at_hand(&hashes[0], 0..1), None);
}

#[test]
fn pages_in_memory_are_at_hand_where_the_file_system_can_tell() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = (folder.path().join("f"), noise(CHUNK, 1));
    fs::write(&path, &data).unwrap();
    let file = lode_store::disk::RealDisk
        .open(&path, Access::Read)
        .unwrap();
    let mut found = vec![0; 5000];
    // tmpfs, for one, cannot
    if let Some(read) = file.read_at_hand(&mut found, 100).unwrap() {
        assert_eq!(found[..read], data[100..100 + read]);
    }
    let end = file.read_at_hand(&mut found, CHUNK as u64).unwrap();
    assert!(matches!(end, None | Some(0)));
}

#[test]
fn changes_are_counted_on_when_the_index_is_made_anew() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    whole(&store, &noise(CHUNK, 1));
    let before = store.changes();
    store.rebuild_index().unwrap();
    assert!(store.changes() > before);
}
