//! The bytes of a file, read from where its chunks lie: in waiting xorbs, and in stored files.
//!
//! Invariant: whoever reads gets the bytes that the file's pieces name or an error, and never fewer. What they
//! hash to is for the reader to check.

use std::{
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex},
};

use lode_store::{
    hashing::Content,
    tree::{self, Mode},
};
use lode_tensors::ByteRange;

use super::{Piece, Raw, shown};
use crate::upload::{
    Inbox, InboxId, UploadError, Uploads, lock,
    map::{Key, Mapped, Segment},
};

/// A xorb that is open.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) key: Key,
    pub(super) raw: Option<Raw>,
    pub(super) mapped: Mapped,
}

/// The xorb that was read last, of all files that are stored together: one is open at a time, however many
/// files there are.
pub(super) type Last = Arc<Mutex<Option<Arc<Source>>>>;

/// A file that lies in pieces of xorbs.
///
/// Memory: 8 bytes a piece beside the pieces themselves.
#[derive(Debug)]
pub(super) struct Spread {
    uploads: Uploads,
    inbox: InboxId,
    pieces: Vec<Piece>,
    /// Where each piece begins in the file, and where the last one ends.
    starts: Vec<u64>,
    last: Last,
    /// Why it could not be read.
    fault: Mutex<Option<UploadError>>,
}

