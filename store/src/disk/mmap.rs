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

    #[test]
    fn an_empty_file_maps_to_nothing() {
        assert!(map(&tempfile::tempfile().unwrap()).unwrap().is_empty());
    }
}
