//! One wrong byte, planted in each kind of place, is found before it is served.
//!
//! `flip` changes a byte as a program does (the time of modification changes); `rot` as a failing disk
//! does (it does not).

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use lode_store::{
    ChunkHash, Store,
    disk::{Disk as _, sim::SimDisk},
    log::Nonces,
    outboard,
    sidecar::{ChunkEntry, HEADER_BYTES},
    store::{OpenError, Options, ReadError},
};

use crate::common::{Form, Home, file_table, is_whole, keep, noise, version};

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    // no clock is so coarse
    let later = file.metadata().unwrap().modified().unwrap() + std::time::Duration::from_secs(3);
    file.set_times(FileTimes::new().set_modified(later))
        .unwrap();
}

fn rot(path: &Path, offset: u64) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    flip(path, offset);
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(before))
        .unwrap();
}

/// A home with two chunks of 300,000 bytes in a container.
fn two_chunks(form: Form, compress: bool) -> (Home, Store, Vec<u8>, PathBuf) {
    let home = Home::new();
    let store = home.open_with(Options {
        compress_packs: compress,
        ..Options::default()
    });
    let mut data = noise(600_000, 1);
    if compress {
        data.iter_mut()
            .skip(1)
            .step_by(2)
            .for_each(|byte| *byte = 0x3c);
    }
    let id = version(&store, form, 300_000, &[("f", &data)], home.path());
    keep(&store, &id, true);
    let extension = if form == Form::Whole { "whole" } else { "pack" };
    let path = home.files(extension).remove(0);
    (home, store, data, path)
}

fn read(store: &Store, bytes: &[u8]) -> Result<Option<Bytes>, ReadError> {
    match store.chunk(&ChunkHash::of(bytes))? {
        Some(chunk) => chunk.read(0..chunk.len()).map(Some),
        None => Ok(None),
    }
}

#[test]
fn in_a_whole_container_and_in_a_pack() {
    for (form, compress) in [
        (Form::Whole, false),
        (Form::Pack, false),
        (Form::Pack, true),
    ] {
        for open in [true, false] {
            let (home, store, data, path) = two_chunks(form, compress);
            let (first, second) = data.split_at(300_000);
            read(&store, first).unwrap().unwrap();
            let len = fs::metadata(&path).unwrap().len();
            let store = if open {
                flip(&path, len - 1000);
                store
            } else {
                drop(store);
                flip(&path, len - 1000);
                home.open()
            };
            // the other chunk is served still, checked
            let chunk = store.chunk(&ChunkHash::of(first)).unwrap().unwrap();
            assert!(!chunk.is_trusted());
            assert_eq!(chunk.read(5..250_000).unwrap(), first[5..250_000]);
            assert!(
                matches!(read(&store, second), Err(ReadError::Corrupt { .. })),
                "{form:?}"
            );
            assert_eq!(
                read(&store, second).unwrap(),
                None,
                "not held any more, {form:?}"
            );
            let scrubbed = store.scrub(&mut |_| true).unwrap();
            assert_eq!(scrubbed.wrong_chunks.len(), 1);
            assert_eq!(scrubbed.wrong_chunks[0].hash, ChunkHash::of(second));
            assert!(
                store
                    .chunk(&ChunkHash::of(first))
                    .unwrap()
                    .unwrap()
                    .is_trusted()
            );
            assert!(!store.scrub(&mut |_| true).unwrap().found_damage());
            drop((chunk, store));
            fs::remove_file(home.path().join("index.redb")).unwrap();
            let store = home.open();
            assert_eq!(read(&store, second).unwrap(), None);
            assert_eq!(read(&store, first).unwrap().unwrap(), first);
        }
    }
}

#[test]
fn groups_beside_the_wrong_one_are_still_read() {
    let (_home, store, data, path) = two_chunks(Form::Whole, false);
    flip(&path, 100_000);
    let chunk = store
        .chunk(&ChunkHash::of(&data[..300_000]))
        .unwrap()
        .unwrap();
    assert_eq!(chunk.read(0..98_304).unwrap(), data[..98_304]);
    assert_eq!(
        chunk.read(114_688..300_000).unwrap(),
        data[114_688..300_000]
    );
    assert!(chunk.read(98_303..98_305).is_err());
}

#[test]
fn by_a_failing_disk_in_a_container_is_found_by_scrub() {
    for (form, compress) in [
        (Form::Whole, false),
        (Form::Pack, false),
        (Form::Pack, true),
    ] {
        let (_home, store, data, path) = two_chunks(form, compress);
        rot(&path, 1000);
        let scrubbed = store.scrub(&mut |_| true).unwrap();
        assert!(scrubbed.found_damage());
        assert_eq!(scrubbed.wrong_chunks.len(), 1, "{form:?}");
        assert_eq!(read(&store, &data[..300_000]).unwrap(), None);
        assert_eq!(
            read(&store, &data[300_000..]).unwrap().unwrap(),
            data[300_000..]
        );
    }
}

