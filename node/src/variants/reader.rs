//! Reads a file of a variant: gathers the source ranges that a range needs and makes it of them.
//!
//! A short range is made by itself; a longer one by blocks, which are kept for a while and made by all cores. Memory
//! is bounded by a block and its source for each reader.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use lode_quantize::{Gathered, MakeError, SourceRange, VirtualFile};
use lode_tensors::{ByteRange, Header};
use rayon::prelude::*;

use super::{
    VariantAt,
    limits::{BLOCK_BYTES, PART_BYTES, SHORT_BYTES_MAX, SOURCE_AHEAD_BYTES_MAX, SOURCE_BYTES_MAX},
    open::{Opened, Opener, blocking},
};
use crate::command::{Failure, FailureKind};

/// Reads a file of a variant for one reader.
pub struct VariantReader {
    shared: Arc<Shared>,
    /// The files that it is made of, by position in the tree.
    sources: Vec<(usize, Opened)>,
}

struct Shared {
    opener: Opener,
    at: Arc<VariantAt>,
    file: usize,
}

impl fmt::Debug for VariantReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.shared.at.files[self.shared.file];
        write!(f, "VariantReader({:?} of {})", file.path, self.shared.at.id)
    }
}

/// Source bytes, each with its place.
type Pieces = Vec<(SourceRange, Bytes)>;

/// What is made for a range that is asked for.
enum Make {
    /// It alone.
    Range(ByteRange),
    /// A block that holds its first byte.
    Block(u64, ByteRange),
}

impl Make {
    fn range(&self) -> ByteRange {
        match self {
            Self::Range(range) | Self::Block(_, range) => *range,
        }
    }
}

impl VariantReader {
    pub(super) fn new(
        opener: Opener,
        at: Arc<VariantAt>,
        file: usize,
        sources: Vec<(usize, Opened)>,
    ) -> Self {
        let shared = Arc::new(Shared { opener, at, file });
        Self { shared, sources }
    }

    /// The same file for another reader.
    #[must_use]
    pub fn again(&self) -> Self {
        let again = |(at, opened): &(usize, Opened)| (*at, opened.again());
        Self {
            shared: Arc::clone(&self.shared),
            sources: self.sources.iter().map(again).collect(),
        }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.shared.at.files[self.shared.file].len
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its header, and the bytes of it. What is not held comes from peers.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn header(self: &Arc<Self>) -> Result<(Header, Vec<u8>), Failure> {
        let (start, end) = (0, self.header_len());
        let bytes = self.make(ByteRange { start, end }).await?;
        let header = lode_tensors::parse(&bytes, self.len())
            .map_err(|error| Failure::failed(format!("a made header is refused: {error}")))?;
        Ok((header, bytes.to_vec()))
    }

    /// Bytes before its first tensor; all of it without any.
    fn header_len(&self) -> u64 {
        let tensors = self.made().map_or(&[][..], |made| made.tensors());
        let starts = tensors.iter().map(|tensor| tensor.range.start);
        starts.min().unwrap_or_else(|| self.len())
    }

    fn made(&self) -> Option<&Arc<VirtualFile>> {
        self.shared.at.files[self.shared.file].made()
    }

    /// The source ranges that a range is made of.
    fn needs(&self, range: ByteRange) -> Vec<SourceRange> {
        match (self.made(), self.sources.first()) {
            (Some(made), _) => made.needs(range),
            (None, Some(&(file, _))) => vec![SourceRange { file, range }],
            (None, None) => Vec::new(),
        }
    }

    fn source(&self, file: usize) -> Result<&Opened, Failure> {
        let found = self.sources.iter().find(|(at, _)| *at == file);
        found
            .map(|(_, opened)| opened)
            .ok_or_else(|| Failure::failed("a file is not among those that a variant is made of"))
    }

    /// The first bytes of `range`, which is not empty, from what is held. Blocks.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when some of the source is not held; weights that
    /// cannot be made into what the variant promises.
    pub fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        let range = self.within(range);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if self.made().is_none() {
            let (_, opened) = &self.sources[0];
            return Ok(opened.file.read(range)?);
        }
        match self.what_to_make(range) {
            Make::Range(range) => self.make_held(range),
            Make::Block(block, whole) => {
                let make = || self.make_held(whole);
                let bytes = self.blocks().get_or_make(self.key(block), make)?;
                Ok(cut(&bytes, whole, range))
            }
        }
    }

