//! Segments: one immutable file each, made of sections (docs/format/segment.md).

pub(crate) mod build;
pub(crate) mod field;
mod file;
mod ids;
mod lists;
mod payloads;
pub(crate) mod points;
mod sparse;
mod windows;
mod writer;

pub use build::BuildError;
pub use file::{OpenError, SectionBytes, SectionInfo, SegmentFile, SegmentId, VerifyError};
pub use writer::{SegmentWriter, WriteError};

use crate::limits::SECTION_KIND_BYTES_MAX;

/// The first bytes of a segment.
const MAGIC: [u8; 8] = *b"lode seg";

/// The number of this layout.
const FORMAT: u32 = 1;

/// Sections begin at multiples of this, in bytes: a chunk group, and four pages.
const ALIGN: usize = 16 * 1024;

/// Bytes of the header, in front of the table.
const HEADER_BYTES: usize = 64;

/// Bytes of one entry of the table.
const ENTRY_BYTES: usize = 64;

/// Names a section: what it holds, and of which field.
///
/// Whoever writes a kind of section documents its bytes in docs/format/segment.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionName {
    kind: [u8; SECTION_KIND_BYTES_MAX],
    field: u32,
}

impl SectionName {
    /// Names a section of a field; what belongs to the segment as a whole has field 0.
    ///
    /// # Panics
    ///
    /// A kind that is not 1 to 16 bytes of `a-z`, `0-9` and `-`: kinds are constants of this crate.
    #[must_use]
    pub const fn new(kind: &str, field: u32) -> Self {
        let kind = kind.as_bytes();
        assert!(!kind.is_empty() && kind.len() <= SECTION_KIND_BYTES_MAX);
        let mut padded = [0; SECTION_KIND_BYTES_MAX];
        let mut at = 0;
        while at < kind.len() {
            assert!(is_kind_byte(kind[at]));
            padded[at] = kind[at];
            at += 1;
        }
        Self {
            kind: padded,
            field,
        }
    }

    /// Reads a name out of a table.
    fn parse(kind: [u8; SECTION_KIND_BYTES_MAX], field: u32) -> Option<Self> {
        let len = kind.iter().position(|byte| *byte == 0);
        let (name, padding) = kind.split_at(len.unwrap_or(kind.len()));
        let fine = !name.is_empty()
            && name.iter().all(|byte| is_kind_byte(*byte))
            && padding.iter().all(|byte| *byte == 0);
        fine.then_some(Self { kind, field })
    }

    /// What the section holds.
    #[must_use]
    pub fn kind(&self) -> &str {
        let len = self.kind.iter().position(|byte| *byte == 0);
        str::from_utf8(&self.kind[..len.unwrap_or(self.kind.len())]).expect("made of ASCII alone")
    }

    /// The number of the field.
    #[must_use]
    pub fn field(&self) -> u32 {
        self.field
    }
}

impl std::fmt::Display for SectionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.kind(), self.field)
    }
}

const fn is_kind_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// The first multiple of [`ALIGN`] at or after `offset`.
fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGN as u64)
}
