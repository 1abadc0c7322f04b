//! Who waits for which bytes of which chunk, and what is there: a fetch for each byte that is missing,
//! whoever and how many ask for it.
//!
//! Pure bookkeeping without I/O. Readers hold the [`Flight`]s that they wait for; a flight whose last
//! reader leaves is aborted. Verified bytes go to those who wait at once, and stay in memory up to
//! [`CACHE_BYTES_MAX`]: least recently used chunks leave first, except those on their way to the store.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use lode_store::{
    ChunkHash,
    recent::{Usage, UsageCount},
};
use tokio::{sync::oneshot, task::AbortHandle};
use tokio_util::sync::CancellationToken;

use super::{limits::CACHE_BYTES_MAX, runs::Runs};
use crate::{command::Failure, read::Part};

/// Chunks that are looked through for entries that nobody needs any more.
const ENTRIES_MAX: usize = 4096;

/// A fetch under way. Whoever waits for it holds it; when nobody does, it is aborted.
#[derive(Debug, Default)]
pub(super) struct Flight {
    ended: CancellationToken,
    failure: OnceLock<Failure>,
    task: OnceLock<AbortHandle>,
}

impl Flight {
    /// Names the task that carries it out.
    pub(super) fn carried_by(&self, task: AbortHandle) {
        self.task.get_or_init(|| task);
    }

