//! What the store's tests share.

use std::path::{Path, PathBuf};

use lode_store::{Store, outboard, sidecar::ChunkEntry, store::Options};
use tempfile::TempDir;

/// A home in a temporary folder.
pub(crate) struct Home {
    _dir: TempDir,
    path: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("home");
        Self { _dir: dir, path }
    }

    pub(crate) fn copy_of(other: &Self) -> Self {
        let home = Self::new();
        copy(&other.path, &home.path);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn open(&self) -> Store {
        self.open_with(Options::default())
    }

    pub(crate) fn open_with(&self, options: Options) -> Store {
        Store::open(&self.path, options).unwrap()
    }

    /// Every file of the home with this extension, sorted.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.path.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|e| e == extension) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Bytes that look random and are the same in every run.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Table and outboards of a file that is cut every `chunk` bytes.
pub(crate) fn file_table(data: &[u8], chunk: usize) -> (Vec<ChunkEntry>, Vec<u8>) {
    let (mut table, mut outboards) = (Vec::new(), Vec::new());
    for (number, bytes) in data.chunks(chunk).enumerate() {
        let (hash, pairs) = outboard::compute(bytes);
        let at = (!pairs.is_empty()).then_some(outboards.len() as u64);
        table.push(ChunkEntry::plain(
            hash,
            (number * chunk) as u64,
            bytes.len() as u32,
            at,
        ));
        outboards.extend_from_slice(&pairs);
    }
    (table, outboards)
}
