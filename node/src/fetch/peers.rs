//! The peers that are asked on demand: who is reached, what each holds of a version, and who is left
//! aside for a while.
//!
//! Sessions and have-maps are kept, so that a range costs one round trip. Peers come from the address
//! book; each is shown what lets us read the model, once a session.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use iroh::{EndpointAddr, EndpointId};
use lode_store::{
    PublisherId, VersionId,
    sync::{
        receiver::{Peer, PeerReport, Reason},
        session::Session,
        source::HeldMap,
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant as Moment, timeout, timeout_at},
};

use super::{
    Of,
    limits::{
        AWAY, LIED, MAP_AGE_MAX, MAP_AGE_MIN, MEET_GRACE, MEET_TIMEOUT, PEERS_ASKED_MAX,
        VERSIONS_REMEMBERED_MAX,
    },
};
use crate::{Node, book, capabilities::Capabilities, command::Failure};

/// A peer that was reached.
#[derive(Clone)]
pub(super) struct Met {
    pub(super) session: Arc<Session>,
    pub(super) peer: Peer,
}

/// A peer with what it holds of a version.
pub(super) struct Provider {
    pub(super) peer: Peer,
    session: Arc<Session>,
    map: HeldMap,
}

impl Provider {
    /// Whether it holds a chunk of the version, counted through the tree.
    pub(super) fn holds(&self, index: u64) -> bool {
        self.map.holds(index)
    }
}

/// The peers of a version at some moment.
pub(super) struct Providers {
    pub(super) list: Vec<Provider>,
    asked: Instant,
}

impl Providers {
    fn is_fresh(&self, age_max: Duration) -> bool {
        let open = self
            .list
            .iter()
            .all(|provider| !provider.session.is_closed());
        // Nobody is soon asked again: a peer may have come up.
        let age_max = if self.list.is_empty() {
            age_max.min(MAP_AGE_MIN * 2)
        } else {
            age_max
        };
        open && self.asked.elapsed() < age_max
    }

    /// Whether some peer holds each of these chunks.
    pub(super) fn cover(&self, mut indexes: impl Iterator<Item = u64>) -> bool {
        indexes.all(|index| self.list.iter().any(|provider| provider.holds(index)))
    }
}

/// A model to which a peer was shown what lets us read it.
type Shown = HashSet<(PublisherId, String)>;

struct Acquaintance {
    session: Weak<Session>,
    peer: Peer,
    shown: Shown,
}

/// What of the peers of one version is remembered; locked while they are asked.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Providers>>>>;

/// The peers.
#[derive(Default)]
pub(super) struct Peers {
    known: Mutex<HashMap<EndpointId, Acquaintance>>,
    /// Until when a peer that was not reached is left aside.
    away: Mutex<HashMap<EndpointId, Instant>>,
    /// Until when a peer is not asked for a version, of which it sent wrong bytes. Not for others: it may
    /// be the version's publisher who lied about a chunk.
    lied: Mutex<HashMap<(EndpointId, VersionId), Instant>>,
    versions: Mutex<HashMap<VersionId, Slot>>,
}

