//! The loss that these tests prevent: something was acknowledged, the power failed, and it is gone or
//! wrong. A simulated disk crashes at any I/O and loses whatever was not synced; after each crash the
//! store opens again, and everything that was acknowledged is there, every byte of it right.
//!
//! Seeds are printed by a failing assertion; `LODE_CRASH_SEED=N` runs one seed alone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use lode_store::{
    ChunkHash, Store, VersionId,
    disk::{Disk as _, sim::SimDisk},
    local::keep_key,
    log::Nonces,
    outboard,
    store::{Options, WriteError},
};

use crate::common::{Form, file_table, is_whole, keep, noise, version};

const HOME: &str = "/data/home";

/// SplitMix64, as the simulated disk uses it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What was acknowledged.
#[derive(Debug, Default, Clone)]
struct Model {
    /// Chunks and documents that must be there.
    held: BTreeMap<ChunkHash, Vec<u8>>,
    /// All that were ever written: they may be there, and must be right if they are.
    ever: BTreeMap<ChunkHash, Vec<u8>>,
    /// Values of local keys: any of these.
    local: BTreeMap<String, Vec<Option<Bytes>>>,
    /// Versions that must be whole.
    kept: Vec<VersionId>,
    /// Files that became containers: they must not come back under their old names.
    adopted: Vec<PathBuf>,
}

fn options(disk: &SimDisk, ids: u64) -> Options {
    Options {
        disk: Arc::new(disk.clone()),
        // no two openings draw the same
        ids: Nonces::From(ids << 32),
        index_cache_bytes: 1 << 20,
        ..Options::default()
    }
}

/// One random operation; an error means that it was not acknowledged.
fn step(store: &Store, model: &mut Model, random: &mut Random) -> Result<(), String> {
    let text = |e: WriteError| e.to_string();
    let data = |random: &mut Random, max: u64| {
        let len = random.below(max) as usize;
        noise(len, random.next())
    };
    match random.below(13) {
        0..=2 => {
            let documents: Vec<Bytes> = (0..=random.below(4))
                .map(|_| data(random, 3000).into())
                .collect();
            for document in &documents {
                model
                    .ever
                    .insert(ChunkHash::of(document), document.to_vec());
            }
            let hashes = store.put_documents(&documents).map_err(text)?;
            model
                .held
                .extend(hashes.into_iter().zip(documents.iter().map(|d| d.to_vec())));
        }
        3..=4 => {
            let key = format!("key/{}", random.below(4));
            let value: Option<Bytes> = (random.below(3) > 0).then(|| data(random, 100).into());
            let values = model.local.entry(key.clone()).or_insert_with(|| vec![None]);
            values.push(value.clone());
            match &value {
                Some(value) => store.local_set(&key, value),
                None => store.local_delete(&key),
            }
            .map_err(text)?;
            model.local.insert(key, vec![value]);
        }
        5..=6 => {
            let mut pack = store.pack_writer();
            let mut chunks = Vec::new();
            for _ in 0..random.below(5) {
                let bytes = data(random, 40_000);
                let (hash, pairs) = outboard::compute(&bytes);
                model.ever.insert(hash, bytes.clone());
                pack.add(hash, &bytes, &pairs).map_err(text)?;
                chunks.push((hash, bytes));
            }
            pack.seal().map_err(text)?;
            model.held.extend(chunks);
        }
        7 => {
            let bytes = data(random, 100_000);
            let (table, outboards) = file_table(&bytes, 30_000);
            let chunks: Vec<(ChunkHash, Vec<u8>)> = table
                .iter()
                .zip(bytes.chunks(30_000))
                .map(|(entry, bytes)| (entry.hash, bytes.to_vec()))
                .collect();
            model.ever.extend(chunks.clone());
            let writer = store.whole_writer(bytes.len() as u64).map_err(text)?;
            writer.write_at(0, &bytes).map_err(text)?;
            writer.write_outboard_at(0, &outboards).map_err(text)?;
            writer.seal(&table, outboards.len() as u64).map_err(text)?;
            model.held.extend(chunks);
        }
        11 => {
            let bytes = data(random, 100_000);
            let (table, outboards) = file_table(&bytes, 30_000);
            let chunks: Vec<(ChunkHash, Vec<u8>)> = table
                .iter()
                .zip(bytes.chunks(30_000))
                .map(|(entry, bytes)| (entry.hash, bytes.to_vec()))
                .collect();
            model.ever.extend(chunks.clone());
            let folder = Path::new(HOME).join("uploads");
            let path = folder.join(random.next().to_string());
            let disk = &store.options().disk;
            let write = || {
                disk.create_dir_all(&folder)?;
                disk.create(&path)?.write_at(&bytes, 0)
            };
            write().map_err(|e| e.to_string())?;
            let writer = store.adopt_writer(&path).map_err(text)?;
            writer.write_outboard_at(0, &outboards).map_err(text)?;
            writer.seal(&table, outboards.len() as u64).map_err(text)?;
            model.held.extend(chunks);
            model.adopted.push(path);
        }
        8 => {
            // a version that is kept, under protection
            let guard = store.protect();
            let bytes = data(random, 60_000);
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                version(store, Form::Pack, 20_000, &[("f", &bytes)], Path::new(HOME))
            }));
            // the helper unwraps: a crash ends it
            let id = made.map_err(|_| "crashed".to_owned())?;
            store
                .local_set(&keep_key(&id), &lode_store::local::keep_value(true, 1))
                .map_err(text)?;
            model.kept.push(id);
            drop(guard);
        }
        9 => {
            if !model.kept.is_empty() {
                let at = random.below(model.kept.len() as u64) as usize;
                let id = model.kept.swap_remove(at);
                store.local_delete(&keep_key(&id)).map_err(text)?;
            }
        }
        10 => {
            // what no version keeps may go, acknowledged or not
            model.held.clear();
            store.gc(false, &mut |_| true).map_err(|e| e.to_string())?;
        }
        _ => {
            if random.below(2) == 0 {
                store.rebuild_index().map_err(|e| e.to_string())?;
            } else {
                let found = store.scrub(&mut |_| true).map_err(|e| e.to_string())?;
                assert!(!found.found_damage(), "{found:?}");
            }
        }
    }
    Ok(())
}

