//! The check of a collection that somebody else wrote: everything that a reader would trust is held to what it is
//! made from.
//!
//! Hashes say that bytes are those that were signed, not that they are right. An index that leaves rows out hides
//! points, a wrong order of ids makes them unfindable, and links that lead nowhere lower recall: none of it
//! shows in an answer. So ids, payload indexes and sparse lists are made again of what they index and compared,
//! vectors are compared with their codes, and graphs by what they find.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::{self, Seek, SeekFrom, Write},
};

use super::{Collection, CollectionError};
use crate::{
    part::Part,
    schema::CollectionConfig,
    segment::{
        SectionName, SegmentFile,
        build::{Source, SourceRows, build_segment},
        points::SegmentPart,
    },
    state::{Dead, SegmentState, State},
};

/// Bytes of the header and the table of a segment, which lie in front of its sections.
const HEAD_BYTES: usize = 16 * 1024;

/// The part of the nearest points that a search along a sound graph finds at least.
pub const RECALL_MIN: f64 = 0.9;

/// What [`Collection::check`] found of a collection that is sound.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionCheck {
    /// Points that are alive.
    pub points: u64,
    /// The lowest recall of a graph: the part of the nearest that searches along its links found.
    pub recall: f64,
    /// Segments with a graph of which that is below [`RECALL_MIN`]: [`Collection::rebuild`] makes it anew.
    pub weak: Vec<u64>,
}

impl Collection {
    /// Reads everything in segments and holds it to what it is made from.
    ///
    /// # Errors
    /// [`CollectionError::Damaged`] with the first thing that a builder would not have written.
    pub fn check(&self) -> Result<CollectionCheck, CollectionError> {
        let state = self.state();
        if let Some(damaged) = state.damaged.first() {
            return Err(CollectionError::Damaged {
                segment: damaged.segment,
                what: damaged.what.clone(),
            });
        }
        let mut checked = CollectionCheck {
            points: state.count(),
            recall: 1.0,
            weak: Vec::new(),
        };
        for segment in &state.segments {
            let recall =
                check_segment(segment, &state).map_err(|what| CollectionError::Damaged {
                    segment: segment.number,
                    what,
                })?;
            checked.recall = checked.recall.min(recall);
            if recall < RECALL_MIN {
                checked.weak.push(segment.number);
            }
        }
        check_once(&state.segments)?;
        Ok(checked)
    }

    /// Makes segments anew of their points, with graphs of our own.
    ///
    /// # Errors
    /// [`CollectionError`]; those that were made before stay.
    pub fn rebuild(&self, segments: &[u64]) -> Result<(), CollectionError> {
        segments
            .iter()
            .try_for_each(|number| self.merge(&[*number]))
    }
}

/// The lowest recall of the segment's graphs.
fn check_segment(segment: &SegmentState, state: &State) -> Result<f64, String> {
    let part = &segment.part;
    part.verify().map_err(|error| error.to_string())?;
    let config = &state.config;
    for (name, vectors) in part.dense() {
        if config.vectors.get(name) != Some(&vectors.params()) {
            return Err(format!("vectors {name:?} are not those of the collection"));
        }
    }
    if let Some(name) = part
        .sparse_names()
        .find(|name| !config.sparse.contains_key(*name))
    {
        return Err(format!("vectors {name:?} are not those of the collection"));
    }
    for row in 0..part.rows() {
        if part.version(row).map_err(|error| error.to_string())? > state.sequence {
            return Err(format!("row {row} was written after the head"));
        }
    }
    check_made(part, config)?;
    let mut recall: f64 = 1.0;
    for (_, vectors) in part.dense() {
        let checked = vectors.check().map_err(|error| error.to_string())?;
        recall = recall.min(checked.recall);
    }
    Ok(recall)
}

/// Makes again what follows from ids, payloads and sparse vectors, and compares.
fn check_made(part: &SegmentPart, config: &CollectionConfig) -> Result<(), String> {
    let mut alike = CollectionConfig::default();
    for (path, kind) in part.fields() {
        let known = alike.schema.insert(path.clone(), kind);
        known.map_err(|error| error.to_string())?;
    }
    for name in part.sparse_names() {
        let params = config.sparse.get(name).copied().unwrap_or_default();
        alike.sparse.insert(name.to_owned(), params);
    }
    let all = Dead::default().others(part.rows());
    let mut rows =
        SourceRows::new([(Source::Segment(part), &all)]).map_err(|error| error.to_string())?;
    let (_, made) = build_segment(Heads::default(), &alike, &mut rows, None)
        .map_err(|error| error.to_string())?;
    let made = made.sections();
    let theirs: BTreeMap<SectionName, [u8; 32]> = part.sections().collect();
    for (name, hash) in made {
        // frames depend on the compressor, and were read; what the fields are called is how we got here
        let follows = !["points", "payload-frames", "payload-table"].contains(&name.kind());
        if follows && theirs.get(&name) != Some(&hash) {
            return Err(format!("section {name} is not what its points say"));
        }
    }
    Ok(())
}

/// Finds points that are alive in two segments.
fn check_once(segments: &[SegmentState]) -> Result<(), CollectionError> {
    let mut next: Vec<_> = segments.iter().map(|segment| segment.part.ids()).collect();
    let mut heap = BinaryHeap::new();
    let mut advance = |at: usize, heap: &mut BinaryHeap<_>| {
        for found in next[at].by_ref() {
            let (id, row) = found?;
            if !segments[at].dead.contains(row) {
                heap.push(Reverse((id, at)));
                break;
            }
        }
        Ok::<_, CollectionError>(())
    };
    for at in 0..segments.len() {
        advance(at, &mut heap)?;
    }
    let mut before = None;
    while let Some(Reverse((id, at))) = heap.pop() {
        if before == Some(id) {
            return Err(CollectionError::Damaged {
                segment: segments[at].number,
                what: format!("point {id} is in another segment too"),
            });
        }
        before = Some(id);
        advance(at, &mut heap)?;
    }
    Ok(())
}

/// Takes a file of which header and table alone are kept.
#[derive(Debug)]
struct Heads {
    head: Vec<u8>,
    at: u64,
    len: u64,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            head: vec![0; HEAD_BYTES],
            at: 0,
            len: 0,
        }
    }
}

impl Heads {
    /// The hashes of the sections that were written.
    fn sections(self) -> BTreeMap<SectionName, [u8; 32]> {
        SegmentFile::read_table(&self.head, self.len)
            .map(|sections| {
                let hashes = sections.into_iter().map(|info| (info.name, info.hash));
                hashes.collect()
            })
            .unwrap_or_default()
    }
}

impl Write for Heads {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let start = usize::try_from(self.at)
            .unwrap_or(HEAD_BYTES)
            .min(HEAD_BYTES);
        let kept = bytes.len().min(HEAD_BYTES - start);
        self.head[start..start + kept].copy_from_slice(&bytes[..kept]);
        self.at += bytes.len() as u64;
        self.len = self.len.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Heads {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
