//! Records: for each row its code, the three numbers that turn sums of products of codes into keys, and its
//! links of layer 0. What a search reads of a row lies together, in whole cache lines.
//!
//! ```text
//! 0         P    code: one signed byte per component, P = components rounded up to 64, rest zero
//! P         4    scale, a single: what a component's code is multiplied by
//! P+4       4    bias, a single: what is added to each key; infinite for a row without a vector
//! P+8       4    sum of the code's bytes, signed
//! P+12      4    number of links
//! P+16      4L   links, rows; the rest zero
//! ..             zero, up to a multiple of 64
//! ```

use crate::limits::LINKS_MAX;

/// Bytes of a cache line.
pub(crate) const LINE_BYTES: usize = 64;

/// Bytes of the numbers between code and links.
const HEAD_BYTES: usize = 16;

/// Where things lie in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of a code with its padding.
    pub(crate) code_bytes: usize,
    /// Most links.
    pub(crate) links: usize,
    /// Bytes of a record.
    pub(crate) stride: usize,
}

impl Layout {
    /// The layout for `dim` components and `links` links, if these are not too many.
    pub(crate) fn new(dim: usize, links: usize) -> Option<Self> {
        let code_bytes = dim.next_multiple_of(LINE_BYTES);
        let stride = (code_bytes + HEAD_BYTES + 4 * links).next_multiple_of(LINE_BYTES);
        (links <= LINKS_MAX).then_some(Self {
            code_bytes,
            links,
            stride,
        })
    }
}

/// Records one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    layout: Layout,
    rows: usize,
}

/// The numbers beside a code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Head {
    pub(crate) scale: f32,
    pub(crate) bias: f32,
    pub(crate) sum: i32,
}

impl Head {
    /// That of a row without a vector: no search finds it.
    pub(crate) const ABSENT: Self = Self {
        scale: 0.0,
        bias: f32::INFINITY,
        sum: 0,
    };
}

impl<'a> Records<'a> {
    /// The records in `bytes`, if these are whole records.
    pub(crate) fn new(bytes: &'a [u8], layout: Layout) -> Option<Self> {
        let whole = bytes.len().is_multiple_of(layout.stride);
        whole.then_some(Self {
            bytes,
            layout,
            rows: bytes.len() / layout.stride,
        })
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// The first `rows` records.
    ///
    /// # Panics
    ///
    /// More than there are.
    pub(crate) fn first(&self, rows: usize) -> Self {
        Self {
            bytes: &self.bytes[..rows * self.layout.stride],
            layout: self.layout,
            rows,
        }
    }

    #[inline]
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// A whole record.
    ///
    /// # Panics
    ///
    /// Beyond the last one: rows out of files are compared with [`Records::len`] first.
    #[inline]
    pub(crate) fn record(&self, row: u32) -> &'a [u8] {
        let start = row as usize * self.layout.stride;
        &self.bytes[start..start + self.layout.stride]
    }

    #[inline]
    pub(crate) fn code(&self, row: u32) -> &'a [u8] {
        &self.record(row)[..self.layout.code_bytes]
    }

    #[inline]
    pub(crate) fn head(&self, row: u32) -> Head {
        head(self.record(row), self.layout)
    }

    /// The links of a row, as they are: whoever follows one compares it with [`Records::len`].
    #[inline]
    pub(crate) fn links(&self, row: u32) -> impl ExactSizeIterator<Item = u32> + 'a {
        let record = self.record(row);
        let count = u32_at(record, self.layout.code_bytes + 12) as usize;
        let start = self.layout.code_bytes + HEAD_BYTES;
        let links = &record[start..start + 4 * count.min(self.layout.links)];
        links
            .as_chunks::<4>()
            .0
            .iter()
            .map(|link| u32::from_le_bytes(*link))
    }

    /// How many links a row claims to have.
    pub(crate) fn links_claimed(&self, row: u32) -> u32 {
        u32_at(self.record(row), self.layout.code_bytes + 12)
    }

    /// Tells whether a row has a vector.
    #[inline]
    pub(crate) fn is_present(&self, row: u32) -> bool {
        self.head(row).bias != f32::INFINITY
    }
}

/// Reads the numbers beside a code.
#[inline]
pub(crate) fn head(record: &[u8], layout: Layout) -> Head {
    let at = layout.code_bytes;
    Head {
        scale: f32::from_bits(u32_at(record, at)),
        bias: f32::from_bits(u32_at(record, at + 4)),
        sum: u32_at(record, at + 8).cast_signed(),
    }
}

/// Writes the numbers beside a code.
pub(crate) fn put_head(record: &mut [u8], layout: Layout, head: Head) {
    let at = layout.code_bytes;
    record[at..at + 4].copy_from_slice(&head.scale.to_le_bytes());
    record[at + 4..at + 8].copy_from_slice(&head.bias.to_le_bytes());
    record[at + 8..at + 12].copy_from_slice(&head.sum.to_le_bytes());
}

/// Writes the links of a record, of which there are at most as many as the layout has room for.
pub(crate) fn put_links(record: &mut [u8], layout: Layout, links: impl Iterator<Item = u32>) {
    let (head, room) = record.split_at_mut(layout.code_bytes + HEAD_BYTES);
    room.fill(0);
    let mut count = 0u32;
    for (slot, link) in room.as_chunks_mut::<4>().0[..layout.links]
        .iter_mut()
        .zip(links)
    {
        *slot = link.to_le_bytes();
        count += 1;
    }
    head[layout.code_bytes + 12..].copy_from_slice(&count.to_le_bytes());
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_back_what_was_put() {
        for (dim, links) in [(1, 0), (64, 32), (100, 32), (384, 32), (65_536, LINKS_MAX)] {
            let layout = Layout::new(dim, links).unwrap();
            let mut bytes = vec![0; layout.stride * 2];
            let second = &mut bytes[layout.stride..];
            let head = Head {
                scale: 0.5,
                bias: -1.0,
                sum: -7,
            };
            put_head(second, layout, head);
            let given: Vec<u32> = (0..).step_by(3).take(links).collect();
            put_links(second, layout, given.iter().copied());
            let records = Records::new(&bytes, layout).unwrap();
            assert_eq!(records.len(), 2);
            assert_eq!(records.head(1), head);
            assert_eq!(records.links(1).collect::<Vec<_>>(), given);
            assert_eq!(records.links(0).len(), 0);
            assert!(records.code(1).iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_count_beyond_the_record_gives_the_links_that_there_are() {
        let layout = Layout::new(3, 4).unwrap();
        let mut bytes = vec![0xff; layout.stride];
        assert_eq!(Records::new(&bytes, layout).unwrap().links(0).len(), 4);
        bytes.push(0);
        assert!(Records::new(&bytes, layout).is_none());
    }

    #[test]
    fn links_have_a_bound() {
        assert!(Layout::new(3, LINKS_MAX).is_some());
        assert!(Layout::new(3, LINKS_MAX + 1).is_none());
    }
}
