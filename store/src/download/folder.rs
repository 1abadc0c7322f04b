//! Folders of users: finding the place of a file without following a link out of them, and links.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::DownloadError;
use crate::{
    ChunkHash, Store,
    disk::{Disk, remove_if_there},
    tree::{RESERVED_SUFFIX, check_link, check_path},
};

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Nothing,
    File,
    Link,
    Folder,
}

pub(super) fn look(disk: &dyn Disk, path: &Path) -> Result<There, DownloadError> {
    let io = DownloadError::io(path);
    match disk.link_target(path) {
        Ok(Some(_)) => return Ok(There::Link),
        Ok(None) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        Err(e) => return Err(io(e)),
    }
    match disk.stat(path) {
        Ok(stat) if stat.is_file => Ok(There::File),
        Ok(_) => Ok(There::Folder),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(There::Nothing),
        Err(e) => Err(io(e)),
    }
}

/// Checks every folder between `root` and `path`, and creates those that are missing if `create`.
pub(super) fn walk(
    disk: &dyn Disk,
    root: &Path,
    path: &str,
    create: bool,
) -> Result<(), DownloadError> {
    let mut dir = root.to_owned();
    // the root itself is the user's choice, and may be a link
    if create {
        disk.create_dir_all(&dir).map_err(|e| in_the_way(&dir, e))?;
    }
    let Some((folders, _)) = path.rsplit_once('/') else {
        return Ok(());
    };
    for part in folders.split('/') {
        dir.push(part);
        match look(disk, &dir)? {
            There::Folder => {}
            There::Link => return Err(DownloadError::ThroughLink { path: dir }),
            There::File => {
                let found = "a file where a folder must be";
                return Err(DownloadError::InTheWay { path: dir, found });
            }
            There::Nothing if create => {
                disk.create_dir_all(&dir).map_err(|e| in_the_way(&dir, e))?;
            }
            There::Nothing => return Err(DownloadError::Changed { path: dir }),
        }
    }
    Ok(())
}

fn in_the_way(path: &Path, error: io::Error) -> DownloadError {
    if matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
    ) {
        let found = "a file where a folder must be";
        return DownloadError::InTheWay {
            path: path.to_owned(),
            found,
        };
    }
    DownloadError::io(path)(error)
}

/// The hidden part file of a path: `.NAME.lode-part` beside it.
pub(super) fn part_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut part = std::ffi::OsString::from(".");
    if name.len() + 1 + RESERVED_SUFFIX.len() > 255 {
        // the name does not fit in a name
        let hash = ChunkHash::of(name.as_encoded_bytes()).to_string();
        part.push(&hash[..32]);
    } else {
        part.push(name);
    }
    part.push(RESERVED_SUFFIX);
    path.with_file_name(part)
}

/// Whether anything was there to be changed by [`write_link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkWritten {
    /// The link was created, or replaced.
    Created,
    /// It was there already.
    Kept,
}

/// Writes the symbolic link `path` (of a version) that points to `target` into the folder `root`.
///
/// # Errors
/// [`DownloadError::Exists`] when something else is there and `force` is not set; what a file in a
/// folder of a user can run into otherwise.
pub fn write_link(
    store: &Store,
    root: &Path,
    path: &str,
    target: &[u8],
    force: bool,
) -> Result<LinkWritten, DownloadError> {
    check_path(path)?;
    check_link(path, target)?;
    let target = Path::new(std::str::from_utf8(target).expect("a checked link is UTF-8"));
    let disk = &*store.inner().disk;
    walk(disk, root, path, true)?;
    let place = root.join(path);
    let io = DownloadError::io(&place);
    match look(disk, &place)? {
        There::Nothing => {}
        There::Link if disk.link_target(&place).map_err(&io)?.as_deref() == Some(target) => {
            return Ok(LinkWritten::Kept);
        }
        There::Folder => {
            let found = "a folder where a link must be";
            return Err(DownloadError::InTheWay { path: place, found });
        }
        There::Link | There::File if force => {}
        There::Link | There::File => return Err(DownloadError::Exists { path: place }),
    }
    let part = part_path(&place);
    remove_if_there(disk, &part).map_err(&io)?;
    disk.symlink(target, &part).map_err(&io)?;
    disk.rename(&part, &place).map_err(&io)?;
    disk.sync_dir(place.parent().unwrap_or(root)).map_err(&io)?;
    Ok(LinkWritten::Created)
}
