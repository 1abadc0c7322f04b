//! A collection: one folder, one writer at a time, readers of any number.
//!
//! A write is an [`Operation`]. What several threads hand in at once goes to the log as one group; when
//! [`Collection::apply`] returns, it is durable and every new [`View`] has it. Views never change. The live part
//! is sealed when it is full and becomes a segment in [`Collection::maintain`], which the owner calls in the
//! background: one step a call, flushing, merging, or indexing anew. [`Collection::compact`] does all that is
//! needed for no byte of a deleted point to be left in any file.
//!
//! docs/format/collection.md draws the folder. What it promises after a crash: the *head* says of a moment, the
//! *floor*, which segments there are and which of their rows are dead; everything acknowledged after it is in files
//! of the log, and replaying them on the floor gives the state that was. So a merge drops only rows that were
//! dead at the floor: a later operation may look at any other when it is replayed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
};

use crate::{
    disk::{Disk, RealDisk},
    limits::{CHANGE_POINTS_MAX, LOG_GROUP_BYTES_MAX, OPERATION_POINTS_MAX},
    log::{LogError, LogFile},
    operation::Operation,
    point::VectorError,
    schema::{CollectionConfig, ConfigError},
    segment::{BuildError, OpenError, WriteError},
    state::{Floor, State},
    vectors::GraphBuilder,
    view::{PartError, Report, View, With},
};

mod apply;
mod check;
mod commit;
mod head;
mod maintain;
mod open;
mod snapshot;

pub use check::{CollectionCheck, RECALL_MIN};
pub use head::{Head, HeadError, read_head};
pub use maintain::{Budget, Maintained};
pub use snapshot::{Snapshot, SnapshotFile};

use commit::Queue;

/// An open collection. All methods may be called from many threads.
#[derive(Debug)]
pub struct Collection {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    queue: Mutex<Queue>,
    /// A group was committed.
    committed: Condvar,
    writer: Mutex<Writer>,
    current: RwLock<Arc<State>>,
    /// Held by whoever makes a segment of a live part.
    flushing: Mutex<()>,
    /// Held by whoever merges segments.
    merging: Mutex<()>,
    /// Who makes the graphs of merged segments.
    builder: Box<dyn GraphBuilder>,
}

/// What one thread at a time changes.
#[derive(Debug)]
struct Writer {
    log: LogFile,
    /// The moment that the head on disk speaks of.
    floor: Floor,
    /// The number of the next segment's file.
    next_segment: u64,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its number: operations of a collection count up.
    pub sequence: u64,
    /// How many points it set, changed or removed.
    pub points: u64,
}

/// Why a collection was not opened, changed or maintained.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CollectionError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// There is a collection already, or something else.
    #[error("{path}: there is something already")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The head is not what was written.
    #[error("{path}: {source}")]
    Head {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeadError,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] Arc<LogError>),
    /// A configuration that no collection can have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A vector that the collection does not take; nothing of the operation was done.
    #[error("point {point}: {source}")]
    Vector {
        /// The point's id.
        point: crate::id::PointId,
        /// Why.
        source: VectorError,
    },
    /// More points than an operation may name.
    #[error("an operation on {points} points; at most {OPERATION_POINTS_MAX} are allowed")]
    TooManyPoints {
        /// How many.
        points: usize,
    },
    /// An operation of more bytes than are written at once.
    #[error("an operation of {bytes} bytes; at most {LOG_GROUP_BYTES_MAX} are allowed")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// A part is damaged, and what was asked cannot be done without it.
    #[error(transparent)]
    Part(#[from] PartError),
    /// Segments could not be opened; a write might miss points in them.
    #[error("segment {segment} is damaged ({what}): no writes until it is restored or given up")]
    Damaged {
        /// The first one's number.
        segment: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A segment could not be made.
    #[error("making a segment: {0}")]
    Build(#[source] Arc<BuildError>),
    /// An operation in the log that cannot be done on what came before it.
    #[error("the log has an operation that does not fit: {0}")]
    Replay(String),
}

impl Collection {
    /// Makes a collection in a folder that must not exist; its parent must.
    ///
    /// # Errors
    /// [`CollectionError`]; then nothing stays.
    pub fn create(dir: &Path, config: CollectionConfig) -> Result<Self, CollectionError> {
        Self::create_on(Arc::new(RealDisk), dir, config)
    }

    /// Opens a collection. Segments that are damaged do not keep it from opening: see [`View::damaged`].
    ///
    /// # Errors
    /// [`CollectionError`], for a damaged head or log too.
    pub fn open(dir: &Path) -> Result<Self, CollectionError> {
        Self::open_on(Arc::new(RealDisk), dir)
    }

    /// The same, whose graphs are made by `builder` from now on instead of [`crate::vectors::BatchBuilder`].
    #[must_use]
    pub fn with_builder(self, builder: Box<dyn GraphBuilder>) -> Self {
        Self { builder, ..self }
    }

    /// The collection as it is now, to read from.
    pub fn view(&self) -> View {
        View::new(self.state())
    }

    /// Does an operation; when this returns, it is durable and views have it.
    ///
    /// A change of payloads or vectors by a filter that more than [`CHANGE_POINTS_MAX`] points pass is done in
    /// steps of so many, each durable on its own.
    ///
    /// # Errors
    /// [`CollectionError`]; then nothing was done, unless the disk failed: then nobody knows, and no more writes
    /// are taken.
    pub fn apply(&self, operation: Operation) -> Result<Applied, CollectionError> {
        match self.large_change(&operation) {
            None => self.commit(operation),
            Some(view) => self.commit_in_steps(&view, operation),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The view on which an operation is a change of more points than are changed at once.
    fn large_change(&self, operation: &Operation) -> Option<View> {
        let filter = operation.changes_by_filter()?;
        let view = self.view();
        let count = view.count(filter, &mut Report::default());
        (count > CHANGE_POINTS_MAX as u64).then_some(view)
    }

    fn commit_in_steps(
        &self,
        view: &View,
        operation: Operation,
    ) -> Result<Applied, CollectionError> {
        let filter = operation.changes_by_filter().cloned().unwrap_or_default();
        let mut done = Applied {
            sequence: view.sequence(),
            points: 0,
        };
        let mut from = None;
        loop {
            let page = view.scroll(
                from,
                CHANGE_POINTS_MAX,
                &filter,
                &With::default(),
                &mut Report::default(),
            );
            let ids = page.records.iter().map(|record| record.id).collect();
            let applied = self.commit(operation.clone().of_ids(ids))?;
            done = Applied {
                sequence: applied.sequence,
                points: done.points + applied.points,
            };
            from = page.next;
            if from.is_none() {
                return Ok(done);
            }
        }
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, state: State) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, name: &str) -> impl Fn(io::Error) -> CollectionError + use<> {
        let path = self.dir.join(name);
        move |source| CollectionError::Io {
            path: path.clone(),
            source: Arc::new(source),
        }
    }
}

impl From<LogError> for CollectionError {
    fn from(error: LogError) -> Self {
        Self::Log(Arc::new(error))
    }
}

impl From<BuildError> for CollectionError {
    fn from(error: BuildError) -> Self {
        Self::Build(Arc::new(error))
    }
}

impl From<WriteError> for CollectionError {
    fn from(error: WriteError) -> Self {
        BuildError::from(error).into()
    }
}

/// What is wrong with a segment that does not open.
fn segment_error(error: &OpenError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
