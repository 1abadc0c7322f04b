//! Where the bytes of chunks go in the file that is received.
//!
//! A whole file is one run of bytes. A part of one (`pull --tensors`, `--slice`) is a header that was made
//! for it, and runs of the source's bytes behind it: rows of a tensor are one run, columns are one a row,
//! millions of them in a large model. They stay four numbers here; which bytes of a chunk are wanted is
//! worked out when it is asked. Invariant of [`Plan`]: literals and segments cover the target from its
//! first byte to its last, each byte once.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use lode_tensors::{ByteRange, Runs};

use super::{
    DownloadError,
    coverage::{each, piece_range, pieces_of},
};
use crate::{ChunkHash, tree::ChunkList};

/// Runs of the source file's bytes, and where they go, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of the file that the chunk list makes.
    pub runs: Runs,
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
        let (start, end) = (0, list.size());
        let runs = Runs::of(ByteRange { start, end });
        Self {
            segments: runs
                .map(|runs| Segment { runs, offset: 0 })
                .into_iter()
                .collect(),
            literals: Vec::new(),
        }
    }

    /// Bytes that are known (offset and content), and runs of the source; together they make a file
    /// without gaps.
    pub fn parts(literals: Vec<(u64, Bytes)>, segments: Vec<Segment>) -> Self {
        Self { literals, segments }
    }
}

/// A layout that was checked, in the order of the source. Chunks of equal content are one: the first.
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
    /// For each chunk, its first byte in the source; one more at the end.
    starts: Vec<u64>,
    /// The later places of chunks that come more than once.
    again: HashMap<u32, Vec<u32>>,
    /// By their first byte in the source.
    segments: Vec<Segment>,
    /// The furthest end of a segment and those before it.
    reach: Vec<u64>,
    /// Whether no segment lies among the bytes of another.
    apart: bool,
    /// For each (first) chunk, the pieces of which something is wanted.
    pieces: Vec<u16>,
}

/// What one segment wants of a range of a chunk. Its bytes follow one another in the target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    runs: Runs,
    /// The chunk's first byte in the source.
    start: u64,
    window: ByteRange,
    /// Byte of the target.
    pub(super) target: u64,
    /// Bytes.
    pub(super) len: u64,
}

impl Span {
    /// The bytes of the chunk, in order.
    pub(super) fn parts(self) -> impl Iterator<Item = Range<u32>> {
        let within = move |at: u64| {
            u32::try_from(at - self.start).expect("it lies in a chunk of at most 16 MiB")
        };
        let parts = self.runs.inside(self.window);
        parts.map(move |part| within(part.range.start)..within(part.range.end))
    }
}

impl Plan {
    pub(super) fn new(layout: &Layout, list: &ChunkList) -> Result<Self, DownloadError> {
        let refuse = |what: String| DownloadError::Layout(what);
        if list.hashes.len() != list.lengths.len() {
            return Err(refuse("hashes and lengths differ in number".to_owned()));
        }
        let mut starts = Vec::with_capacity(list.len() + 1);
        let mut size = 0_u64;
        starts.push(size);
        for len in &list.lengths {
            size += u64::from(*len);
            starts.push(size);
        }
        let len = target_len(layout, size)?;
        let mut numbers = HashMap::with_capacity(list.len());
        let mut again: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut first = Vec::with_capacity(list.len());
        for ((hash, len), number) in list.hashes.iter().zip(&list.lengths).zip(0_u32..) {
            let of = *numbers.entry((*hash, *len)).or_insert(number);
            first.push(of);
            if of != number {
                again.entry(of).or_default().push(number);
            }
        }
        let mut segments = layout.segments.clone();
        segments.sort_by_key(|segment| (segment.runs.span().start, segment.offset));
        let (mut reach, mut apart) = (Vec::with_capacity(segments.len()), true);
        let mut end = 0;
        for segment in &segments {
            let span = segment.runs.span();
            apart &= span.start >= end;
            end = end.max(span.end);
            reach.push(end);
        }
        let at_chunk = |byte: &u64| starts.binary_search(byte).is_ok();
        let of_chunks = |segment: &Segment| {
            let span = segment.runs.span();
            segment.runs.count() == 1 && at_chunk(&span.start) && at_chunk(&span.end)
        };
        let mut plan = Self {
            len,
            whole: *layout == Layout::whole(list),
            whole_chunks: layout.literals.is_empty() && segments.iter().all(of_chunks),
            digest: digest(layout, list),
            literals: layout.literals.clone(),
            pieces: Vec::new(),
            first,
            starts,
            again,
            segments,
            reach,
            apart,
        };
        plan.pieces = (0_u32..)
            .zip(&list.lengths)
            .map(|(chunk, len)| plan.find_pieces(chunk, *len))
            .collect();
        Ok(plan)
    }

    fn find_pieces(&self, chunk: u32, len: u32) -> u16 {
        if self.first(chunk) != Some(chunk) {
            return 0;
        }
        let wanted = |piece: &u8| {
            self.spans(chunk, &piece_range(*piece, len))
                .next()
                .is_some()
        };
        each(pieces_of(&(0..len)))
            .filter(wanted)
            .fold(0, |bits, piece| bits | (1 << piece))
    }

    /// The chunk that stands for `chunk`: the first of the same content.
    pub(super) fn first(&self, chunk: u32) -> Option<u32> {
        self.first.get(chunk as usize).copied()
    }

