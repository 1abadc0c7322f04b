//! Puts whole chunks that were fetched on demand into the store, so that they are read from there the
//! next time.
//!
//! What comes while one pack is sealed goes into the next one. A chunk stays in memory until it is
//! durable. Only chunks of versions that the home keeps are stored, within its quota: pulled versions
//! leave least recently used first, as after a pull, and what finds no room is just not kept.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use lode_store::{ChunkHash, VersionId, gc::GcError, local, outboard, store::WriteError};
use tokio::sync::Notify;

use super::limits::{KEEP_BYTES_MAX, KEEP_LINGER};
use crate::{Node, command::Failure};

/// A whole chunk on its way to the store.
#[derive(Debug, Clone, Copy)]
struct Coming {
    hash: ChunkHash,
    len: u32,
    of: VersionId,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Coming>,
    /// Bytes of the queue and of what is being written.
    bytes: u64,
    runs: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    state: Mutex<State>,
    changed: Notify,
}

impl Keeper {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chunks that wait.
    pub(super) fn queued(&self) -> u64 {
        self.state().queue.len() as u64
    }

    /// Takes on a chunk that is whole in the table. Called from threads that belong to the runtime.
    pub(super) fn offer(&self, node: &Node, hash: ChunkHash, len: u32, of: VersionId) {
        let mut state = self.state();
        state.queue.push_back(Coming { hash, len, of });
        state.bytes += u64::from(len);
        if !std::mem::replace(&mut state.runs, true) {
            tokio::spawn(run(node.clone()));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until there is room for more chunks.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().bytes <= KEEP_BYTES_MAX {
                return;
            }
            changed.await;
        }
    }

    /// Waits until nothing is on its way to the store.
    pub(super) async fn settled(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.state().runs {
                return;
            }
            changed.await;
        }
    }

    fn next(&self) -> Vec<Coming> {
        let mut state = self.state();
        let batch: Vec<Coming> = state.queue.drain(..).collect();
        if batch.is_empty() {
            state.runs = false;
        }
        batch
    }

    fn done(&self, batch: &[Coming]) {
        let bytes: u64 = batch.iter().map(|coming| u64::from(coming.len)).sum();
        self.state().bytes -= bytes;
        self.changed.notify_waiters();
    }
}

async fn run(node: Node) {
    let fetching = node.fetching().clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(KEEP_LINGER) => {}
            () = full(&fetching.keeper) => {}
        }
        let batch = fetching.keeper.next();
        if batch.is_empty() {
            fetching.keeper.changed.notify_waiters();
            return;
        }
        let chunks = batch.clone();
        let stored = node.blocking(move |node| store(node, &chunks)).await;
        let stored = stored.unwrap_or_else(|failure| {
            tracing::warn!(%failure, "what was fetched for a reader could not be kept");
            HashSet::new()
        });
        for coming in &batch {
            fetching
                .table
                .kept(&coming.hash, stored.contains(&coming.hash));
        }
        fetching.keeper.done(&batch);
    }
}

/// Waits until half of what may wait does.
async fn full(keeper: &Keeper) {
    loop {
        let changed = keeper.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if keeper.state().bytes > KEEP_BYTES_MAX / 2 {
            return;
        }
        changed.await;
    }
}

/// Stores the chunks for which there is room; those that are durable when this returns.
fn store(node: &Node, batch: &[Coming]) -> Result<HashSet<ChunkHash>, Failure> {
    let store = node.store();
    let versions: HashSet<VersionId> = batch.iter().map(|coming| coming.of).collect();
    for version in &versions {
        store.touch(version)?;
    }
    let needed = batch.iter().map(|coming| u64::from(coming.len)).sum();
    match store.make_room(needed) {
        Ok(_) => {}
        Err(error @ (GcError::Running | GcError::Write(WriteError::OverQuota { .. }))) => {
            tracing::debug!(%error, "what was fetched for a reader is not kept");
            return Ok(HashSet::new());
        }
        Err(error) => return Err(error.into()),
    }
    let mut kept = HashSet::new();
    for version in versions {
        // One that was removed, or just left to make room, is not begun anew behind its back.
        if store.local_get(&local::keep_key(&version))?.is_some() {
            kept.insert(version);
        }
    }
    let _guard = store.protect();
    let mut pack = store.pack_writer();
    let mut stored = HashSet::new();
    for coming in batch.iter().filter(|coming| kept.contains(&coming.of)) {
        if store.holds(&coming.hash)? {
            stored.insert(coming.hash);
            continue;
        }
        let Some(bytes) = node.fetching().table.whole(&coming.hash) else {
            continue;
        };
        let (hash, pairs) = outboard::compute(&bytes);
        if hash != coming.hash {
            // Groups were verified one by one, so this is memory that went bad.
            tracing::error!(chunk = %coming.hash, "a chunk changed in memory, and is not kept");
            continue;
        }
        pack.add(hash, &bytes, &pairs)?;
        stored.insert(hash);
    }
    pack.seal()?;
    Ok(stored)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn fetches_wait_while_too_much_is_on_its_way_to_the_store() {
        let keeper = Keeper::default();
        keeper.state().bytes = KEEP_BYTES_MAX;
        assert!(block_on(poll_once(keeper.room())).is_some());
        keeper.state().bytes = KEEP_BYTES_MAX + 1;
        let mut room = std::pin::pin!(keeper.room());
        assert!(block_on(poll_once(room.as_mut())).is_none());
        let coming = Coming {
            hash: ChunkHash::of(b"a"),
            len: 1,
            of: VersionId::of(b"v"),
        };
        keeper.done(&[coming]);
        assert!(block_on(poll_once(room)).is_some());
    }
}
