//! Why an upload or a commit is refused.

use std::{io, path::Path};

use crate::command::{Failure, FailureKind};

/// Why an upload, or a commit of what was uploaded, is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// A file of the home cannot be written or read.
    #[error("cannot write {path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The client's bytes broke off.
    #[error("the body broke off: {source}")]
    Body {
        /// How.
        source: io::Error,
    },
    /// There is no room for it.
    #[error(
        "no room for {needed} bytes: {free} are free, of which {reserved} stay free; free some on the node"
    )]
    NoRoom {
        /// Bytes that were announced.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that uploads leave free.
        reserved: u64,
    },
    /// It has another length than was announced.
    #[error("{found} bytes came where {expected} were announced")]
    Length {
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// It is longer, or has more parts, than is taken.
    #[error("{what}: at most {max} are taken")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many may be.
        max: u64,
    },
    /// Its bytes have another SHA-256, or a xorb another hash.
    #[error("the bytes hash to {found}, announced was {expected}")]
    Digest {
        /// Announced.
        expected: String,
        /// Found.
        found: String,
    },
    /// A file is made of chunks of a xorb that is not here.
    #[error("the xorb {xorb} is not known here: start the upload again, it will be sent anew")]
    UnknownXorb {
        /// Which.
        xorb: String,
    },
    /// A file names chunks that a xorb does not have, or lengths that they have not.
    #[error("the xorb {xorb} has no chunks {start}..{end} of {len} bytes")]
    Chunks {
        /// Which.
        xorb: String,
        /// The first chunk.
        start: u32,
        /// One behind the last.
        end: u32,
        /// Bytes that were claimed.
        len: u64,
    },
    /// A commit names a file that was not uploaded to this model.
    #[error("{path}: no file of SHA-256 {sha256} was uploaded to this model")]
    NotUploaded {
        /// Where the file should be.
        path: String,
        /// Its SHA-256.
        sha256: String,
    },
    /// The branch has moved on.
    #[error("the branch is at {head}, not at {expected}: look at it and commit again")]
    Stale {
        /// What the client took for the head.
        expected: String,
        /// What it is.
        head: String,
    },
    /// Somebody else is at it.
    #[error("{what}")]
    Busy {
        /// At what.
        what: String,
    },
    /// It exists already.
    #[error("{what} exists already")]
    Exists {
        /// What.
        what: String,
    },
    /// It does not exist.
    #[error("there is no {what}")]
    Absent {
        /// What.
        what: String,
    },
    /// The model has no such branch, tag or version.
    #[error("the model has no branch, tag or version {rev:?}")]
    NoRev {
        /// Which.
        rev: String,
    },
    /// The request makes no sense.
    #[error("{what}")]
    Usage {
        /// Why.
        what: String,
    },
    /// What every command can run into.
    #[error(transparent)]
    Other(#[from] Failure),
}

impl UploadError {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }

    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self::Usage { what: what.into() }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Io { .. } | Self::NoRoom { .. } => FailureKind::Failed,
            Self::Stale { .. } | Self::Exists { .. } | Self::Busy { .. } => FailureKind::Refused,
            Self::Absent { .. } | Self::NoRev { .. } => FailureKind::NotFound,
            Self::Other(failure) => failure.kind,
            _ => FailureKind::Usage,
        }
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Other(failure) => failure,
            error => Self::new(error.kind(), error.to_string()),
        }
    }
}

/// Errors of the parts below are what every command can run into.
macro_rules! upload_error_from {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for UploadError {
            fn from(error: $error) -> Self {
                Self::Other(error.into())
            }
        })+
    };
}
upload_error_from! {
    crate::read::ReadError,
    lode_store::import::ImportError,
    lode_store::index::IndexError,
    lode_store::manifest::VersionError,
    lode_store::refs::RefError,
    lode_store::store::ApplyError,
    lode_store::store::ReadError,
    lode_store::store::WriteError,
}

impl From<lode_store::tree::TreeError> for UploadError {
    fn from(error: lode_store::tree::TreeError) -> Self {
        // A path that no tree may have is the client's to mend.
        Self::usage(error.to_string())
    }
}
