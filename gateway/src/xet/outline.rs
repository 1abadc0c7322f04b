//! The outline of a file: where its chunks end, and the xorbs that are made of them when somebody reads it by Xet.
//!
//! The xorbs of a file are its chunks in order, as many as fit into one, as they are: nothing of them is stored but the
//! outline, and their bytes come from the file. Invariant: the lengths of an outline's chunks add up to the file's, each
//! is within what a chunk may have, and so is each xorb.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LODEXOUT` |
//! | 32 | the file's hash |
//! | 8, 4, 4 | bytes of the file u64, count of xorbs `x` u32, count of chunks `n` u32; all numbers are little-endian |
//! | 36 x `x` | a xorb's hash 32, count of its chunks u32 |
//! | 4 x `n` | lengths of the chunks in bytes, u32 |
//! | 32 | BLAKE3 of all before |

use std::ops::Range;

use lode_node::upload::limits::{XORB_BYTES_MAX, XORB_CHUNK_BYTES_MAX, XORB_CHUNKS_MAX};
use lode_tensors::ByteRange;

use super::{
    cutter::Cutter,
    hash::{Tree, XetHash},
    xorb::HEAD_BYTES,
};

const MAGIC: [u8; 8] = *b"LODEXOUT";
/// Bytes of what says which file an outline is of.
pub const OUTLINE_HEAD_BYTES: usize = 40;
const TABLES_AT: usize = 56;
const XORB_ROW_BYTES: usize = 36;
const SEAL_BYTES: usize = 32;

/// Where the chunks of a file end, and which xorbs they make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    hash: XetHash,
    len: u64,
    xorbs: Vec<XorbAt>,
    /// Bytes of each chunk.
    lengths: Vec<u32>,
}

/// A xorb of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct XorbAt {
    hash: XetHash,
    /// Its chunks among those of the file.
    chunks: Range<usize>,
    /// Its first byte in the file.
    start: u64,
}

/// Chunks of a xorb that are the next bytes of a range of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Which xorb of the file.
    pub xorb: usize,
    /// The xorb's hash.
    pub hash: XetHash,
    /// The chunks, counted in the xorb.
    pub chunks: Range<u32>,
    /// Their bytes.
    pub len: u64,
    /// Where they lie in the xorb, heads and all.
    pub packed: ByteRange,
}

impl Outline {
    /// The file's hash.
    pub fn hash(&self) -> XetHash {
        self.hash
    }

