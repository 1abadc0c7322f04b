//! What was looked up a moment ago, kept within a bound: two halves, of which the older one is dropped when
//! the newer one is full. What is used moves to the newer one.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How often something was asked for that may be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Times that it was.
    pub hits: u64,
    /// Times that it was not.
    pub misses: u64,
}

/// Counts that.
#[derive(Debug, Default)]
pub struct UsageCount {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl UsageCount {
    /// Counts what was found, or not, and hands it on.
    pub fn count<V>(&self, found: Option<V>) -> Option<V> {
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The counts so far.
    pub fn usage(&self) -> Usage {
        Usage {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

/// Values by key, up to a total weight.
#[derive(Debug)]
pub struct Recent<K, V> {
    weight_max: usize,
    usage: UsageCount,
    halves: Mutex<Halves<K, V>>,
}

#[derive(Debug)]
struct Halves<K, V> {
    newer: HashMap<K, (V, usize)>,
    older: HashMap<K, (V, usize)>,
    /// Of the newer half.
    weight: usize,
    /// What the values were true of; others than those of now are forgotten.
    as_of: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    /// Keeps values that weigh at most `weight_max` together, bytes or whatever else the caller counts.
    pub fn new(weight_max: usize) -> Self {
        let halves = Halves {
            newer: HashMap::new(),
            older: HashMap::new(),
            weight: 0,
            as_of: 0,
        };
        Self {
            weight_max,
            usage: UsageCount::default(),
            halves: Mutex::new(halves),
        }
    }

    /// The value of `key`, if it is kept and was true as of `as_of`.
    pub fn get(&self, key: &K, as_of: u64) -> Option<V> {
        self.usage.count(self.find(key, as_of))
    }

    /// Whether the value of `key` is kept and was true as of `as_of`; this is not counted.
    pub fn has(&self, key: &K, as_of: u64) -> bool {
        self.find(key, as_of).is_some()
    }

    /// How often a value was asked for.
    pub fn usage(&self) -> Usage {
        self.usage.usage()
    }

    fn find(&self, key: &K, as_of: u64) -> Option<V> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.as_of != as_of {
            return None;
        }
        if let Some((value, _)) = halves.newer.get(key) {
            return Some(value.clone());
        }
        let (value, weight) = halves.older.remove(key)?;
        halves.put(key.clone(), value.clone(), weight, self.weight_max / 2);
        Some(value)
    }

    /// Keeps a value that was true as of `as_of`, unless it weighs more than half of what all may.
    pub fn put(&self, key: K, value: V, weight: usize, as_of: u64) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.as_of > as_of {
            return;
        }
        if halves.as_of < as_of {
            halves.newer.clear();
            halves.older.clear();
            (halves.weight, halves.as_of) = (0, as_of);
        }
        halves.put(key, value, weight, self.weight_max / 2);
    }
}

impl<K: Eq + Hash, V> Halves<K, V> {
    fn put(&mut self, key: K, value: V, weight: usize, half: usize) {
        if weight > half {
            return;
        }
        if self.weight + weight > half {
            self.older = std::mem::take(&mut self.newer);
            self.weight = 0;
        }
        self.weight += weight;
        if let Some((_, before)) = self.newer.insert(key, (value, weight)) {
            self.weight -= before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(recent: &Recent<u32, u32>) -> usize {
        let halves = recent.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let all = halves.newer.values().chain(halves.older.values());
        all.map(|(_, weight)| weight).sum()
    }

    #[test]
    fn what_is_found_and_what_is_not_are_counted() {
        let recent = Recent::new(20);
        recent.put(1, 1, 1, 0);
        for key in [1, 1, 2] {
            recent.get(&key, 0);
        }
        recent.get(&1, 1);
        assert_eq!(recent.usage(), Usage { hits: 2, misses: 2 });
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let recent = Recent::new(20);
        for key in 0..100 {
            recent.put(key, key, 3, 0);
            assert_eq!(recent.get(&0, 0), Some(0), "used each time, at {key}");
            assert_eq!(recent.get(&key, 0), Some(key));
            assert!(weight(&recent) <= 20);
        }
        assert_eq!(recent.get(&50, 0), None);
        recent.put(7, 7, 11, 0);
        assert_eq!(recent.get(&7, 0), None, "heavier than a half");
        recent.put(8, 8, 10, 0);
        assert_eq!(recent.get(&8, 0), Some(8));
    }

    #[test]
    fn what_was_true_before_a_change_is_forgotten() {
        let recent = Recent::new(20);
        recent.put(1, 1, 1, 5);
        assert_eq!(recent.get(&1, 6), None);
        recent.put(2, 2, 1, 6);
        assert_eq!((recent.get(&1, 6), recent.get(&2, 6)), (None, Some(2)));
        recent.put(1, 1, 1, 5);
        assert_eq!(recent.get(&1, 6), None, "looked up before the change");
    }
}
