//! The one door to the file system for everything that a collection keeps.
//!
//! [`Disk`] has two implementations: [`RealDisk`], and [`SimDisk`](sim::SimDisk), which keeps files in memory
//! and loses at a simulated crash what may be lost: bytes that were not synced, and names whose folder was
//! not synced. Kill tests alone would not do: they lose nothing that the kernel holds.

use std::{
    fmt, fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::segment::{OpenError, SegmentFile};

pub mod sim;

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates a file that must not exist, for writing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The whole content of a file of at most `len_max` bytes.
    fn read(&self, path: &Path, len_max: u64) -> io::Result<Vec<u8>>;

    /// Opens a segment, mapped where that is possible.
    fn segment(&self, path: &Path) -> Result<SegmentFile, OpenError>;

    /// Gives a file a new name in place of any file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file that nobody writes to a second name, or makes a copy of it where that cannot be.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a folder, whose parent exists, and makes its name durable.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// A file open for writing. Positions are bytes from its start.
pub trait DiskFile: fmt::Debug + Send {
    /// Writes all of `data`.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes data and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(fs::OpenOptions::new().write(true).open(path)?))
    }

    fn read(&self, path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
        let file = fs::File::open(path)?;
        if file.metadata()?.len() > len_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "longer than it may be",
            ));
        }
        let mut bytes = Vec::new();
        file.take(len_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn segment(&self, path: &Path) -> Result<SegmentFile, OpenError> {
        SegmentFile::map(&fs::File::open(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        // another file system, or one without links
        let copy = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(to)?;
        io::copy(&mut fs::File::open(from)?, &mut &copy)?;
        copy.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }
}

impl DiskFile for fs::File {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Writes a file from its start, in large steps: what [`SegmentWriter`](crate::segment::SegmentWriter) wants.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    start: u64,
}

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

impl FileWriter {
    pub(crate) fn new(file: Box<dyn DiskFile>) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Writes what is gathered and makes it durable.
    pub(crate) fn sync(mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync()
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > WRITE_BYTES {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BYTES {
            self.file.write_at(bytes, self.start)?;
            self.start += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.start)?;
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Seek for FileWriter {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.flush()?;
        self.start = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.start.checked_add_signed(by),
            SeekFrom::End(_) => None,
        }
        .ok_or(io::ErrorKind::Unsupported)?;
        Ok(self.start)
    }
}

/// Writes a file under a hidden name, and gives it its name once its bytes are durable. The name is durable once
/// the folder is synced.
pub(crate) fn replace(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let hidden = dir.join(format!(".{name}.part"));
    remove_if_there(disk, &hidden)?;
    let written = (|| {
        let file = disk.create(&hidden)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&hidden, &dir.join(name))
    })();
    if written.is_err() {
        // what is left of it is removed at the next open, if not now
        let _ = remove_if_there(disk, &hidden);
    }
    written
}

/// Removes a file, if it is there.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