    /// Notes how it ended.
    pub(super) fn end(&self, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            self.failure.get_or_init(|| failure);
        }
        self.ended.cancel();
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why it brought less than it should.
    pub(super) async fn ended(&self) -> Result<(), Failure> {
        self.ended.cancelled().await;
        match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Whether it has not ended.
    pub(super) fn is_under_way(&self) -> bool {
        !self.ended.is_cancelled()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// What a reader finds of the bytes that it wants next.
#[derive(Debug)]
pub(super) enum Found {
    /// Some of them.
    Bytes(Bytes),
    /// A fetch brings them.
    Coming(oneshot::Receiver<Bytes>, Arc<Flight>),
    /// Nobody asked for them.
    Absent,
}

/// What a reader must do to get what it asked for.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// Parts to fetch, under this flight.
    pub(super) own: Option<(Arc<Flight>, Vec<Part>)>,
    /// Flights of others that bring the rest.
    pub(super) joined: Vec<Arc<Flight>>,
}

#[derive(Debug)]
struct Waiter {
    range: Range<u32>,
    to: oneshot::Sender<Bytes>,
}

#[derive(Debug, Default)]
struct Entry {
    len: u32,
    runs: Runs,
    flights: Vec<(Range<u32>, Weak<Flight>)>,
    waiters: Vec<Waiter>,
    used: u64,
    /// On its way to the store: stays until it is there.
    keeping: bool,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<ChunkHash, Entry>,
    bytes: usize,
    clock: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    state: Mutex<State>,
    usage: UsageCount,
    waiting: Arc<AtomicI64>,
}

/// Counts a waiting reader while it lives.
pub(super) struct Waiting(Arc<AtomicI64>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Table {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often bytes were asked for that may be in memory.
    pub(super) fn usage(&self) -> Usage {
        self.usage.usage()
    }

    /// Readers that wait for bytes.
    pub(super) fn waiting(&self) -> u64 {
        u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts a reader that waits.
    pub(super) fn wait(&self) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(&self.waiting))
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Whether all of `range` is in memory.
    pub(super) fn has(&self, hash: &ChunkHash, range: &Range<u32>) -> bool {
        let state = self.state();
        let entry = state.entries.get(hash);
        entry.is_some_and(|entry| entry.runs.missing(range).is_empty())
    }

    /// The first bytes of `range`, or what brings them.
    pub(super) fn find(&self, hash: &ChunkHash, range: Range<u32>) -> Found {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.get_mut(hash);
        let there = entry.as_ref().and_then(|entry| entry.runs.first(&range));
        let there = self.usage.count(there);
        let Some(entry) = entry else {
            return Found::Absent;
        };
        entry.used = now;
        if let Some(bytes) = there {
            return Found::Bytes(bytes);
        }
        let flight = entry.flights.iter().find_map(|(covers, flight)| {
            let flight = covers.contains(&range.start).then(|| flight.upgrade())??;
            Some(flight)
        });
        match flight {
            Some(flight) if flight.is_under_way() => {
                let (to, from) = oneshot::channel();
                entry.waiters.retain(|waiter| !waiter.to.is_closed());
                entry.waiters.push(Waiter { range, to });
                Found::Coming(from, flight)
            }
            _ => Found::Absent,
        }
    }

    /// Takes on what of `parts` neither is there nor comes already.
    pub(super) fn claim(&self, parts: Vec<Part>) -> Claim {
        let mut guard = self.state();
        let state = &mut *guard;
        state.clock += 1;
        let mut claim = Claim::default();
        let mut own = Vec::new();
        let flight = Arc::new(Flight::default());
        for part in parts {
            let entry = state.entries.entry(part.hash).or_default();
            (entry.len, entry.used) = (part.len, state.clock);
            entry
                .flights
                .retain(|(_, flight)| flight.strong_count() > 0);
            for gap in entry.runs.missing(&part.range) {
                let mut at = gap.start;
                while at < gap.end {
                    let covering = entry
                        .flights
                        .iter()
                        .find(|(covers, _)| covers.contains(&at));
                    // One that has ended brings no more, and one that nobody holds is being aborted.
                    let coming = covering
                        .and_then(|(covers, flight)| Some((covers.end, flight.upgrade()?)))
                        .filter(|(_, flight)| flight.is_under_way());
                    let end;
                    if let Some((until, other)) = coming {
                        end = until.min(gap.end);
                        if !claim.joined.iter().any(|held| Arc::ptr_eq(held, &other)) {
                            claim.joined.push(other);
                        }
                    } else {
                        let starts = entry.flights.iter().filter_map(|(covers, flight)| {
                            let live = flight.strong_count() > 0;
                            (live && covers.start > at).then_some(covers.start)
                        });
                        end = starts.min().unwrap_or(gap.end).min(gap.end);
                        let range = at..end;
                        own.push(Part {
                            range,
                            ..part.clone()
                        });
                    }
                    at = end;
                }
            }
            let mine = own.iter().filter(|own| own.hash == part.hash);
            for own in mine {
                let known = entry.flights.iter().any(|(covers, other)| {
                    *covers == own.range && other.ptr_eq(&Arc::downgrade(&flight))
                });
                if !known {
                    // First, so that it is found before one that ended.
                    entry
                        .flights
                        .insert(0, (own.range.clone(), Arc::downgrade(&flight)));
                }
            }
        }
        if state.entries.len() > ENTRIES_MAX {
            state.sweep();
        }
        if !own.is_empty() {
            claim.own = Some((flight, own));
        }
        claim
    }

    /// Puts in verified bytes and hands them to those who wait; whether the chunk is whole now, and
    /// was not before.
    pub(super) fn insert(&self, hash: &ChunkHash, len: u32, offset: u32, data: &[u8]) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        state.clock += 1;
        let entry = state.entries.entry(*hash).or_default();
        (entry.len, entry.used) = (len, state.clock);
        let added = entry.runs.insert(offset, data);
        state.bytes += added;
        let mut at = 0;
        while at < entry.waiters.len() {
            match entry.runs.first(&entry.waiters[at].range) {
                Some(bytes) => {
                    let waiter = entry.waiters.swap_remove(at);
                    // One that has left needs nothing.
                    let _ = waiter.to.send(bytes);
                }
                None => at += 1,
            }
        }
        let whole = added > 0 && entry.runs.bytes() == len as usize && !entry.keeping;
        entry.keeping |= whole;
        state.evict();
        whole
    }

    /// The bytes of a whole chunk.
    pub(super) fn whole(&self, hash: &ChunkHash) -> Option<Vec<u8>> {
        let state = self.state();
        let entry = state.entries.get(hash)?;
        (entry.len > 0 && entry.runs.bytes() == entry.len as usize).then(|| entry.runs.joined())
    }

    /// Forgets a chunk that is in the store now, or lets it go when it could not be put there.
    pub(super) fn kept(&self, hash: &ChunkHash, stored: bool) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(entry) = state.entries.get_mut(hash) else {
            return;
        };
        entry.keeping = false;
        if stored {
            state.bytes -= entry.runs.bytes();
            entry.runs = Runs::default();
        }
        state.evict();
        state.sweep();
    }
}

impl State {
    /// Lets chunks go, least recently used first, until the rest is within the bound.
    fn evict(&mut self) {
        while self.bytes > CACHE_BYTES_MAX {
            let idle = self
                .entries
                .iter()
                .filter(|(_, entry)| !entry.keeping && entry.runs.bytes() > 0);
            let Some(hash) = idle
                .min_by_key(|(_, entry)| entry.used)
                .map(|(hash, _)| *hash)
            else {
                return;
            };
            if let Some(entry) = self.entries.get_mut(&hash) {
                self.bytes -= entry.runs.bytes();
                entry.runs = Runs::default();
            }
        }
    }

