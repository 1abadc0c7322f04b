//! What a Get or GetMany asks for, blob after blob, as batches. Everything here may block.

use std::{io, sync::Arc};

use bytes::Bytes;

use crate::ChunkHash;

use super::{
    encode::{Batch, Encoder},
    limits::{BATCH_MAPPED_BYTES, BATCH_READ_BYTES, GROUP_BYTES},
    request::RangesSeq,
    source::{Access, Caller, ChunkRead, ChunkSource},
};

const HASH_BYTES: u64 = 32;

/// How an answer ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// With everything that was asked for.
    Complete,
    /// In front of a blob that is absent, or refused.
    Absent,
    /// Because bytes could not be read, or are wrong.
    Broken(io::Error),
}

/// What comes after a batch.
pub(super) enum Then {
    /// More of the answer.
    More(Box<Answer>),
    /// Nothing.
    End(Ended),
}

/// Which blobs are asked for.
pub(super) enum Asked {
    /// A root and, if it is a HashSeq, its children.
    Tree(ChunkHash),
    /// Blobs by hash.
    Many(Vec<ChunkHash>),
}

/// An answer that is being sent.
pub(super) struct Answer {
    source: Arc<dyn ChunkSource>,
    access: Arc<dyn Access>,
    caller: Caller,
    asked: Asked,
    ranges: RangesSeq,
    /// Number of the next blob: for a tree, 0 is the root.
    next: u64,
    children: Option<Children>,
    encoder: Option<Encoder>,
    /// Bytes of a batch at the most.
    limit: usize,
}

/// The HashSeq whose children are asked for.
struct Children {
    reader: Arc<dyn ChunkRead>,
    count: u64,
    /// Bytes of the HashSeq that were read last, and the first of them.
    window: (u64, Bytes),
}

impl Answer {
    pub(super) fn new(
        source: Arc<dyn ChunkSource>,
        access: Arc<dyn Access>,
        caller: Caller,
        asked: Asked,
        ranges: RangesSeq,
    ) -> Self {
        Self {
            source,
            access,
            caller,
            asked,
            ranges,
            next: 0,
            children: None,
            encoder: None,
            limit: usize::MAX,
        }
    }

    /// Makes batches of no more than about `bytes`.
    pub(super) fn limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// The next batch, and what comes after it.
    pub(super) fn next(mut self: Box<Self>) -> (Batch, Then) {
        let mut batch = Batch::default();
        let then = match self.fill(&mut batch) {
            Ok(None) => Then::More(self),
            Ok(Some(ended)) => Then::End(ended),
            Err(error) => Then::End(Ended::Broken(error)),
        };
        (batch, then)
    }

    fn fill(&mut self, batch: &mut Batch) -> io::Result<Option<Ended>> {
        loop {
            if let Some(encoder) = &mut self.encoder {
                let limit = if encoder.is_mapped() {
                    BATCH_MAPPED_BYTES
                } else {
                    BATCH_READ_BYTES
                };
                if !encoder.fill(batch, limit.min(self.limit))? {
                    return Ok(None);
                }
                self.encoder = None;
            }
            let (number, hash) = match self.next_blob()? {
                Next::Blob(number, hash) => (number, hash),
                Next::End(ended) => return Ok(Some(ended)),
            };
            let parent = match &self.asked {
                Asked::Tree(root) if number > 0 => Some(root),
                _ => None,
            };
            let opened = self.source.open_for(&self.caller, parent, &hash)?;
            let Some(reader) = opened else {
                return Ok(Some(Ended::Absent));
            };
            let encoder = Encoder::new(&hash, reader, self.ranges.of_blob(number))?;
            if !encoder.is_held() {
                return Ok(Some(Ended::Absent));
            }
            self.encoder = Some(encoder);
        }
    }

    /// The next blob of which something is asked for.
    fn next_blob(&mut self) -> io::Result<Next> {
        let Some(number) = self.ranges.next_asked(self.next) else {
            return Ok(Next::End(Ended::Complete));
        };
        let first = self.next == 0;
        self.next = number.saturating_add(1);
        match &self.asked {
            Asked::Many(hashes) => {
                let at = usize::try_from(number).ok();
                let Some(hash) = at.and_then(|at| hashes.get(at)) else {
                    return Ok(Next::End(Ended::Complete));
                };
                let permitted = self.access.may_read(&self.caller, hash);
                Ok(if permitted {
                    Next::Blob(number, *hash)
                } else {
                    Next::End(Ended::Absent)
                })
            }
            Asked::Tree(root) => {
                let root = *root;
                if first && !self.access.may_read(&self.caller, &root) {
                    return Ok(Next::End(Ended::Absent));
                }
                if number == 0 {
                    return Ok(Next::Blob(0, root));
                }
                if self.children.is_none() {
                    let opened = self.source.open_for(&self.caller, None, &root)?;
                    let Some(reader) = opened else {
                        return Ok(Next::End(Ended::Absent));
                    };
                    self.children = Some(Children::new(reader)?);
                }
                match &mut self.children {
                    Some(children) if number <= children.count => {
                        Ok(Next::Blob(number, children.hash(number - 1)?))
                    }
                    _ => Ok(Next::End(Ended::Complete)),
                }
            }
        }
    }
}

/// Which blob comes next.
enum Next {
    Blob(u64, ChunkHash),
    End(Ended),
}

impl Children {
    fn new(reader: Arc<dyn ChunkRead>) -> io::Result<Self> {
        if !reader.size().is_multiple_of(HASH_BYTES) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the root is no HashSeq",
            ));
        }
        let count = reader.size() / HASH_BYTES;
        Ok(Self {
            reader,
            count,
            window: (0, Bytes::new()),
        })
    }

    fn hash(&mut self, index: u64) -> io::Result<ChunkHash> {
        let at = index * HASH_BYTES;
        let (start, bytes) = &self.window;
        if at < *start || at + HASH_BYTES > start + bytes.len() as u64 {
            let start = at / GROUP_BYTES * GROUP_BYTES;
            let end = (start + 16 * GROUP_BYTES).min(self.reader.size());
            self.window = (start, self.reader.read(start..end)?);
        }
        let (start, bytes) = &self.window;
        let offset = usize::try_from(at - start).map_err(io::Error::other)?;
        let hash = bytes
            .get(offset..)
            .and_then(|bytes| bytes.first_chunk::<32>());
        let hash = hash.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(ChunkHash::from_bytes(*hash))
    }
}
