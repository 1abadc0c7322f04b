//! Snapshots of a collection: what it held at one moment, kept beside it until somebody deletes them.
//!
//! ```text
//! FOLDER/snapshots/
//!   docs-2026-11-27-13-05-59-412.snapshot/
//!     about     JSON: when it was made, bytes and SHA-256 of it as one file
//!     data/     a collection: its head, and links to its segments
//!   .new-*, .gone-*           on their way in or out; removed when collections are first asked for
//! ```
//!
//! A snapshot is the engine's own: consistent while writing goes on, made in the time of a freeze, without a copy. On
//! disk it holds segments that the collection has given up since, and nothing else; deleting it lets go of them. Sent
//! over the network it is one file, a tar archive of `data` ([`tar`]). Recovery puts another folder of links in place
//! of the collection's own: that is durable, or did not happen, when `about` of the collection is replaced.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lode_index::{Collection, collection::read_head, datetime::format_datetime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    CollectionAt, Collections, CollectionsError, OpenCollection, files,
    limits::{ABOUT_BYTES_MAX, SNAPSHOTS_MAX},
    slot::Slot,
    stage::Stage,
    version::{self, HEAD},
};
use crate::{
    command::{Failure, FailureKind},
    publisher::now,
};

mod tar;

pub use tar::SnapshotFile;

/// Where the snapshots of a collection are, in its folder.
pub(super) const FOLDER: &str = "snapshots";
/// What a snapshot is, in its own folder.
const ABOUT: &str = "about";
/// The collection, in a snapshot's folder.
const DATA: &str = "data";
/// How all names end.
const SUFFIX: &str = ".snapshot";
/// Bytes that are hashed at a time.
const STEP_BYTES: u64 = 1 << 20;

/// A snapshot of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotAt {
    /// Its name: one of a kind within the collection.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Bytes of it as one file.
    pub bytes: u64,
    /// SHA-256 of that file, in hex.
    pub sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    created: u64,
    bytes: u64,
    sha256: String,
}

impl OpenCollection {
    /// Makes a snapshot; durable when this returns.
    ///
    /// # Errors
    /// [`CollectionsError::NotYours`] for a copy of another publisher's, [`CollectionsError::TooManySnapshots`], what
    /// the engine and the file system say; then nothing stays.
    pub fn snapshot(&self) -> Result<SnapshotAt, CollectionsError> {
        if !self.writable {
            return Err(CollectionsError::NotYours {
                name: self.slot.name.clone(),
            });
        }
        let _one = self.slot.snapshotting();
        let folder = folder(&self.slot);
        let known = list(&self.slot)?;
        if known.len() >= SNAPSHOTS_MAX {
            return Err(CollectionsError::TooManySnapshots);
        }
        fs::create_dir_all(&folder).map_err(CollectionsError::io(&folder))?;
        files::sync(&self.slot.dir).map_err(CollectionsError::io(&self.slot.dir))?;
        let new = folder.join(format!(".new-{}", super::random()?));
        let made = self.write_snapshot(&folder, &new, &known);
        if made.is_err() {
            // what cannot be removed now is when the home is opened next
            let _ = fs::remove_dir_all(&new);
        }
        made
    }

    fn write_snapshot(
        &self,
        folder: &Path,
        new: &Path,
        known: &[SnapshotAt],
    ) -> Result<SnapshotAt, CollectionsError> {
        fs::create_dir(new).map_err(CollectionsError::io(new))?;
        let data = new.join(DATA);
        let index = self.slot.open()?.index;
        let snapshot = index
            .snapshot_to(&data)
            .map_err(|error| CollectionsError::index(&self.slot.name, error))?;
        let created = now();
        let name = unused(&self.slot.name, created, snapshot.sequence, known);
        let file = SnapshotFile::open(&data, created)?;
        let about = About {
            format: 1,
            created,
            bytes: file.len(),
            sha256: sha256(&file)?,
        };
        let bytes = serde_json::to_vec(&about).expect("texts and numbers");
        files::replace(new, ABOUT, &bytes).map_err(CollectionsError::io(new.join(ABOUT)))?;
        let dir = folder.join(&name);
        fs::rename(new, &dir).map_err(CollectionsError::io(&dir))?;
        files::sync(folder).map_err(CollectionsError::io(folder))?;
        Ok(about.of(name))
    }
}