#[test]
fn touching_a_container_costs_checks_until_a_scrub_clears_it() {
    let (_home, store, data, path) = two_chunks(Form::Whole, false);
    flip(&path, 10);
    flip(&path, 10);
    assert!(
        !store
            .chunk(&ChunkHash::of(&data[..300_000]))
            .unwrap()
            .unwrap()
            .is_trusted()
    );
    let scrubbed = store.scrub(&mut |_| true).unwrap();
    assert_eq!(
        (scrubbed.containers_cleared, scrubbed.found_damage()),
        (1, false)
    );
    assert!(
        store
            .chunk(&ChunkHash::of(&data[..300_000]))
            .unwrap()
            .unwrap()
            .is_trusted()
    );
}

#[test]
fn in_a_container_that_was_cut_short_or_is_missing() {
    let (home, store, data, path) = two_chunks(Form::Whole, false);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(400_000)
        .unwrap();
    assert!(read(&store, &data[300_000..]).is_err());
    assert_eq!(
        read(&store, &data[..300_000]).unwrap().unwrap(),
        data[..300_000]
    );
    drop(store);
    fs::remove_file(&path).unwrap();
    let store = home.open();
    assert_eq!(store.findings().containers_lost.len(), 1);
    assert_eq!(read(&store, &data[..300_000]).unwrap(), None);
    drop(store);
    assert!(home.open().findings().containers_lost.len() <= 1);
}

#[test]
fn in_an_outside_file_even_if_nothing_else_of_it_changes() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/models")).unwrap();
    let path = Path::new("/models/f");
    let data = noise(600_000, 1);
    disk.create(path).unwrap().write_at(&data, 0).unwrap();
    let options = Options {
        disk: Arc::new(disk.clone()),
        ids: Nonces::From(1),
        ..Options::default()
    };
    let store = Store::open(Path::new("/home"), options).unwrap();
    let (table, outboards) = file_table(&data, 300_000);
    let add = || {
        store
            .add_outside(path, store.pins(path).unwrap(), &table, &outboards)
            .unwrap()
    };
    add();
    disk.flip(path, 400_000);
    let chunk = store.chunk(&table[1].hash).unwrap().unwrap();
    assert_eq!(chunk.read(0..16_384).unwrap(), data[300_000..316_384]);
    assert!(matches!(
        chunk.read(90_000..110_000),
        Err(ReadError::Changed { .. })
    ));
    assert!(
        store.chunk(&table[0].hash).unwrap().is_none(),
        "the whole file is given up"
    );
    add();
    let scrubbed = store.scrub(&mut |_| true).unwrap();
    assert_eq!(scrubbed.outside_changed, [path]);
    assert!(!scrubbed.found_damage(), "a user may change a file");
    assert!(store.chunk(&table[0].hash).unwrap().is_none());
}

#[test]
fn in_an_outboard() {
    for suspect in [false, true] {
        let (home, store, data, path) = two_chunks(Form::Whole, false);
        let side = home.files("side").remove(0);
        rot(&side, HEADER_BYTES + 70);
        if suspect {
            flip(&path, 500_000);
        }
        let chunk = store
            .chunk(&ChunkHash::of(&data[..300_000]))
            .unwrap()
            .unwrap();
        assert_eq!(
            chunk.outboard().unwrap(),
            outboard::compute(&data[..300_000]).1
        );
        assert_eq!(chunk.read(7..20_000).unwrap(), data[7..20_000]);
        let scrubbed = store.scrub(&mut |_| true).unwrap();
        assert_eq!(scrubbed.outboards_mended, 1);
        assert_eq!(store.scrub(&mut |_| true).unwrap().outboards_mended, 0);
        // a lost sidecar costs nothing either
        fs::remove_file(&side).unwrap();
        drop(chunk);
        let chunk = store
            .chunk(&ChunkHash::of(&data[..300_000]))
            .unwrap()
            .unwrap();
        assert_eq!(
            chunk.outboard().unwrap(),
            outboard::compute(&data[..300_000]).1
        );
        assert_eq!(store.scrub(&mut |_| true).unwrap().sidecars_mended.len(), 1);
        drop((chunk, store));
        let store = home.open();
        assert_eq!(
            read(&store, &data[..300_000]).unwrap().unwrap(),
            data[..300_000]
        );
    }
}

#[test]
fn in_the_table_of_a_sidecar() {
    let (home, store, data, _path) = two_chunks(Form::Whole, false);
    let side = home.files("side").remove(0);
    let table = fs::metadata(&side).unwrap().len() - 32 - 2 * 64;
    rot(&side, table + 33);
    // the index has the table too, and scrub makes the sidecar anew from it
    assert_eq!(
        read(&store, &data[..300_000]).unwrap().unwrap(),
        data[..300_000]
    );
    assert_eq!(
        store.scrub(&mut |_| true).unwrap().sidecars_mended,
        std::slice::from_ref(&side)
    );
    assert!(!store.scrub(&mut |_| true).unwrap().found_damage());
    drop(store);
    // without the index it is said, nothing wrong is served, and nothing is thrown away
    rot(&side, table + 33);
    fs::remove_file(home.path().join("index.redb")).unwrap();
    let store = home.open();
    assert_eq!(
        store.findings().containers_lost,
        std::slice::from_ref(&side)
    );
    assert_eq!(read(&store, &data[..300_000]).unwrap(), None);
    store.gc(false, &mut |_| true).unwrap();
    assert!(side.exists() && home.files("whole").len() == 1);
}

