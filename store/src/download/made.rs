//! Writing a file that is made here into a folder of a user: hidden while it is incomplete, synced, renamed.
//!
//! An existing file is only ever replaced with `force`. Without it, what is made is compared with what is there: equal
//! bytes leave it alone, and the first other byte is an error.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    DownloadError,
    folder::{There, look, part_path, walk},
};
use crate::{
    Store,
    disk::{Access, Disk, DiskFile, remove_if_there},
    tree::check_path,
};

/// A file that is being written, from its start to its end.
#[derive(Debug)]
pub struct MadeFile {
    store: Store,
    place: PathBuf,
    file: Arc<dyn DiskFile>,
    /// The hidden file that is written; nothing while what is there is compared.
    part: Option<PathBuf>,
    len: u64,
    done: u64,
}

/// Whether anything was there to be changed by a [`MadeFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The file was created, or replaced.
    Created,
    /// It was there already.
    Kept,
}

impl MadeFile {
    /// Begins the file `path` (of a version) of `len` bytes in the folder `root`.
    ///
    /// # Errors
    /// [`DownloadError::Exists`] when a file of another length is there and `force` is not set; what a file in a
    /// folder of a user can run into otherwise.
    pub fn begin(
        store: &Store,
        root: &Path,
        path: &str,
        len: u64,
        force: bool,
    ) -> Result<Self, DownloadError> {
        check_path(path)?;
        let disk = &*store.inner().disk;
        walk(disk, root, path, true)?;
        let place = root.join(path);
        let io = DownloadError::io(&place);
        let compared = match look(disk, &place)? {
            There::Folder => {
                let found = "a folder where a file must be";
                return Err(DownloadError::InTheWay { path: place, found });
            }
            There::Link if !force => return Err(DownloadError::Exists { path: place }),
            There::File if !force => {
                let file = disk.open(&place, Access::Read).map_err(&io)?;
                if file.stat().map_err(&io)?.len != len {
                    return Err(DownloadError::Exists { path: place });
                }
                Some(file)
            }
            There::Nothing | There::Link | There::File => None,
        };
        let (file, part) = match compared {
            Some(file) => (file, None),
            None => {
                let part = part_path(&place);
                let io = DownloadError::io(&part);
                remove_if_there(disk, &part).map_err(&io)?;
                let file = disk.create(&part).map_err(&io)?;
                file.allocate(len).map_err(&io)?;
                (file, Some(part))
            }
        };
        Ok(Self {
            store: store.clone(),
            place,
            file,
            part,
            len,
            done: 0,
        })
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`DownloadError::Exists`] when the file that is there has others; those of the file system.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        let io = DownloadError::io(self.part.as_ref().unwrap_or(&self.place));
        let left = self.len - self.done;
        if bytes.len() as u64 > left {
            return Err(DownloadError::Layout(format!(
                "{} bytes are made where {left} are left",
                bytes.len()
            )));
        }
        if self.part.is_some() {
            self.file.write_at(bytes, self.done).map_err(&io)?;
        } else {
            let there = self.file.read_vec_at(self.done, bytes.len());
            if there.map_err(&io)? != bytes {
                let path = self.place.clone();
                return Err(DownloadError::Exists { path });
            }
        }
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// [`DownloadError::Incomplete`] before its last byte; those of the file system.
    pub fn finish(mut self) -> Result<Written, DownloadError> {
        if self.done < self.len {
            return Err(DownloadError::Incomplete {
                path: self.place.clone(),
                bytes: self.len - self.done,
            });
        }
        let Some(part) = self.part.take() else {
            return Ok(Written::Kept);
        };
        let disk = Arc::clone(&self.store.inner().disk);
        let io = DownloadError::io(&self.place);
        let named = self
            .file
            .sync_all()
            .and_then(|()| disk.rename(&part, &self.place))
            .and_then(|()| disk.sync_dir(self.place.parent().unwrap_or(Path::new("/"))));
        if named.is_err() {
            // It may be there under its name by now, or not at all.
            discard(&*disk, &part);
        }
        named.map_err(&io)?;
        Ok(Written::Created)
    }

    /// Where it is, or will be.
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            discard(&*self.store.inner().disk, &part);
        }
    }
}

fn discard(disk: &dyn Disk, part: &Path) {
    match disk.remove(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %part.display(), "an incomplete file is left");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_another_one_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(
            &folder.path().join("home"),
            crate::store::Options::default(),
        );
        let (store, root) = (store.unwrap(), folder.path().join("out"));
        let begin = |force| MadeFile::begin(&store, &root, "a/b.bin", 6, force);

        let mut file = begin(false).unwrap();
        file.write(b"abc").unwrap();
        drop(file);
        assert_eq!(
            names(&root.join("a")),
            [""; 0],
            "what is incomplete is gone"
        );

        let mut file = begin(false).unwrap();
        file.write(b"abc").unwrap();
        assert_eq!(names(&root.join("a")), [".b.bin.lode-part"]);
        assert!(matches!(file.write(b"defg"), Err(DownloadError::Layout(_))));
        file.write(b"def").unwrap();
        assert_eq!(file.finish().unwrap(), Written::Created);
        assert_eq!(names(&root.join("a")), ["b.bin"]);

        let mut same = begin(false).unwrap();
        same.write(b"abcdef").unwrap();
        assert_eq!(same.finish().unwrap(), Written::Kept);
        let mut other = begin(false).unwrap();
        assert!(matches!(
            other.write(b"abX"),
            Err(DownloadError::Exists { .. })
        ));
        let longer = MadeFile::begin(&store, &root, "a/b.bin", 7, false);
        assert!(matches!(longer, Err(DownloadError::Exists { .. })));
        assert_eq!(std::fs::read(root.join("a/b.bin")).unwrap(), b"abcdef");

        let mut forced = begin(true).unwrap();
        forced.write(b"ABCDEF").unwrap();
        assert_eq!(forced.finish().unwrap(), Written::Created);
        assert_eq!(std::fs::read(root.join("a/b.bin")).unwrap(), b"ABCDEF");
        assert!(matches!(
            begin(true).unwrap().finish(),
            Err(DownloadError::Incomplete { bytes: 6, .. })
        ));
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link_or_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(
            &folder.path().join("home"),
            crate::store::Options::default(),
        );
        let (store, root) = (store.unwrap(), folder.path().join("out"));
        std::fs::create_dir_all(&root).unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join("a")).unwrap();
        let through = MadeFile::begin(&store, &root, "a/b.bin", 1, true);
        assert!(matches!(through, Err(DownloadError::ThroughLink { .. })));
        let out = MadeFile::begin(&store, &root, "../b.bin", 1, true);
        assert!(matches!(out, Err(DownloadError::Path(_))));
    }
}
