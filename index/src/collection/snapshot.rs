//! Snapshots: a collection as it is at one moment, in a folder of its own, without a log.
//!
//! Segments are immutable, so a snapshot links them instead of copying; what it names stays on the disk until the
//! snapshot is removed, whatever is compacted meanwhile. A snapshot is a collection like any other.

use std::{path::Path, sync::PoisonError};

use super::{
    Collection, CollectionError,
    head::HEAD_NAME,
    open::{head_bytes, segment_name},
};
use crate::{disk::replace, segment::SegmentId};

/// What a snapshot has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Operations before it.
    pub sequence: u64,
    /// Its head first, then its segments.
    pub files: Vec<SnapshotFile>,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name in the folder.
    pub name: String,
    /// Bytes of it.
    pub bytes: u64,
    /// The id of its bytes, if it is a segment.
    pub segment: Option<SegmentId>,
}

impl Collection {
    /// Freezes, and makes a collection in a folder that must not exist of what there is then. A snapshot that was
    /// not finished has no head.
    ///
    /// # Errors
    /// [`CollectionError`], for a collection with damaged segments too.
    pub fn snapshot_to(&self, dir: &Path) -> Result<Snapshot, CollectionError> {
        self.freeze()?;
        // no segment is removed, and the head does not move, as long as these are held
        let _flush = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let _merge = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, floor, head) = {
            let writer = self.writer();
            let state = self.state();
            let head = head_bytes(&writer, &writer.floor, &state);
            (state, writer.floor.clone(), head)
        };
        if let Some(damaged) = state.damaged.first() {
            let (segment, what) = (damaged.segment, damaged.what.clone());
            return Err(CollectionError::Damaged { segment, what });
        }
        let io = |source| CollectionError::Io {
            path: dir.to_owned(),
            source: std::sync::Arc::new(source),
        };
        self.disk.create_dir(dir).map_err(io)?;
        let mut files = vec![SnapshotFile {
            name: HEAD_NAME.to_owned(),
            bytes: head.len() as u64,
            segment: None,
        }];
        for segment in &state.segments {
            if !floor.segments.contains_key(&segment.number) {
                continue;
            }
            let name = segment_name(segment.number);
            self.disk
                .link(&self.dir.join(&name), &dir.join(&name))
                .map_err(io)?;
            files.push(SnapshotFile {
                name,
                bytes: segment.part.bytes(),
                segment: Some(segment.part.segment_id()),
            });
        }
        self.disk.sync_dir(dir).map_err(io)?;
        // the head last: a folder that has one has all that it names
        replace(&*self.disk, dir, HEAD_NAME, &head).map_err(io)?;
        self.disk.sync_dir(dir).map_err(io)?;
        Ok(Snapshot {
            sequence: floor.sequence,
            files,
        })
    }
}
