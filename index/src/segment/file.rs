//! Opens a segment where it lies: header and table are checked, sections are slices of the map.
//!
//! Opening reads the first 16 KiB alone. What a section means is checked by whoever opens it;
//! [`SegmentFile::verify`] holds every byte to its hash, as an import of a stranger's segment does.

use std::{fs::File, io, ops::Deref, ops::Range, sync::Arc};

use memmap2::Mmap;

use super::{
    ALIGN, ENTRY_BYTES, FORMAT, HEADER_BYTES, MAGIC, SectionName, align, windows::Windows,
};
use crate::{limits::SECTIONS_MAX, mmap};

/// Bytes at the beginning of each section that are asked for when a segment is opened.
const BEGINNING_BYTES: usize = 4096;

/// Names the bytes of a segment: the BLAKE3 of its header, which holds the hash of the table, which holds those of
/// the sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId([u8; 32]);

impl SegmentId {
    pub(super) fn of_header(header: &[u8]) -> Self {
        Self(*blake3::hash(header).as_bytes())
    }

    /// The bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An open segment. Clones share the map.
#[derive(Debug, Clone)]
pub struct SegmentFile {
    bytes: Arc<Backing>,
    id: SegmentId,
    sections: Arc<[SectionInfo]>,
}

#[derive(Debug)]
enum Backing {
    Mapped(Mmap, Windows),
    Owned(Vec<u8>),
}

impl Deref for Backing {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// One line of a segment's table.
#[derive(Debug, Clone)]
pub struct SectionInfo {
    /// What it holds, and of which field.
    pub name: SectionName,
    /// Where it lies in the file, in bytes.
    pub range: Range<usize>,
    /// The BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

/// The bytes of one section; keeps the segment mapped.
#[derive(Debug, Clone)]
pub struct SectionBytes {
    bytes: Arc<Backing>,
    range: Range<usize>,
}

impl SectionBytes {
    /// Asks for bytes that will be read soon and may not be in memory, and does not wait for them; says whether something of
    /// them was not asked for before.
    #[inline]
    pub(crate) fn ask(&self, bytes: Range<usize>) -> bool {
        let start = self.range.start + bytes.start;
        self.bytes.ask(start..start + bytes.len())
    }

    /// How many windows of the file were asked for.
    #[cfg(test)]
    pub(crate) fn windows_asked(&self) -> usize {
        match &*self.bytes {
            Backing::Mapped(_, windows) => windows.asked(),
            Backing::Owned(_) => 0,
        }
    }
}

impl Backing {
    #[inline]
    fn ask(&self, bytes: Range<usize>) -> bool {
        match self {
            Self::Mapped(map, windows) => windows.ask(map, bytes),
            Self::Owned(_) => false,
        }
    }
}

impl Deref for SectionBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl SegmentFile {
    /// Maps a sealed segment. Nobody may write to the file as long as it is open.
    ///
    /// # Errors
    ///
    /// Those of the file, and what is not a segment.
    pub fn map(file: &File) -> Result<Self, OpenError> {
        if file.metadata()?.len() < ALIGN as u64 {
            return Err(OpenError::Short);
        }
        let map = mmap::map(file)?;
        let windows = Windows::new(map.len());
        Self::open(Backing::Mapped(map, windows))
    }

    /// Opens a segment that is in memory.
    ///
    /// # Errors
    ///
    /// What is not a segment.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, OpenError> {
        Self::open(Backing::Owned(bytes))
    }

    fn open(bytes: Backing) -> Result<Self, OpenError> {
        bytes.ask(0..ALIGN.min(bytes.len()));
        let sections = Self::read_table(&bytes, bytes.len() as u64)?;
        // Whoever opens a section reads its beginning: all of them at a time, and not what lies around them.
        for section in &sections {
            let start = section.range.start;
            bytes.ask(start..section.range.end.min(start + BEGINNING_BYTES));
        }
        Ok(Self {
            id: SegmentId::of_header(&bytes[..HEADER_BYTES]),
            sections: sections.into(),
            bytes: Arc::new(bytes),
        })
    }

