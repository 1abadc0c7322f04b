//! Lists in a section: how long each is, then their bytes; how most sections of points and payloads are made.
//!
//! ```text
//! 0    4   n, the number of lists
//! 4    4   zero
//! 8    8n  length of each list in bytes
//! ..       the lists, each padded with zeros to a multiple of 8
//! ```

use std::{
    io::{self, Write},
    ops::Range,
};

use super::SectionBytes;

/// A section of `N` lists, whose lengths were checked.
#[derive(Debug, Clone)]
pub(crate) struct Lists<const N: usize> {
    bytes: SectionBytes,
    ranges: [Range<usize>; N],
}

impl<const N: usize> Lists<N> {
    /// Checks that there are `N` lists that fill the section.
    pub(crate) fn open(bytes: SectionBytes) -> Option<Self> {
        let head = 8 + 8 * N;
        if bytes.len() < head || bytes[..4] != u32::try_from(N).ok()?.to_le_bytes() {
            return None;
        }
        let mut ranges = [const { 0..0 }; N];
        let mut at = head;
        for (range, len) in ranges.iter_mut().zip(bytes[8..head].as_chunks::<8>().0) {
            let end = at.checked_add(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            *range = at..end;
            at = end.checked_next_multiple_of(8)?;
        }
        (at == bytes.len()).then_some(Self { bytes, ranges })
    }

    pub(crate) fn list(&self, index: usize) -> &[u8] {
        &self.bytes[self.ranges[index].clone()]
    }

    /// Asks for bytes of a list that will be read soon, as far as it has them.
    #[inline]
    pub(crate) fn ask(&self, index: usize, bytes: Range<usize>) {
        let list = &self.ranges[index];
        if bytes.end <= list.len() {
            self.bytes
                .ask(list.start + bytes.start..list.start + bytes.end);
        }
    }

    pub(crate) fn u32s(&self, index: usize) -> &[[u8; 4]] {
        self.list(index).as_chunks().0
    }

    pub(crate) fn u64s(&self, index: usize) -> &[[u8; 8]] {
        self.list(index).as_chunks().0
    }

    /// A number of a list of 32-bit numbers.
    pub(crate) fn u32(&self, index: usize, at: usize) -> Option<u32> {
        self.ask(index, 4 * at..4 * at + 4);
        self.u32s(index)
            .get(at)
            .map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// A number of a list of 64-bit numbers.
    pub(crate) fn u64(&self, index: usize, at: usize) -> Option<u64> {
        self.ask(index, 8 * at..8 * at + 8);
        self.u64s(index)
            .get(at)
            .map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// Writes what [`Lists`] reads.
pub(crate) fn write_lists(out: &mut impl Write, lists: &[&[u8]]) -> io::Result<()> {
    let count = u32::try_from(lists.len()).map_err(io::Error::other)?;
    out.write_all(&count.to_le_bytes())?;
    out.write_all(&[0; 4])?;
    for list in lists {
        out.write_all(&(list.len() as u64).to_le_bytes())?;
    }
    for list in lists {
        out.write_all(list)?;
        out.write_all(&[0; 8][..list.len().next_multiple_of(8) - list.len()])?;
    }
    Ok(())
}

/// The bytes of numbers.
pub(crate) fn bytes_of_u32(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The bytes of numbers.
pub(crate) fn bytes_of_u64(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}
