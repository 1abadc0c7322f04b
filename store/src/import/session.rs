//! One import while it runs: what the hashing threads tell, and what comes of it in the end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lode_tensors::Header;

use crate::{
    ChunkHash, Store,
    cut::tensor_cuts,
    hashing::{FileHashes, Handle, HashedChunk, Plan, Visitor},
    root::OutboardWriter,
    sidecar::{ChunkEntry, Pins},
    store::{OutsideWriter, WholeWriter, WriteError},
    tree::{self, ChunkList, Mode, Tree},
    walk::{Entry, EntryKind},
};

use super::{
    ImportError, ImportOptions, ImportSink, Imported,
    behind::Behind,
    headers::{Found, index_fault, is_shard_index, read_header},
    target::{Chunks, Filled, OUTSIDE_BYTES_MIN, Place, Target, WHOLE_BYTES_MIN, Whole, lock},
};

/// Containers that wait to be sealed, each with two open files; more are sealed at once.
const WAITING_MAX: usize = 64;

/// An import while it runs.
pub(super) struct Session<'a> {
    pub(super) options: &'a ImportOptions,
    pub(super) sink: &'a dyn ImportSink,
    store: &'a Store,
    entries: Vec<Entry>,
    /// Entries that are regular files: number of the file -> number of the entry.
    regular: Vec<usize>,
    /// Folders with a shard index, whose headers are kept to be held against it.
    indexed: HashSet<String>,
    pub(super) chunks: Chunks,
    behind: Arc<Behind>,
    total: u64,
    done: AtomicU64,
    open: Mutex<HashMap<usize, Arc<Target>>>,
    /// Hash trees of whole files that are being kept; none for a file whose tree could not be.
    trees: Mutex<HashMap<usize, Option<OutboardWriter>>>,
    pub(super) results: Mutex<Results>,
}

/// What is known of files that are done.
#[derive(Default)]
pub(super) struct Results {
    pub(super) files: Vec<tree::File>,
    pub(super) documents: Vec<Bytes>,
    pub(super) wholes: Vec<(WholeWriter, Vec<ChunkEntry>, u64)>,
    pub(super) outsides: Vec<WaitingOutside>,
    headers: BTreeMap<String, BTreeMap<String, Header>>,
    pub(super) size_new: u64,
    tensors: u64,
    tensors_new: u64,
}

/// An outside place that is ready to be sealed.
pub(super) struct WaitingOutside {
    writer: OutsideWriter,
    pub(super) path: std::path::PathBuf,
    pub(super) pins: Pins,
    pub(super) table: Vec<ChunkEntry>,
    outboards_len: u64,
    /// It was changed so shortly before that it must be hashed again.
    pub(super) recent: bool,
}

impl WaitingOutside {
    fn seal(self) -> Result<(), WriteError> {
        self.writer
            .seal(&self.path, self.pins, &self.table, self.outboards_len)
            .map(drop)
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        store: &'a Store,
        options: &'a ImportOptions,
        sink: &'a dyn ImportSink,
        entries: Vec<Entry>,
    ) -> Result<Self, ImportError> {
        let size = |entry: &Entry| match entry.kind {
            EntryKind::File { size, .. } => size,
            EntryKind::Link { .. } => 0,
        };
        let regular = (0..entries.len())
            .filter(|&at| matches!(entries[at].kind, EntryKind::File { .. }))
            .collect();
        let indexed = entries
            .iter()
            .filter(|entry| is_shard_index(&entry.path))
            .map(|entry| split(&entry.path).0.to_owned())
            .collect();
        Ok(Self {
            options,
            sink,
            store,
            total: entries.iter().map(size).sum(),
            entries,
            regular,
            indexed,
            chunks: Chunks::new(store).map_err(WriteError::from)?,
            behind: Arc::default(),
            done: AtomicU64::new(0),
            open: Mutex::default(),
            trees: Mutex::default(),
            results: Mutex::default(),
        })
    }

