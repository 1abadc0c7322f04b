//! Pushing a folder into the store: its chunks, its documents and its tree.
//!
//! Files are walked, hashed in one pass ([`crate::hashing`]) and stored while they are hashed. A large
//! file whose chunks are mostly new becomes a whole container; of a small file, or one that is mostly
//! here already, only the new chunks are added to a pack. With `adopt`, such a large file is not copied but becomes
//! the container. With `in_place`, large files stay where they
//! are and become outside places. A chunk that only an outside place holds counts as missing for a copy:
//! such a place is never custody.
//!
//! Bytes that are to be files and are none yet are stored in the same way ([`import_given`]): read once from
//! whoever gives them, and written once, to where they stay.
//!
//! Containers are sealed once everything was hashed, so an error or a cancellation before that leaves
//! nothing; the tree and the chunk lists are stored last.

mod behind;
mod headers;
mod links;
mod recheck;
mod session;
mod target;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    ErrorKind, Store, TreeId,
    hashing::{Content, HashError, HashOptions, Source, hash_files},
    store::{Protection, ReadError, WriteError},
    tree::TreeError,
    walk::{Entry, EntryKind, WalkError, walk},
};

use session::Session;

/// How long a file must have been left alone before its times are trusted to show the next change.
const SETTLE: Duration = Duration::from_secs(2);

/// How a folder is imported.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Leaves files where they are, and notes their chunks as outside places.
    pub in_place: bool,
    /// Takes large files, which lie on the file system of the home and are the caller's to give, instead of
    /// copying them: they are gone from the folder afterwards. What is mostly held, and small files, stay.
    pub adopt: bool,
    /// Refuses files that claim a tensor format and break it, and shard indexes that contradict them.
    pub strict: bool,
    /// Makes the BLAKE3 hash of whole files too.
    pub file_roots: bool,
    /// Threads; 0 stands for one a core.
    pub threads: usize,
}

/// Who is told how an import goes on. Called from several threads.
pub trait ImportSink: Sync {
    /// Bytes that are done, of all.
    fn progress(&self, done: u64, total: u64);

    /// Something that a person should know, and that stops nothing.
    fn warning(&self, text: &str);

    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// What an import stored.
#[derive(Debug)]
pub struct Imported {
    /// The sorted list of files, stored as a document.
    pub tree: TreeId,
    /// Files and links in it.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub size: u64,
    /// Bytes of chunks that were not held before; with `in_place`, that were not known before.
    pub size_new: u64,
    /// Tensors in all files.
    pub tensors: u64,
    /// Tensors with at least one new chunk.
    pub tensors_new: u64,
    /// Keeps everything of the tree from being collected: drop it once a version that names the tree
    /// is kept.
    pub guard: Protection,
}

/// Why a folder was not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The folder cannot be pushed as it is.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file changed while it was read.
    #[error("{path} changed while it was read: push again when nothing writes to it")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file claims a tensor format and breaks it, and `strict` was asked for.
    #[error("{path}: {reason}; mend the file, or push without --strict")]
    Malformed {
        /// The file's path in the tree.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("cancelled: nothing was stored")]
    Cancelled,
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The files do not make a tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl ImportError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Walk(error) => error.kind(),
            Self::Io { .. } | Self::Changed { .. } => ErrorKind::Io,
            Self::Malformed { .. } | Self::Cancelled => ErrorKind::Refused,
            Self::Write(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Tree(error) => error.kind(),
        }
    }
}

impl From<HashError<ImportError>> for ImportError {
    fn from(error: HashError<Self>) -> Self {
        match error {
            HashError::Io { path, source } => Self::Io { path, source },
            HashError::Changed { path } => Self::Changed { path },
            HashError::Cancelled => Self::Cancelled,
            HashError::Visitor(error) => error,
        }
    }
}

/// Stores the folder `dir` (or one file), and the tree of it.
///
/// Files that are hashed side by side may both store a chunk that they share.
///
/// Memory: 96 MiB of buffers and the table of each file's chunks, whatever the size.
///
/// # Errors
/// [`ImportError`]; of what was hashed before it, nothing stays, except that containers which were
/// being sealed are left to the next collection.
pub fn import(
    store: &Store,
    dir: &Path,
    options: &ImportOptions,
    sink: &dyn ImportSink,
) -> Result<Imported, ImportError> {
    import_settled(store, dir, options, sink, SETTLE)
}

fn import_settled(
    store: &Store,
    dir: &Path,
    options: &ImportOptions,
    sink: &dyn ImportSink,
    settle: Duration,
) -> Result<Imported, ImportError> {
    let entries = walk(dir, &[store.home().to_owned()])?;
    let session = Session::new(store, options, sink, entries)?;
    let sources: Vec<Source> = session
        .sources()
        .map(|path| Source::File {
            path: path.to_owned(),
        })
        .collect();
    run(session, &sources, settle)
}

/// Stores files that are none yet, and a tree in which they are called `0`, `1`, .. in their order.
///
/// Where files lie, or stay, and hash trees of whole files are no options here. Memory: as of [`import`].
///
/// # Errors
/// As of [`import`].
pub fn import_given(
    store: &Store,
    given: Vec<Arc<dyn Content>>,
    options: &ImportOptions,
    sink: &dyn ImportSink,
) -> Result<Imported, ImportError> {
    let options = ImportOptions {
        in_place: false,
        adopt: false,
        file_roots: false,
        ..options.clone()
    };
    let name = |number: usize| PathBuf::from(format!("given file {number}"));
    let entry = |(number, content): (usize, &Arc<dyn Content>)| Entry {
        path: number.to_string(),
        source: name(number),
        kind: EntryKind::File {
            executable: false,
            size: content.size(),
        },
    };
    let entries = given.iter().enumerate().map(entry).collect();
    let source = |(number, content): (usize, Arc<dyn Content>)| Source::Given {
        name: name(number),
        content,
    };
    let sources: Vec<Source> = given.into_iter().enumerate().map(source).collect();
    let session = Session::new(store, &options, sink, entries)?;
    run(session, &sources, SETTLE)
}

fn run(
    session: Session<'_>,
    sources: &[Source],
    settle: Duration,
) -> Result<Imported, ImportError> {
    let hashing = HashOptions {
        threads: session.options.threads,
        roots: session.options.file_roots,
        ..HashOptions::default()
    };
    hash_files(sources, &hashing, &session)?;
    session.add_links()?;
    session.check_shard_indexes()?;
    session.recheck_recent(settle)?;
    session.finish()
}