fn check(store: &Store, model: &mut Model, context: &str) {
    for (hash, bytes) in &model.held {
        let chunk = store.chunk(hash).unwrap();
        let chunk = chunk.unwrap_or_else(|| panic!("{hash} is lost, {context}"));
        assert_eq!(chunk.read(0..chunk.len()).unwrap(), bytes, "{context}");
        assert_eq!(
            chunk.outboard().unwrap(),
            outboard::compute(bytes).1,
            "{context}"
        );
    }
    for (hash, bytes) in &model.ever {
        if let Some(chunk) = store.chunk(hash).unwrap() {
            assert_eq!(chunk.read(0..chunk.len()).unwrap(), bytes, "{context}");
        }
    }
    for (key, values) in &mut model.local {
        let found = store.local_get(key).unwrap();
        assert!(
            values.contains(&found),
            "{key}: {found:?} is none of {values:?}, {context}"
        );
        *values = vec![found];
    }
    for id in &model.kept {
        assert!(is_whole(store, id), "{id} is not whole, {context}");
    }
    for path in &model.adopted {
        let found = store.options().disk.stat(path);
        assert!(
            found.is_err(),
            "{} is there again, {context}",
            path.display()
        );
    }
    assert!(store.findings().containers_lost.is_empty(), "{context}");
    assert!(store.findings().log_damage.is_empty(), "{context}");
}

