//! What the peers of a pull say of the version while it is fetched, as the receiver takes it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use iroh::{EndpointAddr, EndpointId, RelayUrl};
use lode_store::{
    ChunkHash, VersionId,
    sync::{
        lan::LanDialler,
        message::{ChunkPieces, PeerAddr},
        receiver::{EVERY_PIECE, Have, Peer},
        session::{Change, Session, SessionError, Watched},
        source::HeldMap,
    },
    tree::{ChunkList, Tree},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    limits::{DIAL_TIMEOUT, DIALS_AT_A_TIME, NAMED_MAX, NAMED_PER_PEER_MAX},
    plan::Planned,
};
use crate::{
    EventSink, NetworkOptions, Node, book, capabilities::Capabilities, command::Failure,
    publisher::now,
};

/// Which chunk has which number in the have-map of a version: for the files that are fetched.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// By first number.
    files: Vec<(u32, Arc<ChunkList>)>,
}

impl Numbers {
    pub(crate) fn new(tree: &Tree, planned: &[Planned]) -> Self {
        let (mut files, mut first) = (Vec::new(), 0_u64);
        for file in tree.files() {
            let of = planned.iter().find(|planned| planned.path == file.path);
            if let (Some(of), Ok(first)) = (of, u32::try_from(first)) {
                files.push((first, Arc::clone(&of.list)));
            }
            first += file.chunks.count;
        }
        Self { files }
    }

    /// The number of a file's first chunk.
    pub(crate) fn first_of(&self, list: &Arc<ChunkList>) -> u32 {
        let mut files = self.files.iter();
        files
            .find(|(_, other)| Arc::ptr_eq(other, list))
            .map_or(0, |(first, _)| *first)
    }

    fn hash(&self, number: u32) -> Option<ChunkHash> {
        let next = self.files.partition_point(|(first, _)| *first <= number);
        let (first, list) = self.files.get(next.checked_sub(1)?)?;
        list.hashes.get((number - first) as usize).copied()
    }

    fn each(&self, pieces: &[ChunkPieces], act: impl Fn(ChunkHash, u16)) {
        for (number, pieces) in pieces {
            if let Some(hash) = self.hash(*number) {
                act(hash, *pieces);
            }
        }
    }

    fn take_map(&self, have: &Have, map: &HeldMap) {
        if map.held() == map.count {
            return have.complete();
        }
        for (first, list) in &self.files {
            for (number, hash) in (u64::from(*first)..).zip(&list.hashes) {
                if map.holds(number) {
                    have.gained(*hash, EVERY_PIECE);
                }
            }
        }
    }
}

/// How often a peer that holds nothing of the version yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The peers of one pull that hold some of its version, each listened to as long as this lives.
#[derive(Debug)]
pub(crate) struct Recruits {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    version: VersionId,
    numbers: Arc<Numbers>,
    /// What peers may be shown.
    capabilities: Capabilities,
    /// Places for dialling those that others name.
    dials: Semaphore,
    /// Those that hold something.
    peers: watch::Sender<Vec<Peer>>,
    events: EventSink,
    /// Whether bytes may come over the LAN path.
    lan: bool,
    /// Those that were dialled, by whatever way they came.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What each was shown.
    ids: HashMap<EndpointId, Vec<Bytes>>,
    named: usize,
    /// How many of these each peer named.
    named_by: HashMap<EndpointId, usize>,
    /// The tasks that listen.
    tasks: JoinSet<()>,
}

impl Recruits {
    pub(crate) fn new(
        node: &Node,
        version: VersionId,
        numbers: Arc<Numbers>,
        capabilities: Capabilities,
        events: EventSink,
        lan: bool,
    ) -> Self {
        let shared = Arc::new(Shared {
            node: node.clone(),
            version,
            numbers,
            capabilities,
            dials: Semaphore::new(DIALS_AT_A_TIME),
            peers: watch::Sender::new(Vec::new()),
            events,
            lan,
            known: Mutex::default(),
        });
        if let Some(network) = node.network_if_up() {
            shared.known().ids.insert(network.id(), Vec::new());
        }
        Self { shared }
    }