impl Spread {
    /// Looks whether the xorbs of a file are here and have the chunks that its pieces name.
    ///
    /// # Errors
    /// [`UploadError::UnknownXorb`] begins another epoch; [`UploadError::Chunks`].
    pub(super) fn new(
        uploads: &Uploads,
        inbox: &Inbox,
        pieces: Vec<Piece>,
        last: &Last,
    ) -> Result<Self, UploadError> {
        let mut starts = vec![0];
        let mut end = 0;
        for piece in &pieces {
            end += piece.len;
            starts.push(end);
        }
        let this = Self {
            uploads: uploads.clone(),
            inbox: inbox.id(),
            pieces,
            starts,
            last: Arc::clone(last),
            fault: Mutex::default(),
        };
        for piece in &this.pieces {
            let known = this.source(piece)?.mapped.len_of(piece.chunks.clone());
            if known != Some(piece.len) || piece.chunks.is_empty() {
                return Err(UploadError::Chunks {
                    xorb: shown(&piece.xorb),
                    start: piece.chunks.start,
                    end: piece.chunks.end,
                    len: piece.len,
                });
            }
        }
        Ok(this)
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Why it could not be read, if somebody tried in vain.
    pub(super) fn take_fault(&self) -> Option<UploadError> {
        lock(&self.fault).take()
    }

    /// The xorb of a piece. Neighbours are often of the same one.
    fn source(&self, piece: &Piece) -> Result<Arc<Source>, UploadError> {
        let key = (self.inbox, piece.xorb);
        let last = lock(&self.last).clone();
        if let Some(same) = last.filter(|source| source.key == key) {
            return Ok(same);
        }
        let source = Arc::new(self.uploads.open_source(key)?);
        *lock(&self.last) = Some(Arc::clone(&source));
        Ok(source)
    }

    fn read(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), UploadError> {
        let mut at = self.starts.partition_point(|start| *start <= offset) - 1;
        while !buffer.is_empty() {
            let end = || UploadError::usage("bytes behind the end of a file are read");
            let piece = self.pieces.get(at).ok_or_else(end)?;
            let source = self.source(piece)?;
            let (now, rest) = split(buffer, self.starts[at + 1] - offset);
            let skipped = offset - self.starts[at];
            offset += now.len() as u64;
            match &source.raw {
                Some(raw) => self.read_raw(&source, raw, piece, skipped, now)?,
                None => self.read_stored(&source, piece, skipped, now)?,
            }
            buffer = rest;
            at += 1;
        }
        Ok(())
    }

    /// Fills `buffer` with the bytes of a piece behind the first `skipped` ones.
    fn read_raw(
        &self,
        source: &Source,
        raw: &Raw,
        piece: &Piece,
        skipped: u64,
        buffer: &mut [u8],
    ) -> Result<(), UploadError> {
        let lost = || self.uploads.lost(&piece.xorb);
        let start = source.mapped.len_of(0..piece.chunks.start);
        let start = start.ok_or_else(lost)? + skipped;
        let read = raw.file.read_exact_at(buffer, start);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => lost(),
            _ => UploadError::io(&self.uploads.state().folder)(error),
        })
    }

    /// As [`Self::read_raw`], out of the stored files in which the chunks lie.
    fn read_stored(
        &self,
        source: &Source,
        piece: &Piece,
        skipped: u64,
        mut buffer: &mut [u8],
    ) -> Result<(), UploadError> {
        let lost = || self.uploads.lost(&piece.xorb);
        let mapped = &source.mapped;
        let (mut chunk, mut skipped) = mapped
            .chunk_at(piece.chunks.start, skipped)
            .ok_or_else(lost)?;
        while !buffer.is_empty() {
            let segment = mapped.segment_of(chunk).ok_or_else(lost)?;
            let end = segment.chunks.end.min(piece.chunks.end);
            let before = mapped.len_of(segment.chunks.start..chunk);
            let (before, len) = before.zip(mapped.len_of(chunk..end)).ok_or_else(lost)?;
            let (now, rest) = split(buffer, len - skipped);
            let offset = segment.offset + before + skipped;
            if !self.read_file(segment, offset, now)? {
                return Err(lost());
            }
            (buffer, chunk, skipped) = (rest, end, 0);
        }
        Ok(())
    }

    /// Fills `buffer` from a stored file; not, if that is gone or shorter.
    fn read_file(
        &self,
        segment: &Segment,
        offset: u64,
        mut buffer: &mut [u8],
    ) -> Result<bool, UploadError> {
        let node = &self.uploads.node;
        let Some(file) = node.store().file_by_sha256(&segment.sha256)? else {
            return Ok(false);
        };
        let reader = node.reads().file(&tree::File {
            path: "file".to_owned(),
            mode: Mode::File,
            size: file.size,
            sha256: file.sha256,
            git: None,
            chunks: file.chunks,
            root: None,
        })?;
        let mut range = ByteRange {
            start: offset,
            end: offset + buffer.len() as u64,
        };
        while !buffer.is_empty() {
            let bytes = reader.read(range)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let (now, rest) = split(buffer, bytes.len() as u64);
            now.copy_from_slice(&bytes);
            range.start += bytes.len() as u64;
            buffer = rest;
        }
        Ok(true)
    }
}

impl Content for Spread {
    fn size(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(buffer, offset).map_err(|error| {
            let told = io::Error::other(error.to_string());
            lock(&self.fault).get_or_insert(error);
            told
        })
    }
}

