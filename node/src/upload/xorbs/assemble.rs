//! Files that are made from chunks of xorbs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use lode_store::tree::{self, Mode};
use lode_tensors::ByteRange;

use super::{Assembly, Piece, Raw, Xorbs};
use crate::upload::{
    Folder, Inbox, UploadError, Uploads, limits, lock,
    map::{Key, Mapped, Segment},
};

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Files that are made, and what becomes known of xorbs by them.
struct Batch {
    folder: Folder,
    announced: Vec<Option<[u8; 32]>>,
    pieces: Vec<Vec<Piece>>,
    bytes: u64,
}

/// A xorb that is read for a file.
struct Source {
    key: Key,
    raw: Option<Raw>,
    mapped: Mapped,
}

impl Uploads {
    /// Makes files from the chunks of xorbs, checks them and stages them. When this returns, it is remembered
    /// where their chunks lie.
    ///
    /// # Errors
    /// [`UploadError::UnknownXorb`] begins another epoch; [`UploadError::Chunks`], [`UploadError::Digest`].
    /// Files before the one that failed stay staged.
    pub fn assemble(&self, inbox: &Inbox, files: Vec<Assembly>) -> Result<(), UploadError> {
        let mut batch: Option<Batch> = None;
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
            let size: u64 = file.pieces.iter().map(|piece| piece.len).sum();
            let full = batch.as_ref().is_some_and(|batch| {
                batch.bytes + size > limits::ASSEMBLED_BYTES_MAX
                    || batch.announced.len() == limits::ASSEMBLED_FILES_MAX
            });
            if full && let Some(full) = batch.take() {
                self.finish_batch(inbox, full)?;
            }
            self.check_room(size)?;
            let open = match &mut batch {
                Some(open) => open,
                none => none.insert(Batch {
                    folder: Folder::create(self.new_path()?)?,
                    announced: Vec::new(),
                    pieces: Vec::new(),
                    bytes: 0,
                }),
            };
            let path = open.folder.0.join(open.announced.len().to_string());
            self.write_file(inbox, &path, &file.pieces)?;
            open.announced.push(file.sha256);
            open.pieces.push(file.pieces);
            open.bytes += size;
        }
        match batch {
            Some(last) => self.finish_batch(inbox, last),
            None => Ok(()),
        }
    }

    fn write_file(&self, inbox: &Inbox, path: &Path, pieces: &[Piece]) -> Result<(), UploadError> {
        let io = UploadError::io(path);
        let mut out = File::create_new(path).map_err(&io)?;
        let mut source: Option<Source> = None;
        for piece in pieces {
            let key = (inbox.id(), piece.xorb);
            let same = source.take().filter(|source| source.key == key);
            let open = match same {
                Some(same) => same,
                None => self.open_source(key)?,
            };
            let known = open.mapped.len_of(piece.chunks.clone());
            if known != Some(piece.len) || piece.chunks.is_empty() {
                return Err(UploadError::Chunks {
                    xorb: shown(&piece.xorb),
                    start: piece.chunks.start,
                    end: piece.chunks.end,
                    len: piece.len,
                });
            }
            match &open.raw {
                Some(raw) => {
                    let start = open.mapped.len_of(0..piece.chunks.start).unwrap_or(0);
                    (&raw.file).seek(SeekFrom::Start(start)).map_err(&io)?;
                    let copied = io::copy(&mut (&raw.file).take(piece.len), &mut out);
                    if copied.map_err(&io)? != piece.len {
                        return Err(self.lost(&piece.xorb));
                    }
                }
                None => self.copy_mapped(&open, piece, &mut out, &io)?,
            }
            source = Some(open);
        }
        Ok(())
    }

    fn open_source(&self, key: Key) -> Result<Source, UploadError> {
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

    /// Copies chunks out of the stored files in which they lie.
    fn copy_mapped(
        &self,
        source: &Source,
        piece: &Piece,
        out: &mut File,
        io: &dyn Fn(io::Error) -> UploadError,
    ) -> Result<(), UploadError> {
        let mut out = BufWriter::with_capacity(WRITE_BYTES, out);
        let mut at = piece.chunks.start;
        while at < piece.chunks.end {
            let lost = || self.lost(&piece.xorb);
            let segment = source.mapped.segment_of(at).ok_or_else(lost)?;
            let end = segment.chunks.end.min(piece.chunks.end);
            let skipped = source.mapped.len_of(segment.chunks.start..at);
            let len = source.mapped.len_of(at..end);
            let (skipped, len) = skipped.zip(len).ok_or_else(lost)?;
            let start = segment.offset + skipped;
            let file = self.node.store().file_by_sha256(&segment.sha256)?;
            let file = file.ok_or_else(lost)?;
            let reader = self.node.reads().file(&tree::File {
                path: "file".to_owned(),
                mode: Mode::File,
                size: file.size,
                sha256: file.sha256,
                git: None,
                chunks: file.chunks,
                root: None,
            })?;
            let mut range = ByteRange {
                start,
                end: start + len,
            };
            while range.start < range.end {
                let bytes = reader.read(range)?;
                if bytes.is_empty() {
                    return Err(lost());
                }
                out.write_all(&bytes).map_err(io)?;
                range.start += bytes.len() as u64;
            }
            at = end;
        }
        out.flush().map_err(io)
    }

    /// That a xorb is not known. Clients that count on it start anew in another epoch.
    fn lost(&self, xorb: &[u8; 32]) -> UploadError {
        let mut xorbs = lock(&self.state().xorbs);
        if let Err(error) = xorbs.renew() {
            tracing::warn!(%error, "no other epoch of uploads could be begun");
        }
        UploadError::UnknownXorb { xorb: shown(xorb) }
    }

    /// Stages the files of a batch, and remembers where the chunks of their xorbs lie.
    fn finish_batch(&self, inbox: &Inbox, batch: Batch) -> Result<(), UploadError> {
        let files = self.stage(inbox, &batch.folder.0, &batch.announced)?;
        let mut touched: BTreeMap<[u8; 32], Mapped> = BTreeMap::new();
        for (file, pieces) in files.iter().zip(&batch.pieces) {
            let mut offset = 0;
            for piece in pieces {
                let mapped = match touched.entry(piece.xorb) {
                    std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::btree_map::Entry::Vacant(new) => {
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
        let gone = Folder::create(self.new_path()?)?;
        take_covered(&xorbs, &touched, &gone.0).map_err(&io)?;
        // Gigabytes take a while to remove, and the client need not wait for that.
        std::thread::spawn(move || drop(gone));
        Ok(())
    }
}

/// Moves xorbs all of whose chunks lie in stored files into a folder.
fn take_covered(xorbs: &Xorbs, touched: &[(Key, Mapped)], folder: &Path) -> io::Result<()> {
    let covered = touched.iter().filter(|(_, mapped)| mapped.is_covered());
    for (number, (key, _)) in covered.enumerate() {
        match std::fs::rename(xorbs.raw_path(key), folder.join(number.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A xorb's name as clients write it: four numbers of eight bytes, the last byte first.
fn shown(name: &[u8; 32]) -> String {
    let words = name.as_chunks::<8>().0.iter();
    words
        .map(|word| format!("{:016x}", u64::from_le_bytes(*word)))
        .collect()
}
