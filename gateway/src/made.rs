//! Files of variants as the sources of bodies: bytes that are made while they are sent.

use std::sync::Arc;

use bytes::Bytes;
use lode_node::{command::Failure, variants::VariantReader};
use lode_tensors::ByteRange;

use crate::body::{Pending, Source};

/// A file of a variant, or a part of it that is a body of its own, such as a tensor.
#[derive(Debug)]
pub struct Made {
    reader: Arc<VariantReader>,
    range: ByteRange,
}

impl Made {
    /// The bytes `range` of a file.
    pub fn new(reader: VariantReader, range: ByteRange) -> Self {
        Self {
            reader: Arc::new(reader),
            range,
        }
    }

    fn outer(&self, range: ByteRange) -> ByteRange {
        let shift = |at: u64| self.range.start.saturating_add(at).min(self.range.end);
        ByteRange {
            start: shift(range.start),
            end: shift(range.end),
        }
    }
}

impl Source for Made {
    fn again(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Self::new(self.reader.again(), self.range)))
    }

    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        self.reader.read(self.outer(range))
    }

    fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        self.reader.check_held(self.outer(range))
    }

    fn reach(self: Arc<Self>, ranges: Vec<ByteRange>) -> Option<Pending<()>> {
        let ranges = ranges.into_iter().map(|range| self.outer(range)).collect();
        Some(Box::pin(async move { self.reader.reach(ranges).await }))
    }

    fn fetch(self: Arc<Self>, range: ByteRange, until: u64) -> Option<Pending<Bytes>> {
        let whole = self.outer(ByteRange {
            start: range.start,
            end: until,
        });
        let range = self.outer(range);
        Some(Box::pin(async move {
            self.reader.fetch(range, whole.end).await
        }))
    }
}
