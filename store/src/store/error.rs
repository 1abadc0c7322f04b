//! What can go wrong with a store, by operation.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{ChunkHash, ErrorKind, index::IndexError, log::LogError};

/// Why a home was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("the home {home} is in use by {}; stop that process, or use another home (--home)", holder(*.pid))]
    Locked {
        /// The home.
        home: PathBuf,
        /// The process, if the lock says.
        pid: Option<u32>,
    },
    /// A later release wrote it.
    #[error(
        "the home {home} has format {found}; this release reads up to {supported}. Use a newer lode"
    )]
    NewerFormat {
        /// The home.
        home: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this release knows.
        supported: u64,
    },
    /// The folder holds something else.
    #[error("{home} is not a Lode home, and not empty ({found} is in it); use an empty folder")]
    NotAHome {
        /// The folder.
        home: PathBuf,
        /// A name that is in it.
        found: String,
    },
    /// It is on another machine.
    #[error(
        "the home {home} is on a network file system ({kind}), where locks and syncs do not hold; use a local folder, or --force"
    )]
    NetworkFs {
        /// The home.
        home: PathBuf,
        /// The file system.
        kind: String,
    },
    /// It may not be written.
    #[error(
        "{path} cannot be written ({source}); a home must be writable, even for reading models"
    )]
    ReadOnly {
        /// What could not be written.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The disk is full.
    #[error("no room left on the disk of {path}")]
    DiskFull {
        /// What could not be written.
        path: PathBuf,
    },
    /// Acknowledged bytes changed.
    #[error(
        "{path} is damaged at byte {offset} ({what}); `lode doctor --rebuild` keeps what can be read"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The index could not be made.
    #[error(transparent)]
    Index(#[from] IndexError),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

impl OpenError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. }
            | Self::NewerFormat { .. }
            | Self::NotAHome { .. }
            | Self::NetworkFs { .. } => ErrorKind::Refused,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::ReadOnly { .. } | Self::DiskFull { .. } | Self::Io { .. } | Self::Index(_) => {
                ErrorKind::Io
            }
        }
    }

    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly {
                path: path.clone(),
                source,
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.clone() }
            }
            _ => Self::Io {
                path: path.clone(),
                source,
            },
        }
    }
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io { path, source } => Self::io(&path)(source),
            LogError::Corrupt { path, offset, what } => Self::Corrupt {
                path,
                offset,
                what: what.to_owned(),
            },
            other => Self::Io {
                path: PathBuf::new(),
                source: io::Error::other(other.to_string()),
            },
        }
    }
}

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes that are stored are not those of the chunk; the place was given up.
    #[error("{path} holds wrong bytes for chunk {hash}: {what}")]
    Corrupt {
        /// The chunk or document.
        hash: ChunkHash,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file that the user owns is not what it was; the place was given up.
    #[error(
        "{path} changed since it was pushed or pulled; chunk {hash} is not held there any more"
    )]
    Changed {
        /// The chunk.
        hash: ChunkHash,
        /// The file.
        path: PathBuf,
    },
    /// The log is damaged.
    #[error("{path} is damaged: {what}; `lode doctor --rebuild` keeps what can be read")]
    Log {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The range ends behind the chunk.
    #[error("bytes {start}..{end} of a chunk of {len} bytes")]
    Range {
        /// First byte.
        start: u32,
        /// End of the range.
        end: u32,
        /// Bytes of the chunk.
        len: u32,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// A failure to read the log, as one to read.
pub(super) fn log_read(error: LogError, dir: &Path) -> ReadError {
    match error {
        LogError::Io { path, source } => ReadError::Io { path, source },
        LogError::Corrupt { path, offset, what } => ReadError::Log {
            path,
            what: format!("{what} at byte {offset}"),
        },
        other => ReadError::Log {
            path: dir.to_owned(),
            what: other.to_string(),
        },
    }
}

impl ReadError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } | Self::Log { .. } => ErrorKind::Corrupt,
            Self::Changed { .. } => ErrorKind::NotFound,
            Self::Range { .. } => ErrorKind::Usage,
            Self::Io { .. } | Self::Index(_) => ErrorKind::Io,
        }
    }

    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }
}

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The disk is full; what was there before is untouched.
    #[error("no room left on the disk of {path}")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The home may have no more.
    #[error(
        "{needed} bytes more would take the home over its {max} bytes (--max-size), and nothing more can be dropped"
    )]
    OverQuota {
        /// Bytes that were asked for.
        needed: u64,
        /// What the home may have.
        max: u64,
    },
    /// The folder or file may not be written.
    #[error("{path} cannot be written: {source}")]
    ReadOnly {
        /// What was being written.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// An earlier sync failed.
    #[error("no more writes after a failed sync of {path}; restart to read what is durable")]
    Poisoned {
        /// What could not be synced.
        path: PathBuf,
    },
    /// Something is longer than it may be.
    #[error("{what} of {found} bytes; at most {max} are allowed")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its length in bytes.
        found: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// A chunk table does not fit its container.
    #[error("a chunk table that does not fit its container: {0}")]
    Table(String),
    /// Stored bytes that had to be read are damaged.
    #[error("{path} is damaged: {what}")]
    Corrupt {
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
        source: io::Error,
    },
    /// The index could not be written.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl WriteError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OverQuota { .. } => ErrorKind::Refused,
            Self::TooLong { .. } | Self::Table(_) => ErrorKind::Usage,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::DiskFull { .. }
            | Self::ReadOnly { .. }
            | Self::Poisoned { .. }
            | Self::Io { .. }
            | Self::Index(_) => ErrorKind::Io,
        }
    }

    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.clone() }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly {
                path: path.clone(),
                source,
            },
            io::ErrorKind::InvalidInput => Self::Table(source.to_string()),
            _ => Self::Io {
                path: path.clone(),
                source,
            },
        }
    }
}

impl WriteError {
    /// The same, while a home is opened.
    pub(crate) fn into_open(self, home: &Path) -> OpenError {
        match self {
            Self::DiskFull { path } => OpenError::DiskFull { path },
            Self::ReadOnly { path, source } => OpenError::ReadOnly { path, source },
            Self::Io { path, source } => OpenError::Io { path, source },
            Self::Index(error) => error.into_open(&home.join("index.redb")),
            other => OpenError::Io {
                path: home.to_owned(),
                source: io::Error::other(other.to_string()),
            },
        }
    }
}

impl From<LogError> for WriteError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io { path, source } => Self::io(&path)(source),
            LogError::Corrupt { path, offset, what } => Self::Corrupt {
                path,
                what: format!("{what} at byte {offset}"),
            },
            LogError::Poisoned { path } => Self::Poisoned { path },
            LogError::TooLong { bytes } => Self::TooLong {
                what: "a record",
                found: bytes,
                max: crate::limits::LOG_RECORD_BYTES_MAX as u64,
            },
            LogError::TooMany { records } => Self::TooLong {
                what: "a batch",
                found: records as u64,
                max: crate::limits::LOG_BATCH_RECORDS_MAX as u64,
            },
        }
    }
}
