//! Hashing files for a push: one pass over each gives every name that its bytes have.
//!
//! Each byte is read once (`pread`, never mapped: the files belong to others and may change; or from whoever
//! gives the bytes of a file that is none yet) into one
//! of a fixed pool of buffers. The thread that filled a buffer cuts it into chunks and makes their
//! BLAKE3 hashes and outboards; then the buffer waits for its turn in the file's SHA-256, which is
//! sequential. Any thread takes whatever is next: the SHA-256 of a buffer before anything else, then
//! another buffer of an open file, then another file. So one large file keeps one thread on SHA-256
//! and the others on all the rest, and several files are hashed side by side.
//!
//! A file whose pins (device, inode, size, times) differ after the pass from before is refused as
//! changed.

mod buffers;
mod crew;
mod digests;
mod lane;
mod pins;
mod source;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

pub use source::{Content, Handle, Source};

pub(crate) use pins::{age, nanoseconds};

use crate::{ChunkHash, cut::Cuts, sidecar::Pins};

/// How [`hash_files`] works.
#[derive(Debug, Clone)]
pub struct HashOptions {
    /// Threads, the calling one included; 0 stands for one a core.
    pub threads: usize,
    /// Whether to make the BLAKE3 hash of whole files too.
    pub roots: bool,
    /// Whether to make SHA-256 and the git hash; benchmarks measure the rest alone without.
    pub digests: bool,
}

impl Default for HashOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            roots: false,
            digests: true,
        }
    }
}

/// Where a file is cut.
#[derive(Debug, Clone)]
pub enum Plan {
    /// At these places.
    Known(Cuts),
    /// By content, with rule `cdc/1`.
    Content,
}

/// A chunk with its bytes, while they are in memory.
#[derive(Debug)]
pub struct HashedChunk<'a> {
    /// Number of the file in the list given to [`hash_files`].
    pub file: usize,
    /// Number of the chunk in its file, from 0.
    pub index: u32,
    /// Where it starts in its file.
    pub offset: u64,
    /// Its name.
    pub hash: ChunkHash,
    /// Its bytes.
    pub data: &'a [u8],
    /// Its outboard, in pre-order.
    pub outboard: Vec<u8>,
}

/// What one pass over a file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHashes {
    /// The rule that it was cut by.
    pub rule: &'static str,
    /// Its chunks.
    pub chunks: Vec<ChunkHash>,
    /// Their lengths in bytes.
    pub lengths: Vec<u32>,
    /// SHA-256 of the whole.
    pub sha256: [u8; 32],
    /// Its git blob SHA-1, for files up to [`GIT_HASH_FILE_BYTES_MAX`](crate::limits::GIT_HASH_FILE_BYTES_MAX).
    pub git: Option<[u8; 20]>,
    /// BLAKE3 of the whole, if asked for.
    pub root: Option<ChunkHash>,
    /// What the file system said of it, before and after.
    pub pins: Pins,
    /// Whether it was changed so shortly before that a change while it was read may be hidden by
    /// the resolution of its times.
    pub recent: bool,
}

/// What is done with what is found. Called from several threads at once.
pub trait Visitor: Sync {
    /// Its own errors; the first one stops the work.
    type Error: Send;

    /// Decides where a file that was just opened is cut.
    fn open(&self, file: usize, handle: &Handle, pins: &Pins) -> Result<Plan, Self::Error>;

    /// Takes one chunk; those of a file come in any order.
    fn chunk(&self, chunk: HashedChunk<'_>) -> Result<(), Self::Error>;

    /// Takes pairs of the hash tree of a whole file of more than 16 MiB, when roots are made: where they
    /// lie in the pre-order outboard, in bytes, and what they are. All come before [`done`](Self::done).
    fn outboard(&self, _file: usize, _offset: u64, _pairs: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Takes the hashes of a file, after all its chunks.
    fn done(&self, file: usize, hashes: FileHashes) -> Result<(), Self::Error>;

    /// Takes the number of bytes that were just finished.
    fn progress(&self, _bytes: u64) {}

    /// Whether to stop.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Why files were not hashed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError<E> {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file changed between the start and the end of the pass.
    #[error("{path} changed while it was read: push again when nothing writes to it")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The visitor asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The visitor failed.
    #[error(transparent)]
    Visitor(E),
}

/// Hashes `files` on several threads and hands everything to `visitor`.
///
/// Memory: at most 96 MiB of buffers, and 1 MiB a thread for small files.
///
/// # Errors
/// The first error; other files may have been visited by then.
pub fn hash_files<V: Visitor>(
    files: &[Source],
    options: &HashOptions,
    visitor: &V,
) -> Result<(), HashError<V::Error>> {
    crew::Crew::new(files, options, visitor).run()
}
