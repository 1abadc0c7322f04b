//! Files that are made from chunks of xorbs.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use lode_store::hashing::Content;

use super::{
    Assembly, Raw, Xorbs, shown,
    spread::{Last, Source, Spread},
};
use crate::upload::{
    Folder, Inbox, UploadError, Uploads, limits, lock,
    map::{Key, Mapped, Segment},
};

/// Files that are stored together.
#[derive(Default)]
struct Batch {
    announced: Vec<Option<[u8; 32]>>,
    files: Vec<Arc<Spread>>,
    last: Last,
    bytes: u64,
}

impl Uploads {
    /// Makes files from the chunks of xorbs, checks them and stages them. When this returns, it is remembered
    /// where their chunks lie.
    ///
    /// # Errors
    /// [`UploadError::UnknownXorb`] begins another epoch; [`UploadError::Chunks`], [`UploadError::Digest`].
    /// Files before the one that failed stay staged.
    pub fn assemble(&self, inbox: &Inbox, files: Vec<Assembly>) -> Result<(), UploadError> {
        let mut batch = Batch::default();
        for file in files {
            if let Some(sha256) = &file.sha256
                && self.has(inbox, sha256)?
            {
                let mut xorbs = lock(&self.state().xorbs);
                let keys = file.pieces.iter().map(|piece| (inbox.id(), piece.xorb));
                let folder = xorbs.folder.clone();
                xorbs.touch(keys).map_err(UploadError::io(&folder))?;
                continue;
            }
            let spread = Spread::new(self, inbox, file.pieces, &batch.last)?;
            let size = spread.size();
            let full = batch.bytes + size > limits::ASSEMBLED_BYTES_MAX
                || batch.files.len() == limits::ASSEMBLED_FILES_MAX;
            if full {
                self.finish_batch(inbox, std::mem::take(&mut batch))?;
            }
            self.check_room(size)?;
            batch.announced.push(file.sha256);
            batch.files.push(Arc::new(spread));
            batch.bytes += size;
        }
        self.finish_batch(inbox, batch)
    }

    /// Opens a xorb that waits, or that is remembered.
    pub(super) fn open_source(&self, key: Key) -> Result<Source, UploadError> {
        let xorbs = lock(&self.state().xorbs);
        let io = UploadError::io(&xorbs.folder);
        let mapped = xorbs.mapped(&key).map_err(&io)?;
        let raw = Raw::open(&xorbs.raw_path(&key)).map_err(&io)?;
        drop(xorbs);
        let mapped = match (&raw, mapped) {
            (Some(raw), mapped) => Mapped {
                lengths: raw.lengths.clone(),
                segments: mapped.map(|mapped| mapped.segments).unwrap_or_default(),
            },
            (None, Some(mapped)) => mapped,
            (None, None) => return Err(self.lost(&key.1)),
        };
        Ok(Source { key, raw, mapped })
    }

    /// That a xorb is not known. Clients that count on it start anew in another epoch.
    pub(super) fn lost(&self, xorb: &[u8; 32]) -> UploadError {
        let mut xorbs = lock(&self.state().xorbs);
        if let Err(error) = xorbs.renew() {
            tracing::warn!(%error, "no other epoch of uploads could be begun");
        }
        UploadError::UnknownXorb { xorb: shown(xorb) }
    }

    /// Stages the files of a batch, and remembers where the chunks of their xorbs lie.
    fn finish_batch(&self, inbox: &Inbox, batch: Batch) -> Result<(), UploadError> {
        let Batch {
            announced, files, ..
        } = batch;
        if files.is_empty() {
            return Ok(());
        }
        let given = files
            .iter()
            .map(|file| Arc::clone(file) as Arc<dyn Content>);
        let staged = self.stage_given(inbox, given.collect(), &announced);
        let staged = staged.map_err(|error| {
            let mut faults = files.iter().filter_map(|file| file.take_fault());
            faults.next().unwrap_or(error)
        })?;
        let mut touched: BTreeMap<[u8; 32], Mapped> = BTreeMap::new();
        for (file, spread) in staged.iter().zip(&files) {
            let mut offset = 0;
            for piece in spread.pieces() {
                let mapped = match touched.entry(piece.xorb) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        new.insert(self.open_source((inbox.id(), piece.xorb))?.mapped)
                    }
                };
                mapped.add(Segment {
                    chunks: piece.chunks.clone(),
                    sha256: file.sha256,
                    offset,
                });
                offset += piece.len;
            }
        }
        let touched: Vec<(Key, Mapped)> = touched
            .into_iter()
            .map(|(name, mapped)| ((inbox.id(), name), mapped))
            .collect();
        let mut xorbs = lock(&self.state().xorbs);
        let folder = xorbs.folder.clone();
        let io = UploadError::io(&folder);
        xorbs.remember(&touched).map_err(&io)?;
        let mut covered = covered(&xorbs, &touched).peekable();
        if covered.peek().is_none() {
            return Ok(());
        }
        let gone = Folder::create(self.new_path()?)?;
        take(covered, &gone.0).map_err(&io)?;
        // Gigabytes take a while to remove, and the client need not wait for that.
        std::thread::spawn(move || drop(gone));
        Ok(())
    }
}

/// The waiting xorbs all of whose chunks lie in stored files.
fn covered(xorbs: &Xorbs, touched: &[(Key, Mapped)]) -> impl Iterator<Item = PathBuf> {
    let covered = touched.iter().filter(|(_, mapped)| mapped.is_covered());
    let paths = covered.map(|(key, _)| xorbs.raw_path(key));
    paths.filter(|path| path.exists())
}

/// Moves files into a folder.
fn take(paths: impl Iterator<Item = PathBuf>, folder: &Path) -> io::Result<()> {
    for (number, path) in paths.enumerate() {
        match std::fs::rename(path, folder.join(number.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