    /// Whether all of the source of `range` is held. Reads nothing.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when it is not.
    pub fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        for need in self.needs(self.within(range)) {
            self.source(need.file)?.file.check_held(need.range)?;
        }
        Ok(())
    }

    /// Whether the source of these ranges can be had now, here or from peers.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when nobody has some of it.
    pub async fn reach(&self, ranges: Vec<ByteRange>) -> Result<(), Failure> {
        let needs: Vec<SourceRange> = ranges
            .into_iter()
            .flat_map(|range| self.needs(self.within(range)))
            .collect();
        for (at, opened) in &self.sources {
            let own = needs.iter().filter(|need| need.file == *at);
            let ranges: Vec<ByteRange> = own.map(|need| need.range).collect();
            if let (Some(remote), false) = (&opened.remote, ranges.is_empty()) {
                remote.reach(ranges).await?;
            }
        }
        Ok(())
    }

    /// As [`Self::read`], with what is not held from peers, for a reader that goes on to `until`. Dropping the future,
    /// or this, stops what nobody else waits for.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn fetch(self: &Arc<Self>, range: ByteRange, until: u64) -> Result<Bytes, Failure> {
        let range = self.within(range);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let make = match self.made() {
            Some(_) => self.what_to_make(range),
            None => Make::Range(range),
        };
        if let Make::Block(block, whole) = make
            && let Some(bytes) = self.blocks().get(self.key(block))
        {
            return Ok(cut(&bytes, whole, range));
        }
        let ahead = until.saturating_sub(range.end);
        if self.made().is_none() {
            return self.fetch_source(self.needs(range)[0], ahead).await;
        }
        let bytes = self.fetch_and_make(make.range(), ahead).await?;
        if let Make::Block(block, whole) = make {
            self.blocks().put(self.key(block), bytes.clone());
            return Ok(cut(&bytes, whole, range));
        }
        Ok(bytes)
    }

    /// All of `range`, made by itself on all cores: for who writes a file. What is not held comes from peers.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn make(self: &Arc<Self>, range: ByteRange) -> Result<Bytes, Failure> {
        let range = self.within(range);
        let this = Arc::clone(self);
        let held = blocking(move || match this.make_held(range) {
            Err(failure) if failure.kind == FailureKind::NoPeer => Ok(None),
            made => made.map(Some),
        });
        match held.await? {
            Some(bytes) => Ok(bytes),
            None => self.fetch_and_make(range, 0).await,
        }
    }

    /// Makes a range of what is held. Blocks.
    fn make_held(&self, range: ByteRange) -> Result<Bytes, Failure> {
        let Some(made) = self.made() else {
            let pieces = self.gather(range)?;
            return Ok(join(pieces.into_iter().map(|(_, bytes)| bytes).collect()));
        };
        let _turn = self.blocks().turn();
        let mut out = Vec::new();
        for step in steps(made, range) {
            let (pieces, before, since) = (self.gather(step)?, out.len(), Instant::now());
            make_into(made, step, &pieces, &mut out)?;
            self.blocks().count(out.len() - before, since);
        }
        Ok(out.into())
    }

    /// Makes a range of what comes from peers where it is not held.
    async fn fetch_and_make(
        self: &Arc<Self>,
        range: ByteRange,
        ahead: u64,
    ) -> Result<Bytes, Failure> {
        let Some(made) = self.made().cloned() else {
            return self.fetch_source(self.needs(range)[0], ahead).await;
        };
        let mut out = Vec::new();
        for step in steps(&made, range) {
            let mut pieces = Pieces::new();
            for need in made.needs(step) {
                pieces.push((need, self.fetch_source(need, ahead).await?));
            }
            let (made, this) = (Arc::clone(&made), Arc::clone(self));
            let mut before = out;
            let make = move || -> Result<Vec<u8>, Failure> {
                let (length, since) = (before.len(), Instant::now());
                make_into(&made, step, &pieces, &mut before)?;
                this.blocks().count(before.len() - length, since);
                Ok(before)
            };
            out = blocking(make).await?;
        }
        Ok(out.into())
    }

    async fn fetch_source(&self, need: SourceRange, ahead: u64) -> Result<Bytes, Failure> {
        let opened = self.source(need.file)?;
        let Some(remote) = &opened.remote else {
            let file = Arc::clone(&opened.file);
            let read = blocking(move || Ok(file.read_all(need.range)?));
            return Ok(read.await?.into());
        };
        // A variant is shorter than its source, so that the reader goes on at least so far there.
        let until = need
            .range
            .end
            .saturating_add(ahead.min(SOURCE_AHEAD_BYTES_MAX));
        let until = until.min(opened.file.len());
        let mut all: Vec<Bytes> = Vec::new();
        let mut start = need.range.start;
        while start < need.range.end {
            let end = need.range.end;
            let bytes = remote.read(ByteRange { start, end }, until).await?;
            start += bytes.len() as u64;
            all.push(bytes);
        }
        Ok(join(all))
    }

    fn within(&self, range: ByteRange) -> ByteRange {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        ByteRange { start, end }
    }

    fn what_to_make(&self, range: ByteRange) -> Make {
        let block = range.start / BLOCK_BYTES;
        let start = block * BLOCK_BYTES;
        let whole = ByteRange {
            start,
            end: self.len().min(start + BLOCK_BYTES),
        };
        let kept = self.blocks().has(self.key(block));
        if kept || range.len() > SHORT_BYTES_MAX {
            Make::Block(block, whole)
        } else {
            Make::Range(range)
        }
    }

    fn blocks(&self) -> &super::Blocks {
        &self.shared.opener.reads().caches().blocks
    }

    fn key(&self, block: u64) -> super::blocks::Block {
        let file = u32::try_from(self.shared.file).expect("a tree has fewer files");
        (self.shared.at.id, file, block)
    }

    /// The source of a range, from what is held.
    fn gather(&self, range: ByteRange) -> Result<Pieces, Failure> {
        let mut pieces = Pieces::new();
        for need in self.needs(range) {
            let file = &self.source(need.file)?.file;
            let mut all = Vec::new();
            let mut start = need.range.start;
            while start < need.range.end {
                let end = need.range.end;
                let bytes = file.read(ByteRange { start, end })?;
                if bytes.is_empty() {
                    return Err(Failure::failed("a source file ends before its header says"));
                }
                start += bytes.len() as u64;
                all.push(bytes);
            }
            pieces.push((need, join(all)));
        }
        Ok(pieces)
    }
}

