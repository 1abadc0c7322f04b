//! What a variant is made from: the files of a version, of which a layout reads headers and small files.
//!
//! Nothing is read here. The caller asks [`crate::variant::wanted`] what a layout reads of each file, hands that over
//! as [`Source`], and later gathers the ranges that [`VirtualFile::needs`](crate::VirtualFile::needs) names.

use std::cmp::Ordering;

use lode_tensors::{ByteRange, Header};

/// Bytes of one source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRange {
    /// Position of the file in [`Source::files`].
    pub file: usize,
    /// Its bytes.
    pub range: ByteRange,
}

/// What a layout wants to know of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Its name and length alone.
    Nothing,
    /// The header, as [`lode_tensors::parse`] reads it, with its bytes.
    Header,
    /// All of it, if it has at most so many bytes.
    Whole {
        /// What a layout accepts.
        bytes_max: u64,
    },
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// Its name and length alone.
    Unread,
    /// A file of tensors.
    Tensors {
        /// Its header.
        header: Header,
        /// At least the first `header.len` bytes of the file.
        bytes: Vec<u8>,
    },
    /// A small file, whole.
    Whole(Vec<u8>),
}

/// A file of the version.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path in the version.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// What is known of it.
    pub content: Content,
}

impl SourceFile {
    /// Its header and the bytes of it.
    pub fn tensors(&self) -> Option<(&Header, &[u8])> {
        match &self.content {
            Content::Tensors { header, bytes } => Some((header, bytes)),
            _ => None,
        }
    }

    /// Its bytes, if it was read whole.
    pub fn whole(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The files of a version, in the order of its tree.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The files.
    pub files: Vec<SourceFile>,
}

impl Source {
    /// The file with this path and its position.
    pub fn file(&self, path: &str) -> Option<(usize, &SourceFile)> {
        self.files
            .iter()
            .enumerate()
            .find(|(_, file)| file.path == path)
    }
}

/// Source bytes that somebody fetched: pieces that do not overlap.
#[derive(Debug, Default)]
pub struct Gathered<'a> {
    /// Sorted by file and start.
    pieces: Vec<(SourceRange, &'a [u8])>,
}

impl<'a> Gathered<'a> {
    /// Takes pieces, each with the range that it is. Pieces of another length than their range are left out.
    pub fn new(pieces: impl IntoIterator<Item = (SourceRange, &'a [u8])>) -> Self {
        let mut pieces: Vec<_> = pieces
            .into_iter()
            .filter(|(at, bytes)| at.range.len() == bytes.len() as u64)
            .collect();
        pieces.sort_unstable_by_key(|(at, _)| *at);
        Self { pieces }
    }

    /// The bytes of a range that lies in one piece.
    pub(crate) fn get(&self, wanted: SourceRange) -> Result<&'a [u8], NotGathered> {
        if wanted.range.is_empty() {
            return Ok(&[]);
        }
        let found = self.pieces.binary_search_by(|(at, _)| {
            let of_file = at.file.cmp(&wanted.file);
            of_file.then(if at.range.end <= wanted.range.start {
                Ordering::Less
            } else if at.range.start > wanted.range.start {
                Ordering::Greater
            } else {
                Ordering::Equal
            })
        });
        let (at, bytes) = found
            .map(|index| self.pieces[index])
            .map_err(|_| NotGathered(wanted))?;
        let start = wanted.range.start - at.range.start;
        let within = ByteRange {
            start,
            end: start + wanted.range.len(),
        };
        within.of(bytes).ok_or(NotGathered(wanted))
    }
}

/// A range that was needed and not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotGathered(pub(crate) SourceRange);

/// Sorts ranges and joins those that touch.
pub(crate) fn join(ranges: &mut Vec<SourceRange>) {
    ranges.retain(|at| !at.range.is_empty());
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let touch = next.file == before.file && next.range.start <= before.range.end;
        if touch {
            before.range.end = before.range.end.max(next.range.end);
        }
        touch
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: usize, start: u64, end: u64) -> SourceRange {
        let range = ByteRange { start, end };
        SourceRange { file, range }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = vec![
            at(1, 4, 6),
            at(0, 10, 12),
            at(0, 2, 2),
            at(0, 3, 11),
            at(1, 7, 8),
        ];
        join(&mut ranges);
        assert_eq!(ranges, [at(0, 3, 12), at(1, 4, 6), at(1, 7, 8)]);
    }

    #[test]
    fn gathered_bytes_are_found_in_the_piece_that_holds_them() {
        let gathered = Gathered::new([
            (at(1, 0, 3), &b"xyz"[..]),
            (at(0, 10, 14), &b"abcd"[..]),
            (at(0, 20, 22), &b"ef"[..]),
            (at(0, 30, 31), &b"longer"[..]),
        ]);
        assert_eq!(gathered.get(at(0, 11, 13)), Ok(&b"bc"[..]));
        assert_eq!(gathered.get(at(0, 20, 22)), Ok(&b"ef"[..]));
        assert_eq!(gathered.get(at(1, 0, 1)), Ok(&b"x"[..]));
        assert_eq!(gathered.get(at(7, 1, 1)), Ok(&b""[..]));
        for missing in [at(0, 9, 11), at(0, 13, 15), at(0, 30, 31), at(2, 0, 1)] {
            assert_eq!(gathered.get(missing), Err(NotGathered(missing)));
        }
    }
}
