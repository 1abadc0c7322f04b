//! Where the bytes of chunks go in the file that is received.
//!
//! A whole file is every chunk at its offset. A part of one (`pull --tensors`) is a header that was made
//! for it, and ranges of chunks behind it. Invariant of [`Plan`]: literals and segments cover the target
//! from its first byte to its last, each byte once.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use bytes::Bytes;

use super::DownloadError;
use crate::{ChunkHash, tree::ChunkList};

/// A range of a chunk, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Number of the chunk in the file's chunk list.
    pub chunk: u32,
    /// Bytes of the chunk.
    pub range: Range<u32>,
    /// Byte of the target at which the first of them goes.
    pub offset: u64,
}

/// What the target consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    literals: Vec<(u64, Bytes)>,
    segments: Vec<Segment>,
}

impl Layout {
    /// The whole file: every chunk at its offset.
    pub fn whole(list: &ChunkList) -> Self {
        let mut offset = 0;
        let segments = list.lengths.iter().zip(0..).map(|(len, chunk)| {
            let segment = Segment {
                chunk,
                range: 0..*len,
                offset,
            };
            offset += u64::from(*len);
            segment
        });
        Self {
            segments: segments.collect(),
            literals: Vec::new(),
        }
    }

    /// Bytes that are known (offset and content), and ranges of chunks; together they make a file
    /// without gaps.
    pub fn parts(literals: Vec<(u64, Bytes)>, segments: Vec<Segment>) -> Self {
        Self { literals, segments }
    }
}

/// A layout that was checked, in the order of chunks. Chunks of equal content are one: the first.
#[derive(Debug)]
pub(super) struct Plan {
    /// Bytes of the target.
    pub(super) len: u64,
    pub(super) literals: Vec<(u64, Bytes)>,
    /// Whether the target is the file of the chunk list, byte for byte.
    pub(super) whole: bool,
    /// Whether the target is made of whole chunks alone.
    pub(super) whole_chunks: bool,
    /// Names the layout.
    pub(super) digest: [u8; 32],
    /// For each chunk, the first one of the same content.
    first: Vec<u32>,
    /// By (first) chunk and start.
    segments: Vec<Segment>,
    /// For each chunk, where its segments start; one more at the end.
    starts: Vec<u32>,
}

impl Plan {
    pub(super) fn new(layout: &Layout, list: &ChunkList) -> Result<Self, DownloadError> {
        let refuse = |what: String| DownloadError::Layout(what);
        if list.hashes.len() != list.lengths.len() {
            return Err(refuse("hashes and lengths differ in number".to_owned()));
        }
        let whole = *layout == Layout::whole(list);
        let mut whole_chunks = layout.literals.is_empty();
        let mut places = BTreeMap::new();
        let mut put = |offset: u64, len: u64| {
            if len > 0 && places.insert(offset, len).is_some() {
                return Err(refuse(format!("byte {offset} comes twice")));
            }
            Ok(())
        };
        for (offset, bytes) in &layout.literals {
            put(*offset, bytes.len() as u64)?;
        }
        for Segment {
            chunk,
            range,
            offset,
        } in &layout.segments
        {
            let len = list.lengths.get(*chunk as usize);
            if range.start >= range.end || len.is_none_or(|len| range.end > *len) {
                return Err(refuse(format!("bytes {range:?} of chunk {chunk}")));
            }
            put(*offset, u64::from(range.end - range.start))?;
            whole_chunks &= range.start == 0 && len == Some(&range.end);
        }
        let mut len = 0_u64;
        for (offset, bytes) in places {
            if offset != len {
                return Err(refuse(format!("byte {len} is not covered once")));
            }
            len = len
                .checked_add(bytes)
                .ok_or_else(|| refuse("longer than a file can be".to_owned()))?;
        }
        let mut numbers = HashMap::with_capacity(list.len());
        let first: Vec<u32> = list
            .hashes
            .iter()
            .zip(&list.lengths)
            .zip(0_u32..)
            .map(|((hash, len), number)| *numbers.entry((*hash, *len)).or_insert(number))
            .collect();
        let mut segments = layout.segments.clone();
        for segment in &mut segments {
            segment.chunk = first[segment.chunk as usize];
        }
        segments.sort_by_key(|s| (s.chunk, s.range.start, s.offset));
        let mut starts = Vec::with_capacity(list.len() + 1);
        let mut at = 0;
        for chunk in 0..=list.len() {
            while segments.get(at).is_some_and(|s| (s.chunk as usize) < chunk) {
                at += 1;
            }
            starts.push(u32::try_from(at).map_err(|_| refuse("too many segments".to_owned()))?);
        }
        Ok(Self {
            len,
            literals: layout.literals.clone(),
            whole,
            whole_chunks,
            digest: digest(layout, list),
            first,
            segments,
            starts,
        })
    }

    /// The chunk that stands for `chunk`: the first of the same content.
    pub(super) fn first(&self, chunk: u32) -> Option<u32> {
        self.first.get(chunk as usize).copied()
    }

    /// Where a (first) chunk's bytes go, sorted by their start in the chunk.
    pub(super) fn segments(&self, chunk: u32) -> &[Segment] {
        let at = chunk as usize;
        &self.segments[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// The ranges of a (first) chunk that are wanted: sorted, apart from one another.
    pub(super) fn wanted(&self, chunk: u32) -> Vec<Range<u32>> {
        merge(self.segments(chunk).iter().map(|s| s.range.clone()))
    }

    /// The chunks of which something is wanted.
    pub(super) fn chunks(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..)
            .zip(&self.first)
            .filter(|(number, first)| number == *first && !self.segments(*number).is_empty())
            .map(|(number, _)| number)
    }
}

/// Merges sorted ranges that overlap or touch.
pub(super) fn merge(ranges: impl Iterator<Item = Range<u32>>) -> Vec<Range<u32>> {
    let mut out: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

fn digest(layout: &Layout, list: &ChunkList) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("lode download layout 1");
    let mut number = |n: u64| {
        hasher.update(&n.to_le_bytes());
    };
    number(list.len() as u64);
    number(layout.literals.len() as u64);
    for (offset, bytes) in &layout.literals {
        number(*offset);
        number(bytes.len() as u64);
    }
    for segment in &layout.segments {
        number(u64::from(segment.chunk));
        number(u64::from(segment.range.start));
        number(u64::from(segment.range.end));
        number(segment.offset);
    }
    for (_, bytes) in &layout.literals {
        hasher.update(ChunkHash::of(bytes).as_bytes());
    }
    for (hash, len) in list.hashes.iter().zip(&list.lengths) {
        hasher.update(hash.as_bytes());
        hasher.update(&len.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}