fn run_seed(seed: u64) {
    let disk = SimDisk::new(seed);
    let mut random = Random(seed ^ 0xC0FF_EE00);
    let mut model = Model::default();
    let mut rounds = 0;
    while rounds < 12 {
        rounds += 1;
        let context = format!("seed {seed}, round {rounds}");
        // sometimes the crash comes while the store is opened
        let crash_in = [3, 40, 150, 400, 1500][random.below(5) as usize];
        disk.crash_after(random.below(crash_in));
        let opened = Store::open(Path::new(HOME), options(&disk, seed * 1000 + rounds));
        match opened {
            Ok(store) => {
                for _ in 0..30 {
                    if let Err(error) = step(&store, &mut model, &mut random) {
                        assert!(disk.crashed(), "{error}, {context}");
                        break;
                    }
                }
                drop(store);
            }
            Err(error) => assert!(disk.crashed(), "{error}, {context}"),
        }
        disk.reboot();
        if random.below(4) == 0 {
            // the index is derived: it can be lost at any time
            let _ = disk.remove(&Path::new(HOME).join("index.redb"));
        }
        let store = Store::open(Path::new(HOME), options(&disk, seed * 1000 + 500 + rounds))
            .unwrap_or_else(|error| panic!("{error}, {context}"));
        check(&store, &mut model, &context);
        drop(store);
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_crash_at_any_io() {
    let seeds = match std::env::var("LODE_CRASH_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..24,
    };
    seeds.for_each(run_seed);
}

/// A fixed run of every kind of write; returns how far it came.
fn fixed(disk: &SimDisk, model: &mut Model) -> Result<(), String> {
    let text = |e: WriteError| e.to_string();
    let store = Store::open(Path::new(HOME), options(disk, 7)).map_err(|e| e.to_string())?;
    let mut random = Random(99);
    store.local_set("key/0", b"before").map_err(text)?;
    model.local.insert(
        "key/0".to_owned(),
        vec![Some(Bytes::from_static(b"before"))],
    );
    for kind in [0u64, 1, 2] {
        let bytes = noise(50_000, kind);
        let (hash, pairs) = outboard::compute(&bytes);
        model.ever.insert(hash, bytes.clone());
        match kind {
            0 => {
                let mut pack = store.pack_writer();
                pack.add(hash, &bytes, &pairs).map_err(text)?;
                pack.seal().map_err(text)?;
            }
            1 => {
                let (table, outboards) = file_table(&bytes, 50_000);
                let writer = store.whole_writer(50_000).map_err(text)?;
                writer.write_at(0, &bytes).map_err(text)?;
                writer.write_outboard_at(0, &outboards).map_err(text)?;
                writer.seal(&table, outboards.len() as u64).map_err(text)?;
            }
            _ => {
                store.put_documents(&[bytes.clone().into()]).map_err(text)?;
            }
        }
        model.held.insert(hash, bytes);
    }
    let values = vec![
        Some(Bytes::from_static(b"before")),
        Some(Bytes::from_static(b"after")),
    ];
    model.local.insert("key/0".to_owned(), values);
    store.local_set("key/0", b"after").map_err(text)?;
    model
        .local
        .insert("key/0".to_owned(), vec![Some(Bytes::from_static(b"after"))]);
    for _ in 0..2 {
        step(&store, model, &mut Random(8 + random.below(2)))?;
    }
    drop(store);
    let store = Store::open(Path::new(HOME), options(disk, 8)).map_err(|e| e.to_string())?;
    model.held.clear();
    store.gc(false, &mut |_| true).map_err(|e| e.to_string())?;
    store
        .put_documents(&[noise(100, 50).into()])
        .map_err(text)?;
    model
        .held
        .insert(ChunkHash::of(&noise(100, 50)), noise(100, 50));
    Ok(())
}

#[test]
fn a_crash_at_each_single_io_of_a_fixed_run_loses_nothing() {
    let disk = SimDisk::new(0);
    fixed(&disk, &mut Model::default()).unwrap();
    let operations = disk.operations();
    assert!(operations > 200, "{operations}");
    for at in 0..operations {
        let disk = SimDisk::new(at);
        disk.crash_after(at);
        let mut model = Model::default();
        // closing the index at the end is I/O too, and says nothing
        let done = fixed(&disk, &mut model).is_ok();
        let came_to = disk.operations();
        assert!(
            disk.crashed() && (!done || at + 20 > operations),
            "crash at {at} of {operations}, done: {done}, came to {came_to}"
        );
        disk.reboot();
        let store = Store::open(Path::new(HOME), options(&disk, 9))
            .unwrap_or_else(|error| panic!("{error}, crash at {at}"));
        check(&store, &mut model, &format!("crash at {at}"));
    }
}

#[test]
fn a_failed_sync_at_each_place_of_a_fixed_run_is_an_error_and_loses_nothing() {
    let disk = SimDisk::new(0);
    fixed(&disk, &mut Model::default()).unwrap();
    for at in 0..disk.operations() {
        let disk = SimDisk::new(at);
        disk.fail_sync_after(at);
        let mut model = Model::default();
        // the last operations may come without a sync after them
        let failed = fixed(&disk, &mut model).is_err();
        disk.reboot();
        let store = Store::open(Path::new(HOME), options(&disk, 9))
            .unwrap_or_else(|error| panic!("{error}, sync after {at}, failed: {failed}"));
        check(&store, &mut model, &format!("sync after {at}"));
    }
}

#[test]
fn after_a_failed_sync_of_the_log_nothing_more_is_written() {
    let disk = SimDisk::new(3);
    let store = Store::open(Path::new(HOME), options(&disk, 1)).unwrap();
    store.local_set("a", b"1").unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(
        store.local_set("a", b"2"),
        Err(WriteError::Io { .. })
    ));
    for _ in 0..3 {
        assert!(matches!(
            store.local_set("b", b"3"),
            Err(WriteError::Poisoned { .. })
        ));
    }
    assert_eq!(store.local_get("a").unwrap().unwrap(), "1", "reads go on");
    drop(store);
    disk.reboot();
    let store = Store::open(Path::new(HOME), options(&disk, 2)).unwrap();
    assert_eq!(store.local_get("a").unwrap().unwrap(), "1");
    assert_eq!(store.local_get("b").unwrap(), None);
    store.local_set("b", b"4").unwrap();
}

#[test]
fn a_batch_is_there_as_a_whole_or_not_at_all() {
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let store = Store::open(Path::new(HOME), options(&disk, 1)).unwrap();
        store.local_set("before", b"1").unwrap();
        let documents: Vec<Bytes> = (0..4).map(|n| noise(900, seed * 10 + n).into()).collect();
        // in the middle of the batch's write and sync
        disk.crash_after(seed % 3);
        assert!(store.put_documents(&documents).is_err());
        drop(store);
        disk.reboot();
        let store = Store::open(Path::new(HOME), options(&disk, 2)).unwrap();
        let held = documents
            .iter()
            .filter(|document| store.holds(&ChunkHash::of(document)).unwrap())
            .count();
        assert!(held == 0 || held == 4, "{held} of 4, seed {seed}");
        assert_eq!(
            store.local_get("before").unwrap().unwrap(),
            "1",
            "seed {seed}"
        );
    }
}

