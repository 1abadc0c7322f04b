//! What the store's tests share.

use std::path::{Path, PathBuf};

use lode_store::{
    ChunkHash, Store, VersionId,
    limits::GIT_HASH_FILE_BYTES_MAX,
    local::{keep_key, keep_value},
    manifest::{Kind, Links, Version, VersionBytes},
    outboard,
    sidecar::ChunkEntry,
    store::Options,
    tree::{ChunkList, File, Mode, Tree},
};
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

/// How the chunks of a version are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Pack,
    Whole,
    Outside,
    Nowhere,
}

/// Stores a version of these files, cut every `chunk` bytes; it is not kept yet.
pub(crate) fn version(
    store: &Store,
    form: Form,
    chunk: usize,
    files: &[(&str, &[u8])],
    folder: &Path,
) -> VersionId {
    let mut tree = Vec::new();
    let mut documents = Vec::new();
    let mut pack = store.pack_writer();
    for (path, data) in files {
        let (table, outboards) = file_table(data, chunk);
        let list = ChunkList {
            hashes: table.iter().map(|entry| entry.hash).collect(),
            lengths: table.iter().map(|entry| entry.plain_len).collect(),
        };
        match form {
            Form::Pack => {
                for entry in &table {
                    if !store.holds(&entry.hash).unwrap() {
                        let start = entry.offset as usize;
                        let bytes = &data[start..start + entry.plain_len as usize];
                        let (hash, pairs) = outboard::compute(bytes);
                        pack.add(hash, bytes, &pairs).unwrap();
                    }
                }
            }
            Form::Whole => {
                let writer = store.whole_writer(data.len() as u64).unwrap();
                writer.write_at(0, data).unwrap();
                writer.write_outboard_at(0, &outboards).unwrap();
                writer.seal(&table, outboards.len() as u64).unwrap();
            }
            Form::Outside => {
                let path = folder.join(path);
                std::fs::write(&path, data).unwrap();
                let pins = store.pins(&path).unwrap();
                store.add_outside(&path, pins, &table, &outboards).unwrap();
            }
            Form::Nowhere => {}
        }
        documents.extend([list.seq_bytes(), list.length_bytes()]);
        tree.push(File {
            path: (*path).to_owned(),
            mode: Mode::File,
            size: data.len() as u64,
            sha256: [0; 32],
            git: (data.len() as u64 <= GIT_HASH_FILE_BYTES_MAX).then_some([0; 20]),
            chunks: list.reference("cdc/1"),
            root: None,
        });
    }
    pack.seal().unwrap();
    let (tree, tree_bytes) = Tree::new(tree).unwrap().encode_with_id();
    let doc = Version {
        kind: Kind::Model,
        publisher: None,
        model: "m".to_owned(),
        tree,
        parents: Vec::new(),
        author: None,
        time: 1,
        message: String::new(),
        links: Links::default(),
    };
    let version = VersionBytes::new(doc).unwrap();
    documents.extend([tree_bytes, version.bytes]);
    store.put_documents(&documents).unwrap();
    version.id
}

pub(crate) fn keep(store: &Store, version: &VersionId, own: bool) {
    store
        .local_set(&keep_key(version), &keep_value(own, 1))
        .unwrap();
}

/// Whether every byte of a version can be read, and is right.
pub(crate) fn is_whole(store: &Store, version: &VersionId) -> bool {
    let document = |hash: ChunkHash| store.document(&hash).ok().flatten();
    let Some(bytes) = document((*version).into()) else {
        return false;
    };
    let tree = Version::decode(&bytes).unwrap().tree;
    let Some(bytes) = document(tree.into()) else {
        return false;
    };
    Tree::decode(&bytes).unwrap().files().iter().all(|file| {
        let (Some(seq), Some(lengths)) = (document(file.chunks.seq), document(file.chunks.lengths))
        else {
            return false;
        };
        let list = ChunkList::from_documents(&file.chunks, file.size, &seq, &lengths).unwrap();
        list.hashes.iter().all(|hash| match store.chunk(hash) {
            Ok(Some(chunk)) => chunk
                .read(0..chunk.len())
                .is_ok_and(|bytes| ChunkHash::of(&bytes) == *hash),
            _ => false,
        })
    })
}
