//! Maintenance in the background: one thread makes segments of what is in memory and merges segments, one step of one
//! collection after the other, and closes collections that nobody uses.
//!
//! A step is never cut short: it is safe to kill the process within one. The thread holds the home only while it
//! works, and ends with the node.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lode_index::{
    Collection, CollectionConfig, CollectionError,
    collection::{Budget, Maintained},
};

use super::{
    CollectionsError, Figures, State,
    limits::{LIVE_BYTES_MAX, MERGE_BYTES_MAX},
    slot::Slot,
};

/// How often collections that nobody uses are looked for.
const LOOK: Duration = Duration::from_secs(30);

/// Memory that a merge takes for a point, beside codes and links of one vector: ids, payload indexes, slack.
const POINT_BYTES: u64 = 200;

/// Memory that a merge takes for a vector beside its code of one byte a component: links, both ways.
const LINKS_BYTES: u64 = 256;

/// What there is to do, and counts of what was done.
#[derive(Debug, Default)]
pub(super) struct Work {
    queue: Mutex<Queue>,
    wake: Condvar,
    flushed: AtomicU64,
    merged: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    slots: VecDeque<Arc<Slot>>,
    working: bool,
    stop: bool,
}

impl Work {
    /// Has a collection maintained soon.
    pub(super) fn add(&self, slot: &Arc<Slot>) {
        if slot.waits.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut queue = self.queue();
        if !queue.stop {
            queue.slots.push_back(Arc::clone(slot));
            drop(queue);
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        let mut queue = self.queue();
        queue.stop = true;
        queue.slots.clear();
        drop(queue);
        self.wake.notify_all();
    }

    pub(super) fn figures(&self) -> Figures {
        let queue = self.queue();
        Figures {
            waiting: queue.slots.len() as u64 + u64::from(queue.working),
            flushed: self.flushed.load(Ordering::Relaxed),
            merged: self.merged.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            ..Figures::default()
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread.
pub(super) fn start(state: &Arc<State>) -> Result<(), CollectionsError> {
    let (weak, work) = (Arc::downgrade(state), Arc::clone(&state.work));
    let thread = thread::Builder::new().name("collections".to_owned());
    thread
        .spawn(move || run(&weak, &work))
        .map(drop)
        .map_err(CollectionsError::io(&state.folder))
}

fn run(state: &Weak<State>, work: &Work) {
    let mut looked = Instant::now();
    loop {
        let mut queue = work.queue();
        queue.working = false;
        if queue.slots.is_empty() && !queue.stop {
            let waited = work.wake.wait_timeout(queue, LOOK);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if queue.stop {
            return;
        }
        let next = queue.slots.pop_front();
        queue.working = next.is_some();
        drop(queue);
        // whoever holds this keeps the home
        let Some(state) = state.upgrade() else {
            return;
        };
        if let Some(slot) = next {
            slot.waits.store(false, Ordering::Release);
            step(work, &slot);
            bound_memory(&state, work);
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            close_idle(&state, work);
        }
    }
}

/// One step of a collection; it comes to the end of the queue if there may be more to do.
fn step(work: &Work, slot: &Arc<Slot>) {
    let Some(index) = slot.peek() else {
        return;
    };
    let budget = budget(index.view().config());
    match index.maintain(&budget) {
        Ok(Maintained::Nothing) => slot.set_trouble(None),
        Ok(Maintained::Flushed) => {
            work.flushed.fetch_add(1, Ordering::Relaxed);
            work.add(slot);
        }
        Ok(Maintained::Merged { .. }) => {
            work.merged.fetch_add(1, Ordering::Relaxed);
            work.add(slot);
        }
        Ok(_) => work.add(slot),
        // it is tried again with the next write
        Err(error) => failed(work, slot, &index, &error),
    }
}

fn failed(work: &Work, slot: &Slot, index: &Arc<Collection>, error: &CollectionError) {
    // one that was deleted, or that a snapshot took the place of
    if !slot.holds(index) {
        return;
    }
    work.failed.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(collection = slot.name, %error, "a collection is not maintained");
    slot.set_trouble(Some(error.to_string()));
}

/// Freezes what is largest in memory until all together is within bounds.
fn bound_memory(state: &Arc<State>, work: &Work) {
    let Some(table) = state.table.get() else {
        return;
    };
    let mut live: Vec<_> = table
        .open_ones()
        .into_iter()
        .filter_map(|slot| {
            let bytes = slot.peek()?.view().live_bytes();
            (bytes > 0).then_some((bytes, slot))
        })
        .collect();
    let mut total: u64 = live.iter().map(|(bytes, _)| bytes).sum();
    if total <= LIVE_BYTES_MAX {
        return;
    }
    live.sort_by_key(|(bytes, _)| *bytes);
    while total > LIVE_BYTES_MAX
        && let Some((bytes, slot)) = live.pop()
    {
        freeze(work, &slot);
        total = total.saturating_sub(bytes);
    }
}

fn freeze(work: &Work, slot: &Arc<Slot>) {
    let Some(index) = slot.peek() else {
        return;
    };
    match index.freeze() {
        Ok(()) => {
            work.flushed.fetch_add(1, Ordering::Relaxed);
            work.add(slot);
        }
        Err(error) => failed(work, slot, &index, &error),
    }
}

/// Closes what nobody asked for in a while. What it has in memory becomes a segment before, so that it opens fast.
fn close_idle(state: &Arc<State>, work: &Work) {
    let Some(table) = state.table.get() else {
        return;
    };
    for slot in table.open_ones() {
        if !slot.is_idle() || work.queue().stop {
            continue;
        }
        let live = slot.peek().map_or(0, |index| index.view().live_bytes());
        if live > 0 && slot.trouble().is_none() {
            // closed when it was maintained, and looked at again
            freeze(work, &slot);
            continue;
        }
        table.close(&slot);
    }
}

/// How large the segments are that merges make of a collection, so that a merge stays within its memory.
fn budget(config: &CollectionConfig) -> Budget {
    let codes = config
        .vectors
        .values()
        .map(|params| params.dim.get() as u64 + LINKS_BYTES);
    let point = POINT_BYTES + codes.max().unwrap_or(0);
    Budget {
        points_max: MERGE_BYTES_MAX / point,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lode_index::{Dim, Dtype, Metric, VectorParams};

    use super::*;

    #[test]
    fn a_merge_of_any_dimension_stays_within_its_memory() {
        for dim in [1, 384, 1536, 65_536] {
            let config = CollectionConfig::single(VectorParams {
                dim: Dim::new(dim).unwrap(),
                metric: Metric::Cosine,
                dtype: Dtype::F32,
            });
            let points = budget(&config).points_max;
            let bytes = points * (POINT_BYTES + u64::from(dim) + LINKS_BYTES);
            assert!(points > 0 && bytes <= MERGE_BYTES_MAX, "{dim}: {points}");
        }
    }
}