impl Collections {
    /// The snapshots of a collection, oldest first. Those that cannot be read are left out, and said in the log.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn snapshots(&self, at: &CollectionAt) -> Result<Vec<SnapshotAt>, CollectionsError> {
        list(&at.slot)
    }

    /// A snapshot as one file.
    ///
    /// # Errors
    /// [`CollectionsError::NoSnapshot`], and what the file system says.
    pub fn snapshot_file(
        &self,
        at: &CollectionAt,
        name: &str,
    ) -> Result<(SnapshotAt, SnapshotFile), CollectionsError> {
        let dir = find(&at.slot, name)?;
        let about = About::read(&dir)?.of(name.to_owned());
        let file = SnapshotFile::open(&dir.join(DATA), about.created)?;
        Ok((about, file))
    }

    /// Deletes a snapshot: unknown when this returns, durably, and its files are removed.
    ///
    /// # Errors
    /// [`CollectionsError::NoSnapshot`], and what the file system says.
    pub fn delete_snapshot(&self, at: &CollectionAt, name: &str) -> Result<(), CollectionsError> {
        let _one = at.slot.snapshotting();
        let (folder, dir) = (folder(&at.slot), find(&at.slot, name)?);
        let gone = folder.join(format!(".gone-{}", super::random()?));
        fs::rename(&dir, &gone).map_err(CollectionsError::io(&dir))?;
        files::sync(&folder).map_err(CollectionsError::io(&folder))?;
        fs::remove_dir_all(&gone).map_err(CollectionsError::io(&gone))
    }

    /// Deletes all snapshots of a collection.
    pub(super) fn delete_snapshots(&self, at: &CollectionAt) -> Result<(), CollectionsError> {
        let _one = at.slot.snapshotting();
        let folder = folder(&at.slot);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(CollectionsError::io(&folder)(error)),
            Ok(()) => files::sync(&at.slot.dir).map_err(CollectionsError::io(&at.slot.dir)),
        }
    }

    /// Makes a collection hold what a snapshot holds, in place of what it held; one that is not there is made. Writes
    /// that are answered after this are on top of it.
    ///
    /// # Errors
    /// [`CollectionsError::NoSnapshot`], [`CollectionsError::NotYours`], a snapshot that is damaged; then nothing is
    /// changed.
    pub fn recover(
        &self,
        from: &CollectionAt,
        snapshot: &str,
        to: &str,
    ) -> Result<CollectionAt, CollectionsError> {
        let existing = match self.find(to) {
            Err(CollectionsError::Absent { .. }) => None,
            found => Some(found?),
        };
        if let Some(at) = &existing
            && !self.may_sign(&at.publisher, &at.name)?
        {
            return Err(CollectionsError::NotYours {
                name: to.to_owned(),
            });
        }
        let stage = Stage::new(&self.state().folder)?;
        let data = stage.data();
        {
            // no longer than linking takes: it must not be deleted meanwhile
            let _one = from.slot.snapshotting();
            link(&find(&from.slot, snapshot)?.join(DATA), &data)?;
        }
        let opened = Collection::open(&data).map_err(|e| CollectionsError::index(to, e))?;
        if let Some(damaged) = opened.view().damaged().first() {
            let (segment, what) = (damaged.segment, damaged.what.clone());
            let source = lode_index::CollectionError::Damaged { segment, what };
            return Err(CollectionsError::index(to, source));
        }
        drop(opened);
        let Some(at) = existing else {
            let (publisher, short) = self.claim(to)?;
            return self.install(publisher, &short, false, &mut |place| {
                fs::rename(&data, place).map_err(CollectionsError::io(place))
            });
        };
        // what it was a version of, it may not be any more
        version::forget_notes(&self.node, &at)?;
        self.table()?.replace_data(&at.slot, &data)?;
        // what is in memory of it is another's
        at.slot.set_trouble(None);
        Ok(at)
    }
}

