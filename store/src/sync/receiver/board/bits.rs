//! A set of task numbers, a bit each.

/// A set of numbers below a bound that was set when it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(super) fn none(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    pub(super) fn all(len: usize) -> Self {
        let mut bits = Self {
            words: vec![u64::MAX; len.div_ceil(64)],
            len,
        };
        if let (Some(last), 1..) = (bits.words.last_mut(), len % 64) {
            *last = (1 << (len % 64)) - 1;
        }
        bits
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// Adds a number; whether it is new.
    pub(super) fn set(&mut self, at: usize) -> bool {
        let (word, bit) = (&mut self.words[at / 64], 1 << (at % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Takes a number away; whether it was there.
    pub(super) fn clear(&mut self, at: usize) -> bool {
        let (word, bit) = (&mut self.words[at / 64], 1 << (at % 64));
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    /// The numbers that are in `self`, and in `other` if there is one: from `start` on, then those before.
    pub(super) fn both<'a>(
        &'a self,
        other: Option<&'a Self>,
        start: usize,
    ) -> impl Iterator<Item = usize> + 'a {
        let count = self.words.len();
        let (first, skip) = (start / 64, start % 64);
        // The word of `start` comes twice: its upper bits first, its lower ones last.
        (0..=count).flat_map(move |step| {
            let word = if count == 0 {
                0
            } else {
                (first + step) % count
            };
            let mut bits = self.words.get(word).copied().unwrap_or(0);
            if let Some(other) = other {
                bits &= other.words.get(word).copied().unwrap_or(0);
            }
            if step == 0 {
                bits &= u64::MAX << skip;
            } else if step == count {
                bits &= !(u64::MAX << skip);
            }
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + bit)
            })
        })
    }

    /// Every number in it.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.both(None, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_from_anywhere_meets_each_number_once() {
        for len in [0, 1, 63, 64, 65, 200] {
            let all = Bits::all(len);
            assert_eq!(all.iter().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
            let mut odd = Bits::none(len);
            (1..len).step_by(2).for_each(|at| assert!(odd.set(at)));
            for start in 0..len {
                let walked: Vec<usize> = all.both(Some(&odd), start).collect();
                let from = (start..len).chain(0..start).filter(|at| at % 2 == 1);
                assert_eq!(walked, from.collect::<Vec<_>>(), "{len} from {start}");
            }
        }
        let mut one = Bits::all(70);
        assert!(one.clear(69) && !one.clear(69) && !one.has(69) && one.has(68));
    }
}