#[test]
fn in_the_log() {
    let home = Home::new();
    let store = home.open();
    let documents: Vec<Bytes> = (0..3).map(|n| noise(2000, n).into()).collect();
    let mut hashes = Vec::new();
    for document in &documents {
        hashes.extend(store.put_documents(std::slice::from_ref(document)).unwrap());
    }
    store.local_set("k", b"v").unwrap();
    let segment = home.files("log").remove(0);
    // header 32, then batches of 56 + 24 + 2000 bytes
    rot(&segment, 32 + 2080 + 1000);
    assert!(matches!(
        store.document(&hashes[1]),
        Err(ReadError::Corrupt { .. })
    ));
    assert_eq!(
        store.document(&hashes[1]).unwrap(),
        None,
        "not held any more"
    );
    assert_eq!(store.document(&hashes[2]).unwrap().unwrap(), documents[2]);
    let scrubbed = store.scrub(&mut |_| true).unwrap();
    assert_eq!(scrubbed.log_damage.len(), 1);
    assert_eq!(
        (scrubbed.log_damage[0].start, scrubbed.log_damage[0].end),
        (2112, 4192)
    );
    drop(store);
    // it was seen as whole before: the index knows
    home.open();

    fs::remove_file(home.path().join("index.redb")).unwrap();
    match Store::open(home.path(), Options::default()) {
        Err(OpenError::Corrupt { path, offset, .. }) => assert_eq!((path, offset), (segment, 2112)),
        other => panic!("{other:?}"),
    }
    let _ = fs::remove_file(home.path().join("index.redb"));
    let store = home.open_with(Options {
        salvage: true,
        ..Options::default()
    });
    assert_eq!(store.findings().log_damage.len(), 1);
    assert_eq!(store.document(&hashes[0]).unwrap().unwrap(), documents[0]);
    assert_eq!(store.document(&hashes[1]).unwrap(), None);
    assert_eq!(store.document(&hashes[2]).unwrap().unwrap(), documents[2]);
    assert_eq!(store.local_get("k").unwrap().unwrap(), "v");
}

#[test]
fn in_the_last_record_of_the_log_is_no_torn_tail_if_the_index_saw_it() {
    let home = Home::new();
    let store = home.open();
    store.local_set("k", b"first").unwrap();
    store.local_set("k", b"second").unwrap();
    let segment = home.files("log").remove(0);
    let len = fs::metadata(&segment).unwrap().len();
    drop(store);
    // cut short: acknowledged bytes are missing
    File::options()
        .write(true)
        .open(&segment)
        .unwrap()
        .set_len(len - 1)
        .unwrap();
    assert!(matches!(
        Store::open(home.path(), Options::default()),
        Err(OpenError::Corrupt { .. })
    ));
}

#[test]
fn nothing_wrong_is_served_whatever_byte_of_a_home_changes() {
    let (home, store, data, _) = two_chunks(Form::Pack, false);
    let documents = store.put_documents(&[noise(500, 9).into()]).unwrap();
    drop(store);
    let table: Vec<ChunkEntry> = file_table(&data, 300_000).0;
    for extension in ["pack", "side", "log"] {
        let path = home.files(extension).remove(0);
        let inside = path.strip_prefix(home.path()).unwrap().to_owned();
        let len = fs::metadata(&path).unwrap().len();
        for offset in (0..len).step_by((len as usize / 40).max(1)) {
            let copy = Home::copy_of(&home);
            let keeps_index = offset % 2 == 0;
            flip(&copy.path().join(&inside), offset);
            if !keeps_index {
                fs::remove_file(copy.path().join("index.redb")).unwrap();
            }
            let Ok(store) = Store::open(copy.path(), Options::default()) else {
                continue;
            };
            for entry in &table {
                if let Ok(Some(chunk)) = store.chunk(&entry.hash)
                    && let Ok(bytes) = chunk.read(0..chunk.len())
                {
                    assert_eq!(ChunkHash::of(&bytes), entry.hash, "{extension} {offset}");
                    let pairs = chunk.outboard().unwrap();
                    assert_eq!(outboard::compute(&bytes).1, pairs, "{extension} {offset}");
                }
            }
            if let Ok(Some(bytes)) = store.document(&documents[0]) {
                assert_eq!(bytes, noise(500, 9), "{extension} {offset}");
            }
        }
    }
    let store = home.open();
    let kept = store.kept().unwrap()[0].0;
    assert!(is_whole(&store, &kept), "the home itself was not touched");
}
