//! Who watches which version, and what they are told: pieces that this node gains and gives, and that
//! they must wait.
//!
//! Whoever gains or gives a piece says so here, once; each watcher has a queue in which changes of one
//! chunk are merged, so that a slow reader costs 6 bytes a chunk and nobody waits for it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use iroh::EndpointId;
use tokio::sync::Notify;

use crate::{ChunkHash, VersionId};

use super::{
    limits::{
        MET_PER_VERSION_MAX, MET_TIME, MET_VERSIONS_MAX, PEERS_PER_FRAME_MAX, WATCH_PENDING_MAX,
    },
    message::{ChunkPieces, PeerAddr},
};

/// What was given to somebody in this time is on its way to the others: newcomers are told of it.
const GIVEN_LATELY: Duration = Duration::from_secs(10);

/// The watchers of one node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Hub(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    watchers: HashMap<u64, Watcher>,
    /// The files that are watched, by their HashSeq.
    files: HashMap<ChunkHash, File>,
    /// Peers that watched a version lately, each with the time at which it was last seen.
    met: HashMap<VersionId, Vec<(PeerAddr, Instant)>>,
}

#[derive(Debug, Default)]
struct File {
    /// Who watches it, and the number of its first chunk in their version.
    watchers: Vec<(u64, u32)>,
    /// For each chunk, the pieces that were given to somebody, and when the last of them was. Who asks for one of
    /// them as the second is not named to the first, or both would leave it to each other.
    given: HashMap<u32, (u16, Instant)>,
}

#[derive(Debug)]
struct Watcher {
    peer: EndpointId,
    version: VersionId,
    files: Vec<ChunkHash>,
    pending: Pending,
    ready: Arc<Notify>,
}

/// What a watcher was not told yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// Pieces that this node holds.
    pub(super) gained: BTreeMap<u32, u16>,
    /// Pieces that this node sent to others.
    pub(super) given: BTreeMap<u32, u16>,
    /// Other peers that watch the version.
    pub(super) peers: Vec<PeerAddr>,
    /// Whether the watcher's requests wait.
    pub(super) choked: Option<bool>,
    /// More changes than are kept: the watch must begin anew.
    pub(super) overrun: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn note(map: &mut BTreeMap<u32, u16>, overrun: &mut bool, chunk: u32, pieces: u16) {
        *map.entry(chunk).or_default() |= pieces;
        if map.len() > WATCH_PENDING_MAX {
            map.clear();
            *overrun = true;
        }
    }
}

/// The files of a version: the HashSeq of each and its number of chunks, in the order of the tree.
pub type VersionFiles = Vec<(ChunkHash, u32)>;

/// One peer's watch of one version; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    hub: Hub,
    id: u64,
    version: VersionId,
    ready: Arc<Notify>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a watch; the peer, where it is now, is named to the others that watch the version.
    pub(super) fn watch(
        &self,
        peer: EndpointId,
        addr: PeerAddr,
        version: VersionId,
        files: &VersionFiles,
    ) -> Watch {
        let mut state = self.state();
        state.meet(version, addr);
        let id = state.next;
        state.next += 1;
        let (mut base, mut pending) = (0_u32, Pending::default());
        for (seq, count) in files {
            let file = state.files.entry(*seq).or_default();
            file.watchers.push((id, base));
            let lately = file.given.iter();
            let lately = lately.filter(|(_, (_, at))| at.elapsed() < GIVEN_LATELY);
            for (chunk, (pieces, _)) in lately {
                pending.given.insert(base.saturating_add(*chunk), *pieces);
            }
            base = base.saturating_add(*count);
        }
        let ready = Arc::new(Notify::new());
        let watcher = Watcher {
            peer,
            version,
            files: files.iter().map(|(seq, _)| *seq).collect(),
            pending,
            ready: Arc::clone(&ready),
        };
        state.watchers.insert(id, watcher);
        Watch {
            hub: self.clone(),
            id,
            version,
            ready,
        }
    }

    /// Says that pieces of chunk number `chunk` of a file are held now.
    pub fn gained(&self, seq: &ChunkHash, chunk: u32, pieces: u16) {
        self.state().tell(seq, chunk, |_, pending, chunk| {
            Pending::note(&mut pending.gained, &mut pending.overrun, chunk, pieces);
        });
    }

    /// Says that pieces were sent, or are about to be, to `peer`.
    pub(super) fn given(&self, to: EndpointId, seq: &ChunkHash, list: &[ChunkPieces]) {
        let mut state = self.state();
        for (chunk, pieces) in list {
            let Some(file) = state.files.get_mut(seq) else {
                return;
            };
            let now = Instant::now();
            let (known, at) = file.given.entry(*chunk).or_insert((0, now));
            let new = pieces & !*known;
            if new == 0 {
                continue;
            }
            (*known, *at) = (*known | pieces, now);
            state.tell(seq, *chunk, |peer, pending, chunk| {
                if peer != to {
                    Pending::note(&mut pending.given, &mut pending.overrun, chunk, new);
                }
            });
        }
    }

    /// Says to a peer whether its requests wait.
    pub(super) fn choke(&self, peer: EndpointId, choked: bool) {
        let mut state = self.state();
        for watcher in state.watchers.values_mut() {
            if watcher.peer == peer {
                watcher.pending.choked = Some(choked);
                watcher.ready.notify_one();
            }
        }
    }

    /// Whether somebody watches a file.
    pub(super) fn is_watched(&self, seq: &ChunkHash) -> bool {
        self.state().files.contains_key(seq)
    }

    /// Peers that watch a version, or did lately.
    pub fn met(&self, version: &VersionId) -> Vec<PeerAddr> {
        let state = self.state();
        let met = state.met.get(version).into_iter().flatten();
        let lately = met.filter(|(_, at)| at.elapsed() < MET_TIME);
        lately.map(|(peer, _)| peer.clone()).collect()
    }

    /// The peers that watch a version now.
    pub fn watchers(&self, version: &VersionId) -> Vec<EndpointId> {
        let state = self.state();
        let of = state.watchers.values().filter(|w| w.version == *version);
        of.map(|watcher| watcher.peer).collect()
    }
}