    /// Paths of the regular files, in the order of their numbers.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Path> {
        self.regular
            .iter()
            .map(|&at| self.entries[at].source.as_path())
    }

    /// The symlinks: path in the tree, and target.
    pub(super) fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::Link { target } => Some((entry.path.as_str(), target.as_str())),
            EntryKind::File { .. } => None,
        })
    }

    fn entry(&self, file: usize) -> &Entry {
        &self.entries[self.regular[file]]
    }

    /// A warning, or with `strict` an error.
    fn fault(&self, path: &str, reason: String) -> Result<(), ImportError> {
        if self.options.strict {
            return Err(ImportError::Malformed {
                path: path.to_owned(),
                reason,
            });
        }
        self.sink.warning(&format!("{path}: {reason}"));
        Ok(())
    }

    fn place(
        &self,
        file: usize,
        plan: &Plan,
        handle: &Handle,
        len: u64,
    ) -> Result<Option<Place>, WriteError> {
        if self.options.in_place {
            let outside = len >= OUTSIDE_BYTES_MIN;
            return Ok(Some(if outside {
                Place::Outside(self.store.outside_writer()?)
            } else {
                Place::Pack
            }));
        }
        if len < WHOLE_BYTES_MIN {
            return Ok(Some(Place::Pack));
        }
        Ok(match self.chunks.mostly_held(plan, handle, len) {
            Ok(true) => Some(Place::Pack),
            Ok(false) if self.options.adopt => {
                let source = &self.entry(file).source;
                Some(Place::Adopted(self.store.adopt_writer(source)?))
            }
            Ok(false) => {
                let writer = self.store.whole_writer(len)?;
                Some(Place::Whole(Whole::new(&self.behind, writer)?))
            }
            // the file shrinks under our hands
            Err(_) => None,
        })
    }

    /// Holds each shard index against the headers of the files beside it.
    pub(super) fn check_shard_indexes(&self) -> Result<(), ImportError> {
        let headers = std::mem::take(&mut lock(&self.results).headers);
        let none = BTreeMap::new();
        for entry in self
            .entries
            .iter()
            .filter(|entry| is_shard_index(&entry.path))
        {
            let shards = headers.get(split(&entry.path).0).unwrap_or(&none);
            let fault = index_fault(&entry.source, shards).map_err(|source| {
                let path = entry.source.clone();
                ImportError::Io { path, source }
            })?;
            if let Some(reason) = fault {
                self.fault(&entry.path, reason)?;
            }
        }
        Ok(())
    }

    /// Writes pairs of a file's hash tree to the cache. What fails there stops no push: the tree is made
    /// again when somebody asks for it.
    fn keep_pairs(&self, file: usize, offset: u64, pairs: &[u8]) {
        let size = || -> std::io::Result<u64> { Ok(fs::metadata(&self.entry(file).source)?.len()) };
        let mut trees = lock(&self.trees);
        let writer = trees.entry(file).or_insert_with(|| {
            let begun = size().and_then(|size| self.store.outboard_writer(size));
            begun.unwrap_or_else(|error| {
                tracing::warn!(%error, "the hash tree of a file is not kept");
                None
            })
        });
        if let Some(open) = writer
            && let Err(error) = open.write(offset, pairs)
        {
            tracing::warn!(%error, "the hash tree of a file is not kept");
            *writer = None;
        }
    }

    fn seal_tree(&self, file: usize, root: Option<&ChunkHash>) {
        let writer = lock(&self.trees).remove(&file).flatten();
        if let (Some(writer), Some(root)) = (writer, root)
            && let Err(error) = writer.seal(root)
        {
            tracing::warn!(%error, "the hash tree of a file is not kept");
        }
    }

    /// Seals everything, then stores the chunk lists and the tree.
    pub(super) fn finish(self) -> Result<Imported, ImportError> {
        let results = self
            .results
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let files = results.files.len() as u64;
        let tree = Tree::new(results.files)?;
        let size = tree.size();
        let (id, bytes) = tree.encode_with_id();
        for (writer, table, outboards_len) in results.wholes {
            if self.sink.cancelled() {
                return Err(ImportError::Cancelled);
            }
            writer.seal(&table, outboards_len)?;
        }
        for outside in results.outsides {
            if self.sink.cancelled() {
                return Err(ImportError::Cancelled);
            }
            outside.seal()?;
        }
        let guard = self.chunks.finish()?;
        let mut documents = results.documents;
        documents.push(bytes);
        for document in self.store.put_documents(&documents)? {
            guard.add(&document);
        }
        Ok(Imported {
            tree: id,
            files,
            size,
            size_new: results.size_new,
            tensors: results.tensors,
            tensors_new: results.tensors_new,
            guard,
        })
    }
}

impl Results {
    /// Notes a file of the tree, and the documents that name its chunks.
    pub(super) fn note(&mut self, file: tree::File, list: &ChunkList) {
        self.files.push(file);
        if !list.is_empty() {
            self.documents
                .extend([list.seq_bytes(), list.length_bytes()]);
        }
    }

    /// Counts the tensors of a file, and those that touch a new chunk.
    fn count_tensors(&mut self, header: &Header, filled: &Filled) {
        let mut at = 0;
        for tensor in &header.tensors {
            self.tensors += 1;
            let ends = |entry: &ChunkEntry| entry.offset + u64::from(entry.stored_len);
            while at < filled.table.len() && ends(&filled.table[at]) <= tensor.range.start {
                at += 1;
            }
            let touched = filled.table[at..].iter().zip(&filled.new[at..]);
            let new = touched
                .take_while(|(entry, _)| entry.offset < tensor.range.end)
                .any(|(_, new)| *new);
            self.tensors_new += u64::from(new);
        }
    }
}