impl Peers {
    /// The peers of a version with what they hold, as they said at most [`MAP_AGE_MAX`] ago; asked anew
    /// when they do not hold all of `chunks` between them.
    pub(super) async fn of_version(
        &self,
        node: &Node,
        of: &Of,
        chunks: impl Iterator<Item = u64> + Clone,
    ) -> Result<Arc<Providers>, Failure> {
        let slot = self.slot(of);
        let mut kept = slot.lock().await;
        if let Some(known) = kept.as_ref() {
            let enough = known.cover(chunks.clone());
            if known.is_fresh(if enough { MAP_AGE_MAX } else { MAP_AGE_MIN }) {
                return Ok(Arc::clone(known));
            }
        }
        let found = Arc::new(self.ask(node, of, chunks).await?);
        *kept = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Forgets what the peers of a version hold.
    pub(super) fn forget(&self, of: &Of) {
        lock(&self.versions).remove(&of.version);
    }

    /// Draws the consequences of how a peer did.
    pub(super) fn judge(&self, of: &Of, reports: &[PeerReport]) {
        for report in reports {
            match &report.dropped {
                None | Some(Reason::Slow(_)) => {}
                Some(Reason::Lied(_)) => {
                    lock(&self.lied).insert((report.peer, of.version), Instant::now() + LIED);
                }
                Some(_) => self.leave_aside(report.peer),
            }
        }
    }

    /// Peers that can be reached now, with what lets us read the model shown to them.
    pub(super) async fn reach(
        &self,
        node: &Node,
        model: Option<(PublisherId, String)>,
    ) -> Result<Vec<Met>, Failure> {
        let addresses = self.addresses(node, None).await?;
        let capabilities = capabilities(node, model.as_ref())?;
        let mut meeting = JoinSet::new();
        for address in addresses {
            let (node, model) = (node.clone(), model.clone());
            let shown = capabilities.for_peer(&address.id);
            meeting.spawn(async move {
                let peers = &node.fetching().peers;
                peers.meet(&node, address, model, shown).await
            });
        }
        let mut met = Vec::new();
        while let Some(one) = meeting.join_next().await {
            met.extend(one.ok().flatten());
        }
        Ok(met)
    }

    fn slot(&self, of: &Of) -> Slot {
        let mut versions = lock(&self.versions);
        if versions.len() >= VERSIONS_REMEMBERED_MAX && !versions.contains_key(&of.version) {
            // Whoever is asking holds its slot; the others are asked again.
            versions.clear();
        }
        Arc::clone(versions.entry(of.version).or_default())
    }

    async fn ask(
        &self,
        node: &Node,
        of: &Of,
        chunks: impl Iterator<Item = u64> + Clone,
    ) -> Result<Providers, Failure> {
        let addresses = self.addresses(node, Some(of.version)).await?;
        let model = (of.publisher, of.model.clone());
        let capabilities = capabilities(node, Some(&model))?;
        let version = of.version;
        let mut asking = JoinSet::new();
        for address in addresses {
            let (node, model) = (node.clone(), model.clone());
            let shown = capabilities.for_peer(&address.id);
            asking.spawn(async move {
                let peers = &node.fetching().peers;
                let met = peers.meet(&node, address, Some(model), shown).await?;
                let answer = timeout(MEET_TIMEOUT, met.session.held(version)).await;
                match answer {
                    Ok(Ok(map)) => map.map(|map| Provider {
                        peer: met.peer,
                        session: met.session,
                        map,
                    }),
                    _ => {
                        tracing::debug!(peer = %met.session.id().fmt_short(), "a peer does not say what it holds");
                        None
                    }
                }
            });
        }
        let mut found = Providers {
            list: Vec::new(),
            asked: Instant::now(),
        };
        let mut until = Moment::now() + 2 * MEET_TIMEOUT;
        while let Ok(Some(answered)) = timeout_at(until, asking.join_next()).await {
            found.list.extend(answered.ok().flatten());
            if found.cover(chunks.clone()) {
                until = until.min(Moment::now() + MEET_GRACE);
            }
        }
        found.asked = Instant::now();
        Ok(found)
    }

    /// Whether any peer is known at all.
    pub(super) async fn anybody(&self, node: &Node) -> Result<bool, Failure> {
        let book = node.blocking(book::list).await?;
        Ok(book.iter().any(|peer| peer.to_endpoint_addr().is_some()))
    }

    /// Where the peers are that may be asked now.
    async fn addresses(
        &self,
        node: &Node,
        version: Option<VersionId>,
    ) -> Result<Vec<EndpointAddr>, Failure> {
        let book = node.blocking(book::list).await?;
        let mut addresses: Vec<EndpointAddr> = book
            .iter()
            .filter_map(|peer| peer.to_endpoint_addr())
            .collect();
        if addresses.is_empty() {
            // The network stays down until there is somebody to talk to.
            return Ok(addresses);
        }
        let own = node.network().await?.id();
        let now = Instant::now();
        let mut lied = lock(&self.lied);
        lied.retain(|_, until| *until > now);
        addresses.retain(|address| {
            let of = version.map(|version| (address.id, version));
            address.id != own && !of.is_some_and(|of| lied.contains_key(&of))
        });
        drop(lied);
        let mut away = lock(&self.away);
        away.retain(|_, until| *until > now);
        let near = addresses
            .iter()
            .filter(|address| !away.contains_key(&address.id));
        let near: Vec<EndpointAddr> = near.cloned().collect();
        if !near.is_empty() {
            addresses = near;
        }
        addresses.truncate(PEERS_ASKED_MAX);
        Ok(addresses)
    }

    /// The peer at an address, over the session that is open or a new one.
    async fn meet(
        &self,
        node: &Node,
        address: EndpointAddr,
        model: Option<(PublisherId, String)>,
        capabilities: Vec<Bytes>,
    ) -> Option<Met> {
        let id = address.id;
        let network = node.network().await.ok()?;
        if let Some(known) = lock(&self.known).get(&id)
            && let Some(session) = known.session.upgrade()
            && !session.is_closed()
            && model
                .as_ref()
                .is_none_or(|model| known.shown.contains(model))
        {
            let peer = known.peer.clone();
            return Some(Met { session, peer });
        }
        let opened = timeout(MEET_TIMEOUT, network.session(address.clone(), capabilities)).await;
        let Ok(Ok(session)) = opened else {
            tracing::debug!(peer = %id.fmt_short(), "a known peer is away");
            self.leave_aside(id);
            return None;
        };
        let mut known = lock(&self.known);
        let entry = known.entry(id).or_insert_with(|| Acquaintance {
            session: Weak::new(),
            peer: Peer::new(network.net(), address),
            shown: Shown::default(),
        });
        if !entry.session.ptr_eq(&Arc::downgrade(&session)) {
            entry.session = Arc::downgrade(&session);
            entry.shown.clear();
        }
        entry.shown.extend(model);
        let peer = entry.peer.clone();
        Some(Met { session, peer })
    }

    fn leave_aside(&self, peer: EndpointId) {
        lock(&self.away).insert(peer, Instant::now() + AWAY);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What this home was given to read the model with.
fn capabilities(
    node: &Node,
    model: Option<&(PublisherId, String)>,
) -> Result<Capabilities, Failure> {
    let Some((publisher, model)) = model else {
        return Ok(Capabilities::default());
    };
    Capabilities::of(node, publisher, model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_of_a_bounded_number_of_versions_are_remembered() {
        let peers = Peers::default();
        let of = |at: usize| Of {
            publisher: PublisherId::from_bytes([7; 32]),
            model: "m".to_owned(),
            version: VersionId::of(&at.to_le_bytes()),
        };
        for at in 0..=VERSIONS_REMEMBERED_MAX {
            let slot = peers.slot(&of(at));
            assert!(Arc::ptr_eq(&slot, &peers.slot(&of(at))));
            assert!(lock(&peers.versions).len() <= VERSIONS_REMEMBERED_MAX);
        }
    }
}
