//! Mapping of sealed segments: a place of this crate that needs `unsafe`.
#![allow(unsafe_code)]

use std::{fs::File, io};

use memmap2::Mmap;

/// Maps all of `file` for reading.
///
/// Callers map sealed segments alone, which are never written to again: they are removed, and the mapping
/// keeps the bytes.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: a mapping is sound as long as nobody changes the file's bytes under it. Lode never writes to
    // a sealed segment, and docs/format/segment.md forbids it to every other program.
    unsafe { Mmap::map(file) }
}
