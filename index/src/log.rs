//! The write-ahead log of a collection: what was acknowledged and is not in a segment yet.
//!
//! A log is files `NNNNNNNN.log`, one for each live part; docs/format/collection.md draws their bytes. What
//! writers hand in together is one *group*: one frame, written and synced as one, all there after a crash or
//! not at all. A group is written only after the one before it was synced, which tells a *torn tail* (never
//! acknowledged, cut off) from *damage* (a whole group follows: reported, never cut).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, DiskFile},
    limits::{LOG_FILE_BYTES_MAX, LOG_GROUP_BYTES_MAX},
};

mod frame;

pub use frame::{Damage, Groups, read_groups};

/// Why the log could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Acknowledged bytes changed.
    #[error("{path}: damaged at byte {offset}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// First byte of what is wrong.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An earlier sync failed, so that nobody knows what is on the disk.
    #[error("no more writes after a failed sync of {path}; open the collection again")]
    Poisoned {
        /// What could not be synced.
        path: PathBuf,
    },
    /// More bytes than are written as one.
    #[error("a write of {bytes} bytes; at most {LOG_GROUP_BYTES_MAX} are allowed")]
    TooLong {
        /// How many.
        bytes: usize,
    },
}

/// One file of the log, open for appending. The file is made with its first group, and opened for each: thousands
/// of collections hold no descriptors.
#[derive(Debug)]
pub struct LogFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    number: u64,
    nonce: u64,
    /// Bytes that are synced; 0 if there is no file.
    end: u64,
    poisoned: bool,
}

/// What a file of the log held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// The file, to append to.
    pub file: LogFile,
    /// Bytes of a torn tail that were cut off.
    pub torn: u64,
}

impl LogFile {
    /// The next file of a log, which has nothing on disk yet.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, number: u64, nonce: u64) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            number,
            nonce,
            end: 0,
            poisoned: false,
        }
    }

    /// Opens a file of the log, hands each of its groups to `found`, and cuts off a torn tail.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for damage; then nothing is cut.
    pub fn open<E: From<LogError>>(
        disk: Arc<dyn Disk>,
        dir: &Path,
        number: u64,
        nonce: u64,
        found: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Recovered, E> {
        let mut file = Self::new(disk, dir, number, nonce);
        let path = file.path();
        let bytes = file
            .disk
            .read(&path, LOG_FILE_BYTES_MAX)
            .map_err(file.io())?;
        let mut groups = read_groups(&bytes, number);
        for group in &mut groups {
            let group = group.map_err(|Damage { offset, what }| LogError::Corrupt {
                path: path.clone(),
                offset: offset as u64,
                what,
            })?;
            found(group)?;
        }
        let (end, nonce) = (groups.end() as u64, groups.nonce());
        let torn = bytes.len() as u64 - end;
        if end == 0 {
            // the header did not get to the disk: nothing was acknowledged
            file.disk.remove(&path).map_err(file.io())?;
            file.disk.sync_dir(dir).map_err(file.io())?;
        } else {
            file.nonce = nonce;
            file.end = end;
            if torn > 0 {
                let opened = file.disk.open(&path).map_err(file.io())?;
                opened
                    .set_len(end)
                    .and_then(|()| opened.sync())
                    .map_err(file.io())?;
            }
        }
        Ok(Recovered { file, torn })
    }

    /// Its number; the log's files count up.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What tells it from an earlier file of the same number.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Bytes that are durable.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Appends a group; when this returns, it is durable.
    ///
    /// # Errors
    /// After a sync failed, every further call is [`LogError::Poisoned`]. When the disk is full the log is as
    /// before.
    pub fn append(&mut self, group: &[u8]) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned { path: self.path() });
        }
        if group.len() > LOG_GROUP_BYTES_MAX {
            return Err(LogError::TooLong { bytes: group.len() });
        }
        let path = self.path();
        let is_new = self.end == 0;
        let file = if is_new {
            self.disk.create(&path)
        } else {
            self.disk.open(&path)
        };
        let file = file.map_err(self.io())?;
        let mut bytes = Vec::with_capacity(group.len() + frame::OVERHEAD_BYTES);
        if is_new {
            bytes.extend_from_slice(&frame::header(self.number, self.nonce));
        }
        frame::push(group, self.nonce, self.end + bytes.len() as u64, &mut bytes);
        if let Err(source) = file.write_at(&bytes, self.end) {
            self.undo(&*file, is_new);
            return Err(LogError::Io { path, source });
        }
        let synced = file.sync().and_then(|()| match is_new {
            true => self.disk.sync_dir(&self.dir),
            false => Ok(()),
        });
        if let Err(source) = synced {
            self.poisoned = true;
            return Err(LogError::Io { path, source });
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Takes back what was written of a group that did not fit.
    fn undo(&mut self, file: &dyn DiskFile, is_new: bool) {
        let undone = if is_new {
            self.disk
                .remove(&self.path())
                .and_then(|()| self.disk.sync_dir(&self.dir))
        } else {
            file.set_len(self.end).and_then(|()| file.sync())
        };
        self.poisoned |= undone.is_err();
    }

    /// Refuses all later writes, because something that belongs with the log could not be synced.
    pub fn poison(&mut self) {
        self.poisoned = true;
    }

    fn path(&self) -> PathBuf {
        self.dir.join(file_name(self.number))
    }

    fn io(&self) -> impl Fn(io::Error) -> LogError + use<> {
        let path = self.path();
        move |source| LogError::Io {
            path: path.clone(),
            source,
        }
    }
}

/// The name of a file of the log.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:08}.log")
}

#[cfg(test)]
mod tests;
