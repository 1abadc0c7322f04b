//! The store as its callers see it: what is put in comes out, also after a restart, and each refusal
//! says what it is.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

use crate::common::{Home, file_table, noise};
use bytes::Bytes;
use lode_store::{
    ChunkHash, Store,
    log::{Kind, Nonces, Record},
    outboard,
    sidecar::ChunkEntry,
    store::{OpenError, Options, ReadError, WriteError},
};

#[test]
fn chunks_of_a_pack_are_read_back_in_any_range_and_after_a_restart() {
    let home = Home::new();
    let chunks: Vec<Vec<u8>> = [0, 1, 16_384, 16_385, 300_000, 3_000_000]
        .map(|len| noise(len, 1))
        .to_vec();
    let mut store = home.open();
    let mut pack = store.pack_writer();
    for chunk in &chunks {
        let (hash, pairs) = outboard::compute(chunk);
        pack.add(hash, chunk, &pairs).unwrap();
    }
    pack.seal().unwrap().unwrap();
    for _ in 0..2 {
        for chunk in &chunks {
            let (hash, pairs) = outboard::compute(chunk);
            let reader = store.chunk(&hash).unwrap().unwrap();
            assert!(reader.is_trusted());
            assert_eq!(reader.len() as usize, chunk.len());
            assert_eq!(reader.read(0..reader.len()).unwrap(), chunk);
            let (start, end) = (chunk.len() / 3, chunk.len() / 2);
            assert_eq!(
                reader.read(start as u32..end as u32).unwrap(),
                chunk[start..end]
            );
            assert_eq!(reader.outboard().unwrap(), pairs);
            let wrong = reader.len()..reader.len() + 1;
            assert!(matches!(reader.read(wrong), Err(ReadError::Range { .. })));
        }
        assert!(store.chunk(&ChunkHash::of(b"other")).unwrap().is_none());
        drop(store);
        store = home.open();
    }
}

#[test]
fn compressed_packs_hold_the_same_chunks_in_fewer_bytes() {
    let home = Home::new();
    let store = home.open_with(Options {
        compress_packs: true,
        ..Options::default()
    });
    let mut weights = noise(2_000_000, 3);
    weights
        .iter_mut()
        .skip(1)
        .step_by(2)
        .for_each(|b| *b = 0x3c + *b % 2);
    let (hash, pairs) = outboard::compute(&weights);
    let mut pack = store.pack_writer();
    pack.add(hash, &weights, &pairs).unwrap();
    assert!(pack.stored_len() < 1_500_000);
    pack.seal().unwrap();
    let reader = store.chunk(&hash).unwrap().unwrap();
    assert_eq!(
        reader.read(262_000..600_001).unwrap(),
        weights[262_000..600_001]
    );
    assert_eq!(reader.outboard().unwrap(), pairs);
}

#[test]
fn a_whole_container_is_the_file_byte_for_byte_and_has_a_path() {
    let home = Home::new();
    let store = home.open();
    let data = noise(5_000_000, 9);
    let (table, outboards) = file_table(&data, 1_000_000);
    let writer = store.whole_writer(data.len() as u64).unwrap();
    for (number, piece) in data
        .chunks(700_000)
        .enumerate()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        writer.write_at(number as u64 * 700_000, piece).unwrap();
    }
    writer.write_outboard_at(0, &outboards).unwrap();
    writer.seal(&table, outboards.len() as u64).unwrap();
    let hashes: Vec<ChunkHash> = table.iter().map(|entry| entry.hash).collect();
    let place = store
        .place_of_file(data.len() as u64, &hashes)
        .unwrap()
        .unwrap();
    assert!(!place.outside);
    assert_eq!(fs::read(&place.path).unwrap(), data);
    for entry in &table {
        let bytes = store
            .chunk(&entry.hash)
            .unwrap()
            .unwrap()
            .read(0..entry.plain_len)
            .unwrap();
        assert_eq!(ChunkHash::of(&bytes), entry.hash);
    }
    let mut other = hashes.clone();
    other.reverse();
    assert_eq!(
        store.place_of_file(data.len() as u64, &other).unwrap(),
        None
    );
}

