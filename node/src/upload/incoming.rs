//! Files that are being received.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use lode_store::disk::Space;

use super::{Folder, Inbox, UploadError, Uploads, limits};

/// A file that is being received from its start to its end. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    folder: Folder,
    file: File,
    sha256: [u8; 32],
    size: u64,
    written: u64,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.size - self.written {
            return Err(io::Error::other("more bytes came than were announced"));
        }
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Uploads {
    /// Begins to receive a file of `size` bytes.
    ///
    /// # Errors
    /// [`UploadError::NoRoom`], [`UploadError::TooLarge`].
    pub fn begin_file(&self, sha256: [u8; 32], size: u64) -> Result<Incoming, UploadError> {
        self.check_room(size)?;
        let folder = Folder::create(self.new_path()?)?;
        let path = folder.0.join("0");
        let file = File::create_new(&path).map_err(UploadError::io(&path))?;
        Ok(Incoming {
            folder,
            file,
            sha256,
            size,
            written: 0,
        })
    }

    /// Checks a file that was received, stores it and stages it.
    ///
    /// # Errors
    /// [`UploadError::Length`], [`UploadError::Digest`].
    pub fn finish_file(&self, inbox: &Inbox, incoming: Incoming) -> Result<(), UploadError> {
        if incoming.written != incoming.size {
            return Err(UploadError::Length {
                expected: incoming.size,
                found: incoming.written,
            });
        }
        // Nobody may write to it once it is a container.
        drop(incoming.file);
        self.stage(inbox, &incoming.folder.0, &[Some(incoming.sha256)])
            .map(drop)
    }

    /// Refuses what would fill the disk, and finds room by dropping what has expired.
    pub(super) fn check_room(&self, needed: u64) -> Result<(), UploadError> {
        if needed > limits::FILE_BYTES_MAX {
            return Err(UploadError::TooLarge {
                what: "bytes of a file",
                max: limits::FILE_BYTES_MAX,
            });
        }
        self.sweep_sometimes();
        let home = self.node.home();
        let space = self.node.store().options().disk.space(home);
        let Space { total, free } = space.map_err(UploadError::io(home))?;
        let reserved = reserved(total);
        if needed.saturating_add(reserved) > free {
            return Err(UploadError::NoRoom {
                needed,
                free,
                reserved,
            });
        }
        Ok(())
    }
}

/// Bytes of a file system of `total` ones that uploads leave free.
fn reserved(total: u64) -> u64 {
    (total / limits::RESERVE_SHARE).min(limits::RESERVE_BYTES_MAX)
}

/// The content of small files of a commit that is being received.
#[derive(Debug)]
pub struct Inline {
    folder: Folder,
    pub(super) count: usize,
    bytes: u64,
}

/// One small file of [`Inline`], while it is written.
#[derive(Debug)]
pub struct InlineFile<'a> {
    inline: &'a mut Inline,
    file: File,
    /// Its number among those of the commit.
    number: usize,
}

impl Inline {
    pub(super) fn path(&self) -> &PathBuf {
        &self.folder.0
    }

    /// Begins the next file.
    ///
    /// # Errors
    /// [`UploadError::Io`].
    pub fn begin(&mut self) -> Result<InlineFile<'_>, UploadError> {
        let number = self.count;
        let path = self.folder.0.join(number.to_string());
        let file = File::create_new(&path).map_err(UploadError::io(&path))?;
        self.count += 1;
        Ok(InlineFile {
            inline: self,
            file,
            number,
        })
    }
}

impl InlineFile<'_> {
    /// Its number among those of the commit.
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Write for InlineFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.inline.bytes + bytes.len() as u64 > limits::INLINE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a commit holds at most {} bytes of content",
                limits::INLINE_BYTES_MAX
            )));
        }
        let written = self.file.write(bytes)?;
        self.inline.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Uploads {
    /// Begins to receive a commit.
    ///
    /// # Errors
    /// [`UploadError::NoRoom`].
    pub fn begin_commit(&self) -> Result<Inline, UploadError> {
        self.check_room(0)?;
        let path = self.new_path()?;
        fs::create_dir(&path).map_err(UploadError::io(&path))?;
        Ok(Inline {
            folder: Folder(path),
            count: 0,
            bytes: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_fiftieth_of_a_small_disk_stays_free_and_a_gibibyte_of_a_large_one() {
        assert_eq!(reserved(50_000), 1_000);
        assert_eq!(reserved(50 << 30), 1 << 30);
        assert_eq!(reserved(4 << 40), 1 << 30);
    }

    #[test]
    fn a_commit_holds_so_many_bytes_of_content_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("commit");
        fs::create_dir(&path).unwrap();
        let mut inline = Inline {
            folder: Folder(path),
            count: 0,
            // As if all but the last three had come.
            bytes: limits::INLINE_BYTES_MAX - 3,
        };
        let mut first = inline.begin().unwrap();
        first.write_all(b"ab").unwrap();
        let mut second = inline.begin().unwrap();
        second.write_all(b"c").unwrap();
        let error = second.write_all(b"d").unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains(&limits::INLINE_BYTES_MAX.to_string()),
            "{said}"
        );
        assert_eq!(inline.bytes, limits::INLINE_BYTES_MAX);
    }
}
