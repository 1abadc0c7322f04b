//! Rows of a segment or of the live part, and sets of them: the filter of a search.

use roaring::RoaringBitmap;

/// The rank of a point in its segment or live part, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub u32);

impl Row {
    /// The rank as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of rows below a bound, one bit each, as search loops read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    rows: u32,
    count: u32,
}

impl RowSet {
    /// No row of `rows`.
    #[must_use]
    pub fn empty(rows: u32) -> Self {
        Self {
            words: vec![0; rows.div_ceil(64) as usize],
            rows,
            count: 0,
        }
    }

    /// The members of `bitmap` below `rows`.
    #[must_use]
    pub fn from_bitmap(bitmap: &RoaringBitmap, rows: u32) -> Self {
        let mut set = Self::empty(rows);
        for row in bitmap.iter().take_while(|row| *row < rows) {
            set.words[(row / 64) as usize] |= 1 << (row % 64);
            set.count += 1;
        }
        set
    }

    /// The rows below `rows` that are not members of `bitmap`.
    #[must_use]
    pub fn all_but(bitmap: &RoaringBitmap, rows: u32) -> Self {
        let mut set = Self::empty(rows);
        set.words.fill(u64::MAX);
        if let (Some(last), used @ 1..) = (set.words.last_mut(), rows % 64) {
            *last = (1 << used) - 1;
        }
        set.count = rows;
        for row in bitmap.iter().take_while(|row| *row < rows) {
            set.words[(row / 64) as usize] &= !(1 << (row % 64));
            set.count -= 1;
        }
        set
    }

    /// Adds a row; a row at or above the bound is ignored.
    pub fn insert(&mut self, row: Row) {
        if row.0 < self.rows && !self.contains(row) {
            self.words[row.index() / 64] |= 1 << (row.0 % 64);
            self.count += 1;
        }
    }

    /// Tells whether `row` is a member.
    #[inline]
    #[must_use]
    pub fn contains(&self, row: Row) -> bool {
        self.words
            .get(row.index() / 64)
            .is_some_and(|word| word >> (row.0 % 64) & 1 == 1)
    }

    /// Which of the 32 rows from `32 * block` on are members, one bit each.
    #[inline]
    pub(crate) fn bits(&self, block: u32) -> u32 {
        let word = self.words.get(block as usize / 2).copied().unwrap_or(0);
        #[allow(clippy::cast_possible_truncation)] // one half
        let half = (word >> (block % 2 * 32)) as u32;
        half
    }

    /// How many members it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Row> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(word, at)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(Row(at * 64 + bit))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_its_bitmap_holds_below_the_bound() {
        let bitmap: RoaringBitmap = [0, 1, 63, 64, 129, 130, 4000].into_iter().collect();
        let set = RowSet::from_bitmap(&bitmap, 130);
        let members: Vec<_> = set.iter().map(|row| row.0).collect();
        assert_eq!(members, [0, 1, 63, 64, 129]);
        assert_eq!(set.count(), 5);
        assert_eq!(
            (0..6).map(|block| set.bits(block)).collect::<Vec<_>>(),
            [3, 1 << 31, 1, 0, 2, 0]
        );
        assert!(set.contains(Row(129)) && !set.contains(Row(130)) && !set.contains(Row(u32::MAX)));
    }

    #[test]
    fn all_but_some_is_what_is_left() {
        let bitmap: RoaringBitmap = [0, 64, 4000].into_iter().collect();
        for rows in [1, 63, 64, 65, 128] {
            let set = RowSet::all_but(&bitmap, rows);
            let expected: Vec<_> = (0..rows).filter(|row| !bitmap.contains(*row)).collect();
            assert_eq!(set.iter().map(|row| row.0).collect::<Vec<_>>(), expected);
            assert_eq!(set.count(), expected.len());
        }
    }

    #[test]
    fn a_row_counts_once_and_not_beyond_the_bound() {
        let mut set = RowSet::empty(65);
        for row in [64, 64, 65, 3] {
            set.insert(Row(row));
        }
        assert_eq!(set.count(), 2);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Row(3), Row(64)]);
    }
}
