//! What is pushed can be read back, is stored once, and leaves nothing behind when it fails.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    disk::sim::SimDisk,
    store::Options,
    tree::{ChunkList, Mode, Tree},
};

/// Bytes that do not repeat, from a seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A safetensors file with one tensor of F32 for each seed, of `rows` rows of 4 KiB.
fn model(seeds: &[u64], rows: usize) -> Vec<u8> {
    let len = rows * 4096;
    let infos: Vec<String> = (0..seeds.len())
        .map(|i| {
            let (start, end) = (i * len, (i + 1) * len);
            format!(
                r#""layers.{i}.weight":{{"dtype":"F32","shape":[{rows},1024],"data_offsets":[{start},{end}]}}"#
            )
        })
        .collect();
    let mut header = format!("{{{}}}", infos.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    seeds.iter().for_each(|&seed| file.extend(noise(seed, len)));
    file
}

#[derive(Default)]
struct Sink {
    warnings: Mutex<Vec<String>>,
    last: AtomicU64,
    cancel_at: Option<u64>,
    /// Called once after all bytes were hashed once.
    after: Option<Box<dyn Fn() + Sync>>,
    called: AtomicBool,
    total: AtomicU64,
}

impl ImportSink for Sink {
    fn progress(&self, done: u64, total: u64) {
        self.last.fetch_max(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn warning(&self, text: &str) {
        self.warnings.lock().unwrap().push(text.to_owned());
    }

    fn cancelled(&self) -> bool {
        let (last, total) = (
            self.last.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        );
        if let Some(after) = &self.after
            && total > 0
            && last == total
            && !self.called.swap(true, Ordering::Relaxed)
        {
            after();
        }
        self.cancel_at.is_some_and(|at| last >= at)
    }
}

struct Home {
    _dir: tempfile::TempDir,
    store: Store,
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("home"), Options::default()).unwrap();
    Home { _dir: dir, store }
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), files);
    dir
}

fn put(root: &Path, files: &[(&str, &[u8])]) {
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn push(store: &Store, dir: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    import_settled(store, dir, options, &Sink::default(), Duration::ZERO)
}

/// Reads every file of a tree back, chunk by chunk; links give their target.
fn read_back(store: &Store, tree: TreeId) -> BTreeMap<String, (Mode, Vec<u8>)> {
    let tree = Tree::decode(&store.document(&tree.into()).unwrap().unwrap()).unwrap();
    let mut out = BTreeMap::new();
    for file in tree.files() {
        let document = |hash| store.document(hash).unwrap().unwrap_or_default();
        let (seq, lengths) = (document(&file.chunks.seq), document(&file.chunks.lengths));
        let list = ChunkList::from_documents(&file.chunks, file.size, &seq, &lengths).unwrap();
        let mut bytes = Vec::new();
        for (hash, range) in list.iter() {
            let chunk = store.chunk(&hash).unwrap().unwrap();
            assert_eq!(u64::from(chunk.len()), range.len());
            bytes.extend_from_slice(&chunk.read(0..chunk.len()).unwrap());
        }
        assert_eq!(file.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
        out.insert(file.path.clone(), (file.mode, bytes));
    }
    out
}

/// Names of files below a folder, by extension, with their sizes.
fn files_below(path: &Path, extension: &str) -> Vec<u64> {
    let mut out = Vec::new();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            out.extend(files_below(&entry.path(), extension));
        } else if entry
            .path()
            .extension()
            .is_some_and(|found| found == extension)
        {
            out.push(entry.metadata().unwrap().len());
        }
    }
    out
}

fn left_over(store: &Store) -> usize {
    let (partial, containers) = (
        store.home().join("partial"),
        store.home().join("containers"),
    );
    let count = |dir: &Path| {
        ["whole", "pack", "side"]
            .iter()
            .map(|kind| files_below(dir, kind).len())
            .sum::<usize>()
    };
    count(&partial) + count(&containers)
}