impl State {
    /// Remembers a peer of a version, and names it to those that watch it.
    fn meet(&mut self, version: VersionId, peer: PeerAddr) {
        if self.met.len() >= MET_VERSIONS_MAX && !self.met.contains_key(&version) {
            let seen = |met: &Vec<(PeerAddr, Instant)>| met.iter().map(|(_, at)| *at).max();
            let oldest = self.met.iter().min_by_key(|(_, met)| seen(met));
            if let Some(oldest) = oldest.map(|(version, _)| *version) {
                self.met.remove(&oldest);
            }
        }
        let met = self.met.entry(version).or_default();
        met.retain(|(known, at)| known.id != peer.id && at.elapsed() < MET_TIME);
        if met.len() >= MET_PER_VERSION_MAX {
            met.remove(0);
        }
        met.push((peer.clone(), Instant::now()));
        for watcher in self.watchers.values_mut() {
            let named = &mut watcher.pending.peers;
            let own = *watcher.peer.as_bytes() == peer.id;
            if watcher.version == version && !own && named.len() < PEERS_PER_FRAME_MAX {
                named.push(peer.clone());
                watcher.ready.notify_one();
            }
        }
    }

    fn tell(&mut self, seq: &ChunkHash, chunk: u32, act: impl Fn(EndpointId, &mut Pending, u32)) {
        let Some(file) = self.files.get(seq) else {
            return;
        };
        for (id, base) in &file.watchers {
            if let Some(watcher) = self.watchers.get_mut(id) {
                let chunk = base.saturating_add(chunk);
                act(watcher.peer, &mut watcher.pending, chunk);
                watcher.ready.notify_one();
            }
        }
    }
}

impl Watch {
    /// What is watched.
    pub(super) fn version(&self) -> VersionId {
        self.version
    }

    /// Pieces that were given to others just before the watch began.
    pub(super) fn given_lately(&self) -> Vec<ChunkPieces> {
        let mut state = self.hub.state();
        let watcher = state.watchers.get_mut(&self.id);
        let given = watcher.map(|watcher| std::mem::take(&mut watcher.pending.given));
        given.unwrap_or_default().into_iter().collect()
    }

