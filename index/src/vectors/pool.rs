//! Pools: the best rows of a search so far, sorted, in one array.
//!
//! An entry is one 64-bit number: the key, so that numbers compare as keys do, then the row, then whether its
//! links were followed. So equal keys are ordered by row, and a search gives one answer on every machine.

/// A key and a row. Lower keys are nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

/// The bit that says that the links of an entry were followed.
const FOLLOWED: u64 = 1;

impl Entry {
    /// Rows have 31 bits.
    #[inline]
    pub(crate) fn new(key: f32, row: u32) -> Self {
        let bits = key.to_bits();
        // Negative numbers count down, positive ones up.
        let ordered = bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | 0x8000_0000);
        Self(u64::from(ordered) << 32 | u64::from(row) << 1)
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the lower half
    pub(crate) fn row(self) -> u32 {
        (self.0 as u32) >> 1
    }

    #[inline]
    pub(crate) fn key(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        let sign = (!ordered).cast_signed() >> 31;
        f32::from_bits(ordered ^ (sign.cast_unsigned() | 0x8000_0000))
    }
}

/// The nearest entries, at most as many as it has room for.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: Vec<Entry>,
    room: usize,
    /// Entries before it were followed.
    next: usize,
}

impl Pool {
    /// Empties it, and gives it room for `room` entries.
    pub(crate) fn reset(&mut self, room: usize) {
        self.entries.clear();
        self.room = room;
        self.next = 0;
    }

    /// The key that an entry must stay below to come in.
    #[inline]
    pub(crate) fn bound(&self) -> Entry {
        if self.entries.len() < self.room {
            Entry(u64::MAX)
        } else {
            self.entries.last().copied().unwrap_or(Entry(0))
        }
    }

    /// The key above which nothing comes in.
    #[inline]
    pub(crate) fn bound_key(&self) -> f32 {
        if self.entries.len() < self.room {
            f32::INFINITY
        } else {
            self.entries
                .last()
                .map_or(f32::NEG_INFINITY, |last| last.key())
        }
    }

    /// Takes an entry that is not in the pool, if it is near enough.
    #[inline]
    pub(crate) fn offer(&mut self, entry: Entry) {
        if entry >= self.bound() {
            return;
        }
        if self.entries.len() == self.room {
            self.entries.pop();
        }
        let at = self.entries.partition_point(|held| *held < entry);
        self.entries.insert(at, entry);
        self.next = self.next.min(at);
    }

    /// The nearest entry whose links were not followed yet; from now on they were.
    #[inline]
    pub(crate) fn follow(&mut self) -> Option<Entry> {
        while let Some(entry) = self.entries.get_mut(self.next) {
            self.next += 1;
            if entry.0 & FOLLOWED == 0 {
                let found = *entry;
                entry.0 |= FOLLOWED;
                return Some(found);
            }
        }
        None
    }

    /// The entry that [`Pool::follow`] would give now, were nothing offered in between.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Entry> {
        self.to_follow().next()
    }

    /// The entries whose links were not followed yet, nearest first.
    #[inline]
    pub(crate) fn to_follow(&self) -> impl Iterator<Item = Entry> + '_ {
        let rest = self.entries.get(self.next..).unwrap_or_default().iter();
        rest.filter(|entry| entry.0 & FOLLOWED == 0).copied()
    }

    #[inline]
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_compare_as_keys_do_and_then_as_rows() {
        let keys = [
            f32::NEG_INFINITY,
            -1e30,
            -1.0,
            -1e-40,
            0.0,
            1e-40,
            1.0,
            1e30,
            f32::INFINITY,
        ];
        for (i, low) in keys.iter().enumerate() {
            assert_eq!(Entry::new(*low, 7).key(), *low);
            assert!(Entry::new(*low, 7) < Entry::new(*low, 8));
            for high in &keys[i + 1..] {
                assert!(Entry::new(*low, (1 << 31) - 1) < Entry::new(*high, 0));
            }
        }
        assert_eq!(Entry::new(-0.5, (1 << 31) - 1).row(), (1 << 31) - 1);
    }

    #[test]
    fn a_pool_keeps_the_nearest_and_follows_each_once() {
        let mut pool = Pool::default();
        pool.reset(3);
        let mut followed = Vec::new();
        for key in [5.0, 1.0, 4.0, 0.5, 9.0, 0.25] {
            pool.offer(Entry::new(key, key.to_bits() >> 1));
            assert_eq!(
                pool.peek().map(Entry::key),
                pool.entries()
                    .iter()
                    .find(|e| e.0 & FOLLOWED == 0)
                    .map(|e| e.key())
            );
            followed.extend(pool.follow().map(Entry::key));
        }
        followed.extend(std::iter::from_fn(|| pool.follow().map(Entry::key)));
        assert_eq!(followed, [5.0, 1.0, 4.0, 0.5, 0.25]);
        let keys: Vec<_> = pool.entries().iter().map(|entry| entry.key()).collect();
        assert_eq!(keys, [0.25, 0.5, 1.0]);
    }

    #[test]
    fn a_pool_without_room_takes_nothing() {
        let mut pool = Pool::default();
        pool.offer(Entry::new(0.0, 0));
        assert!(pool.entries().is_empty() && pool.follow().is_none());
    }
}
