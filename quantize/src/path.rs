//! The paths that the same bytes are made on: scalar code, and what this machine has beside it.

use crate::block::BlockType;
use crate::kernel;
use crate::weights::Source;

/// Code that makes and reads blocks. All give the same bytes; they differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
}

impl Path {
    /// Plain code, one weight at a time: the specification.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The fastest that this machine can run.
    pub fn best() -> Self {
        Self::SCALAR
    }

    /// All that this machine can run, plain code first.
    pub fn available() -> Vec<Self> {
        vec![Self::SCALAR]
    }

    /// A short name.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
        }
    }

    pub(crate) fn decode(self, source: &Source<'_>, out: &mut [f32]) -> bool {
        match self.0 {
            Kind::Scalar => source.decode(out),
        }
    }

    pub(crate) fn quantize(self, to: BlockType, x: &[f32], out: &mut [u8]) {
        match self.0 {
            Kind::Scalar => kernel::quantize(to, x, out),
        }
    }
}