#[test]
fn a_full_disk_is_said_and_costs_nothing_that_was_there() {
    let disk = SimDisk::new(4);
    let store = Store::open(Path::new(HOME), options(&disk, 1)).unwrap();
    let mut model = Model::default();
    let mut random = Random(5);
    for _ in 0..20 {
        step(&store, &mut model, &mut random).unwrap();
    }
    model.held.clear();
    let id = version(
        &store,
        Form::Pack,
        10_000,
        &[("f", &noise(30_000, 7))],
        Path::new(HOME),
    );
    keep(&store, &id, true);
    model.kept.push(id);
    let used: u64 = disk
        .files()
        .iter()
        .map(|path| disk.stat(path).unwrap().len)
        .sum();
    for room in [0, 100, 3000, 30_000, 100_000] {
        disk.set_capacity(Some(used + room));
        let document = Bytes::from(noise(200_000, room));
        let full = |result: Result<(), WriteError>| {
            assert!(
                matches!(result, Err(WriteError::DiskFull { .. })),
                "{result:?}, room {room}"
            );
        };
        full(
            store
                .put_documents(std::slice::from_ref(&document))
                .map(drop),
        );
        full(store.whole_writer(200_000).map(drop));
        let mut pack = store.pack_writer();
        let (hash, pairs) = outboard::compute(&document);
        full(
            pack.add(hash, &document, &pairs)
                .and_then(|()| pack.seal().map(drop)),
        );
        assert!(!store.holds(&hash).unwrap());
    }
    disk.set_capacity(None);
    // nothing was half done: the same store goes on
    let document = Bytes::from(noise(200_000, 0));
    store
        .put_documents(std::slice::from_ref(&document))
        .unwrap();
    model
        .held
        .insert(ChunkHash::of(&document), document.to_vec());
    check(&store, &mut model, "after the disk was full");
    drop(store);
    let store = Store::open(Path::new(HOME), options(&disk, 2)).unwrap();
    check(&store, &mut model, "opened again after the disk was full");
    let partial = disk.list(&Path::new(HOME).join("partial")).unwrap();
    assert!(partial.is_empty(), "{partial:?}");
}

#[test]
fn a_home_on_a_read_only_disk_is_refused_as_such() {
    let disk = SimDisk::new(5);
    drop(Store::open(Path::new(HOME), options(&disk, 1)).unwrap());
    disk.set_read_only(true);
    let refused = Store::open(Path::new(HOME), options(&disk, 2));
    assert!(
        matches!(refused, Err(lode_store::store::OpenError::ReadOnly { .. })),
        "{refused:?}"
    );
    let refused = Store::open(Path::new("/data/other"), options(&disk, 2));
    assert!(
        matches!(refused, Err(lode_store::store::OpenError::ReadOnly { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_full_disk_refuses_a_new_home_as_such() {
    let disk = SimDisk::new(6);
    disk.set_capacity(Some(10));
    let refused = Store::open(Path::new(HOME), options(&disk, 1));
    assert!(
        matches!(refused, Err(lode_store::store::OpenError::DiskFull { .. })),
        "{refused:?}"
    );
}