    /// What of a range of a (first) chunk goes where; some bytes may go to several places.
    pub(super) fn spans(&self, chunk: u32, range: &Range<u32>) -> impl Iterator<Item = Span> {
        let again = self.again.get(&chunk).map_or(&[][..], Vec::as_slice);
        let range = range.clone();
        std::iter::once(chunk)
            .chain(again.iter().copied())
            .flat_map(move |place| {
                let start = self.starts[place as usize];
                let window = ByteRange {
                    start: start + u64::from(range.start),
                    end: start + u64::from(range.end),
                };
                self.near(window).filter_map(move |segment| {
                    let before = segment.runs.bytes_before(window.start);
                    let len = segment.runs.bytes_before(window.end) - before;
                    (len > 0).then_some(Span {
                        runs: segment.runs,
                        start,
                        window,
                        target: segment.offset + before,
                        len,
                    })
                })
            })
    }

    /// The segments that may have bytes in a window of the source.
    fn near(&self, window: ByteRange) -> impl Iterator<Item = &Segment> {
        let from = self.reach.partition_point(|end| *end <= window.start);
        self.segments[from..]
            .iter()
            .take_while(move |segment| segment.runs.span().start < window.end)
    }

    /// What of a range of a (first) chunk is wanted: sorted, apart from one another. The caller sees to it
    /// that the range is no longer than a piece, of which a byte in two may be wanted.
    pub(super) fn wanted(&self, chunk: u32, range: &Range<u32>) -> Vec<Range<u32>> {
        let mut parts: Vec<Range<u32>> = self.spans(chunk, range).flat_map(Span::parts).collect();
        parts.sort_by_key(|part| part.start);
        merge(parts.into_iter())
    }

    /// How many bytes of a range of a (first) chunk are wanted, those that go to two places once.
    pub(super) fn wanted_bytes(&self, chunk: u32, range: &Range<u32>) -> u64 {
        if self.apart && !self.again.contains_key(&chunk) {
            return self.spans(chunk, range).map(|span| span.len).sum();
        }
        let wanted = self.wanted(chunk, range);
        wanted.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether all of a range of a (first) chunk is wanted.
    pub(super) fn is_whole(&self, chunk: u32, range: &Range<u32>) -> bool {
        let mut sum = 0;
        for span in self.spans(chunk, range) {
            if span.len == range.len() as u64 {
                return true;
            }
            sum += span.len;
        }
        sum >= range.len() as u64 && self.wanted(chunk, range) == [range.clone()]
    }

    /// The pieces of a (first) chunk of which something is wanted.
    pub(super) fn pieces(&self, chunk: u32) -> u16 {
        self.pieces[chunk as usize]
    }

    /// The (first) chunks of which something is wanted.
    pub(super) fn chunks(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..)
            .zip(&self.pieces)
            .filter(|(_, pieces)| **pieces != 0)
            .map(|(number, _)| number)
    }
}

/// Bytes of the target, if literals and segments (of a source of `size` bytes) cover it.
fn target_len(layout: &Layout, size: u64) -> Result<u64, DownloadError> {
    let refuse = |what: String| DownloadError::Layout(what);
    let mut places = Vec::with_capacity(layout.literals.len() + layout.segments.len());
    for (offset, bytes) in &layout.literals {
        places.push((*offset, bytes.len() as u64));
    }
    for Segment { runs, offset } in &layout.segments {
        if runs.span().end > size {
            return Err(refuse(format!("bytes {:?} of {size}", runs.span())));
        }
        places.push((*offset, runs.bytes()));
    }
    places.retain(|(_, len)| *len > 0);
    places.sort_unstable();
    let mut len = 0_u64;
    for (offset, bytes) in places {
        if offset != len {
            return Err(refuse(format!("byte {len} is not covered once")));
        }
        len = len
            .checked_add(bytes)
            .ok_or_else(|| refuse("longer than a file can be".to_owned()))?;
    }
    Ok(len)
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
    let mut hasher = blake3::Hasher::new_derive_key("lode download layout 2");
    let mut number = |n: u64| {
        hasher.update(&n.to_le_bytes());
    };
    number(list.len() as u64);
    number(layout.literals.len() as u64);
    for (offset, bytes) in &layout.literals {
        number(*offset);
        number(bytes.len() as u64);
    }
    for Segment { runs, offset } in &layout.segments {
        number(runs.span().start);
        number(runs.run_bytes());
        number(runs.step());
        number(runs.count());
        number(*offset);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cut_of_many_millions_of_runs_stays_four_numbers() {
        // 64 GiB, every other KiB of it: 32 million runs
        let list = ChunkList {
            hashes: (0..4096_u32)
                .map(|n| ChunkHash::of(&n.to_le_bytes()))
                .collect(),
            lengths: vec![16 << 20; 4096],
        };
        let runs = Runs::new(1024, 1024, 2048, 32 << 20).unwrap();
        let layout = Layout::parts(Vec::new(), vec![Segment { runs, offset: 0 }]);
        let plan = Plan::new(&layout, &list).unwrap();
        assert_eq!(plan.segments.len(), 1);
        assert_eq!((plan.len, plan.chunks().count()), (32 << 30, 4096));
        assert_eq!(plan.pieces(4095), u16::MAX);
        let piece = piece_range(15, 16 << 20);
        assert_eq!(plan.wanted_bytes(4095, &piece), 512 << 10);
        let wanted = plan.wanted(4095, &piece);
        assert_eq!(wanted.len(), 512);
        assert_eq!(wanted[0], piece.start + 1024..piece.start + 2048);
        assert_eq!(
            plan.spans(4095, &piece).next().unwrap().target,
            (32 << 30) - (512 << 10)
        );
        assert!(!plan.is_whole(4095, &piece));
    }
}
