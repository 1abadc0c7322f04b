//! What can go wrong with a download.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    ErrorKind,
    store::{ReadError, WriteError},
    tree::{LinkError, PathError},
};

/// Why a file could not be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The layout does not fit the chunk list or the target.
    #[error("a layout that does not fit: {0}")]
    Layout(String),
    /// The path is not one that a version may have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The link points where no link of a version may point.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The destination has other content.
    #[error("{path} exists with other content; use --force to replace it, or another folder")]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// Something that is not a file, or not a folder, is where one must be.
    #[error("{path} is {found}; move it away, or use another folder")]
    InTheWay {
        /// What is in the way.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A folder on the way is a symbolic link and could lead elsewhere.
    #[error(
        "{path} is a symbolic link, and files are not written through links; replace it by a folder"
    )]
    ThroughLink {
        /// The link.
        path: PathBuf,
    },
    /// This file is being received already.
    #[error("{path} is being received already; wait until that is done")]
    Busy {
        /// The destination, or the journal.
        path: PathBuf,
    },
    /// The folder or file may not be written.
    #[error("{path} cannot be written: {source}")]
    ReadOnly {
        /// What was being written.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The disk is full; what was received so far stays for another try.
    #[error("no room left on the disk of {path}")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// Not everything was received.
    #[error("{bytes} bytes of {path} are missing")]
    Incomplete {
        /// The destination.
        path: PathBuf,
        /// Bytes that are missing.
        bytes: u64,
    },
    /// Somebody else changed, moved or replaced the part file.
    #[error("{path} was changed while it was received; pull again")]
    Changed {
        /// The part file.
        path: PathBuf,
    },
    /// A sync failed: nobody knows what is durable.
    #[error("no more writes after a failed sync of {path}; pull again after a restart")]
    Poisoned {
        /// What could not be synced.
        path: PathBuf,
    },
    /// The receiver delivered what it could not have verified.
    #[error("bytes from {offset} of chunk {chunk} do not lie in it")]
    OutOfChunk {
        /// Number of the chunk.
        chunk: u32,
        /// First byte.
        offset: u32,
    },
    /// The download was finished, or failed to, before.
    #[error("the download of {path} has ended; begin it again")]
    Ended {
        /// The destination.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The store could not be written.
    #[error(transparent)]
    Write(WriteError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl DownloadError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Layout(_) | Self::OutOfChunk { .. } | Self::Ended { .. } => ErrorKind::Usage,
            Self::Path(error) => error.kind(),
            Self::Link(_)
            | Self::Exists { .. }
            | Self::InTheWay { .. }
            | Self::ThroughLink { .. }
            | Self::Busy { .. } => ErrorKind::Refused,
            Self::Incomplete { .. } => ErrorKind::NotFound,
            Self::Changed { .. } => ErrorKind::Corrupt,
            Self::ReadOnly { .. }
            | Self::DiskFull { .. }
            | Self::Poisoned { .. }
            | Self::Io { .. } => ErrorKind::Io,
            Self::Write(error) => error.kind(),
            Self::Read(error) => error.kind(),
        }
    }

    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| WriteError::io(&path)(source).into()
    }
}

impl From<WriteError> for DownloadError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::DiskFull { path } => Self::DiskFull { path },
            WriteError::ReadOnly { path, source } => Self::ReadOnly { path, source },
            WriteError::Poisoned { path } => Self::Poisoned { path },
            WriteError::Io { path, source } => Self::Io { path, source },
            other => Self::Write(other),
        }
    }
}

impl From<DownloadError> for io::Error {
    fn from(error: DownloadError) -> Self {
        let kind = match &error {
            DownloadError::DiskFull { .. } => io::ErrorKind::StorageFull,
            DownloadError::ReadOnly { source, .. } | DownloadError::Io { source, .. } => {
                source.kind()
            }
            DownloadError::OutOfChunk { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