    /// Drops entries without bytes that nobody waits for.
    fn sweep(&mut self) {
        self.entries.retain(|_, entry| {
            entry
                .flights
                .retain(|(_, flight)| flight.strong_count() > 0);
            entry.waiters.retain(|waiter| !waiter.to.is_closed());
            entry.keeping
                || entry.runs.bytes() > 0
                || !entry.flights.is_empty()
                || !entry.waiters.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        clippy::single_range_in_vec_init
    )]
    use super::*;

    const LEN: u32 = 1 << 20;

    fn part(name: &str, range: Range<u32>) -> Part {
        Part {
            chunk: 0,
            hash: ChunkHash::of(name.as_bytes()),
            len: LEN,
            range,
        }
    }

    fn ranges(claim: &Claim) -> Vec<Range<u32>> {
        let own = claim.own.iter().flat_map(|(_, parts)| parts);
        own.map(|part| part.range.clone()).collect()
    }

    #[test]
    fn each_byte_is_claimed_once_and_others_join() {
        let table = Table::default();
        let first = table.claim(vec![part("a", 100..200)]);
        assert_eq!(ranges(&first), [100..200]);
        let second = table.claim(vec![part("a", 50..300), part("b", 0..10)]);
        assert_eq!(ranges(&second), [50..100, 200..300, 0..10]);
        assert_eq!(second.joined.len(), 1);
        let third = table.claim(vec![part("a", 50..300)]);
        assert!(third.own.is_none());
        assert_eq!(third.joined.len(), 2);
    }

    #[test]
    fn what_a_dropped_or_ended_flight_left_is_claimed_again() {
        let table = Table::default();
        let first = table.claim(vec![part("a", 0..100)]);
        assert!(!table.insert(&part("a", 0..0).hash, LEN, 0, &[1; 40]));
        drop(first);
        let second = table.claim(vec![part("a", 0..100)]);
        assert_eq!(ranges(&second), [40..100]);
        second.own.as_ref().unwrap().0.end(Ok(()));
        let third = table.claim(vec![part("a", 0..100)]);
        assert_eq!(ranges(&third), [40..100]);
        assert!(matches!(
            table.find(&part("a", 0..0).hash, 50..60),
            Found::Coming(..)
        ));
    }

    #[tokio::test]
    async fn bytes_reach_those_who_wait_and_a_failed_flight_says_why() {
        let table = Table::default();
        let hash = part("a", 0..0).hash;
        assert!(matches!(table.find(&hash, 0..10), Found::Absent));
        let claim = table.claim(vec![part("a", 0..100)]);
        let Found::Coming(mut bytes, flight) = table.find(&hash, 10..60) else {
            panic!("a flight brings them")
        };
        table.insert(&hash, LEN, 0, &[7; 30]);
        assert_eq!(bytes.try_recv().unwrap(), vec![7; 20]);
        let own = claim.own.unwrap().0;
        own.end(Err(Failure::failed("planted")));
        assert_eq!(flight.ended().await.unwrap_err().message, "planted");
        assert!(matches!(table.find(&hash, 30..60), Found::Absent));
    }

    #[tokio::test]
    async fn the_last_reader_that_leaves_aborts_the_fetch() {
        let table = Table::default();
        let claim = table.claim(vec![part("a", 0..100)]);
        let (flight, _) = claim.own.unwrap();
        let task = tokio::spawn(std::future::pending::<()>());
        flight.carried_by(task.abort_handle());
        let Found::Coming(_, held) = table.find(&part("a", 0..0).hash, 0..1) else {
            panic!("it is under way")
        };
        drop(flight);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        drop(held);
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[test]
    fn memory_is_bounded_and_what_goes_to_the_store_stays() {
        let table = Table::default();
        let data = vec![1; LEN as usize];
        let name = |at: usize| part(&at.to_string(), 0..0).hash;
        let count = CACHE_BYTES_MAX / data.len() + 1;
        assert!(table.insert(&name(0), LEN, 0, &data), "it is whole");
        for at in 1..=count {
            let half = &data[..data.len() / 2];
            table.insert(&name(at), LEN, 0, half);
            table.insert(&name(at), LEN + 1, LEN / 2, half);
            assert!(table.bytes() <= CACHE_BYTES_MAX);
        }
        assert!(table.has(&name(0), &(0..LEN)), "it waits for the store");
        assert!(
            !table.has(&name(1), &(0..LEN)),
            "it was used least recently"
        );
        assert!(table.has(&name(count), &(0..LEN)));
        table.kept(&name(0), true);
        assert!(table.whole(&name(0)).is_none());
    }
}