    /// Reads header and table of a segment of `file_len` bytes out of its first 16 KiB.
    pub(crate) fn read_table(bytes: &[u8], file_len: u64) -> Result<Vec<SectionInfo>, OpenError> {
        if bytes.len() < ALIGN {
            return Err(OpenError::Short);
        }
        let (head, table) = bytes[..ALIGN].split_at(HEADER_BYTES);
        if head[..8] != MAGIC {
            return Err(OpenError::NotASegment);
        }
        let format = u32_at(head, 8);
        if format != FORMAT {
            return Err(OpenError::Format { format });
        }
        let count = u32_at(head, 12) as usize;
        if count > SECTIONS_MAX {
            return Err(OpenError::Header("has more sections than fit"));
        }
        if u64_at(head, 16) != file_len {
            return Err(OpenError::Header("is of a file of another length"));
        }
        if head[24..32] != [0; 8] {
            return Err(OpenError::Header("has bytes that must be zero"));
        }
        let (table, rest) = table.split_at(count * ENTRY_BYTES);
        if head[32..] != *blake3::hash(table).as_bytes() || rest.iter().any(|byte| *byte != 0) {
            return Err(OpenError::Header("does not fit its table"));
        }
        let file_len = usize::try_from(file_len)
            .map_err(|_| OpenError::Header("is of a file that does not fit the memory"))?;
        sections(table, file_len)
    }

    /// The id of the segment's bytes.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The table, in the order of the file.
    #[must_use]
    pub fn sections(&self) -> &[SectionInfo] {
        &self.sections
    }

    /// The line of a section in the table.
    #[must_use]
    pub fn section_info(&self, name: SectionName) -> Option<&SectionInfo> {
        self.sections.iter().find(|info| info.name == name)
    }

    /// The bytes of a section, if the segment has it. They were not checked in any way.
    #[must_use]
    pub fn section(&self, name: SectionName) -> Option<SectionBytes> {
        let info = self.section_info(name)?;
        Some(SectionBytes {
            bytes: Arc::clone(&self.bytes),
            range: info.range.clone(),
        })
    }

    /// Bytes of the file.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a segment has a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Reads every byte and holds it to its hash; what lies between sections must be zero.
    ///
    /// # Errors
    ///
    /// The first section whose bytes are others.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let mut end = ALIGN;
        for info in self.sections.iter() {
            let name = info.name;
            if self.bytes[end..info.range.start].iter().any(|b| *b != 0) {
                return Err(VerifyError::Padding { name });
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update_rayon(&self.bytes[info.range.clone()]);
            if hasher.finalize().as_bytes() != &info.hash {
                return Err(VerifyError::Hash { name });
            }
            end = info.range.end;
        }
        Ok(())
    }
}

/// Reads the table: where a section lies follows from the lengths of those before it.
fn sections(table: &[u8], file_len: usize) -> Result<Vec<SectionInfo>, OpenError> {
    let mut sections: Vec<SectionInfo> = Vec::with_capacity(table.len() / ENTRY_BYTES);
    let mut end = ALIGN as u64;
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let kind = entry[..16].try_into().expect("16 bytes");
        let name = SectionName::parse(kind, u32_at(entry, 16))
            .ok_or(OpenError::Header("has a section without a name"))?;
        if entry[20..24] != [0; 4] {
            return Err(OpenError::Header("has bytes that must be zero"));
        }
        if sections.iter().any(|info| info.name == name) {
            return Err(OpenError::Header("names a section twice"));
        }
        let start = align(end).ok_or(OpenError::Header("has lengths beyond the file"))?;
        end = start
            .checked_add(u64_at(entry, 24))
            .filter(|end| *end <= file_len as u64)
            .ok_or(OpenError::Header("has lengths beyond the file"))?;
        let bounds = [start, end].map(|at| usize::try_from(at).expect("within the file"));
        sections.push(SectionInfo {
            name,
            range: bounds[0]..bounds[1],
            hash: entry[32..].try_into().expect("32 bytes"),
        });
    }
    if end != file_len as u64 {
        return Err(OpenError::Header("leaves bytes at the end"));
    }
    Ok(sections)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Why a file is not opened as a segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Less than a header.
    #[error("the segment is shorter than its header")]
    Short,
    /// Other first bytes.
    #[error("not a segment")]
    NotASegment,
    /// Another layout.
    #[error("segment of format {format}; this version of Lode reads format {FORMAT}")]
    Format {
        /// The number in the file.
        format: u32,
    },
    /// The header contradicts itself or the file.
    #[error("the segment is damaged: its header {0}")]
    Header(&'static str),
    /// The file could not be read.
    #[error("reading a segment: {0}")]
    Io(#[from] io::Error),
}

/// Why the bytes of a segment are not those that were written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The bytes of a section do not have its hash.
    #[error("section {name} is damaged")]
    Hash {
        /// The section.
        name: SectionName,
    },
    /// The bytes in front of a section are not zero.
    #[error("the padding before section {name} is damaged")]
    Padding {
        /// The section.
        name: SectionName,
    },
}

#[cfg(test)]
mod tests;