#[test]
fn a_table_that_leaves_a_gap_is_not_sealed() {
    let home = Home::new();
    let store = home.open();
    let data = noise(2_000_000, 9);
    let (table, outboards) = file_table(&data, 1_000_000);
    for wrong in [&table[..1], &table[1..], &[][..]] {
        let writer = store.whole_writer(data.len() as u64).unwrap();
        writer.write_at(0, &data).unwrap();
        writer.write_outboard_at(0, &outboards).unwrap();
        let sealed = writer.seal(wrong, outboards.len() as u64);
        assert!(matches!(sealed, Err(WriteError::Table(_))));
    }
    assert_eq!(
        fs::read_dir(home.path().join("partial")).unwrap().count(),
        0
    );
}

#[test]
fn an_unfinished_whole_container_is_resumed_when_it_has_a_journal_and_removed_when_not() {
    let home = Home::new();
    let store = home.open();
    let data = noise(3_000_000, 4);
    let (table, outboards) = file_table(&data, 1_000_000);
    let with = store.whole_writer(data.len() as u64).unwrap();
    with.write_at(0, &data[..1_000_000]).unwrap();
    with.write_outboard_at(0, &outboards).unwrap();
    with.sync().unwrap();
    fs::write(with.journal_path(), b"what a download keeps").unwrap();
    let id = with.id();
    let without = store.whole_writer(10).unwrap();
    std::mem::forget(without);
    drop((with, store));

    // the forgotten writer holds the lock as a killed process would not
    let copy = Home::copy_of(&home);
    let store = copy.open();
    assert_eq!(
        fs::read_dir(copy.path().join("partial")).unwrap().count(),
        3
    );
    let writer = store.resume_whole_writer(id).unwrap();
    assert_eq!(writer.len(), data.len() as u64);
    writer.write_at(1_000_000, &data[1_000_000..]).unwrap();
    assert_eq!(
        writer.read_outboard_at(0, outboards.len()).unwrap(),
        outboards
    );
    writer.seal(&table, outboards.len() as u64).unwrap();
    assert!(store.holds(&table[0].hash).unwrap());
    assert_eq!(
        fs::read_dir(copy.path().join("partial")).unwrap().count(),
        0
    );
}

#[test]
fn an_outside_file_serves_its_chunks_until_it_changes() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data = noise(2_500_000, 5);
    fs::write(&path, &data).unwrap();
    let (table, outboards) = file_table(&data, 1_000_000);
    let pins = store.pins(&path).unwrap();
    store.add_outside(&path, pins, &table, &outboards).unwrap();
    drop(store);

    let store = home.open();
    let reader = store.chunk(&table[1].hash).unwrap().unwrap();
    assert!(!reader.is_trusted());
    assert_eq!(reader.read(10..20_000).unwrap(), data[1_000_010..1_020_000]);
    let hashes: Vec<ChunkHash> = table.iter().map(|entry| entry.hash).collect();
    let place = store
        .place_of_file(data.len() as u64, &hashes)
        .unwrap()
        .unwrap();
    assert!(place.outside && place.path == path);
    assert_eq!(store.outside_at(&path).unwrap().unwrap().1, table);

    // changed while it is being read, and between reads
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"more")
        .unwrap();
    assert!(matches!(reader.read(0..10), Err(ReadError::Changed { .. })));
    assert!(store.chunk(&table[0].hash).unwrap().is_none());
    assert!(!store.holds(&table[0].hash).unwrap());
    assert_eq!(
        store.place_of_file(data.len() as u64, &hashes).unwrap(),
        None
    );
    drop((reader, store));
    assert!(!home.open().holds(&table[2].hash).unwrap());
}

#[test]
fn an_outside_file_that_is_gone_cut_or_replaced_is_not_held_any_more() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let data = noise(100_000, 6);
    let (table, outboards) = file_table(&data, 50_000);
    let add = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, &data).unwrap();
        store
            .add_outside(&path, store.pins(&path).unwrap(), &table, &outboards)
            .unwrap();
        path
    };
    for (name, harm) in [
        (
            "gone",
            &(|path: &std::path::PathBuf| fs::remove_file(path).unwrap()) as &dyn Fn(&_),
        ),
        ("cut", &|path| {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(9)
                .unwrap()
        }),
        ("replaced", &|path| {
            let other = folder.path().join("other");
            fs::write(&other, noise(100_000, 7)).unwrap();
            fs::rename(other, path).unwrap();
        }),
    ] {
        let path = add(name);
        assert_eq!(
            store
                .chunk(&table[0].hash)
                .unwrap()
                .unwrap()
                .read(0..9)
                .unwrap(),
            data[..9]
        );
        harm(&path);
        assert!(store.chunk(&table[0].hash).unwrap().is_none(), "{name}");
        assert!(!store.holds(&table[1].hash).unwrap(), "{name}");
    }
}