/// One piece of several that follow one another; without a copy if there is one.
fn join(mut all: Vec<Bytes>) -> Bytes {
    match all.len() {
        0 | 1 => all.pop().unwrap_or_default(),
        _ => all.concat().into(),
    }
}

/// The part of `range` that `bytes`, which are `whole`, hold: at least its first byte.
fn cut(bytes: &Bytes, whole: ByteRange, range: ByteRange) -> Bytes {
    let at = |position: u64| {
        let within = position.min(whole.end) - whole.start;
        usize::try_from(within).expect("a block is short")
    };
    bytes.slice(at(range.start)..at(range.end))
}

/// The parts of a range that need a bounded part of the source each.
fn steps(made: &VirtualFile, range: ByteRange) -> impl Iterator<Item = ByteRange> {
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let step = made.within(rest, SOURCE_BYTES_MAX);
        rest.start = step.end;
        Some(step)
    })
}

/// Makes a range in parts on all cores, and adds it to `out`.
fn make_into(
    made: &VirtualFile,
    range: ByteRange,
    pieces: &Pieces,
    out: &mut Vec<u8>,
) -> Result<(), MakeError> {
    let gathered = Gathered::new(pieces.iter().map(|(at, bytes)| (*at, &bytes[..])));
    let before = out.len();
    out.resize(
        before + usize::try_from(range.len()).expect("a block is short"),
        0,
    );
    let out = &mut out[before..];
    let part = |(at, out): (usize, &mut [u8])| {
        let start = range.start + (at * PART_BYTES) as u64;
        let end = start + out.len() as u64;
        made.make(ByteRange { start, end }, &gathered, out)
    };
    if out.len() <= PART_BYTES {
        return part((0, out));
    }
    out.par_chunks_mut(PART_BYTES)
        .enumerate()
        .try_for_each(part)
}
