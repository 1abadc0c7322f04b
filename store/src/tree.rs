//! The files of a version: a sorted list that has one encoding, so that equal content has one id.
//!
//! Invariant: a [`Tree`] that was decoded has safe, distinct paths, and numbers that agree with one
//! another; nothing in it needs to be checked again before a file is written. Bytes come from peers
//! and from the store.

mod chunks;
mod collection;
mod file;
mod path;

pub use chunks::{ChunkList, ChunkListError, ChunkListRef};
pub use collection::BlobCollection;
pub use file::{File, Mode};
pub use path::{
    IGNORE_FILE, LinkError, PathError, PathSet, RESERVED_PREFIX, RESERVED_SUFFIX, check_link,
    check_path, fold_path,
};

use bytes::Bytes;

use crate::document::{
    DocumentError, FORMAT, MapWriter, Reader, check_head, encode_array, require,
};
use crate::limits::{TREE_BYTES_MAX, TREE_FILES_MAX};
use crate::{ErrorKind, TreeId};

/// The sorted list of a version's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    files: Vec<File>,
}

/// Why bytes or files are not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The bytes are not a document of this kind.
    #[error("the tree cannot be read: {0}")]
    Document(#[from] DocumentError),
    /// A path is not permitted.
    #[error("the tree is refused: {0}")]
    Path(#[from] PathError),
    /// Files are not sorted by the bytes of their paths.
    #[error("the tree is refused: {second:?} comes after {first:?}, files must be sorted by path")]
    Unsorted {
        /// The path before.
        first: String,
        /// The path that should come earlier.
        second: String,
    },
    /// There are too many files, or too many bytes.
    #[error("the tree has {found} {what}, at most {max} are permitted: split the model")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many may be.
        max: u64,
    },
    /// A file is of a mode that is not known.
    #[error("the file {path:?} has the mode {found:?}, which this Lode does not know: update Lode")]
    UnknownMode {
        /// The file.
        path: String,
        /// Its mode.
        found: String,
    },
    /// A file is encrypted.
    #[error(
        "the file {path:?} is sealed (method {sealing}), which this Lode cannot open: update Lode"
    )]
    Sealed {
        /// The file.
        path: String,
        /// The number of the method.
        sealing: u64,
    },
    /// A file's chunks do not agree with its size.
    #[error("the file {path:?} has an impossible chunk list: {why}")]
    Chunks {
        /// The file.
        path: String,
        /// What does not agree.
        why: &'static str,
    },
    /// A small file has no git SHA-1, or a large one has one.
    #[error(
        "the file {path:?} of {size} bytes must have a git hash if, and only if, it is at most 10 MiB"
    )]
    GitHash {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A link is not one short chunk.
    #[error("the link {path:?} must be one chunk of at most 1024 bytes")]
    Link {
        /// The link.
        path: String,
    },
    /// Sizes add up to more than a number holds.
    #[error("the sizes of the files add up to more than 2^64 bytes")]
    Overflow,
}

impl TreeError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Document(err) => err.kind(),
            Self::Path(_)
            | Self::TooLarge { .. }
            | Self::UnknownMode { .. }
            | Self::Sealed { .. } => ErrorKind::Refused,
            _ => ErrorKind::Corrupt,
        }
    }
}

impl Tree {
    /// Makes a tree of `files`, in any order.
    ///
    /// # Errors
    /// When a path or a file is not permitted, or two paths collide.
    pub fn new(mut files: Vec<File>) -> Result<Self, TreeError> {
        if files.len() > TREE_FILES_MAX {
            let (found, max) = (files.len() as u64, TREE_FILES_MAX as u64);
            return Err(TreeError::TooLarge {
                what: "files",
                found,
                max,
            });
        }
        files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        for file in &files {
            file.check()?;
        }
        let tree = Self { files };
        tree.check()?;
        let len = tree.encode().len();
        if len > TREE_BYTES_MAX {
            let (found, max) = (len as u64, TREE_BYTES_MAX as u64);
            return Err(TreeError::TooLarge {
                what: "bytes",
                found,
                max,
            });
        }
        Ok(tree)
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Takes the files out.
    pub fn into_files(self) -> Vec<File> {
        self.files
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> Option<&File> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_bytes().cmp(path.as_bytes()));
        at.ok().map(|at| &self.files[at])
    }

    /// The sum of the sizes in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The document's bytes.
    pub fn encode(&self) -> Bytes {
        MapWriter::new()
            .u64("lode", FORMAT)
            .text("kind", "tree")
            .with("files", |out| {
                encode_array(out, self.files.iter(), |out, file| file.encode_into(out));
            })
            .finish()
            .into()
    }

    /// The tree's id and its document's bytes.
    pub fn encode_with_id(&self) -> (TreeId, Bytes) {
        let bytes = self.encode();
        (TreeId::of(&bytes), bytes)
    }

    /// Reads a tree and checks all of it.
    ///
    /// # Errors
    /// When the bytes are malformed, or a path or file is not permitted, or two paths collide.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let (mut format, mut kind, mut files) = (None, None, None);
        let mut reader = Reader::new(bytes, "tree", TREE_BYTES_MAX)?;
        reader.map::<TreeError>(|key, r| {
            match key {
                "lode" => format = Some(r.u64()?),
                "kind" => kind = Some(r.text(32)?),
                "files" => {
                    // `kind` and `lode` sort first: do not read files of what is not a tree
                    check_head("tree", format, kind)?;
                    let mut list: Vec<File> = Vec::new();
                    r.array::<TreeError>(TREE_FILES_MAX, |r| {
                        let file = File::decode(r)?;
                        if let Some(last) = list.last() {
                            check_order(&last.path, &file.path)?;
                        }
                        list.push(file);
                        Ok(())
                    })?;
                    files = Some(list);
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        reader.end()?;
        check_head("tree", format, kind)?;
        let tree = Self {
            files: require(files, "files")?,
        };
        tree.check()?;
        Ok(tree)
    }

    /// Checks what concerns several files.
    fn check(&self) -> Result<(), TreeError> {
        PathSet::check(self.files.iter().map(|file| file.path.as_str()))?;
        let sizes = self.files.iter().map(|file| file.size);
        sizes
            .into_iter()
            .try_fold(0u64, u64::checked_add)
            .ok_or(TreeError::Overflow)?;
        Ok(())
    }
}

fn check_order(first: &str, second: &str) -> Result<(), TreeError> {
    match first.as_bytes().cmp(second.as_bytes()) {
        std::cmp::Ordering::Less => Ok(()),
        std::cmp::Ordering::Equal => Err(PathError::Duplicate {
            path: first.to_owned(),
        }
        .into()),
        std::cmp::Ordering::Greater => Err(TreeError::Unsorted {
            first: first.to_owned(),
            second: second.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