#[test]
fn a_file_that_is_added_again_after_a_change_has_one_place() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    let add = |seed| {
        let data = noise(60_000, seed);
        fs::write(&path, &data).unwrap();
        let (table, outboards) = file_table(&data, 20_000);
        store
            .add_outside(&path, store.pins(&path).unwrap(), &table, &outboards)
            .unwrap();
        table
    };
    let first = add(1);
    let second = add(2);
    assert!(!store.holds(&first[0].hash).unwrap());
    assert!(store.holds(&second[0].hash).unwrap());
    assert_eq!(store.index().containers_after(None, 10).unwrap().len(), 1);
}

#[test]
fn documents_and_local_values_survive_a_restart() {
    let home = Home::new();
    let store = home.open();
    let documents = [
        Bytes::from("a tree"),
        Bytes::from("a version"),
        Bytes::from("a tree"),
    ];
    let hashes = store.put_documents(&documents).unwrap();
    assert_eq!(hashes[0], hashes[2]);
    store.local_set("alias/acme", &[1; 32]).unwrap();
    store.local_set("pin/aa", b"1").unwrap();
    store.local_set("pin/bb", b"1").unwrap();
    store.local_set("pin/bb", b"2").unwrap();
    store.local_delete("pin/aa").unwrap();
    store.local_delete("pin/never").unwrap();
    drop(store);
    let store = home.open();
    for (hash, document) in hashes.iter().zip(&documents) {
        assert_eq!(store.document(hash).unwrap().unwrap(), document);
        let reader = store.chunk(hash).unwrap().unwrap();
        assert_eq!(reader.read(0..reader.len()).unwrap(), document);
        assert!(store.holds(hash).unwrap());
    }
    assert_eq!(
        store.local_get("alias/acme").unwrap().unwrap(),
        [1u8; 32][..]
    );
    assert_eq!(store.local_get("pin/aa").unwrap(), None);
    let pins = store.local_prefix("pin/").unwrap();
    assert_eq!(pins, [("pin/bb".to_owned(), Bytes::from("2"))]);
    let mut kinds = Vec::new();
    for segment in store.log_segments() {
        store
            .log_scan(&segment, &mut |found| {
                kinds.push(found.kind.unwrap());
                Ok(())
            })
            .unwrap();
    }
    use Kind::{Document, LocalDel, LocalSet};
    assert_eq!(
        kinds,
        [
            Document, Document, LocalSet, LocalSet, LocalSet, LocalSet, LocalDel
        ],
        "the second copy of a document and a delete of nothing are not logged"
    );
}

#[test]
fn deleting_the_index_and_opening_again_rebuilds_it() {
    let home = Home::new();
    let store = home.open();
    let data = noise(400_000, 2);
    let (hash, pairs) = outboard::compute(&data);
    let mut pack = store.pack_writer();
    pack.add(hash, &data, &pairs).unwrap();
    pack.seal().unwrap();
    let document = store.put_documents(&[Bytes::from("doc")]).unwrap()[0];
    store.local_set("k", b"v").unwrap();
    drop(store);
    for damage in [None, Some(&b"not a database"[..])] {
        match damage {
            None => fs::remove_file(home.path().join("index.redb")).unwrap(),
            Some(bytes) => fs::write(home.path().join("index.redb"), bytes).unwrap(),
        }
        let store = home.open();
        assert!(store.findings().index_rebuilt);
        assert_eq!(
            store
                .chunk(&hash)
                .unwrap()
                .unwrap()
                .read(0..400_000)
                .unwrap(),
            data
        );
        assert_eq!(store.document(&document).unwrap().unwrap(), "doc");
        assert_eq!(store.local_get("k").unwrap().unwrap(), "v");
    }
    assert!(!home.open().findings().index_rebuilt);
}

