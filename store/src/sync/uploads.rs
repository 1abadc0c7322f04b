//! Who is answered when: a fair queue for blob requests, and limits on what leaves.
//!
//! Only so many requests are answered at a time ([`Slots`]) that each moves, so that pieces get done and spread
//! on; the others wait, the peer that has least of our upload first. Who waits long is told so ([`Hub::choke`]),
//! and makes no more requests meanwhile.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use iroh::EndpointId;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{hub::Hub, limits::CHOKE_AFTER, rate::Rate, slots::Slots};

/// Limits on what leaves, in bytes a second; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadLimits {
    /// To all peers together.
    pub total: Option<u64>,
    /// To each peer.
    pub peer: Option<u64>,
}

/// Peers whose share is remembered; above it, all shares are forgotten.
const PEERS_MAX: usize = 4096;

/// The queue of one node. Clones share it.
#[derive(Debug, Clone)]
pub struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hub: Hub,
    limits: UploadLimits,
    total: Option<Rate>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    active: usize,
    peers: HashMap<EndpointId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    active: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
    /// Bytes that it got, as far as is remembered.
    sent: u64,
    /// Whether it was told that it waits.
    choked: bool,
    rate: Option<Arc<Rate>>,
}

/// A request that is being answered; the next one may go when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    uploads: Uploads,
    peer: EndpointId,
    /// Whether it counts.
    counts: bool,
}