impl About {
    fn read(dir: &Path) -> Result<Self, CollectionsError> {
        let path = dir.join(ABOUT);
        let bytes = files::read(&path, ABOUT_BYTES_MAX).map_err(CollectionsError::io(&path))?;
        let about: Self =
            serde_json::from_slice(&bytes).map_err(|error| CollectionsError::Damaged {
                path: path.clone(),
                what: error.to_string(),
            })?;
        if about.format != 1 {
            let what = format!("format {}; this version of Lode reads 1", about.format);
            return Err(CollectionsError::Damaged { path, what });
        }
        Ok(about)
    }

    fn of(self, name: String) -> SnapshotAt {
        SnapshotAt {
            name,
            created: self.created,
            bytes: self.bytes,
            sha256: self.sha256,
        }
    }
}

fn folder(slot: &Slot) -> PathBuf {
    slot.dir.join(FOLDER)
}

/// Whether a text can be the name of a snapshot: it is the name of a folder too.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.ends_with(SUFFIX) && text.len() < 256 && !text.starts_with('.') && text.bytes().all(plain)
}

/// The folder of a snapshot that is there.
fn find(slot: &Slot, name: &str) -> Result<PathBuf, CollectionsError> {
    let dir = folder(slot).join(name);
    match is_name(name) && dir.is_dir() {
        true => Ok(dir),
        false => Err(CollectionsError::NoSnapshot {
            name: name.chars().take(256).collect(),
        }),
    }
}

fn list(slot: &Slot) -> Result<Vec<SnapshotAt>, CollectionsError> {
    let folder = folder(slot);
    let mut found = Vec::new();
    for name in files::names(&folder).map_err(CollectionsError::io(&folder))? {
        if !is_name(&name) {
            continue;
        }
        match About::read(&folder.join(&name)) {
            Ok(about) => found.push(about.of(name)),
            Err(error) => tracing::warn!(%error, "a snapshot is not listed"),
        }
    }
    found.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(found)
}

/// `docs-2026-11-27-13-05-59-412.snapshot`: when, and after how many operations; with a number if that is taken.
fn unused(collection: &str, created: u64, sequence: u64, known: &[SnapshotAt]) -> String {
    let micros = i64::try_from(created)
        .unwrap_or(0)
        .saturating_mul(1_000_000);
    let time = format_datetime(micros).replace(['T', ':'], "-");
    let time = time.trim_end_matches('Z');
    let name = |more: &str| format!("{collection}-{time}-{sequence}{more}{SUFFIX}");
    let names = std::iter::once(name("")).chain((2..).map(|number| name(&format!("-{number}"))));
    let mut free = names.filter(|name| known.iter().all(|at| at.name != *name));
    free.next().expect("there are more numbers than snapshots")
}

fn sha256(file: &SnapshotFile) -> Result<String, CollectionsError> {
    let mut hash = Sha256::new();
    let mut start = 0;
    while start < file.len() {
        let end = file.len().min(start + STEP_BYTES);
        let bytes = file.read(start..end)?;
        start += bytes.len() as u64;
        hash.update(&bytes);
    }
    Ok(data_encoding::HEXLOWER.encode(&hash.finalize()))
}

/// Makes the collection of a snapshot anew in a folder that is not there: links to its segments, and its head last.
fn link(data: &Path, to: &Path) -> Result<(), CollectionsError> {
    let head_path = data.join(HEAD);
    let bytes = files::read(&head_path, lode_index::limits::HEAD_BYTES_MAX)
        .map_err(CollectionsError::io(&head_path))?;
    let head = read_head(&bytes).map_err(|error| {
        let failure = format!("{}: {error}", head_path.display());
        CollectionsError::Other(Failure::new(FailureKind::Corrupt, failure))
    })?;
    fs::create_dir(to).map_err(CollectionsError::io(to))?;
    for (name, _) in head.segments() {
        let place = to.join(&name);
        fs::hard_link(data.join(&name), &place).map_err(CollectionsError::io(&place))?;
    }
    files::replace(to, HEAD, &bytes).map_err(CollectionsError::io(to))
}

/// Removes what was on its way in or out of the snapshots of a collection when a node ended.
pub(super) fn tidy(dir: &Path) -> Result<(), CollectionsError> {
    let folder = dir.join(FOLDER);
    for name in files::names(&folder).map_err(CollectionsError::io(&folder))? {
        if name.starts_with(".new-") || name.starts_with(".gone-") {
            let path = folder.join(name);
            fs::remove_dir_all(&path).map_err(CollectionsError::io(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
