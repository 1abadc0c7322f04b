//! A snapshot as one file: a tar archive in the form of POSIX 1003.1-1988 (`ustar`) of its head and its segments.
//!
//! The archive is not stored: its bytes follow from names and lengths of files that never change, so that any range of it
//! is read where it lies. Lengths past eight gigabytes are written in base 256, as GNU tar does.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use lode_index::collection::read_head;

use crate::collections::{CollectionsError, files, version::HEAD};

const BLOCK_BYTES: u64 = 512;

/// A snapshot as one file, to read from.
#[derive(Debug)]
pub struct SnapshotFile {
    /// Where each part begins, ascending.
    parts: Vec<(u64, Part)>,
    len: u64,
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    File(PathBuf, u64),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }
}

impl SnapshotFile {
    /// The archive of a folder with a head and the segments that it names.
    pub(super) fn open(data: &Path, created: u64) -> Result<Self, CollectionsError> {
        let path = data.join(HEAD);
        let bytes = files::read(&path, lode_index::limits::HEAD_BYTES_MAX)
            .map_err(CollectionsError::io(&path))?;
        let head = read_head(&bytes).map_err(|error| CollectionsError::Damaged {
            path,
            what: error.to_string(),
        })?;
        let mut file = Self {
            parts: Vec::new(),
            len: 0,
        };
        file.entry(HEAD, Part::Bytes(bytes), created);
        for (name, _) in head.segments() {
            let path = data.join(&name);
            let metadata = path.metadata().map_err(CollectionsError::io(&path))?;
            file.entry(&name, Part::File(path, metadata.len()), created);
        }
        // two empty blocks end an archive
        file.push(Part::Bytes(vec![0; 1024]));
        Ok(file)
    }

    /// Bytes of it.
    #[expect(clippy::len_without_is_empty, reason = "an archive is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The first bytes of a range, which lies in the file and is not empty: at least one of them.
    ///
    /// # Errors
    /// What the file system says; the snapshot was deleted.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, CollectionsError> {
        let at = self
            .parts
            .partition_point(|(start, _)| *start <= range.start);
        let (start, part) = &self.parts[at.saturating_sub(1)];
        let from = range.start - start;
        let until = part.len().min(range.end - start);
        let index = |at: u64| usize::try_from(at).expect("a part of a read");
        match part {
            Part::Bytes(bytes) => Ok(bytes[index(from)..index(until)].to_vec()),
            Part::File(path, _) => {
                let mut bytes = vec![0; index(until - from)];
                File::open(path)
                    .and_then(|file| file.read_exact_at(&mut bytes, from))
                    .map_err(CollectionsError::io(path))?;
                Ok(bytes)
            }
        }
    }

    fn entry(&mut self, name: &str, part: Part, created: u64) {
        let bytes = part.len();
        self.push(Part::Bytes(header(name, bytes, created)));
        self.push(part);
        let rest = bytes.next_multiple_of(BLOCK_BYTES) - bytes;
        self.push(Part::Bytes(vec![0; usize::try_from(rest).unwrap_or(0)]));
    }

    fn push(&mut self, part: Part) {
        let len = part.len();
        // no part is empty: each begins somewhere else
        if len > 0 {
            self.parts.push((self.len, part));
            self.len += len;
        }
    }
}

/// The block in front of a file's bytes.
fn header(name: &str, bytes: u64, created: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    let octal = format!("{bytes:011o}\0");
    match octal.len() {
        12 => put(124, octal.as_bytes()),
        _ => {
            put(124, &[0x80]);
            put(128, &bytes.to_be_bytes());
        }
    }
    put(
        136,
        format!("{:011o}\0", created.min(0o77_777_777_777)).as_bytes(),
    );
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
