//! Collection of garbage: what no kept version needs leaves the disk.
//!
//! *Mark* reads the versions under `keep/` and `pin/`: version, tree, chunk lists, chunks. *Sweep* goes
//! through the containers: dead ones are unlinked, half-dead ones get a smaller sidecar and holes, and
//! only where the file system makes no holes are live chunks copied. *Compact* writes log segments again
//! without dead documents. Pushes, pulls and reads go on meanwhile:
//! - a chunk goes from the index before it goes from the disk, in steps, each under the lock that
//!   [`Protection`](crate::store::Protection) asks under, so nobody builds on a chunk that is about to go;
//! - a version that is kept or pinned while a collection runs is marked before the next step;
//! - a hole is made only when nobody reads the container or holds a slice of its mapping.
//!
//! Memory: eight bytes a live chunk. A crash at any point leaves chunks that the next collection takes.

use crate::{
    ChunkHash, ErrorKind, Store, VersionId,
    store::{ReadError, WriteError},
};

mod compact;
mod mark;
mod sweep;

use mark::Live;

/// Local keys that hold versions: `keep/VERSION` and `pin/VERSION`.
pub const ROOT_PREFIXES: [&str; 2] = ["keep/", "pin/"];

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Places of chunks that were removed.
    pub chunks: u64,
    /// Documents that were removed.
    pub documents: u64,
    /// Bytes of allocated blocks that were given back; when dry, bytes that dead chunks take.
    pub bytes: u64,
    /// Containers that were unlinked.
    pub containers_removed: u64,
    /// Containers in which holes were made.
    pub containers_punched: u64,
    /// Containers whose live chunks were copied out of them.
    pub containers_copied: u64,
    /// Outside places that were given up: the files stay.
    pub outside_dropped: u64,
    /// Containers that were read while their holes were due: the next collection makes them.
    pub containers_busy: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// How far a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcProgress {
    /// Containers that were looked at.
    pub containers: u64,
    /// Places of chunks that were removed.
    pub chunks: u64,
    /// Bytes that were given back.
    pub bytes: u64,
}

/// Why nothing, or no more, was collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// One runs already.
    #[error("a collection is running already")]
    Running,
    /// A kept version cannot be read, so that nobody knows what it needs.
    #[error(
        "nothing is collected: document {document} of the kept version {version} is {why}. Pull the version again, or remove it (lode rm)"
    )]
    Unreadable {
        /// The version.
        version: VersionId,
        /// The document.
        document: ChunkHash,
        /// What is wrong with it.
        why: String,
    },
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl GcError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Running => ErrorKind::Refused,
            Self::Unreadable { .. } => ErrorKind::Corrupt,
            Self::Read(e) => e.kind(),
            Self::Write(e) => e.kind(),
        }
    }
}

impl From<crate::index::IndexError> for GcError {
    fn from(error: crate::index::IndexError) -> Self {
        Self::Write(error.into())
    }
}

/// A collection that runs.
struct Run<'a> {
    store: &'a Store,
    dry: bool,
    live: Live,
    done: Collected,
    containers: u64,
    progress: &'a mut dyn FnMut(GcProgress) -> bool,
}

impl Store {
    /// Collects what no kept version needs. `progress` is called often, and stops the collection by
    /// answering false; with `dry_run` nothing is changed.
    ///
    /// # Errors
    /// [`GcError`]; what was collected before stays collected.
    pub fn gc(
        &self,
        dry_run: bool,
        progress: &mut dyn FnMut(GcProgress) -> bool,
    ) -> Result<Collected, GcError> {
        let inner = self.inner();
        inner.writable()?;
        if !inner.protect.begin(self) {
            return Err(GcError::Running);
        }
        let _end = End(self);
        let live = Live::mark(self)?;
        let mut run = Run {
            store: self,
            dry: dry_run,
            live,
            done: Collected::default(),
            containers: 0,
            progress,
        };
        run.sweep()?;
        let live = |root: &ChunkHash| run.live.has_file_root(root);
        run.done.bytes += self
            .sweep_cache(live, dry_run)
            .map_err(ReadError::io(self.home()))?;
        if !run.done.stopped {
            if !dry_run {
                self.unindex_dropped()?;
            }
            run.compact()?;
        }
        Ok(run.done)
    }
}

/// Ends the collection also when it fails.
struct End<'a>(&'a Store);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.inner().protect.end();
    }
}

impl Run<'_> {
    /// Tells how far it is; false when it is to stop.
    fn go_on(&mut self) -> bool {
        let go_on = (self.progress)(GcProgress {
            containers: self.containers,
            chunks: self.done.chunks,
            bytes: self.done.bytes,
        });
        self.done.stopped |= !go_on;
        go_on
    }
}
