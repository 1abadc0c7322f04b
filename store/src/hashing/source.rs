//! What is hashed: files, and bytes that somebody gives in the place of one.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::pins::pins_of;
use crate::sidecar::Pins;

/// A file that is hashed.
#[derive(Debug, Clone)]
pub enum Source {
    /// One of the file system.
    File {
        /// Where it is. Symlinks are not followed.
        path: PathBuf,
    },
    /// Bytes that lie elsewhere than in one file.
    Given {
        /// What messages call it.
        name: PathBuf,
        /// The bytes.
        content: Arc<dyn Content>,
    },
}

/// The bytes of a file that is none yet. Whoever gives them sees to it that they stay the same.
pub trait Content: fmt::Debug + Send + Sync {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Those of whatever holds the bytes; [`io::ErrorKind::UnexpectedEof`] behind their end.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A source that is open.
#[derive(Debug)]
pub enum Handle {
    /// A regular file.
    File(File),
    /// Bytes that are given.
    Given(Arc<dyn Content>),
}

impl Source {
    /// Where it is, or what it is called.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File { path } => path,
            Self::Given { name, .. } => name,
        }
    }

    pub(super) fn open(&self) -> io::Result<Handle> {
        match self {
            Self::File { path } => open_file(path).map(Handle::File),
            Self::Given { content, .. } => Ok(Handle::Given(Arc::clone(content))),
        }
    }

    /// Whether the open file has these pins still, and is what is found where it was opened.
    pub(super) fn is_still(&self, handle: &Handle, pins: &Pins) -> io::Result<bool> {
        let Self::File { path } = self else {
            return Ok(true);
        };
        let named = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(pins_of(&other?)),
        };
        Ok(handle.pins()? == *pins && named == Some(*pins))
    }
}

impl Handle {
    /// What the file system says of a file; of bytes that are given, their number alone.
    pub(super) fn pins(&self) -> io::Result<Pins> {
        match self {
            Self::File(file) => Ok(pins_of(&file.metadata()?)),
            Self::Given(content) => Ok(Pins {
                device: 0,
                inode: 0,
                len: content.size(),
                mtime_ns: 0,
                ctime_ns: 0,
            }),
        }
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] behind the end, among others.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset),
            Self::Given(content) => content.read_exact_at(buffer, offset),
        }
    }

    /// Asks for a larger read-ahead. Only a hint: a failure changes nothing.
    pub(super) fn advise_sequential(&self) {
        if let Self::File(file) = self {
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
        }
    }
}

/// Opens a regular file for reading; a symlink or a pipe that took its place is refused, not waited for.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("open flags are small");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok(file)
}
