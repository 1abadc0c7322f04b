//! The best of many: a bounded heap of scores, the same order everywhere.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Keeps the best `k` of what is offered; of equal scores the one that was offered under the lower key.
#[derive(Debug)]
pub(crate) struct Best<T> {
    k: usize,
    higher: bool,
    /// The worst on top.
    heap: BinaryHeap<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    /// Lower is better.
    rank: f32,
    score: f32,
    key: T,
}

impl<T: Ord> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T: Ord> Eq for Entry<T> {}

impl<T: Ord> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank
            .total_cmp(&other.rank)
            .then_with(|| self.key.cmp(&other.key))
    }
}

impl<T: Ord> Best<T> {
    /// Room for `k`; `higher` if a higher score is better.
    pub(crate) fn new(k: usize, higher: bool) -> Self {
        Self {
            k,
            higher,
            heap: BinaryHeap::new(),
        }
    }

    pub(crate) fn offer(&mut self, key: T, score: f32) {
        let rank = if self.higher { -score } else { score };
        let entry = Entry { rank, score, key };
        if self.heap.len() < self.k {
            self.heap.push(entry);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && entry < *worst
        {
            *worst = entry;
        }
    }

    /// What was kept, best first.
    pub(crate) fn into_sorted(self) -> Vec<(T, f32)> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|entry| (entry.key, entry.score)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_in_order_and_ties_by_key() {
        for (higher, expected) in [
            (true, [(3, 9.0), (1, 5.0), (4, 5.0)]),
            (false, [(0, 1.0), (2, 1.0), (1, 5.0)]),
        ] {
            let mut best = Best::new(3, higher);
            for (key, score) in [(4, 5.0), (2, 1.0), (3, 9.0), (1, 5.0), (0, 1.0)] {
                best.offer(key, score);
            }
            assert_eq!(best.into_sorted(), expected);
        }
        let mut none = Best::new(0, true);
        none.offer(1, 1.0);
        assert_eq!(none.into_sorted(), []);
    }
}
