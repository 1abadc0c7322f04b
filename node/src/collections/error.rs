//! Why something with collections did not work.

use std::{io, path::PathBuf, sync::Arc};

use lode_index::CollectionError;
use lode_store::name::NameError;

use super::limits::{ALIASES_MAX, COLLECTIONS_MAX, SNAPSHOTS_MAX};
use crate::command::{Failure, FailureKind};

/// Why something with collections did not work.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CollectionsError {
    /// The text is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such collection.
    #[error("there is no collection {name}")]
    Absent {
        /// As it was asked for.
        name: String,
    },
    /// There is one already, or an alias.
    #[error("there is a collection or an alias {name} already")]
    Exists {
        /// Its name.
        name: String,
    },
    /// It is another publisher's: a copy is read, not changed.
    #[error("{name} is another publisher's: this home has no key that may change it")]
    NotYours {
        /// Its name.
        name: String,
    },
    /// The home has as many as it can have.
    #[error("there are {COLLECTIONS_MAX} collections already: delete some")]
    TooMany,
    /// There are as many aliases as there can be.
    #[error("there are {ALIASES_MAX} aliases of collections already: delete some")]
    TooManyAliases,
    /// The collection has no such snapshot.
    #[error("there is no snapshot {name}")]
    NoSnapshot {
        /// As it was asked for.
        name: String,
    },
    /// The collection has as many snapshots as it can have.
    #[error("there are {SNAPSHOTS_MAX} snapshots of the collection already: delete some")]
    TooManySnapshots,
    /// What the engine says.
    #[error("{name}: {source}")]
    Index {
        /// The collection.
        name: String,
        /// What it says.
        source: CollectionError,
    },
    /// A file of the home is not what was written.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// Something else of the node.
    #[error("{}", .0.message)]
    Other(Failure),
}

impl CollectionsError {
    pub(super) fn index(name: &str, source: CollectionError) -> Self {
        Self::Index {
            name: name.to_owned(),
            source,
        }
    }

    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            path,
            source: Arc::new(source),
        }
    }

    /// From which exit code and HTTP status follow.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Name(_) => FailureKind::Usage,
            Self::Absent { .. } | Self::NoSnapshot { .. } => FailureKind::NotFound,
            Self::Exists { .. }
            | Self::NotYours { .. }
            | Self::TooMany
            | Self::TooManyAliases
            | Self::TooManySnapshots => FailureKind::Refused,
            Self::Index { source, .. } => match source {
                CollectionError::Vector { .. }
                | CollectionError::TooManyPoints { .. }
                | CollectionError::TooLong { .. }
                | CollectionError::Config(_) => FailureKind::Usage,
                CollectionError::Head { .. }
                | CollectionError::Damaged { .. }
                | CollectionError::Part(_)
                | CollectionError::Replay(_) => FailureKind::Corrupt,
                CollectionError::Log(error) => match **error {
                    lode_index::log::LogError::Corrupt { .. } => FailureKind::Corrupt,
                    _ => FailureKind::Failed,
                },
                _ => FailureKind::Failed,
            },
            Self::Damaged { .. } => FailureKind::Corrupt,
            Self::Io { .. } => FailureKind::Failed,
            Self::Other(failure) => failure.kind,
        }
    }

    /// Whether the disk is full.
    pub fn is_no_room(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        match self {
            Self::Io { source, .. } => full(source),
            Self::Index { source, .. } => match source {
                CollectionError::Io { source, .. } => full(source),
                CollectionError::Log(error) => match &**error {
                    lode_index::log::LogError::Io { source, .. } => full(source),
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<Failure> for CollectionsError {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<CollectionsError> for Failure {
    fn from(error: CollectionsError) -> Self {
        match error {
            CollectionsError::Other(failure) => failure,
            error => {
                let failure = Self::new(error.kind(), error.to_string());
                match error {
                    CollectionsError::Absent { .. } => {
                        failure.advise("`lode collection ls` lists what there is")
                    }
                    _ => failure,
                }
            }
        }
    }
}
