//! What peers have shown us while they are connected, and how much went to and fro.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use iroh::EndpointId;
use tokio::time::Instant;

use super::{limits::CAPABILITIES_PER_PEER_MAX, rate::Gauge, source::Caller};

/// Capabilities by peer: in force while the `/lode/1` connection on which they were shown lives.
#[derive(Debug, Clone, Default)]
pub struct Grants(Arc<Mutex<HashMap<EndpointId, Vec<Shown>>>>);

#[derive(Debug)]
struct Shown {
    connection: u64,
    capabilities: Vec<Bytes>,
}

impl Grants {
    /// The peer `id` with all that it shows at this moment.
    pub fn caller(&self, id: EndpointId) -> Caller {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = shown.get(&id).into_iter().flatten();
        Caller {
            id,
            capabilities: list.flat_map(|shown| shown.capabilities.clone()).collect(),
        }
    }

    /// Opens a place for what is shown on one connection; it is emptied when the guard is dropped.
    pub(super) fn connected(&self, id: EndpointId) -> Grant {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let connection = NEXT.fetch_add(1, Ordering::Relaxed);
        let shown = Shown {
            connection,
            capabilities: Vec::new(),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id)
            .or_default()
            .push(shown);
        Grant {
            grants: self.clone(),
            id,
            connection,
        }
    }
}

/// What one connection shows.
#[derive(Debug)]
pub(super) struct Grant {
    grants: Grants,
    id: EndpointId,
    connection: u64,
}

impl Grant {
    /// Adds capabilities, up to the bound for a peer.
    pub(super) fn show(&self, capabilities: impl Iterator<Item = Bytes>) {
        let mut shown = self.grants.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mine = shown.get_mut(&self.id).into_iter().flatten();
        if let Some(list) = mine.find(|shown| shown.connection == self.connection) {
            for capability in capabilities {
                // A session that is used again shows again what it has shown.
                let full = list.capabilities.len() >= CAPABILITIES_PER_PEER_MAX;
                if !full && !list.capabilities.contains(&capability) {
                    list.capabilities.push(capability);
                }
            }
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut shown = self.grants.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = shown.get_mut(&self.id) {
            list.retain(|shown| shown.connection != self.connection);
            if list.is_empty() {
                shown.remove(&self.id);
            }
        }
    }
}

/// Bytes of blobs by peer, since the node started.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<HashMap<EndpointId, Arc<Counters>>>>);

/// Bytes of blobs that went to one peer and came from it.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    sent_wire: AtomicU64,
    received: AtomicU64,
    requests: AtomicU64,
    gauges: Mutex<Gauges>,
    lan_sent: AtomicU64,
    lan_received: AtomicU64,
    lan_answering: AtomicUsize,
    lan_asking: AtomicUsize,
}

#[derive(Debug, Default)]
struct Gauges {
    sent: Gauge,
    received: Gauge,
    dropped: Option<String>,
}

/// One TCP connection of the LAN path, counted until this is dropped.
#[derive(Debug)]
pub(super) struct LanCounted {
    counters: Arc<Counters>,
    answering: bool,
}

impl LanCounted {
    /// Counts one that we answer, unless there are `most` already.
    pub(super) fn answering(counters: &Arc<Counters>, most: usize) -> Option<Self> {
        let more = |open| (open < most).then_some(open + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        counters.lan_answering.fetch_update(set, fetch, more).ok()?;
        Some(Self {
            counters: Arc::clone(counters),
            answering: true,
        })
    }

    /// Counts one that we ask on.
    pub(super) fn asking(counters: &Arc<Counters>) -> Self {
        counters.lan_asking.fetch_add(1, Ordering::Relaxed);
        Self {
            counters: Arc::clone(counters),
            answering: false,
        }
    }
}

impl Drop for LanCounted {
    fn drop(&mut self) {
        let open = if self.answering {
            &self.counters.lan_answering
        } else {
            &self.counters.lan_asking
        };
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Bytes sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of answers: those sent, and the sizes and proofs with them.
    pub fn sent_wire(&self) -> u64 {
        self.sent_wire.load(Ordering::Relaxed)
    }

    /// Bytes received and verified.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Requests answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes a second sent and received, over the last seconds.
    pub fn rates(&self) -> (u64, u64) {
        let (gauges, now) = (self.gauges(), Instant::now());
        let whole = |rate: f64| Duration::from_secs_f64(rate.clamp(0.0, 1e15)).as_secs();
        (
            whole(gauges.sent.rate(now)),
            whole(gauges.received.rate(now)),
        )
    }

    /// Why a download does not ask it any more, if it has sent nothing since.
    pub fn dropped(&self) -> Option<String> {
        self.gauges().dropped.clone()
    }

    /// Notes that a download does not ask it any more.
    pub fn set_dropped(&self, reason: String) {
        self.gauges().dropped = Some(reason);
    }

    fn gauges(&self) -> MutexGuard<'_, Gauges> {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes sent over the LAN path, of all that were sent.
    pub fn lan_sent(&self) -> u64 {
        self.lan_sent.load(Ordering::Relaxed)
    }

    /// Bytes received over the LAN path, of all that were received, or did not pass verification.
    pub fn lan_received(&self) -> u64 {
        self.lan_received.load(Ordering::Relaxed)
    }

    /// Whether a TCP connection of the LAN path is open, either way.
    pub fn is_on_lan(&self) -> bool {
        let open = |count: &AtomicUsize| count.load(Ordering::Relaxed) > 0;
        open(&self.lan_answering) || open(&self.lan_asking)
    }

    pub(super) fn add_lan_sent(&self, bytes: u64) {
        self.lan_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_lan_received(&self, bytes: u64) {
        self.lan_received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_sent(&self, bytes: u64, wire: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.sent_wire.fetch_add(wire, Ordering::Relaxed);
        self.gauges().sent.add(bytes, Instant::now());
    }

    pub(super) fn add_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that a download took from the peer.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        let mut gauges = self.gauges();
        gauges.received.add(bytes, Instant::now());
        gauges.dropped = None;
    }
}

/// Peers whose traffic is kept; above it, those that moved least are forgotten.
const TRAFFIC_PEERS_MAX: usize = 4096;

impl Traffic {
    /// The counters of a peer.
    pub fn of(&self, id: EndpointId) -> Arc<Counters> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= TRAFFIC_PEERS_MAX && !peers.contains_key(&id) {
            let least = peers.iter().min_by_key(|(_, c)| c.sent() + c.received());
            if let Some(least) = least.map(|(id, _)| *id) {
                peers.remove(&least);
            }
        }
        Arc::clone(peers.entry(id).or_default())
    }

    /// Every peer with its counters.
    pub fn all(&self) -> Vec<(EndpointId, Arc<Counters>)> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers
            .iter()
            .map(|(id, counters)| (*id, Arc::clone(counters)))
            .collect()
    }
}