#[test]
fn a_folder_is_read_back_as_it_was() {
    let Home { store, _dir } = home();
    let weights = model(&[1, 2, 3], 512);
    let text = noise(9, 9_000_000);
    let dir = folder(&[
        ("model.safetensors", &weights),
        ("sub/深い/tokenizer.json", &text),
        ("config.json", b"{}"),
        ("empty", b""),
        ("run.sh", b"#!/bin/sh\n"),
    ]);
    fs::set_permissions(dir.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../config.json", dir.path().join("sub/link")).unwrap();
    let imported = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    let back = read_back(&store, imported.tree);
    let total: usize = weights.len() + text.len() + 2 + 10 + "../config.json".len();
    assert_eq!((imported.files, imported.size), (6, total as u64));
    assert_eq!(imported.size_new, imported.size);
    assert_eq!((imported.tensors, imported.tensors_new), (3, 3));
    assert_eq!(back["model.safetensors"], (Mode::File, weights));
    assert_eq!(back["sub/深い/tokenizer.json"], (Mode::File, text));
    assert_eq!(back["empty"], (Mode::File, Vec::new()));
    assert_eq!(back["run.sh"], (Mode::Exec, b"#!/bin/sh\n".to_vec()));
    assert_eq!(back["sub/link"], (Mode::Link, b"../config.json".to_vec()));

    let again = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    assert_eq!(
        (again.tree, again.size_new, again.tensors_new),
        (imported.tree, 0, 0)
    );
    assert!(files_below(&store.home().join("partial"), "side").is_empty());
}

#[test]
fn a_large_new_file_becomes_a_whole_container_byte_for_byte() {
    let Home { store, _dir } = home();
    let weights = model(&[1, 2], 2048);
    let dir = folder(&[("m.safetensors", &weights), ("small", b"x")]);
    let imported = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    let tree = Tree::decode(&store.document(&imported.tree.into()).unwrap().unwrap()).unwrap();
    let chunks = &tree.file("m.safetensors").unwrap().chunks;
    let seq = store.document(&chunks.seq).unwrap().unwrap();
    let hashes: Vec<_> = seq
        .as_chunks::<32>()
        .0
        .iter()
        .map(|h| crate::ChunkHash::from_bytes(*h))
        .collect();
    let place = store
        .place_of_file(weights.len() as u64, &hashes)
        .unwrap()
        .unwrap();
    assert!(!place.outside);
    assert_eq!(fs::read(place.path).unwrap(), weights);
}

#[test]
fn a_second_version_stores_only_what_changed() {
    let Home { store, _dir } = home();
    let mut seeds: Vec<u64> = (0..20).collect();
    let dir = folder(&[("m.safetensors", &model(&seeds, 512))]);
    push(&store, dir.path(), &ImportOptions::default()).unwrap();
    let before: u64 = ["whole", "pack"]
        .iter()
        .flat_map(|kind| files_below(store.home(), kind))
        .sum();
    seeds[4] = 100;
    seeds[13] = 101;
    let changed = model(&seeds, 512);
    put(dir.path(), &[("m.safetensors", &changed)]);
    let imported = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    let after: u64 = ["whole", "pack"]
        .iter()
        .flat_map(|kind| files_below(store.home(), kind))
        .sum();
    assert_eq!((imported.tensors, imported.tensors_new), (20, 2));
    assert!(imported.size_new * 100 <= imported.size * 11);
    assert!((after - before) * 100 <= imported.size * 11);
    assert_eq!(read_back(&store, imported.tree)["m.safetensors"].1, changed);
}

#[test]
fn a_sample_that_misleads_is_put_right() {
    let Home { store, _dir } = home();
    let mut seeds: Vec<u64> = (0..12).collect();
    let dir = folder(&[("m.safetensors", &model(&seeds, 512))]);
    push(&store, dir.path(), &ImportOptions::default()).unwrap();
    assert_eq!(files_below(store.home(), "whole").len(), 1);
    // of 13 chunks (the first is the header) numbers 2, 6 and 10 are looked at
    for tensor in [1, 5, 9] {
        seeds[tensor] += 100;
    }
    let changed = model(&seeds, 512);
    put(dir.path(), &[("m.safetensors", &changed)]);
    let imported = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    assert_eq!(imported.tensors_new, 3);
    assert_eq!(files_below(store.home(), "whole").len(), 1);
    assert_eq!(files_below(store.home(), "pack"), [3 * 512 * 4096]);
    assert_eq!(read_back(&store, imported.tree)["m.safetensors"].1, changed);
}

#[test]
fn equal_files_of_one_push_are_stored_once() {
    let Home { store, _dir } = home();
    let weights = model(&[1, 2, 3], 1024);
    let dir = folder(&[
        ("a.safetensors", &weights),
        ("b/c.safetensors", &weights),
        ("d", b"x"),
        ("e", b"x"),
    ]);
    // files that are hashed side by side may both store what they share
    let options = ImportOptions {
        threads: 1,
        ..ImportOptions::default()
    };
    let imported = push(&store, dir.path(), &options).unwrap();
    assert_eq!(imported.size_new, weights.len() as u64 + 1);
    let stored: u64 = ["whole", "pack"]
        .iter()
        .flat_map(|kind| files_below(store.home(), kind))
        .sum();
    assert_eq!(stored, weights.len() as u64 + 1);
    assert_eq!(
        read_back(&store, imported.tree)["b/c.safetensors"].1,
        weights
    );
}

#[test]
fn in_place_makes_no_second_copy_of_large_files() {
    let Home { store, _dir } = home();
    let (weights, text) = (model(&[1, 2, 3], 1024), noise(5, 3_000_000));
    let dir = folder(&[
        ("m.safetensors", &weights),
        ("text", &text),
        ("small", b"x"),
    ]);
    let options = ImportOptions {
        in_place: true,
        ..ImportOptions::default()
    };
    let imported = push(&store, dir.path(), &options).unwrap();
    assert_eq!(imported.size_new, imported.size);
    let stored: u64 = ["whole", "pack"]
        .iter()
        .flat_map(|kind| files_below(store.home(), kind))
        .sum();
    assert_eq!(stored, 1);
    let back = read_back(&store, imported.tree);
    assert_eq!(
        (&back["m.safetensors"].1, &back["text"].1),
        (&weights, &text)
    );
    let again = push(&store, dir.path(), &options).unwrap();
    assert_eq!((again.tree, again.size_new), (imported.tree, 0));
    assert_eq!(read_back(&store, again.tree), back);
}

#[test]
fn a_file_that_is_adopted_becomes_the_container_and_is_not_copied() {
    use std::os::unix::fs::MetadataExt as _;

    let Home { store, _dir } = home();
    let weights = model(&[1, 2, 3], 1024);
    let folder = store.home().join("uploads");
    fs::create_dir(&folder).unwrap();
    let options = ImportOptions {
        adopt: true,
        ..ImportOptions::default()
    };
    put(&folder, &[("m.safetensors", &weights), ("small", b"x")]);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let before = inode(&folder.join("m.safetensors"));
    let imported = push(&store, &folder, &options).unwrap();
    assert_eq!(read_back(&store, imported.tree)["m.safetensors"].1, weights);
    assert!(!folder.join("m.safetensors").exists() && folder.join("small").exists());
    let tree = Tree::decode(&store.document(&imported.tree.into()).unwrap().unwrap()).unwrap();
    let file = tree.file("m.safetensors").unwrap();
    let seq = store.document(&file.chunks.seq).unwrap().unwrap();
    let hashes: Vec<_> = seq
        .as_chunks::<32>()
        .0
        .iter()
        .map(|h| crate::ChunkHash::from_bytes(*h))
        .collect();
    let place = store.place_of_file(file.size, &hashes).unwrap().unwrap();
    assert_eq!(inode(&place.path), before);

    // What is held for the most part stays where it is, and only what is new of it is stored.
    let changed = model(&[1, 2, 4], 1024);
    put(&folder, &[("m.safetensors", &changed)]);
    let imported = push(&store, &folder, &options).unwrap();
    assert_eq!(
        files_below(&store.home().join("containers"), "whole").len(),
        1
    );
    assert_eq!(read_back(&store, imported.tree)["m.safetensors"].1, changed);
    assert!(folder.join("m.safetensors").exists());
}

/// Bytes in memory, of which one may be unreadable.
#[derive(Debug)]
struct InMemory {
    bytes: Vec<u8>,
    broken_at: Option<u64>,
}

impl Content for InMemory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = offset..offset + buffer.len() as u64;
        if self.broken_at.is_some_and(|at| range.contains(&at)) {
            return Err(io::Error::other("a bad block"));
        }
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

fn give(store: &Store, files: &[&[u8]], broken_at: Option<u64>) -> Result<Imported, ImportError> {
    let content = |bytes: &&[u8]| -> Arc<dyn Content> {
        let bytes = bytes.to_vec();
        Arc::new(InMemory { bytes, broken_at })
    };
    let given = files.iter().map(content).collect();
    import_given(store, given, &ImportOptions::default(), &Sink::default())
}

#[test]
fn bytes_that_are_given_are_stored_as_a_pushed_file_is() {
    let (weights, plain) = (model(&[1, 2, 3], 1024), noise(9, 5_000_000));
    let files: [&[u8]; 4] = [&weights, &plain, b"small", b""];
    let Home { store, _dir } = home();
    let given = give(&store, &files, None).unwrap();
    let back = read_back(&store, given.tree);
    for (number, bytes) in files.iter().enumerate() {
        assert_eq!(back[&number.to_string()].1, *bytes, "file {number}");
    }
    assert_eq!(given.size_new, given.size);
    let containers = store.home().join("containers");
    assert_eq!(files_below(&containers, "whole").len(), 2);

    // The same tree as of a push, and nothing new in it.
    let names = ["0", "1", "2", "3"];
    let dir = folder(&names.into_iter().zip(files).collect::<Vec<_>>());
    let pushed = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    assert_eq!((pushed.tree, pushed.size_new), (given.tree, 0));
    // What is held for the most part is not stored again.
    let changed = model(&[1, 2, 4], 1024);
    let again = give(&store, &[&changed], None).unwrap();
    assert_eq!(read_back(&store, again.tree)["0"].1, changed);
    assert_eq!(files_below(&containers, "whole").len(), 2);
}

#[test]
fn bytes_that_cannot_be_read_to_their_end_leave_nothing() {
    let Home { store, _dir } = home();
    let weights = model(&[1, 2, 3], 1024);
    let end = weights.len() as u64 - 1;
    let result = give(&store, &[&weights], Some(end));
    assert!(matches!(result, Err(ImportError::Io { .. })), "{result:?}");
    assert_eq!(left_over(&store), 0);
}

#[test]
fn a_copy_does_not_rely_on_outside_places() {
    let Home { store, _dir } = home();
    let weights = model(&[1, 2, 3], 1024);
    let dir = folder(&[("m.safetensors", &weights)]);
    let in_place = ImportOptions {
        in_place: true,
        ..ImportOptions::default()
    };
    push(&store, dir.path(), &in_place).unwrap();
    let imported = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    assert_eq!(imported.size_new, imported.size);
    fs::remove_file(dir.path().join("m.safetensors")).unwrap();
    assert_eq!(read_back(&store, imported.tree)["m.safetensors"].1, weights);
}

#[test]
fn a_file_written_just_before_is_hashed_again_and_a_change_is_noticed() {
    let Home { store, _dir } = home();
    let weights = model(&[1, 2, 3], 1024);
    let dir = folder(&[("m.safetensors", &weights)]);
    let path = dir.path().join("m.safetensors");
    let sink = Sink {
        after: Some(Box::new(move || {
            fs::write(&path, model(&[1, 2, 4], 1024)).unwrap()
        })),
        ..Sink::default()
    };
    // one thread: it asks whether to stop after the last byte, before the file is hashed again
    let options = ImportOptions {
        in_place: true,
        threads: 1,
        ..ImportOptions::default()
    };
    let result = import_settled(&store, dir.path(), &options, &sink, Duration::ZERO);
    assert!(
        matches!(result, Err(ImportError::Changed { .. })),
        "{result:?}"
    );
    assert_eq!(left_over(&store), 0);
    // waiting for the times to settle can be cancelled
    let sink = Sink {
        cancel_at: Some(weights.len() as u64),
        ..Sink::default()
    };
    let result = import_settled(
        &store,
        dir.path(),
        &options,
        &sink,
        Duration::from_secs(3600),
    );
    assert!(matches!(result, Err(ImportError::Cancelled)), "{result:?}");
}

#[test]
fn nothing_stays_after_a_cancellation_or_an_error() {
    let Home { store, _dir } = home();
    let dir = folder(&[
        ("a.safetensors", &model(&[1, 2, 3, 4], 2048)),
        ("b.safetensors", &model(&[5, 6, 7, 8], 2048)),
        ("small", &noise(3, 500_000)),
    ]);
    for in_place in [false, true] {
        let options = ImportOptions {
            in_place,
            ..ImportOptions::default()
        };
        let sink = Sink {
            cancel_at: Some(20_000_000),
            ..Sink::default()
        };
        let result = import_settled(&store, dir.path(), &options, &sink, Duration::ZERO);
        assert!(matches!(result, Err(ImportError::Cancelled)), "{result:?}");
        assert_eq!(left_over(&store), 0);
    }
    put(dir.path(), &[("z.safetensors", b"not one")]);
    let strict = ImportOptions {
        strict: true,
        ..ImportOptions::default()
    };
    let result = push(&store, dir.path(), &strict);
    assert!(
        matches!(result, Err(ImportError::Malformed { .. })),
        "{result:?}"
    );
    assert_eq!(left_over(&store), 0);
    fs::remove_file(dir.path().join("z.safetensors")).unwrap();
    fs::set_permissions(dir.path().join("small"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(dir.path().join("small")).is_err() {
        let result = push(&store, dir.path(), &ImportOptions::default());
        assert!(matches!(result, Err(ImportError::Io { .. })), "{result:?}");
        assert_eq!(left_over(&store), 0);
    }
}

#[test]
fn malformed_model_files_are_plain_bytes_with_a_warning_or_refused() {
    let weights = model(&[1, 2], 512);
    let cases: [(&str, &[u8]); 5] = [
        ("cut.safetensors", &weights[..weights.len() - 5]),
        ("header.safetensors", &weights[..40]),
        ("text.gguf", b"hello"),
        ("empty.safetensors", b""),
        (
            "magic.bin",
            b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0",
        ),
    ];
    for (name, bytes) in cases {
        let Home { store, _dir } = home();
        let dir = folder(&[(name, bytes)]);
        let sink = Sink::default();
        let options = ImportOptions::default();
        let imported = import_settled(&store, dir.path(), &options, &sink, Duration::ZERO).unwrap();
        assert_eq!(read_back(&store, imported.tree)[name].1, bytes);
        assert_eq!(imported.tensors, 0);
        let warnings = sink.warnings.into_inner().unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].starts_with(name),
            "{warnings:?}"
        );
        let strict = ImportOptions {
            strict: true,
            ..ImportOptions::default()
        };
        let result = push(&store, dir.path(), &strict);
        assert!(matches!(&result, Err(ImportError::Malformed { path, .. }) if path == name));
    }
}

#[test]
fn a_shard_index_that_names_a_missing_tensor_is_said() {
    let Home { store, _dir } = home();
    let index = |tensor: &str, shard: &str| {
        format!(
            r#"{{"metadata":{{}},"weight_map":{{"layers.0.weight":"s.safetensors","{tensor}":"{shard}"}}}}"#
        )
    };
    let shard = model(&[1, 2], 16);
    for (tensor, file, faults) in [
        ("layers.1.weight", "s.safetensors", 0),
        ("layers.7.weight", "s.safetensors", 1),
        ("layers.1.weight", "t.safetensors", 1),
        ("layers.0.weight", "s.safetensors", 1),
    ] {
        let index = index(tensor, file);
        let dir = folder(&[
            ("x/s.safetensors", &shard),
            ("x/model.safetensors.index.json", index.as_bytes()),
        ]);
        let sink = Sink::default();
        let options = ImportOptions::default();
        import_settled(&store, dir.path(), &options, &sink, Duration::ZERO).unwrap();
        assert_eq!(
            sink.warnings.into_inner().unwrap().len(),
            faults,
            "{tensor} {file}"
        );
        let strict = ImportOptions {
            strict: true,
            ..ImportOptions::default()
        };
        assert_eq!(push(&store, dir.path(), &strict).is_err(), faults > 0);
    }
}

#[test]
fn a_home_inside_the_folder_is_left_out() {
    let dir = folder(&[("a", b"x")]);
    let store = Store::open(&dir.path().join("home"), Options::default()).unwrap();
    let imported = push(&store, dir.path(), &ImportOptions::default()).unwrap();
    assert_eq!(imported.files, 1);
}

#[test]
fn whole_file_roots_are_made_on_request() {
    let Home { store, _dir } = home();
    let text = noise(1, 5_000_000);
    let dir = folder(&[("text", &text)]);
    symlink("text", dir.path().join("link")).unwrap();
    let options = ImportOptions {
        file_roots: true,
        ..ImportOptions::default()
    };
    let imported = push(&store, dir.path(), &options).unwrap();
    let tree = Tree::decode(&store.document(&imported.tree.into()).unwrap().unwrap()).unwrap();
    assert_eq!(
        tree.file("text").unwrap().root,
        Some(crate::ChunkHash::of(&text))
    );
    assert_eq!(
        tree.file("link").unwrap().root,
        Some(crate::ChunkHash::of(b"text"))
    );
}

/// The loss that this prevents: a push cut off by a power failure leaves a store that says it holds
/// what it does not, or that a second push cannot complete.
#[test]
fn a_crash_at_any_moment_leaves_a_store_that_a_second_push_completes() {
    let weights = model(&[1, 2, 3, 4], 257);
    let dir = folder(&[
        ("m.safetensors", &weights),
        ("config.json", b"{}"),
        ("t", &noise(8, 20_000)),
    ]);
    let open = |disk: &SimDisk| {
        let options = Options {
            disk: Arc::new(disk.clone()),
            ..Options::default()
        };
        Store::open(Path::new("/home"), options)
    };
    let count = {
        let disk = SimDisk::new(0);
        let store = open(&disk).unwrap();
        let before = disk.operations();
        push(
            &store,
            dir.path(),
            &ImportOptions {
                threads: 1,
                ..ImportOptions::default()
            },
        )
        .unwrap();
        disk.operations() - before
    };
    for crash in 0..count {
        let disk = SimDisk::new(crash);
        let store = open(&disk).unwrap();
        disk.crash_after(crash);
        let options = ImportOptions {
            threads: 1,
            ..ImportOptions::default()
        };
        let first = push(&store, dir.path(), &options);
        drop(store);
        disk.reboot();
        let store = open(&disk).unwrap_or_else(|e| panic!("seed {crash}: {e}"));
        if let Ok(first) = &first {
            assert_eq!(read_back(&store, first.tree).len(), 3, "seed {crash}");
        }
        let second = push(&store, dir.path(), &options).unwrap();
        assert_eq!(
            read_back(&store, second.tree)["m.safetensors"].1,
            weights,
            "seed {crash}"
        );
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_room_for_a_smaller_push() {
    let disk = SimDisk::new(1);
    let options = Options {
        disk: Arc::new(disk.clone()),
        ..Options::default()
    };
    let store = Store::open(Path::new("/home"), options).unwrap();
    disk.set_capacity(Some(4_000_000));
    let dir = folder(&[("m.safetensors", &model(&[1, 2, 3], 1024))]);
    let result = push(&store, dir.path(), &ImportOptions::default());
    assert!(
        matches!(result, Err(ImportError::Write(WriteError::DiskFull { .. }))),
        "{result:?}"
    );
    let small = folder(&[("m.safetensors", &model(&[1, 2, 3], 64))]);
    let imported = push(&store, small.path(), &ImportOptions::default()).unwrap();
    assert_eq!(imported.tensors, 3);
}

/// A segment of an index, as far as cutting looks at it: sections of so many bytes, from seeds.
fn segment(sections: &[(u64, usize)]) -> Vec<u8> {
    let mut file = vec![0; 16 * 1024];
    for (at, (seed, len)) in sections.iter().enumerate() {
        file.resize(file.len().next_multiple_of(16 * 1024), 0);
        file.extend(noise(*seed, *len));
        let entry = 64 + 64 * at;
        file[entry..entry + 3].copy_from_slice(b"ids");
        file[entry + 16] = u8::try_from(at).unwrap();
        file[entry + 24..entry + 32].copy_from_slice(&(*len as u64).to_le_bytes());
    }
    let len = file.len() as u64;
    file[..8].copy_from_slice(b"lode seg");
    file[8] = 1;
    file[12] = u8::try_from(sections.len()).unwrap();
    file[16..24].copy_from_slice(&len.to_le_bytes());
    file
}

#[test]
fn a_section_that_two_segments_have_is_stored_once() {
    let Home { store, _dir } = home();
    let large = 5 << 20;
    let first = segment(&[(1, 70_000), (2, large), (3, large), (4, 1000)]);
    let folder = folder(&[("00000000.seg", &first)]);
    let imported = push(&store, folder.path(), &ImportOptions::default()).unwrap();
    let tree = Tree::decode(&store.document(&imported.tree.into()).unwrap().unwrap()).unwrap();
    assert_eq!(tree.files()[0].chunks.rule, "sections/1");
    assert_eq!(read_back(&store, imported.tree)["00000000.seg"].1, first);
    // another small section in front, and another large one behind
    let second = segment(&[(5, 90_000), (2, large), (6, large), (4, 1000)]);
    put(folder.path(), &[("00000001.seg", &second)]);
    let imported = push(&store, folder.path(), &ImportOptions::default()).unwrap();
    assert_eq!(read_back(&store, imported.tree)["00000001.seg"].1, second);
    assert!(
        imported.size_new < large as u64 + (1 << 20),
        "{}",
        imported.size_new
    );
}

#[test]
fn a_container_with_another_name_gets_no_holes_until_that_is_gone() {
    let Home { store, _dir } = home();
    let folder = store.home().join("uploads");
    fs::create_dir(&folder).unwrap();
    let options = ImportOptions {
        adopt: true,
        ..ImportOptions::default()
    };
    let bytes = model(&[1, 2, 3], 1024);
    put(&folder, &[("m.safetensors", &bytes)]);
    let other = store.home().join("still-read");
    fs::hard_link(folder.join("m.safetensors"), &other).unwrap();
    drop(push(&store, &folder, &options).unwrap());
    // two thirds of it are needed by what is kept, one is not
    put(&folder, &[("m.safetensors", &model(&[1, 2, 4], 1024))]);
    let kept = push(&store, &folder, &options).unwrap();
    let collect = || store.gc(false, &mut |_| true).unwrap();
    let done = collect();
    assert_eq!(done.containers_punched, 0);
    assert!(
        fs::read(&other).unwrap() == bytes,
        "a hole in a file of another name"
    );
    fs::remove_file(&other).unwrap();
    assert_eq!(collect().containers_punched, 1);
    assert_eq!(read_back(&store, kept.tree).len(), 1);
}