    /// Asks these peers what they hold, and listens on; returns when each has answered once. Those that
    /// hold nothing yet are asked again from time to time.
    pub(crate) async fn enlist(&self, peers: impl Iterator<Item = (Arc<Session>, Peer)>) {
        let (asked, mut answered) = mpsc::channel::<()>(1);
        for (session, peer) in peers {
            let mut known = self.shared.known();
            if let Entry::Vacant(new) = known.ids.entry(peer.id()) {
                new.insert(self.shared.capabilities.for_peer(&peer.id()));
                let (shared, asked) = (Arc::clone(&self.shared), asked.clone());
                known
                    .tasks
                    .spawn(listen(shared, session, peer, Some(asked)));
            }
        }
        drop(asked);
        // Closed once every task has given back its sender.
        answered.recv().await;
    }

    /// Keeps peers that sent verified bytes, so many each: a later pull may ask them of itself, and show them
    /// what they were shown.
    pub(crate) async fn learn(&self, sent: &HashMap<EndpointId, u64>) -> Result<(), Failure> {
        let Some(network) = self.shared.node.network_if_up() else {
            return Ok(());
        };
        let mut useful: Vec<_> = sent.iter().map(|(peer, bytes)| (*bytes, *peer)).collect();
        useful.sort_unstable_by(|a, b| b.cmp(a));
        let peers = useful.into_iter().map(|(_, peer)| peer);
        let peers = network.whereabouts(peers).await;
        let mut capabilities = self.shared.capabilities.clone();
        let trusted: Vec<[u8; 32]> = {
            let known = self.shared.known();
            let may = |id: &[u8; 32]| {
                let id = EndpointId::from_bytes(id).ok();
                let shown = id.and_then(|id| known.ids.get(&id));
                shown.is_some_and(|shown| capabilities.is_kept(shown))
            };
            let useful = peers.iter().map(|peer| peer.id);
            let useful = useful.take(book::LEARNED_PER_PULL_MAX);
            useful.filter(may).collect()
        };
        let learn = move |node: &Node| {
            book::learn(node, &peers, now())?;
            capabilities.trust(node, trusted.into_iter())
        };
        self.shared.node.blocking(learn).await
    }

    /// Those that hold something now.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.shared.peers.borrow().clone()
    }

    /// Those that hold something now, and a channel for those that come by something later; it closes when
    /// nobody is left who may.
    pub(crate) fn join(&self) -> (Vec<Peer>, mpsc::Receiver<Peer>, AbortOnDropHandle<()>) {
        let mut peers = self.shared.peers.subscribe();
        let known = peers.borrow_and_update().clone();
        let (send, newcomers) = mpsc::channel(1);
        let mut count = known.len();
        let mut known_peers = self.shared.known();
        while known_peers.tasks.try_join_next().is_some() {}
        // Who is listened to may still come by more, or name others.
        let waiting = !known_peers.tasks.is_empty();
        drop(known_peers);
        let forward = async move {
            while waiting && peers.changed().await.is_ok() {
                let new = peers.borrow_and_update()[count..].to_vec();
                count += new.len();
                for peer in new {
                    if send.send(peer).await.is_err() {
                        return;
                    }
                }
            }
        };
        (
            known,
            newcomers,
            AbortOnDropHandle::new(tokio::spawn(forward)),
        )
    }
}

