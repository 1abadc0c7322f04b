//! A file is served as one blob with its own bytes or not at all, whatever is kept, lost or claimed.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::{fs, path::PathBuf, sync::atomic::Ordering};

use bao_tree::{BlockSize, io::outboard::PreOrderMemOutboard};
use tempfile::TempDir;

use super::*;
use crate::{
    import::{ImportOptions, ImportSink, import},
    limits::{ROOT_CACHE_BYTES_MAX, ROOT_WAITING_MAX},
    store::Options,
    sync::source::ChunkRead,
    tree::{File, Tree},
};

struct Quiet;

impl ImportSink for Quiet {
    fn progress(&self, _: u64, _: u64) {}
    fn warning(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

struct Home {
    dir: TempDir,
    store: Store,
    data: Vec<u8>,
    file: File,
}

/// A home with one file of three segments less a bit, cut by content.
fn home(in_place: bool) -> Home {
    let dir = tempfile::tempdir().unwrap();
    let mut data = vec![0; 40_000_123];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    fs::create_dir(dir.path().join("model")).unwrap();
    fs::write(dir.path().join("model/weights.bin"), &data).unwrap();
    let store = Store::open(&dir.path().join("home"), Options::default()).unwrap();
    let options = ImportOptions {
        in_place,
        file_roots: true,
        ..ImportOptions::default()
    };
    let imported = import(&store, &dir.path().join("model"), &options, &Quiet).unwrap();
    let tree = store.document(&imported.tree.into()).unwrap().unwrap();
    let file = Tree::decode(&tree)
        .unwrap()
        .file("weights.bin")
        .unwrap()
        .clone();
    Home {
        dir,
        store,
        data,
        file,
    }
}

impl Home {
    fn root(&self) -> ChunkHash {
        self.file.root.unwrap()
    }

    fn blob(&self) -> Arc<FileBlob> {
        let opened = self
            .store
            .file_blob(self.root(), self.file.size, &self.file.chunks);
        opened.unwrap().unwrap()
    }

    fn kept(&self) -> PathBuf {
        let name = format!("{}.tree", self.root());
        self.dir.path().join("home/cache").join(name)
    }

    fn forget(&self) {
        self.store.inner().roots.open.lock().unwrap().clear();
    }

    fn outboard(&self) -> Vec<u8> {
        PreOrderMemOutboard::create(&self.data, BlockSize::from_chunk_log(4)).data
    }
}

#[test]
fn a_push_keeps_the_hash_tree_of_a_large_file() {
    let home = home(false);
    assert_eq!(home.root(), ChunkHash::of(&home.data));
    assert!(fs::read(home.kept()).unwrap() == home.outboard());
    let names = fs::read_dir(home.kept().parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "a draft is left");
}

#[test]
fn reads_span_chunks() {
    let home = home(false);
    let blob = home.blob();
    assert!(home.file.chunks.count > 10);
    assert_eq!(blob.size(), home.file.size);
    for (start, end) in [(0, 1 << 20), (3 << 20, 20 << 20), (38 << 20, 40_000_123)] {
        let read = blob.read(start..end).unwrap();
        assert!(read == home.data[start as usize..end as usize], "{start}");
    }
    assert!(blob.read(0..40_000_124).is_err());
    assert_eq!(
        blob.held().as_slice(),
        std::slice::from_ref(&(0..40_000_123))
    );
}

#[test]
fn a_hash_tree_that_is_lost_or_damaged_is_made_again() {
    let home = home(false);
    let right = home.outboard();
    fs::remove_file(home.kept()).unwrap();
    assert!(home.blob().outboard().unwrap() == right);
    assert!(fs::read(home.kept()).unwrap() == right);
    for damaged in [&right[1..], &[0; 64], &[]] {
        home.forget();
        fs::write(home.kept(), damaged).unwrap();
        assert!(home.blob().outboard().unwrap() == right);
    }
    home.forget();
    let mut zeros = right.clone();
    zeros[70_000..80_000].fill(0);
    fs::remove_file(home.kept()).unwrap();
    fs::write(home.kept(), zeros).unwrap();
    assert!(home.blob().outboard().unwrap() == right);
    assert!(fs::read(home.kept()).unwrap() == right);
}

#[test]
fn a_root_that_is_not_the_files_own_opens_nothing() {
    let home = home(false);
    let other = ChunkHash::of(b"other");
    let open = || {
        home.store
            .file_blob(other, home.file.size, &home.file.chunks)
    };
    let blob = open().unwrap().unwrap();
    assert!(blob.outboard().is_err());
    assert!(open().unwrap().is_none(), "it is worked on again");
    let names = fs::read_dir(home.kept().parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "something is kept of it");
    // the true one still opens
    assert!(home.blob().outboard().is_ok());
}

#[test]
fn a_file_that_changed_on_disk_is_not_read() {
    let home = home(true);
    let blob = home.blob();
    assert!(blob.read(0..1 << 20).unwrap() == home.data[..1 << 20]);
    let mut changed = home.data.clone();
    changed[5] ^= 1;
    fs::write(home.dir.path().join("model/weights.bin"), changed).unwrap();
    assert!(blob.read(0..1 << 20).is_err());
    assert!(!blob.holds(&(0..1 << 20)));
}

#[test]
fn a_file_that_was_read_does_not_hold_its_home() {
    let Home {
        dir, store, file, ..
    } = home(false);
    let blob = store.file_blob(file.root.unwrap(), file.size, &file.chunks);
    let blob = blob.unwrap().unwrap();
    blob.outboard().unwrap();
    blob.read(0..1 << 20).unwrap();
    drop((blob, store));
    Store::open(&dir.path().join("home"), Options::default()).unwrap();
}

#[test]
fn gc_and_quota_take_hash_trees_away() {
    let home = home(false);
    assert!(home.store.usage().unwrap().cache >= 156_000);
    // no version was made of the tree
    let dry = home.store.gc(true, &mut |_| true).unwrap();
    assert!(home.kept().exists());
    assert!(dry.bytes >= 156_000);
    home.store.gc(false, &mut |_| true).unwrap();
    assert!(!home.kept().exists());
    assert_eq!(home.store.usage().unwrap().cache, 0);
}

#[test]
fn bounds_hold_by_one() {
    let home = home(false);
    let groups = ROOT_CACHE_BYTES_MAX / 64 + 1;
    let largest = groups * 16 * 1024;
    assert!(home.store.outboard_writer(largest).unwrap().is_some());
    assert!(home.store.outboard_writer(largest + 1).unwrap().is_none());

    let roots = &home.store.inner().roots;
    fs::remove_file(home.kept()).unwrap();
    roots.waiting.store(ROOT_WAITING_MAX, Ordering::SeqCst);
    let refused = home.blob().outboard().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    roots.waiting.store(ROOT_WAITING_MAX - 1, Ordering::SeqCst);
    assert!(home.blob().outboard().is_ok());

    let open = |number: usize| {
        let root = ChunkHash::of(&number.to_le_bytes());
        home.store
            .file_blob(root, home.file.size, &home.file.chunks)
    };
    for number in 0..=ROOT_FILES_OPEN_MAX {
        open(number).unwrap().unwrap();
    }
    assert_eq!(roots.open.lock().unwrap().len(), ROOT_FILES_OPEN_MAX);

    let claim = home.blob().claim();
    for number in 0..=ROOT_FALSE_MAX {
        let root = ChunkHash::of(&number.to_le_bytes());
        home.store.is_untrue(Claim { root, ..claim });
        assert!(roots.untrue.lock().unwrap().len() <= ROOT_FALSE_MAX);
    }
}