impl Uploads {
    /// A queue under these limits; whoever waits is told through `hub`.
    pub fn new(limits: UploadLimits, hub: Hub) -> Self {
        let unknown = || Slots::unknown(Instant::now());
        let state = State {
            slots: limits.total.map_or_else(unknown, Slots::of_rate),
            active: 0,
            peers: HashMap::new(),
        };
        Self(Arc::new(Shared {
            hub,
            limits,
            total: limits.total.map(Rate::new),
            state: Mutex::new(state),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hub that watchers are told through.
    pub(super) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Waits until a request of `peer` may be answered.
    pub(super) async fn admit(&self, peer: EndpointId) -> Slot {
        let mut turn = {
            let mut state = self.state();
            let free = state.active < state.slots.limit();
            let queue = state.queue(peer);
            if free {
                queue.active += 1;
                state.active += 1;
                return self.slot(peer, true);
            }
            let (go, turn) = oneshot::channel();
            queue.waiting.push_back(go);
            turn
        };
        // The sender stays in the queue until it is used.
        if let Ok(slot) = timeout(CHOKE_AFTER, &mut turn).await {
            return slot.unwrap_or_else(|_| self.slot(peer, false));
        }
        {
            let mut state = self.state();
            // Slots are handed on under this lock: one that came just now must not leave its peer choked for good.
            if let Ok(slot) = turn.try_recv() {
                return slot;
            }
            if !std::mem::replace(&mut state.queue(peer).choked, true) {
                self.0.hub.choke(peer, true);
            }
        }
        turn.await.unwrap_or_else(|_| self.slot(peer, false))
    }

    fn slot(&self, peer: EndpointId, counts: bool) -> Slot {
        Slot {
            uploads: self.clone(),
            peer,
            counts,
        }
    }

    /// Waits until `bytes` may leave for `peer`.
    pub(super) async fn pass(&self, peer: EndpointId, bytes: usize) {
        let own = {
            let mut state = self.state();
            let limit = self.0.limits.peer;
            let queue = state.queue(peer);
            queue.sent += bytes as u64;
            if let (None, Some(limit)) = (&queue.rate, limit) {
                queue.rate = Some(Arc::new(Rate::new(limit)));
            }
            queue.rate.clone()
        };
        if let Some(rate) = own {
            rate.pass(bytes).await;
        }
        if let Some(rate) = &self.0.total {
            rate.pass(bytes).await;
        }
    }

    /// Bytes to send at a time, so that peers take turns.
    pub(super) fn step(&self) -> usize {
        let limits = [self.0.limits.total, self.0.limits.peer];
        let steps = limits.iter().flatten().map(|rate| Rate::new(*rate).step());
        steps.min().unwrap_or(usize::MAX)
    }
}

impl State {
    fn queue(&mut self, peer: EndpointId) -> &mut Queue {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.peers
                .retain(|_, queue| queue.active > 0 || !queue.waiting.is_empty());
        }
        if !self.peers.contains_key(&peer) {
            // A newcomer is not ahead of those that have waited: it begins with the least share of them.
            let waiting = self.peers.values().filter(|q| !q.waiting.is_empty());
            let sent = waiting.map(|queue| queue.sent).min().unwrap_or(0);
            let queue = Queue {
                sent,
                ..Queue::default()
            };
            self.peers.insert(peer, queue);
        }
        self.peers.entry(peer).or_default()
    }

    /// Lets those go next that have least; returns who need not wait any more.
    fn next(&mut self, uploads: &Uploads) -> Vec<EndpointId> {
        let mut free = Vec::new();
        while self.active < self.slots.limit() {
            let waiting = self.peers.iter_mut().filter(|(_, q)| !q.waiting.is_empty());
            let Some((peer, queue)) = waiting.min_by_key(|(_, queue)| (queue.active, queue.sent))
            else {
                break;
            };
            let Some(go) = queue.waiting.pop_front() else {
                break;
            };
            if queue.waiting.is_empty() && std::mem::take(&mut queue.choked) {
                free.push(*peer);
            }
            match go.send(uploads.slot(*peer, true)) {
                Ok(()) => {
                    queue.active += 1;
                    self.active += 1;
                }
                // It gave up.
                Err(mut slot) => slot.counts = false,
            }
        }
        free
    }
}

impl Slot {
    /// Lets the next one go, since the answer has left: so many bytes.
    pub(super) fn done(self, bytes: u64) {
        if !self.counts {
            return;
        }
        let mut state = self.uploads.state();
        let waited_for = state.peers.values().any(|queue| !queue.waiting.is_empty());
        state.slots.done(bytes, waited_for, Instant::now());
        // The slot is dropped after the lock.
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.counts {
            return;
        }
        let mut state = self.uploads.state();
        state.active = state.active.saturating_sub(1);
        let queue = state.queue(self.peer);
        queue.active = queue.active.saturating_sub(1);
        // Told under the lock, or a word that it waits could overtake the one that it need not.
        for peer in state.next(&self.uploads) {
            self.uploads.0.hub.choke(peer, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;

    use super::*;
    use crate::sync::limits::UPLOADS_AT_FIRST;

    fn uploads(total: u64) -> Uploads {
        let limits = UploadLimits {
            total: Some(total),
            peer: None,
        };
        Uploads::new(limits, Hub::default())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_turns_out_fast_answers_more_at_a_time() {
        let uploads = Uploads::new(UploadLimits::default(), Hub::default());
        let peer = SecretKey::generate().public();
        let mut slots = VecDeque::new();
        for _ in 0..UPLOADS_AT_FIRST {
            slots.push_back(uploads.admit(peer).await);
        }
        let waiting: Vec<_> = (0..2 * UPLOADS_AT_FIRST)
            .map(|_| {
                let uploads = uploads.clone();
                tokio::spawn(async move { uploads.admit(peer).await })
            })
            .collect();
        while uploads.state().queue(peer).waiting.len() < waiting.len() {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        for slot in slots {
            slot.done(32 << 20);
        }
        assert_eq!(uploads.state().active, 2 * UPLOADS_AT_FIRST);
        for slot in waiting {
            drop(slot.await.expect("all come to their turn"));
        }
        assert_eq!(uploads.state().active, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_peer_with_least_goes_first_and_who_waits_is_told() {
        let uploads = uploads(1);
        let (a, b) = (
            SecretKey::generate().public(),
            SecretKey::generate().public(),
        );
        let hub = uploads.hub().clone();
        let addr = crate::sync::message::PeerAddr {
            id: *b.as_bytes(),
            ip: Vec::new(),
            relay: Vec::new(),
        };
        let watch = hub.watch(b, addr, crate::VersionId::of(b"v"), &Vec::new());
        let (one, two) = (uploads.admit(a).await, uploads.admit(a).await);
        let third = tokio::spawn({
            let uploads = uploads.clone();
            async move { uploads.admit(a).await }
        });
        while uploads.state().queue(a).waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        let fourth = tokio::spawn({
            let uploads = uploads.clone();
            async move { uploads.admit(b).await }
        });
        assert_eq!(watch.next().await.choked, Some(true), "b waits");
        drop(one);
        let slot = fourth.await.expect("b goes before a, which has one");
        assert_eq!(watch.next().await.choked, Some(false));
        assert!(!third.is_finished());
        drop(two);
        drop((third.await.expect("a goes"), slot));
        assert_eq!(uploads.state().active, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_holds_nobody_up() {
        let uploads = uploads(1);
        let peer = SecretKey::generate().public();
        let slots = (uploads.admit(peer).await, uploads.admit(peer).await);
        let gone = tokio::time::timeout(CHOKE_AFTER * 3, uploads.admit(peer)).await;
        assert!(gone.is_err());
        drop(slots);
        assert_eq!(uploads.state().active, 0);
        drop(uploads.admit(peer).await);
    }
}