/// The first `len` bytes of a buffer, or all of it, and the rest.
fn split(buffer: &mut [u8], len: u64) -> (&mut [u8], &mut [u8]) {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    buffer.split_at_mut(len.min(buffer.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        Node, NodeOptions,
        upload::{Assembly, NewModel},
    };

    const LENGTHS: [usize; 5] = [70_000, 1, 100_000, 30_000, 50_000];

    fn uploads(home: &tempfile::TempDir) -> (Uploads, Inbox) {
        let node = Node::open(home.path(), NodeOptions::default()).unwrap();
        let uploads = node.uploads();
        let new = NewModel {
            name: "acme/tiny".parse().unwrap(),
            kind: lode_store::manifest::Kind::Model,
            public: false,
        };
        uploads.create(&new).unwrap();
        let inbox = uploads.inbox(&new.name).unwrap();
        (uploads, inbox)
    }

    /// A xorb of chunks of [`LENGTHS`], and what is in it.
    fn xorb(uploads: &Uploads, inbox: &Inbox, name: u8) -> Vec<Vec<u8>> {
        let chunk = |(seed, len): (u8, usize)| {
            let mut out = vec![0; len];
            blake3::Hasher::new()
                .update(&[name, seed])
                .finalize_xof()
                .fill(&mut out);
            out
        };
        let chunks: Vec<Vec<u8>> = (0..).zip(LENGTHS).map(chunk).collect();
        let mut new = uploads.begin_xorb().unwrap();
        for chunk in &chunks {
            new.add(chunk).unwrap();
        }
        uploads.finish_xorb(inbox, &[name; 32], new).unwrap();
        chunks
    }

    fn piece(name: u8, chunks: std::ops::Range<u32>) -> Piece {
        let lengths = &LENGTHS[chunks.start as usize..chunks.end as usize];
        Piece {
            xorb: [name; 32],
            len: lengths.iter().sum::<usize>() as u64,
            chunks,
        }
    }

    #[test]
    fn any_range_is_read_where_xorbs_wait_and_where_they_are_stored() {
        let home = tempfile::tempdir().unwrap();
        let (uploads, inbox) = uploads(&home);
        let (one, two) = (xorb(&uploads, &inbox, 1), xorb(&uploads, &inbox, 2));
        let pieces = vec![
            piece(1, 1..4),
            piece(2, 0..5),
            piece(1, 3..5),
            piece(2, 2..3),
        ];
        let parts = [&one[1..4], &two[..], &one[3..5], &two[2..3]];
        let whole = parts.concat().concat();
        let last = Last::default();
        let spread = Spread::new(&uploads, &inbox, pieces.clone(), &last).unwrap();
        assert_eq!(spread.size(), whole.len() as u64);
        let check = |spread: &Spread| {
            let mut ends: Vec<usize> = (0..whole.len()).step_by(23_456).collect();
            ends.extend([1, 130_000, 130_001, 130_002, whole.len() - 1, whole.len()]);
            for start in &ends {
                for end in ends.iter().filter(|end| start <= *end) {
                    let mut found = vec![0; end - start];
                    spread.read_exact_at(&mut found, *start as u64).unwrap();
                    assert!(found == whole[*start..*end], "{start}..{end}");
                }
            }
        };
        check(&spread);
        let mut byte = [0];
        let behind = spread.read_exact_at(&mut byte, spread.size());
        assert!(behind.is_err());

        // Each half of a xorb comes to lie in another file.
        for pieces in [
            vec![piece(1, 0..2), piece(2, 0..4)],
            vec![piece(1, 2..5), piece(2, 4..5)],
        ] {
            let sha256 = None;
            uploads
                .assemble(&inbox, vec![Assembly { sha256, pieces }])
                .unwrap();
        }
        let stored = Spread::new(&uploads, &inbox, pieces, &Last::default()).unwrap();
        assert!(lock(&stored.last).as_ref().unwrap().raw.is_none());
        check(&stored);
        // Who has a xorb open reads on after it was taken away.
        check(&spread);
    }

    #[test]
    fn a_xorb_that_is_gone_before_it_is_read_begins_another_epoch() {
        let home = tempfile::tempdir().unwrap();
        let (uploads, inbox) = uploads(&home);
        xorb(&uploads, &inbox, 1);
        let epoch = uploads.epoch().unwrap();
        let last = Last::default();
        let spread = Spread::new(&uploads, &inbox, vec![piece(1, 0..5)], &last).unwrap();
        *lock(&last) = None;
        let path = lock(&uploads.state().xorbs).raw_path(&(inbox.id(), [1; 32]));
        std::fs::remove_file(path).unwrap();
        let mut buffer = [0; 10];
        assert!(spread.read_exact_at(&mut buffer, 5).is_err());
        let fault = spread.take_fault();
        assert!(
            matches!(fault, Some(UploadError::UnknownXorb { .. })),
            "{fault:?}"
        );
        assert_ne!(uploads.epoch().unwrap(), epoch);
    }
}