    /// Bytes of the file.
    #[allow(clippy::len_without_is_empty, reason = "a file without bytes has none")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of memory that it takes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.lengths.len() * 4 + self.xorbs.len() * size_of::<XorbAt>()
    }

    /// The chunks that hold `range`, which is not empty and in the file, and how many bytes of the first come before it.
    pub fn terms(&self, range: ByteRange) -> (u64, Vec<Term>) {
        let mut skipped = 0;
        let mut terms = Vec::new();
        let first = self.xorbs.partition_point(|xorb| xorb.start <= range.start);
        for number in first.saturating_sub(1)..self.xorbs.len() {
            let at = &self.xorbs[number];
            if at.start >= range.end {
                break;
            }
            let xorb = Layout::new(at.start, &self.lengths[at.chunks.clone()]);
            let end = range.end.min(at.start + xorb.raw_len());
            let start = range.start.max(at.start);
            let chunks = xorb.chunk_of(start - at.start)..xorb.chunk_of(end - 1 - at.start) + 1;
            let raw = xorb.raw_start(chunks.start)..xorb.raw_start(chunks.end);
            if terms.is_empty() {
                skipped = start - at.start - raw.start;
            }
            let count = |index: usize| u32::try_from(index).expect("a xorb has few chunks");
            terms.push(Term {
                xorb: number,
                hash: at.hash,
                packed: ByteRange {
                    start: xorb.starts[chunks.start],
                    end: xorb.starts[chunks.end],
                },
                chunks: count(chunks.start)..count(chunks.end),
                len: raw.end - raw.start,
            });
        }
        (skipped, terms)
    }

    /// A xorb of the file with its hash.
    pub fn xorb(&self, number: usize) -> Option<(XetHash, Layout)> {
        let at = self.xorbs.get(number)?;
        let layout = Layout::new(at.start, &self.lengths[at.chunks.clone()]);
        Some((at.hash, layout))
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("files are not so long");
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(self.hash.as_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        for len in [self.xorbs.len(), self.lengths.len()] {
            out.extend_from_slice(&count(len).to_le_bytes());
        }
        for xorb in &self.xorbs {
            out.extend_from_slice(xorb.hash.as_bytes());
            out.extend_from_slice(&count(xorb.chunks.len()).to_le_bytes());
        }
        for len in &self.lengths {
            out.extend_from_slice(&len.to_le_bytes());
        }
        let seal = blake3::hash(&out);
        out.extend_from_slice(seal.as_bytes());
        out
    }

    /// Which file's outline starts with these bytes: what is not sealed is believed until it is read.
    pub fn peek(head: &[u8; OUTLINE_HEAD_BYTES]) -> Option<XetHash> {
        let hash = head.strip_prefix(&MAGIC)?;
        Some(XetHash::from_bytes(*hash.first_chunk()?))
    }

    /// Reads one; nothing that breaks the invariant is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, seal) = bytes.split_last_chunk::<SEAL_BYTES>()?;
        if blake3::hash(body).as_bytes() != seal {
            return None;
        }
        let hash = Self::peek(body.first_chunk()?)?;
        let len = u64::from_le_bytes(*body.get(40..)?.first_chunk()?);
        let number = |at| Some(u32::from_le_bytes(*body.get(at..)?.first_chunk()?) as usize);
        let (xorb_count, chunk_count) = (number(48)?, number(52)?);
        let rows_len = xorb_count.checked_mul(XORB_ROW_BYTES)?;
        let (rows, lengths) = body.get(TABLES_AT..)?.split_at_checked(rows_len)?;
        if lengths.len() != chunk_count.checked_mul(4)? {
            return None;
        }
        let lengths = lengths.as_chunks::<4>().0.iter();
        let lengths: Vec<u32> = lengths.map(|len| u32::from_le_bytes(*len)).collect();
        let mut outline = Self {
            hash,
            len,
            xorbs: Vec::with_capacity(xorb_count),
            lengths,
        };
        let (mut chunk, mut start) = (0, 0);
        for row in rows.as_chunks::<XORB_ROW_BYTES>().0 {
            let (hash, count) = row.split_first_chunk::<32>()?;
            let count = u32::from_le_bytes(*count.first_chunk()?) as usize;
            let chunks = chunk..chunk + count;
            let lengths = outline.lengths.get(chunks.clone())?;
            let raw: u64 = lengths.iter().map(|len| u64::from(*len)).sum();
            let fits = |len: &u32| (1..=XORB_CHUNK_BYTES_MAX).contains(&(*len as usize));
            if !(1..=XORB_CHUNKS_MAX).contains(&count)
                || raw > XORB_BYTES_MAX
                || !lengths.iter().all(fits)
            {
                return None;
            }
            chunk = chunks.end;
            outline.xorbs.push(XorbAt {
                hash: XetHash::from_bytes(*hash),
                chunks,
                start,
            });
            start += raw;
        }
        (chunk == outline.lengths.len() && start == len && len > 0).then_some(outline)
    }
}

/// Where the chunks of one xorb lie, in it and in the file.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Its first byte in the file.
    start: u64,
    /// Where each chunk's head starts in the xorb, and where the last one ends.
    starts: Vec<u64>,
}

impl Layout {
    fn new(start: u64, lengths: &[u32]) -> Self {
        let mut starts = Vec::with_capacity(lengths.len() + 1);
        let mut at = 0;
        for len in lengths {
            starts.push(at);
            at += HEAD_BYTES as u64 + u64::from(*len);
        }
        starts.push(at);
        Self { start, starts }
    }

    fn chunks(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes of the xorb, heads and all.
    #[allow(clippy::len_without_is_empty, reason = "a xorb has a chunk")]
    pub fn len(&self) -> u64 {
        self.starts[self.chunks()]
    }

    fn raw_len(&self) -> u64 {
        self.raw_start(self.chunks())
    }

    /// Bytes of all chunks before this one.
    fn raw_start(&self, chunk: usize) -> u64 {
        self.starts[chunk] - (chunk * HEAD_BYTES) as u64
    }

    /// The chunk that holds a byte, heads not counted.
    fn chunk_of(&self, raw: u64) -> usize {
        let (mut low, mut high) = (0, self.chunks());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            match self.raw_start(middle) <= raw {
                true => low = middle,
                false => high = middle,
            }
        }
        low
    }

    /// The chunk that a byte of the xorb belongs to, or whose head it is of.
    fn chunk_at(&self, at: u64) -> usize {
        let after = self.starts.partition_point(|start| *start <= at);
        (after - 1).min(self.chunks() - 1)
    }

