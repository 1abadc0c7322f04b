//! The paths that the same bytes are made on: scalar code, and what this machine has beside it.

use crate::block::BlockType;
use crate::compressed::Code;
use crate::kernel;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
use crate::weights::Source;

/// Code that makes and reads blocks. All give the same bytes; they differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl Path {
    /// Plain code, one weight at a time: the specification.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The fastest that this machine can run.
    pub fn best() -> Self {
        Self::vector().unwrap_or(Self::SCALAR)
    }

    /// All that this machine can run, plain code first.
    pub fn available() -> Vec<Self> {
        [Some(Self::SCALAR), Self::vector()]
            .into_iter()
            .flatten()
            .collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn vector() -> Option<Self> {
        Avx2::detect().map(|avx2| Self(Kind::Avx2(avx2)))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn vector() -> Option<Self> {
        None
    }

    /// A short name.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
        }
    }

    pub(crate) fn decode(self, source: &Source<'_>, out: &mut [f32]) -> f32 {
        match self.0 {
            Kind::Scalar => source.decode(out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.decode(source, out),
        }
    }

    pub(crate) fn quantize(self, to: BlockType, x: &[f32], out: &mut [u8]) {
        match self.0 {
            Kind::Scalar => kernel::quantize(to, x, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.quantize(to, x, out),
        }
    }

    /// As [`Code::put`].
    pub(crate) fn code(self, code: Code, x: &[f32], scale: f32, out: &mut [u8]) {
        match self.0 {
            Kind::Scalar => code.put(x, scale, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.code(code, x, scale, out),
        }
    }
}
