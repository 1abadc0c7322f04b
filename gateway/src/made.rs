//! Files of variants as the sources of bodies: bytes that are made while they are sent.

use std::sync::Arc;

use bytes::Bytes;
use lode_node::{command::Failure, variants::VariantReader};
use lode_tensors::ByteRange;

use crate::body::{Pending, Source};

impl Source for VariantReader {
    fn again(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Self::again(self)))
    }

    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        Self::read(self, range)
    }

    fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        Self::check_held(self, range)
    }

    fn reach(self: Arc<Self>, ranges: Vec<ByteRange>) -> Option<Pending<()>> {
        Some(Box::pin(async move { Self::reach(&self, ranges).await }))
    }

    fn fetch(self: Arc<Self>, range: ByteRange, until: u64) -> Option<Pending<Bytes>> {
        Some(Box::pin(
            async move { Self::fetch(&self, range, until).await },
        ))
    }
}
