//! Writes a segment: sections one after the other, then the header and table in front of them.

use std::io::{self, Seek, SeekFrom, Write};

use super::{ALIGN, ENTRY_BYTES, FORMAT, HEADER_BYTES, MAGIC, SectionName, SegmentId, align};
use crate::limits::SECTIONS_MAX;

/// Writes one segment into `W`, which must be empty.
///
/// Syncing and naming the file are the caller's: until [`SegmentWriter::finish`] returned, the file has no header, and
/// no reader takes it for a segment.
#[derive(Debug)]
pub struct SegmentWriter<W> {
    file: W,
    at: u64,
    table: Vec<Entry>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Entry {
    name: SectionName,
    len: u64,
    hash: [u8; 32],
}

#[derive(Debug)]
struct Open {
    name: SectionName,
    start: u64,
    hasher: blake3::Hasher,
}

impl<W: Write + Seek> SegmentWriter<W> {
    /// Leaves room for the header.
    ///
    /// # Errors
    ///
    /// Those of `file`.
    pub fn new(mut file: W) -> Result<Self, WriteError> {
        file.write_all(&[0; ALIGN])?;
        Ok(Self {
            file,
            at: ALIGN as u64,
            table: Vec::new(),
            open: None,
        })
    }

    /// Writes a whole section.
    ///
    /// # Errors
    ///
    /// As [`SegmentWriter::begin`].
    pub fn section(&mut self, name: SectionName, bytes: &[u8]) -> Result<(), WriteError> {
        self.begin(name)?;
        self.write_all(bytes)?;
        Ok(())
    }

    /// Ends the section before it and begins another one, whose bytes are then written to `self`.
    ///
    /// # Errors
    ///
    /// A second section of one name, more than [`SECTIONS_MAX`], and those of the file.
    pub fn begin(&mut self, name: SectionName) -> Result<(), WriteError> {
        self.end();
        if self.table.iter().any(|entry| entry.name == name) {
            return Err(WriteError::Twice { name });
        }
        if self.table.len() == SECTIONS_MAX {
            return Err(WriteError::TooMany);
        }
        let start = align(self.at).ok_or(io::ErrorKind::FileTooLarge)?;
        let gap = usize::try_from(start - self.at).expect("less than 16 KiB");
        self.file.write_all(&[0; ALIGN][..gap])?;
        self.at = start;
        self.open = Some(Open {
            name,
            start,
            hasher: blake3::Hasher::new(),
        });
        Ok(())
    }

    /// Writes header and table, and returns the segment's id and the file, positioned at its end.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn finish(mut self) -> Result<(SegmentId, W), WriteError> {
        self.end();
        let mut table = Vec::with_capacity(self.table.len() * ENTRY_BYTES);
        for entry in &self.table {
            table.extend_from_slice(&entry.name.kind);
            table.extend_from_slice(&entry.name.field.to_le_bytes());
            table.extend_from_slice(&[0; 4]);
            table.extend_from_slice(&entry.len.to_le_bytes());
            table.extend_from_slice(&entry.hash);
        }
        let count = u32::try_from(self.table.len()).expect("at most 255");
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&count.to_le_bytes());
        header.extend_from_slice(&self.at.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(blake3::hash(&table).as_bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.write_all(&table)?;
        self.file.seek(SeekFrom::Start(self.at))?;
        self.file.flush()?;
        Ok((SegmentId::of_header(&header), self.file))
    }

    fn end(&mut self) {
        if let Some(open) = self.open.take() {
            self.table.push(Entry {
                name: open.name,
                len: self.at - open.start,
                hash: *open.hasher.finalize().as_bytes(),
            });
        }
    }
}

impl<W: Write> Write for SegmentWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(open) = &mut self.open else {
            return Err(io::Error::other("bytes outside of a section"));
        };
        let written = self.file.write(bytes)?;
        open.hasher.update(&bytes[..written]);
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Why a segment was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A section has that name already.
    #[error("section {name} was written already")]
    Twice {
        /// The name.
        name: SectionName,
    },
    /// The table is full.
    #[error("a segment has at most {SECTIONS_MAX} sections")]
    TooMany,
    /// The file could not be written.
    #[error("writing a segment: {0}")]
    Io(#[from] io::Error),
}

impl From<io::ErrorKind> for WriteError {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}
