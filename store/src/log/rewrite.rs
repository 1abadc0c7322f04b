//! Compaction: a segment is written again without its dead records.
//!
//! The order of records stays, so that whatever depends on order (hash-linked identity records, the
//! latest value of a key) reads as before. The new file takes the old one's name by a rename, with
//! another nonce, by which the index sees that its locations in this segment are stale.

use std::{io, path::PathBuf, sync::Arc};

use super::{
    Found, Log, LogError, Segment,
    frame::{self, Batch, FRAME_HEAD_BYTES, HEADER_BYTES},
};
use crate::disk::DiskFile;

/// Bytes of records that are gathered to one batch of a rewritten segment.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// A segment that was written again and has not its name yet.
#[derive(Debug)]
pub struct Rewritten {
    draft: PathBuf,
    segment: Segment,
}

impl Log {
    /// Writes `segment` again with the records that `keep` wants (and those of kinds that this release
    /// does not know); it must not be the last one. The new file is durable, and not in place yet.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when the segment is damaged: then nothing is changed.
    pub fn rewrite(
        &self,
        segment: &Segment,
        keep: &mut dyn FnMut(&Found<'_>) -> Result<bool, LogError>,
    ) -> Result<Rewritten, LogError> {
        let nonce = {
            let mut writer = self.writer();
            assert!(
                writer
                    .end()
                    .is_none_or(|(number, ..)| number != segment.number),
                "the last segment is never rewritten"
            );
            writer.tail.nonces.draw()
        };
        let draft = segment.path.with_extension("log.new");
        let err = |source: io::Error| LogError::Io {
            path: draft.clone(),
            source,
        };
        crate::disk::remove_if_there(&*self.disk, &draft).map_err(err)?;
        let file = self.disk.create(&draft).map_err(err)?;
        let written = self
            .copy(segment, &*file, nonce, keep)
            .and_then(|()| file.sync_data().map_err(err));
        if let Err(e) = written {
            // the old segment is whole and in place; the next opening removes what is left
            let _ = self.disk.remove(&draft);
            return Err(e);
        }
        let (number, path) = (segment.number, segment.path.clone());
        Ok(Rewritten {
            draft,
            segment: Segment {
                number,
                nonce,
                path,
                file,
            },
        })
    }

    /// Puts a rewritten segment in the place of the old one. Locations in the old one are stale from now
    /// on: the caller keeps readers away until the index knows.
    ///
    /// # Errors
    /// [`LogError::Io`]: then nobody knows which of the two a crash leaves, and nothing more may be
    /// written.
    pub fn install(&self, rewritten: Rewritten) -> Result<Arc<Segment>, LogError> {
        let Rewritten { draft, segment } = rewritten;
        self.disk
            .rename(&draft, &segment.path)
            .map_err(segment.io())?;
        let dir = &self.dir;
        self.disk.sync_dir(dir).map_err(|source| LogError::Io {
            path: dir.clone(),
            source,
        })?;
        let segment = Arc::new(segment);
        self.segment_insert(segment.clone());
        Ok(segment)
    }

    fn copy(
        &self,
        segment: &Segment,
        file: &dyn DiskFile,
        nonce: u64,
        keep: &mut dyn FnMut(&Found<'_>) -> Result<bool, LogError>,
    ) -> Result<(), LogError> {
        let err = |source: io::Error| LogError::Io {
            path: segment.path.clone(),
            source,
        };
        file.write_at(&frame::header(segment.number, nonce), 0)
            .map_err(err)?;
        let mut offset = HEADER_BYTES as u64;
        let mut records = Vec::new();
        let mut count = 0;
        let mut flush = |records: &mut Vec<u8>| -> Result<(), LogError> {
            if records.is_empty() {
                return Ok(());
            }
            let bytes = records.len() as u64;
            let mut batch = frame::encode_batch(Batch {
                offset,
                segment: segment.number,
                nonce,
                bytes,
            });
            batch.append(records);
            file.write_at(&batch, offset).map_err(err)?;
            offset += batch.len() as u64;
            Ok(())
        };
        self.scan(segment, false, &mut |found| {
            if found.kind.is_none() || keep(&found)? {
                let body = found.body()?;
                let full = records.len() + FRAME_HEAD_BYTES + body.len() > BATCH_BYTES_MAX;
                if full || count == crate::limits::LOG_BATCH_RECORDS_MAX {
                    flush(&mut records)?;
                    count = 0;
                }
                records.extend_from_slice(&frame::head(found.number, &body));
                records.extend_from_slice(&body);
                count += 1;
            }
            Ok(())
        })?;
        flush(&mut records)
    }

    /// Forgets and removes a segment; the caller has made durable that nothing in it is wanted.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, segment: &Segment) -> Result<(), LogError> {
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        segments.remove(&segment.number);
        drop(segments);
        self.disk.remove(&segment.path).map_err(segment.io())
    }
}
