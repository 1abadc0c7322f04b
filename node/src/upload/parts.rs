//! Files that come in parts, each at its offset, in any order and side by side.
//!
//! Invariant: a file is taken for whole only while nobody writes to it, and nobody writes to it after: what
//! becomes a container must never change.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
};

use super::{Folder, Inbox, InboxId, UploadError, Uploads, limits, lock};

/// A file of an inbox.
type Key = (InboxId, [u8; 32]);

/// The files that come in parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    open: Mutex<HashMap<Key, Arc<Open>>>,
}

/// One of them. Its lock is held for reading by whoever writes a part.
#[derive(Debug)]
struct Open {
    folder: Folder,
    file: RwLock<Option<File>>,
    size: u64,
}

impl Open {
    fn path(&self) -> PathBuf {
        self.folder.0.join("0")
    }
}

/// Bytes of a part that are read and written at a time.
const STEP_BYTES: usize = 256 << 10;

impl Uploads {
    fn open_parts(
        &self,
        inbox: &Inbox,
        sha256: [u8; 32],
        size: u64,
    ) -> Result<Arc<Open>, UploadError> {
        let key = (inbox.id(), sha256);
        let known = lock(&self.state().parts.open).get(&key).map(Arc::clone);
        let open = match known {
            Some(known) => known,
            None => {
                self.check_room(size)?;
                let new = Arc::new(self.new_parts(size)?);
                // Another part may have come meanwhile.
                let mut open = lock(&self.state().parts.open);
                Arc::clone(open.entry(key).or_insert(new))
            }
        };
        if open.size == size {
            Ok(open)
        } else {
            Err(UploadError::Length {
                expected: open.size,
                found: size,
            })
        }
    }

    fn new_parts(&self, size: u64) -> Result<Open, UploadError> {
        let folder = Folder::create(self.new_path()?)?;
        let path = folder.0.join("0");
        let io = UploadError::io(&path);
        let file = File::create_new(&path).map_err(&io)?;
        file.set_len(size).map_err(&io)?;
        Ok(Open {
            folder,
            file: RwLock::new(Some(file)),
            size,
        })
    }

    /// Receives `len` bytes at `offset` of a file of `size` bytes.
    ///
    /// # Errors
    /// [`UploadError::Length`] when other than `len` bytes come, [`UploadError::NoRoom`].
    pub fn put_part(
        &self,
        inbox: &Inbox,
        sha256: [u8; 32],
        size: u64,
        offset: u64,
        len: u64,
        body: &mut dyn Read,
    ) -> Result<(), UploadError> {
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(UploadError::usage("the part ends behind the file"));
        }
        let open = self.open_parts(inbox, sha256, size)?;
        let file = open
            .file
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(file) = &*file else {
            return Err(UploadError::Busy {
                what: "the file was completed meanwhile".to_owned(),
            });
        };
        let mut buffer = vec![0; STEP_BYTES];
        let mut done = 0;
        loop {
            let read = body
                .read(&mut buffer)
                .map_err(|source| UploadError::Body { source })?;
            if read == 0 {
                break;
            }
            if done + read as u64 > len {
                return Err(UploadError::Length {
                    expected: len,
                    found: done + read as u64,
                });
            }
            file.write_all_at(&buffer[..read], offset + done)
                .map_err(UploadError::io(&open.path()))?;
            done += read as u64;
        }
        if done == len {
            Ok(())
        } else {
            Err(UploadError::Length {
                expected: len,
                found: done,
            })
        }
    }

    /// Checks a file of which all parts came, stores it and stages it.
    ///
    /// # Errors
    /// [`UploadError::Digest`] when a part is missing or wrong: all of it is to be sent again then.
    pub fn finish_parts(&self, inbox: &Inbox, sha256: [u8; 32]) -> Result<(), UploadError> {
        let key = (inbox.id(), sha256);
        let open = lock(&self.state().parts.open).get(&key).map(Arc::clone);
        let Some(open) = open else {
            // The answer to an earlier try may have been lost.
            return match self.staged(inbox, &sha256)? {
                Some(_) => Ok(()),
                None => Err(UploadError::usage("no part of this file has come")),
            };
        };
        let closed = open.file.try_write().map(|mut file| file.take());
        let Ok(Some(file)) = closed else {
            return Err(UploadError::Busy {
                what: "a part of this file is still on its way".to_owned(),
            });
        };
        drop(file);
        let staged = self.stage(inbox, &open.folder.0, &[Some(sha256)]);
        lock(&self.state().parts.open).remove(&key);
        staged.map(drop)
    }

    /// Drops files of which no part came for long.
    pub(super) fn sweep_parts(&self) {
        let old = |open: &Open| {
            let modified = fs::metadata(open.path()).and_then(|found| found.modified());
            modified.map_or(true, |at| {
                at.elapsed().is_ok_and(|age| age > limits::STAGED_AGE_MAX)
            })
        };
        lock(&self.state().parts.open).retain(|_, open| Arc::strong_count(open) > 1 || !old(open));
    }
}