    /// What changed, once something has.
    pub(super) async fn next(&self) -> Pending {
        loop {
            if let Some(watcher) = self.hub.state().watchers.get_mut(&self.id)
                && !watcher.pending.is_empty()
            {
                return std::mem::take(&mut watcher.pending);
            }
            self.ready.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        let Some(watcher) = state.watchers.remove(&self.id) else {
            return;
        };
        if let Some(met) = state.met.get_mut(&watcher.version) {
            let id = watcher.peer.as_bytes();
            let of = met.iter_mut().filter(|(peer, _)| peer.id == *id);
            of.for_each(|(_, at)| *at = Instant::now());
        }
        for seq in watcher.files {
            if let Some(file) = state.files.get_mut(&seq) {
                file.watchers.retain(|(id, _)| *id != self.id);
                if file.watchers.is_empty() {
                    state.files.remove(&seq);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;

    use super::*;

    fn addr(id: EndpointId) -> PeerAddr {
        PeerAddr {
            id: *id.as_bytes(),
            ip: vec!["127.0.0.1:5".to_owned()],
            relay: Vec::new(),
        }
    }

    #[test]
    fn peers_of_a_version_are_named_to_one_another_and_remembered_within_bounds() {
        let hub = Hub::default();
        let version = VersionId::of(b"version");
        let ids: Vec<_> = (0..=MET_PER_VERSION_MAX)
            .map(|_| SecretKey::generate().public())
            .collect();
        let first = hub.watch(ids[0], addr(ids[0]), version, &Vec::new());
        let rest: Vec<_> = ids[1..]
            .iter()
            .map(|id| hub.watch(*id, addr(*id), version, &Vec::new()))
            .collect();
        let named = hub.state().watchers[&first.id].pending.peers.clone();
        assert_eq!(named[0], addr(ids[1]));
        assert_eq!(named.len(), PEERS_PER_FRAME_MAX);
        let met = hub.met(&version);
        assert_eq!(met.len(), MET_PER_VERSION_MAX);
        assert!(!met.contains(&addr(ids[0])), "the first is forgotten first");
        drop((first, rest));
        assert_eq!(
            hub.met(&version).len(),
            MET_PER_VERSION_MAX,
            "who watched may have it"
        );
        for number in 0..MET_VERSIONS_MAX {
            let other = VersionId::of(&number.to_le_bytes());
            drop(hub.watch(ids[0], addr(ids[0]), other, &Vec::new()));
        }
        assert_eq!(hub.state().met.len(), MET_VERSIONS_MAX);
        assert!(hub.met(&version).is_empty());
    }

    #[tokio::test]
    async fn each_watcher_hears_of_its_chunks_and_not_of_what_it_was_given_itself() {
        let hub = Hub::default();
        let (a, b) = (
            SecretKey::generate().public(),
            SecretKey::generate().public(),
        );
        let (one, two) = (ChunkHash::of(b"one"), ChunkHash::of(b"two"));
        let version = VersionId::of(b"version");
        let first = hub.watch(a, addr(a), version, &vec![(one, 10), (two, 5)]);
        let second = hub.watch(b, addr(b), version, &vec![(two, 5)]);
        hub.gained(&two, 3, 0b01);
        hub.gained(&two, 3, 0b10);
        hub.given(a, &two, &[(4, 1)]);
        // Whoever asks for it as the second is not named to the first.
        hub.given(b, &two, &[(4, 1)]);
        hub.choke(b, true);
        let told = first.next().await;
        assert_eq!(told.gained, BTreeMap::from([(13, 0b11)]));
        assert!(told.given.is_empty() && told.choked.is_none());
        let told = second.next().await;
        assert_eq!(told.gained, BTreeMap::from([(3, 0b11)]));
        assert_eq!(
            (told.given, told.choked),
            (BTreeMap::from([(4, 1)]), Some(true))
        );
        assert!(hub.is_watched(&one));
        drop(first);
        assert!(!hub.is_watched(&one) && hub.is_watched(&two));
        assert_eq!(hub.watchers(&version), [b]);
        let late = hub.watch(a, addr(a), version, &vec![(one, 10), (two, 5)]);
        assert_eq!(late.given_lately(), [(14, 1)], "it is on its way");
        drop((late, second));
        assert!(hub.state().files.is_empty() && hub.state().watchers.is_empty());
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_read_costs_a_bounded_amount() {
        let hub = Hub::default();
        let peer = SecretKey::generate().public();
        let seq = ChunkHash::of(b"seq");
        let count = u32::try_from(WATCH_PENDING_MAX).expect("it fits") + 1;
        let watch = hub.watch(peer, addr(peer), VersionId::of(b"v"), &vec![(seq, count)]);
        for chunk in 0..count - 1 {
            hub.gained(&seq, chunk, 1);
        }
        assert!(!hub.state().watchers[&watch.id].pending.overrun);
        hub.gained(&seq, count - 1, 1);
        let told = watch.next().await;
        assert!(told.overrun && told.gained.is_empty());
    }
}