    /// Where the file's bytes go on that stand at or behind this place of the xorb.
    fn in_file(&self, at: u64) -> u64 {
        let chunk = self.chunk_at(at);
        let inside = (at - self.starts[chunk]).saturating_sub(HEAD_BYTES as u64);
        self.start + self.raw_start(chunk) + inside
    }

    /// The bytes of the file that a range of the xorb needs: none for parts of a head.
    pub fn file_range(&self, range: ByteRange) -> ByteRange {
        ByteRange {
            start: self.in_file(range.start),
            end: self.in_file(range.end),
        }
    }

    /// The first bytes of a range of the xorb: heads, and of its chunks the first bytes of its
    /// [`file_range`](Self::file_range) as far as they are given.
    pub fn join(&self, range: ByteRange, mut data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + data.len() / 4096 + HEAD_BYTES);
        let mut at = range.start;
        while at < range.end {
            let chunk = self.chunk_at(at);
            let end = self.starts[chunk + 1].min(range.end);
            let body = self.starts[chunk] + HEAD_BYTES as u64;
            let wanted = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(0);
            if at < body {
                let head = self.head(chunk);
                let from = HEAD_BYTES - wanted(at, body);
                let to = from + wanted(at, body.min(end));
                out.extend_from_slice(&head[from..to]);
                at += (to - from) as u64;
                continue;
            }
            let (now, later) = data.split_at(wanted(at, end).min(data.len()));
            if now.is_empty() {
                break;
            }
            out.extend_from_slice(now);
            at += now.len() as u64;
            data = later;
        }
        out
    }

    /// What stands before a chunk: it is as it is.
    fn head(&self, chunk: usize) -> [u8; HEAD_BYTES] {
        let len = self.raw_start(chunk + 1) - self.raw_start(chunk);
        let [l0, l1, l2, ..] = len.to_le_bytes();
        [0, l0, l1, l2, 0, l0, l1, l2]
    }
}

/// Makes the outline of a file from its bytes. Memory: 4 bytes a chunk.
#[derive(Debug)]
pub struct Outliner {
    cutter: Cutter,
    chunk: blake3::Hasher,
    /// Bytes of the open chunk.
    open: u32,
    file: Tree,
    xorb: Tree,
    xorb_chunks: usize,
    xorb_bytes: u64,
    outline: Outline,
}

impl Default for Outliner {
    fn default() -> Self {
        Self {
            cutter: Cutter::default(),
            chunk: XetHash::chunk_hasher(),
            open: 0,
            file: Tree::default(),
            xorb: Tree::default(),
            xorb_chunks: 0,
            xorb_bytes: 0,
            outline: Outline {
                hash: XetHash::from_bytes([0; 32]),
                len: 0,
                xorbs: Vec::new(),
                lengths: Vec::new(),
            },
        }
    }
}

impl Outliner {
    /// Adds the next bytes of the file.
    pub fn push(&mut self, mut data: &[u8]) {
        while let Some(end) = self.cutter.next(data) {
            let (last, after) = data.split_at(end);
            self.extend(last);
            self.close_chunk();
            data = after;
        }
        self.extend(data);
    }

    fn extend(&mut self, data: &[u8]) {
        self.chunk.update(data);
        self.open += u32::try_from(data.len()).expect("a chunk is short");
    }

    fn close_chunk(&mut self) {
        let hash = XetHash::from_bytes(*self.chunk.finalize().as_bytes());
        self.chunk.reset();
        let len = std::mem::take(&mut self.open);
        let leaf = (hash, u64::from(len));
        if self.xorb_chunks == XORB_CHUNKS_MAX || self.xorb_bytes + leaf.1 > XORB_BYTES_MAX {
            self.close_xorb();
        }
        self.file.push(leaf);
        self.xorb.push(leaf);
        self.xorb_chunks += 1;
        self.xorb_bytes += leaf.1;
        self.outline.lengths.push(len);
    }

    fn close_xorb(&mut self) {
        let end = self.outline.lengths.len();
        self.outline.xorbs.push(XorbAt {
            hash: std::mem::take(&mut self.xorb).finish(),
            chunks: end - self.xorb_chunks..end,
            start: self.outline.len,
        });
        self.outline.len += self.xorb_bytes;
        (self.xorb_chunks, self.xorb_bytes) = (0, 0);
    }

    /// The outline; nothing of a file without bytes.
    pub fn finish(mut self) -> Option<Outline> {
        if self.open > 0 {
            self.close_chunk();
        }
        if self.xorb_chunks == 0 {
            return None;
        }
        self.close_xorb();
        self.outline.hash = XetHash::of_file(self.file.finish());
        Some(self.outline)
    }
}

#[cfg(test)]
#[path = "outline/tests.rs"]
mod tests;