#[test]
fn a_home_that_is_held_says_by_whom() {
    let home = Home::new();
    let store = home.open();
    match Store::open(home.path(), Options::default()) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let clone = store.clone();
    drop(store);
    assert!(
        Store::open(home.path(), Options::default()).is_err(),
        "a clone holds it too"
    );
    drop(clone);
    home.open();
}

#[test]
fn a_newer_home_a_foreign_folder_and_a_strange_format_are_refused_by_name() {
    let home = Home::new();
    drop(home.open());
    fs::write(home.path().join("format"), "lode home 2\n").unwrap();
    match Store::open(home.path(), Options::default()) {
        Err(OpenError::NewerFormat {
            found: 2,
            supported: 1,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    fs::write(home.path().join("format"), "something").unwrap();
    let refused = Store::open(home.path(), Options::default());
    assert!(matches!(refused, Err(OpenError::Corrupt { .. })));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    match Store::open(folder.path(), Options::default()) {
        Err(OpenError::NotAHome { found, .. }) => assert_eq!(found, "thesis.tex"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing was made there"
    );
}

#[test]
fn a_read_only_folder_is_refused_as_such() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let opened = Store::open(&folder.path().join("home"), Options::default());
    // root may write anywhere: there the simulated disk of tests/faults.rs shows it
    if rustix_is_root() {
        opened.unwrap();
    } else {
        assert!(
            matches!(opened, Err(OpenError::ReadOnly { .. })),
            "{opened:?}"
        );
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn rustix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

#[test]
fn what_is_too_long_is_refused_before_it_is_written() {
    let home = Home::new();
    let store = home.open();
    let long = lode_store::limits::LOCAL_VALUE_BYTES_MAX;
    store.local_set("k", &vec![0; long]).unwrap();
    let refused = store.local_set("k", &vec![0; long + 1]);
    assert!(matches!(refused, Err(WriteError::TooLong { .. })));
    let key = "k".repeat(lode_store::limits::LOCAL_KEY_BYTES_MAX);
    store.local_set(&key, b"").unwrap();
    assert!(store.local_set(&(key + "k"), b"").is_err());
    let mut pack = store.pack_writer();
    let big = vec![0; lode_store::limits::CHUNK_BYTES_MAX as usize + 1];
    assert!(matches!(
        pack.add(ChunkHash::of(&big), &big, &[]),
        Err(WriteError::TooLong {
            what: "a chunk",
            ..
        })
    ));
    let record = Record {
        kind: Kind::Ref,
        body: Bytes::from_static(b"r"),
    };
    let many = vec![record; lode_store::limits::LOG_BATCH_RECORDS_MAX + 1];
    assert!(store.append(&many).is_err());
    store.append(&many[1..]).unwrap();
    let document = Bytes::from(vec![0; lode_store::limits::DOCUMENT_BYTES_MAX + 1]);
    assert!(matches!(
        store.put_documents(std::slice::from_ref(&document)),
        Err(WriteError::TooLong {
            what: "a document",
            ..
        })
    ));
    let hash = store.put_documents(&[document.slice(1..)]).unwrap()[0];
    assert_eq!(
        store.document(&hash).unwrap().unwrap().len() + 1,
        document.len()
    );
}

#[test]
fn a_chunk_in_two_containers_is_read_from_the_home_first() {
    let home = Home::new();
    let store = home.open_with(Options {
        ids: Nonces::From(5),
        ..Options::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let data = noise(30_000, 8);
    fs::write(&path, &data).unwrap();
    let (hash, pairs) = outboard::compute(&data);
    let table = [ChunkEntry::plain(hash, 0, 30_000, Some(0))];
    store
        .add_outside(&path, store.pins(&path).unwrap(), &table, &pairs)
        .unwrap();
    assert!(!store.chunk(&hash).unwrap().unwrap().is_trusted());
    let mut pack = store.pack_writer();
    pack.add(hash, &data, &pairs).unwrap();
    pack.seal().unwrap();
    assert!(store.chunk(&hash).unwrap().unwrap().is_trusted());
}
