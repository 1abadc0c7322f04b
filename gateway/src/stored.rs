//! Stored bytes as the sources of bodies: files, parts of files, chunks.
//!
//! A file's bytes come from the home where it holds them, and from peers where it does not.

use std::sync::Arc;

use bytes::Bytes;
use lode_node::{
    command::Failure,
    fetch::RemoteFile,
    read::{ChunkSource, FileReader, ReadError},
};
use lode_tensors::ByteRange;

use crate::{
    answer::Problem,
    body::{Pending, Source},
    reader::blocking,
};

/// A file that the caller may read.
#[derive(Debug)]
pub struct OpenFile {
    file: Arc<FileReader>,
    /// Where bytes come from that are not held; nothing without a node.
    remote: Option<Arc<RemoteFile>>,
}

impl OpenFile {
    /// A file whose bytes come from the home alone, or from `remote` too.
    pub fn new(file: Arc<FileReader>, remote: Option<RemoteFile>) -> Self {
        Self {
            file,
            remote: remote.map(Arc::new),
        }
    }

    /// What is known of it.
    pub fn file(&self) -> &FileReader {
        &self.file
    }

    /// Whether all of it is held here.
    pub(crate) async fn is_held(&self) -> bool {
        let (file, end) = (Arc::clone(&self.file), self.file.len());
        let held = blocking(move || file.check_held(ByteRange { start: 0, end }));
        held.await.is_ok()
    }

    fn anew(&self) -> Self {
        let file = Arc::new(self.file.again());
        let remote = self.remote.as_ref();
        Self::new(Arc::clone(&file), remote.map(|remote| remote.again(file)))
    }

    /// Reads all of it: for short ones.
    ///
    /// # Errors
    /// 503 when nobody has it.
    pub async fn read_all(&self) -> Result<Vec<u8>, Problem> {
        let whole = ByteRange {
            start: 0,
            end: self.file.len(),
        };
        match &self.remote {
            Some(remote) => Ok(remote.read_all(whole).await?),
            None => {
                let file = Arc::clone(&self.file);
                blocking(move || -> Result<_, ReadError> { file.read_all(whole) }).await
            }
        }
    }
}

/// A part of a file that is a body of its own, such as a tensor.
pub struct Window {
    file: Arc<dyn Source>,
    range: ByteRange,
}

impl Window {
    /// The bytes `range` of `file`.
    pub fn new(file: Arc<dyn Source>, range: ByteRange) -> Self {
        Self { file, range }
    }

    fn outer(&self, range: ByteRange) -> ByteRange {
        let shift = |at: u64| self.range.start.saturating_add(at).min(self.range.end);
        ByteRange {
            start: shift(range.start),
            end: shift(range.end),
        }
    }
}

impl Source for Window {
    fn again(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Self::new(self.file.again()?, self.range)))
    }

    fn read_at_hand(&self, range: ByteRange) -> Option<Bytes> {
        self.file.read_at_hand(self.outer(range))
    }

    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        self.file.read(self.outer(range))
    }

    fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        self.file.check_held(self.outer(range))
    }

    fn reach(self: Arc<Self>, ranges: Vec<ByteRange>) -> Option<Pending<()>> {
        let ranges = ranges.into_iter().map(|range| self.outer(range)).collect();
        Arc::clone(&self.file).reach(ranges)
    }

    fn fetch(self: Arc<Self>, range: ByteRange, until: u64) -> Option<Pending<Bytes>> {
        let whole = self.outer(ByteRange {
            start: range.start,
            end: until,
        });
        Arc::clone(&self.file).fetch(self.outer(range), whole.end)
    }
}

impl Source for OpenFile {
    fn again(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.anew()))
    }

    fn read_at_hand(&self, range: ByteRange) -> Option<Bytes> {
        self.file.read_at_hand(range)
    }

    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        Ok(self.file.read(range)?)
    }

    fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        Ok(self.file.check_held(range)?)
    }

    fn reach(self: Arc<Self>, ranges: Vec<ByteRange>) -> Option<Pending<()>> {
        let remote = Arc::clone(self.remote.as_ref()?);
        Some(Box::pin(async move { remote.reach(ranges).await }))
    }

    fn fetch(self: Arc<Self>, range: ByteRange, until: u64) -> Option<Pending<Bytes>> {
        let remote = Arc::clone(self.remote.as_ref()?);
        Some(Box::pin(async move { remote.read(range, until).await }))
    }
}

impl Source for ChunkSource {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        Ok(Self::read(self, range)?)
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        // It is open.
        Ok(())
    }
}

impl Source for Bytes {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        Ok(self.slice(bound(range.start)..bound(range.end)))
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        Ok(())
    }
}