impl Drop for Recruits {
    fn drop(&mut self) {
        // The tasks hold what holds them.
        self.shared.known().tasks.abort_all();
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer, asked over the LAN path where it offers one and that is wanted.
    fn over_lan(&self, peer: Peer, session: &Arc<Session>) -> Peer {
        match self.node.network_if_up() {
            Some(network) if self.lan && self.node.options().network.lan => {
                let counters = network.traffic().of(peer.id());
                let session = Arc::clone(session);
                peer.over_lan(LanDialler::new(session, self.version, counters))
            }
            _ => peer,
        }
    }

    /// Dials peers that the peer `by` names, if they are new and can be there. They are believed to hold
    /// nothing before they say so themselves, and are shown what `by` was shown: it could pass that on itself.
    fn named(self: &Arc<Self>, by: EndpointId, peers: Vec<PeerAddr>, loopback: bool) {
        for peer in peers {
            let Some(address) = possible(peer, loopback, &self.node.options().network) else {
                continue;
            };
            let mut known = self.known();
            let by_it = known.named_by.get(&by).copied().unwrap_or_default();
            if known.named >= NAMED_MAX
                || by_it >= NAMED_PER_PEER_MAX
                || known.ids.contains_key(&address.id)
            {
                continue;
            }
            known.named += 1;
            known.named_by.insert(by, by_it + 1);
            let mut shown = self.capabilities.for_peer(&address.id);
            shown.extend(known.ids.get(&by).into_iter().flatten().cloned());
            known.ids.insert(address.id, shown.clone());
            known.tasks.spawn(Arc::clone(self).dial(address, shown));
        }
    }

    /// Dials a peer that another one named, in its turn, and listens to it.
    async fn dial(self: Arc<Self>, address: EndpointAddr, shown: Vec<Bytes>) {
        let Ok(place) = self.dials.acquire().await else {
            return;
        };
        let Ok(network) = self.node.network().await else {
            return;
        };
        let opened = network.session_at(address.clone(), shown);
        let Ok(Ok(session)) = timeout(DIAL_TIMEOUT, opened).await else {
            let peer = address.id.fmt_short();
            return tracing::debug!(%peer, "a peer that was named cannot be reached");
        };
        drop(place);
        let peer = Peer::new(network.net(), address);
        listen(Arc::clone(&self), session, peer, None).await;
    }
}

/// Where a peer that another one named is dialled: at addresses where one can be, by relays that are this
/// node's own or public ones.
fn possible(peer: PeerAddr, loopback: bool, options: &NetworkOptions) -> Option<EndpointAddr> {
    let is = |one: &str, other: &str| match (one.parse::<RelayUrl>(), other.parse::<RelayUrl>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    };
    let named = peer.relay.clone();
    let mut peer = peer.plausible(loopback);
    if options.offline {
        peer.relay.clear();
    } else {
        let ours = |url: &String| options.relays.iter().any(|own| is(own, url));
        let ours = named.into_iter().filter(ours);
        peer.relay.extend(ours);
    }
    peer.to_endpoint_addr().filter(|_| peer.is_reachable())
}

/// Asks a peer until it holds something of the version, and then listens until it says no more.
async fn listen(
    shared: Arc<Shared>,
    session: Arc<Session>,
    peer: Peer,
    mut asked: Option<mpsc::Sender<()>>,
) {
    let watched = loop {
        match session.watch(shared.version).await {
            Ok(Some(watched)) => break watched,
            Ok(None) | Err(SessionError::Busy { .. }) => {}
            Err(error) => {
                let peer = session.id().fmt_short();
                return shared.events.warn(format!("{peer}: {error}"));
            }
        }
        asked.take();
        tokio::time::sleep(ASK_AGAIN).await;
    };
    let (have, numbers) = (Have::none(), &shared.numbers);
    numbers.take_map(&have, &watched.held);
    numbers.each(&watched.receiving, |hash, pieces| have.gained(hash, pieces));
    numbers.each(&watched.given, |hash, pieces| have.given(hash, pieces));
    have.live(!have.is_all());
    let peer = shared.over_lan(peer.holding(Arc::clone(&have)), &session);
    shared.peers.send_modify(|peers| peers.push(peer));
    drop(asked);
    let loopback = session.is_loopback();
    shared.named(session.id(), watched.peers.clone(), loopback);
    hear(&shared, &session, watched, &have).await;
    have.choked(false);
    have.live(false);
}

/// Hears what changes until the peer says no more.
async fn hear(shared: &Arc<Shared>, session: &Session, mut watched: Watched, have: &Have) {
    let numbers = &shared.numbers;
    while let Ok(Some(change)) = watched.next().await {
        match change {
            Change::Gained(pieces) => {
                numbers.each(&pieces, |hash, pieces| have.gained(hash, pieces))
            }
            Change::Given(pieces) => numbers.each(&pieces, |hash, pieces| have.given(hash, pieces)),
            Change::Choked(choked) => have.choked(choked),
            Change::Peers(peers) => shared.named(session.id(), peers, session.is_loopback()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{NetworkOptions, NodeOptions};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_peer_that_names_a_multitude_costs_a_bounded_number_of_dials() {
        let home = tempfile::tempdir().unwrap();
        let options = NodeOptions {
            network: NetworkOptions {
                offline: true,
                listen: Some((std::net::Ipv4Addr::LOCALHOST, 0).into()),
                ..NetworkOptions::default()
            },
            ..NodeOptions::default()
        };
        let node = Node::open(home.path(), options).unwrap();
        node.network().await.unwrap();
        let recruits = Recruits::new(
            &node,
            VersionId::of(b"version"),
            Arc::default(),
            Capabilities::default(),
            EventSink::discard(),
            true,
        );
        let multitude = |ip: &str| {
            let ip = vec![ip.to_owned()];
            let named = (0..10 * NAMED_MAX).map(|_| PeerAddr {
                id: *iroh::SecretKey::generate().public().as_bytes(),
                ip: ip.clone(),
                relay: Vec::new(),
            });
            named.collect::<Vec<_>>()
        };
        let named = |by, ip: &str, loopback| {
            recruits.shared.named(by, multitude(ip), loopback);
            recruits.shared.known().named
        };
        let [a, b, c] = std::array::from_fn(|_| iroh::SecretKey::generate().public());
        assert_eq!(named(a, "0.0.0.0:1", true), 0, "nobody can be there");
        assert_eq!(named(a, "127.0.0.1:1", false), 0, "nor on another machine");
        assert_eq!(named(a, "127.0.0.1:1", true), NAMED_PER_PEER_MAX);
        assert_eq!(named(a, "127.0.0.1:2", true), NAMED_PER_PEER_MAX);
        assert_eq!(named(b, "127.0.0.1:1", true), NAMED_MAX, "others are heard");
        assert_eq!(named(c, "127.0.0.1:1", true), NAMED_MAX);
        {
            let known = recruits.shared.known();
            assert!(known.tasks.len() <= NAMED_MAX && known.ids.len() <= NAMED_MAX + 1);
        }
        assert!(recruits.peers().is_empty(), "nobody is believed unasked");
        drop(recruits);
        node.shutdown().await;
    }

    #[test]
    fn a_named_peer_is_dialled_by_our_own_relays_and_public_ones() {
        let peer = PeerAddr {
            id: *iroh::SecretKey::generate().public().as_bytes(),
            ip: Vec::new(),
            relay: [
                "http://192.168.1.9:3340/",
                "http://192.168.1.1/",
                "https://relay.example.org",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        let count = |options| {
            let address = possible(peer.clone(), false, options);
            address.map_or(0, |address| address.relay_urls().count())
        };
        let own = NetworkOptions {
            relays: vec!["http://192.168.1.9:3340".to_owned()],
            ..NetworkOptions::default()
        };
        assert_eq!(count(&own), 2);
        let online = NetworkOptions::default();
        assert_eq!(count(&online), 1);
        let offline = NetworkOptions {
            offline: true,
            ..NetworkOptions::default()
        };
        assert_eq!(count(&offline), 0, "and by none when there are none");
    }
}