impl Visitor for Session<'_> {
    type Error = ImportError;

    fn open(&self, file: usize, handle: &Handle, pins: &Pins) -> Result<Plan, ImportError> {
        let entry = self.entry(file);
        let changed = || ImportError::Changed {
            path: entry.source.clone(),
        };
        let found = match read_header(&entry.path, handle, pins.len) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(changed());
            }
            Err(source) => {
                let path = entry.source.clone();
                return Err(ImportError::Io { path, source });
            }
        };
        let mut segment = None;
        let header = match found {
            Found::Header(header) => Some(header),
            Found::Segment(cuts) => {
                segment = Some(cuts);
                None
            }
            Found::Plain => None,
            Found::Malformed(reason) => {
                self.fault(
                    &entry.path,
                    format!("{reason}; it is pushed as plain bytes"),
                )?;
                None
            }
        };
        let plan = match (&header, segment) {
            (Some(header), _) => Plan::Known(tensor_cuts(header, pins.len)),
            (None, Some(cuts)) => Plan::Known(cuts),
            (None, None) => Plan::Content,
        };
        let place = self
            .place(file, &plan, handle, pins.len)?
            .ok_or_else(changed)?;
        lock(&self.open).insert(file, Arc::new(Target::new(place, header)));
        Ok(plan)
    }

    fn chunk(&self, chunk: HashedChunk<'_>) -> Result<(), ImportError> {
        let target = lock(&self.open).get(&chunk.file).map(Arc::clone);
        let target = target.expect("a file is open while its chunks come");
        Ok(target.take(&self.chunks, &chunk)?)
    }

    fn outboard(&self, file: usize, offset: u64, pairs: &[u8]) -> Result<(), ImportError> {
        self.keep_pairs(file, offset, pairs);
        Ok(())
    }

    fn done(&self, file: usize, hashes: FileHashes) -> Result<(), ImportError> {
        self.seal_tree(file, hashes.root.as_ref());
        let target = lock(&self.open).remove(&file).and_then(Arc::into_inner);
        let mut filled = target
            .expect("a file is done once, after its chunks")
            .fill(&self.chunks)?;
        let entry = self.entry(file);
        let list = ChunkList {
            hashes: hashes.chunks,
            lengths: hashes.lengths,
        };
        let executable = matches!(
            entry.kind,
            EntryKind::File {
                executable: true,
                ..
            }
        );
        let tree_file = tree::File {
            path: entry.path.clone(),
            mode: if executable { Mode::Exec } else { Mode::File },
            size: hashes.pins.len,
            sha256: hashes.sha256,
            git: hashes.git,
            chunks: list.reference(hashes.rule),
            root: hashes.root,
        };
        let mut results = lock(&self.results);
        results.note(tree_file, &list);
        let new = filled
            .table
            .iter()
            .zip(&filled.new)
            .filter(|(_, new)| **new);
        results.size_new += new
            .map(|(entry, _)| u64::from(entry.plain_len))
            .sum::<u64>();
        if let Some(header) = filled.header.take() {
            results.count_tensors(&header, &filled);
            let (folder, name) = split(&entry.path);
            if self.indexed.contains(folder) {
                let shards = results.headers.entry(folder.to_owned()).or_default();
                shards.insert(name.to_owned(), *header);
            }
        }
        match filled.place {
            Place::Pack => {}
            Place::Whole(Whole { writer, .. }) | Place::Adopted(writer) => {
                if results.wholes.len() < WAITING_MAX {
                    let whole = (writer, filled.table, filled.outboards_len);
                    results.wholes.push(whole);
                } else {
                    drop(results);
                    writer.seal(&filled.table, filled.outboards_len)?;
                }
            }
            Place::Outside(writer) => {
                let waiting = WaitingOutside {
                    writer,
                    path: entry.source.clone(),
                    pins: hashes.pins,
                    table: filled.table,
                    outboards_len: filled.outboards_len,
                    recent: hashes.recent,
                };
                if waiting.recent || results.outsides.len() < WAITING_MAX {
                    results.outsides.push(waiting);
                } else {
                    drop(results);
                    waiting.seal()?;
                }
            }
        }
        Ok(())
    }

    fn progress(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.sink.progress(done.min(self.total), self.total);
    }

    fn cancelled(&self) -> bool {
        self.sink.cancelled()
    }
}

/// Folder (empty for the root) and name of a path in the tree.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
