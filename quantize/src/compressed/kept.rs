//! Scales that stay known once they were made, within a budget: what hostile headers claim takes no memory beyond it.

use std::sync::OnceLock;

use super::index_of;
use crate::limits::SCALES_KEPT_BYTES_MAX;

/// What the scales of one layout may take.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            bytes: SCALES_KEPT_BYTES_MAX,
        }
    }

    /// A place for scales of so many bytes, which keeps none of them when the budget is spent.
    pub(super) fn kept<A>(&mut self, bytes: u64) -> Kept<A> {
        match self.bytes.checked_sub(bytes) {
            Some(rest) => {
                self.bytes = rest;
                Kept(Some(OnceLock::new()))
            }
            None => Kept(None),
        }
    }
}

/// The scales of a tensor, as atomic bits: zero until one is known, which no scale is. Memory is taken with the first.
#[derive(Debug)]
pub(super) struct Kept<A>(Option<OnceLock<Box<[A]>>>);

impl<A: Default> Kept<A> {
    /// The place of a scale, if one of the tensor was made.
    pub(super) fn at(&self, index: u64) -> Option<&A> {
        Some(&self.0.as_ref()?.get()?[index_of(index)])
    }

    /// The place of a scale, of `count` that the tensor has, if they are kept at all.
    pub(super) fn make_at(&self, index: u64, count: u64) -> Option<&A> {
        let none = || (0..count).map(|_| A::default()).collect();
        Some(&self.0.as_ref()?.get_or_init(none)[index_of(index)])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU16;

    use super::*;

    #[test]
    fn scales_kept_bytes_max() {
        let mut budget = Budget::new();
        let beyond = budget.kept::<AtomicU16>(SCALES_KEPT_BYTES_MAX + 1);
        assert!(beyond.make_at(0, 1).is_none());
        let all = budget.kept::<AtomicU16>(SCALES_KEPT_BYTES_MAX);
        assert!(all.at(0).is_none(), "nothing is taken before it is needed");
        assert!(all.make_at(0, 1).is_some() && all.at(0).is_some());
        assert!(budget.kept::<AtomicU16>(1).make_at(0, 1).is_none());
    }
}
