//! What was decoded a moment ago, kept within a bound: the least recently used leaves first.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use lode_store::recent::{Usage, UsageCount};

/// Values by key, up to a total weight in bytes.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    weight_max: usize,
    usage: UsageCount,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    entries: HashMap<K, Entry<V>>,
    weight: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: Arc<V>,
    weight: usize,
    used: u64,
}

impl<K: Eq + Hash + Copy, V> Cache<K, V> {
    /// An empty cache of at most `weight_max` bytes.
    pub(crate) fn new(weight_max: usize) -> Self {
        let state = State {
            entries: HashMap::new(),
            weight: 0,
            clock: 0,
        };
        Self {
            weight_max,
            usage: UsageCount::default(),
            state: Mutex::new(state),
        }
    }

    /// The value of `key`, if it is kept.
    pub(crate) fn get(&self, key: K) -> Option<Arc<V>> {
        self.usage.count(self.find(key))
    }

    /// How often a value was asked for.
    pub(crate) fn usage(&self) -> Usage {
        self.usage.usage()
    }

    fn find(&self, key: K) -> Option<Arc<V>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.get_mut(&key)?;
        entry.used = now;
        Some(Arc::clone(&entry.value))
    }

    /// Keeps a value of `weight` bytes, unless it alone weighs more than all may.
    pub(crate) fn put(&self, key: K, value: &Arc<V>, weight: usize) {
        if weight > self.weight_max {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let entry = Entry {
            value: Arc::clone(value),
            weight,
            used: state.clock,
        };
        state.weight += weight;
        if let Some(before) = state.entries.insert(key, entry) {
            state.weight -= before.weight;
        }
        while state.weight > self.weight_max {
            let oldest = state.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                break;
            };
            if let Some(gone) = state.entries.remove(&key) {
                state.weight -= gone.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaves_and_the_bound_holds() {
        let cache = Cache::new(10);
        for key in 0..3 {
            cache.put(key, &Arc::new(key), 3);
        }
        assert!(cache.get(0).is_some());
        cache.put(3, &Arc::new(3), 3);
        assert!(cache.get(1).is_none(), "1 was used least recently");
        assert!([0, 2, 3].iter().all(|key| cache.get(*key).is_some()));
        cache.put(4, &Arc::new(4), 11);
        assert!(cache.get(4).is_none(), "heavier than the whole cache");
        cache.put(3, &Arc::new(33), 10);
        assert_eq!(cache.get(3).as_deref(), Some(&33));
        assert!(cache.get(0).is_none());
    }
}
