//! The one door to the file system for everything that the store keeps.
//!
//! [`Disk`] and [`DiskFile`] have two implementations: [`RealDisk`], and [`sim::SimDisk`], which keeps
//! files in memory and loses at a simulated crash what POSIX allows to be lost: bytes that were not
//! synced (whole writes or single sectors of them), and names whose folder was not synced. Code above
//! this trait that is right on the twin is right on any file system that keeps its word.
//!
//! Paths are absolute. Methods return plain [`io::Error`]s; callers add the path and what they were at.

use std::{
    ffi::OsString,
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

pub(crate) mod mmap;
mod network;
mod real;
pub mod sim;

pub use real::RealDisk;

/// What memory, position and length of a write past the cache are multiples of ([`Disk::open_direct`]), bytes.
pub const DIRECT_BLOCK_BYTES: usize = 4096;

/// What a file may be opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    Write,
}

/// What the file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Length in bytes.
    pub len: u64,
    /// Bytes of the blocks that are allocated to it.
    pub allocated: u64,
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// How many names it has.
    pub links: u64,
    /// Time of last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of last change of data or attributes, nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// Room on a file system, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// What this process may still allocate.
    pub free: u64,
}

/// A lock that is held until it is dropped.
pub struct DiskLock(Box<dyn Send + Sync>);

impl DiskLock {
    /// Wraps what holds the lock.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = &self.0;
        f.write_str("DiskLock")
    }
}

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates a file that must not exist, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists for writing past the cache of the file system, where that is possible. Bytes
    /// that are written so must not share a block of [`DIRECT_BLOCK_BYTES`] with what is written otherwise.
    ///
    /// The default is for file systems without it.
    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let _ = path;
        Ok(None)
    }

    /// Gives a file a new name in place of any file that has it; durable once both folders are synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a folder and its parents; each created one's parent is synced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// What is known of a path, which is followed if it is a link.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Where a symbolic link points; none if the path is something else.
    ///
    /// The default is for file systems without links.
    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.stat(path).map(|_| None)
    }

    /// Creates a symbolic link at a path that must not exist.
    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        let _ = (target, path);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the lock that `path` stands for, or says that another holds it. Dropping releases it.
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>>;

    /// Room on the file system of `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The name of the network file system that `path` is on, if it is one.
    fn network(&self, path: &Path) -> io::Result<Option<String>>;
}

/// An open file. Positions are bytes from its start; all methods may be called from many threads.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// What is known of the file.
    fn stat(&self) -> io::Result<Stat>;

    /// Reads at most `buf.len()` bytes; 0 at the end of the file alone.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`Self::read_at`], as long as nobody has to wait for a device; nothing where that is not so, or
    /// cannot be told.
    fn read_at_hand(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes all of `data`.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts or extends the file with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Extends the file to `len` bytes and takes the room for them, where the file system can.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Gives the blocks of a range back; it reads as zeros from then on.
    fn punch(&self, range: Range<u64>) -> io::Result<()>;

    /// Sets the time of last modification.
    fn set_mtime(&self, mtime_ns: i64) -> io::Result<()>;

    /// Says whether the file may be executed, by whoever may read it; the default is for file systems
    /// that do not know of it.
    fn set_exec(&self, exec: bool) -> io::Result<()> {
        let _ = exec;
        Ok(())
    }

    /// Makes data and length durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes data, length and attributes durable.
    fn sync_all(&self) -> io::Result<()>;

    /// The whole content, mapped where that is possible. For files that nobody changes alone.
    fn map(&self) -> io::Result<Bytes>;

    /// Fills `buf` or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads `len` bytes, which the caller has bounded.
    fn read_vec_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read_exact_at(&mut buf, offset)?;
        Ok(buf)
    }
}

/// Whether a path exists.
pub(crate) fn exists(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.stat(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
