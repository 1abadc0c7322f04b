//! Mapping of files that nobody changes: the one place of this crate that needs `unsafe`.
#![allow(unsafe_code)]

use std::{fs::File, io};

use bytes::Bytes;

/// Maps all of `file` for reading; the mapping lives as long as any slice of what is returned.
///
/// Callers map sealed containers of the home alone, which Lode never writes to again: it removes them
/// (the mapping keeps the bytes), or punches holes where no slice is held any more.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: a mapping is sound as long as nobody changes the file's bytes under a slice of it. The
    // file is a sealed container in a home that this process holds the lock of: Lode does not write to
    // it while a slice is held, and another program that does breaks the rule that docs/format/containers.md
    // states for homes. Files that users own are never mapped.
    let mapping = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapping))
}

/// Pages that [`is_in_memory`] asks for at once.
const PAGES: usize = 64;

/// Whether the kernel has all pages of `bytes` in memory, so that reading them waits for no disk. Says no where it
/// cannot tell. A page may still leave afterwards.
#[cfg(target_os = "linux")]
pub(crate) fn is_in_memory(bytes: &[u8]) -> bool {
    let page_size = rustix::param::page_size();
    let before = bytes.as_ptr().addr() % page_size;
    let mut page = bytes.as_ptr().wrapping_sub(before);
    let mut left = before + bytes.len();
    while left > 0 {
        let len = left.min(PAGES * page_size);
        let pages = len.div_ceil(page_size);
        let mut found = [0; PAGES];
        // SAFETY: `mincore` writes a byte for each page of the range to `found`, which has room for them, and
        // reads nothing of the range; a range that is not mapped is an error.
        let told = unsafe { libc::mincore(page.cast_mut().cast(), len, found.as_mut_ptr()) };
        if told != 0 || found[..pages].iter().any(|page| page & 1 == 0) {
            return false;
        }
        (page, left) = (page.wrapping_add(len), left - len);
    }
    true
}

/// No: this system is not asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_in_memory(_: &[u8]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_slice_outlives_file_and_name() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"mapped bytes").unwrap();
        let slice = map(file.as_file()).unwrap().slice(7..);
        drop(file);
        assert_eq!(&slice[..], b"bytes");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pages_are_in_memory_once_they_were_written() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let page = rustix::param::page_size();
        let written = (3 * PAGES + 1) * page;
        file.write_all(&vec![1; written]).unwrap();
        file.as_file().set_len(2 * written as u64).unwrap();
        let bytes = map(file.as_file()).unwrap();
        assert!(is_in_memory(&bytes[..written]));
        assert!(is_in_memory(&bytes[page / 2..3 * page]));
        assert!(is_in_memory(&bytes[written - 1..written]));
        let last = 2 * written - 1;
        assert!(!is_in_memory(&bytes[last..]), "a hole that nobody read");
        assert!(!is_in_memory(&bytes[last - PAGES * page..]));
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        assert!(map(&tempfile::tempfile().unwrap()).unwrap().is_empty());
    }
}
