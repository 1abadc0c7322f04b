//! Other nodes that have, or bring, files of the same commit: who is asked, who fetches from the hub, who waits.
//!
//! A file is fetched from the hub by one node of those that know of one another; the others take it from that one
//! once its hash holds. Who it is follows from the file and the nodes' keys ([`Spool::take`]). Nobody is waited
//! for without end: who brings nothing new for a while is passed over.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use iroh::{EndpointAddr, EndpointId};
use lode_store::{
    ChunkHash, VersionId, limits as store_limits,
    manifest::VersionBytes,
    sync::{
        message::{OriginFile, PeerAddr},
        receiver::{FetchOptions, Peer, fetch_documents},
        session::Session,
    },
    tree::{ChunkList, Tree},
};
use serde_bytes::ByteBuf;
use tokio::{task::JoinSet, time::timeout};

use super::{
    bring::Origin,
    limits::{
        DRIP_BYTES, DRIP_EVERY, DRIP_STEP_BYTES, HELD_BACK_BYTES, PATIENCE, PEERS_ASKED_MAX, POLL,
    },
    record,
    spool::{Hasher, Spool},
};
use crate::{Node, book, command::Failure};

/// How long a peer gets to answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// How long it is remembered who was there.
const LOOK_AGE: Duration = Duration::from_secs(2);

/// How long a peer that was not reached is left aside.
const AWAY: Duration = Duration::from_secs(30);

/// How long neighbours of the local network are waited for.
const NEIGHBOURS_TIME: Duration = Duration::from_secs(1);

/// Bytes of chunks that are asked for at a time.
const BATCH_BYTES: u64 = 32 << 20;

/// How often, in one look, peers that were named in the last answers are asked too.
const ROUNDS_MAX: usize = 4;

/// How often a peer may fail to give a file that it says it has. Once is nothing: the version that it names for a file alone is gone
/// when the last file of the commit has come, and another one has it.
const FAILURES_MAX: u32 = 3;

/// How much longer, for each node before it, a node waits before it takes over.
const TURN: Duration = Duration::from_secs(2);

/// The peers that may have files of other hubs' models.
#[derive(Default)]
pub(crate) struct Known {
    /// Those that were there a moment ago. Locked while they are asked.
    met: tokio::sync::Mutex<Option<(Instant, Vec<Met>)>>,
    /// Those that others named, where they are said to be.
    named: Mutex<HashMap<[u8; 32], EndpointAddr>>,
    away: Mutex<HashMap<EndpointId, Instant>>,
}

#[derive(Clone)]
struct Met {
    session: Arc<Session>,
    peer: Peer,
}

/// What to do for a file next.
pub(super) enum Next {
    /// Fetch it from the hub.
    Hub,
    /// Take it from these.
    Peers(Vec<Holder>),
    /// Wait for those who are before this node.
    Wait,
}

/// A peer that has a file.
pub(super) struct Holder {
    peer: Peer,
    version: VersionId,
}

/// What was seen while a file was waited for.
pub(super) struct Waiting {
    alone: bool,
    since: Instant,
    /// The most bytes that another node was seen to have.
    most: u64,
    /// How often peers did not give what they said.
    failures: HashMap<EndpointId, u32>,
    taken: bool,
    drip: Bytes,
    dripped: Instant,
}

impl Waiting {
    /// `alone` asks no peers.
    pub(super) fn new(alone: bool) -> Self {
        Self {
            alone,
            since: Instant::now(),
            most: 0,
            failures: HashMap::new(),
            taken: false,
            drip: Bytes::new(),
            dripped: Instant::now(),
        }
    }

    fn failed(&mut self, peer: EndpointId) {
        *self.failures.entry(peer).or_default() += 1;
    }

    /// Whether a peer is asked no more.
    fn is_bad(&self, peer: &EndpointId) -> bool {
        self.failures
            .get(peer)
            .is_some_and(|times| *times >= FAILURES_MAX)
    }

    /// Whether some bytes came from peers.
    pub(super) fn has_taken(&self) -> bool {
        self.taken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Remembers peers that others named, or that asked.
    pub(super) fn name(&self, peers: &[PeerAddr], loopback: bool) {
        let mut named = lock(&self.named);
        for peer in peers {
            if named.len() >= PEERS_ASKED_MAX {
                break;
            }
            let id = peer.id;
            let peer = peer.clone().plausible(loopback);
            if let Some(address) = peer.to_endpoint_addr().filter(|_| peer.is_reachable()) {
                named.entry(id).or_insert(address);
            }
        }
    }

    /// Whether somebody was named who is not among these, and was not found away.
    fn names_more_than(&self, there: &[Met], own: EndpointId) -> bool {
        let away = lock(&self.away);
        lock(&self.named).values().any(|named| {
            let id = named.id;
            id != own && !away.contains_key(&id) && there.iter().all(|met| met.peer.id() != id)
        })
    }

    /// The peers that are there, asked at most [`LOOK_AGE`] ago, or now if `anew`.
    async fn there(&self, node: &Node, anew: bool) -> Result<Vec<Met>, Failure> {
        let mut kept = self.met.lock().await;
        let named = lock(&self.named).len();
        if !anew
            && let Some((at, met)) = kept.as_ref()
            && at.elapsed() < LOOK_AGE
            && (met.len() >= named || at.elapsed() < POLL)
            && met.iter().all(|met| !met.session.is_closed())
        {
            return Ok(met.clone());
        }
        let met = self.meet(node).await?;
        *kept = Some((Instant::now(), met.clone()));
        Ok(met)
    }

    async fn meet(&self, node: &Node) -> Result<Vec<Met>, Failure> {
        let book = node.blocking(book::list).await?;
        let mut addresses: Vec<EndpointAddr> = book
            .iter()
            .filter_map(|peer| peer.to_endpoint_addr())
            .collect();
        if node.options().network.mdns
            && let Some(neighbours) = node.network().await?.net().neighbours()
        {
            addresses.extend(neighbours.known(NEIGHBOURS_TIME).await);
        }
        addresses.extend(lock(&self.named).values().cloned());
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let network = node.network().await?;
        let (own, mut seen) = (network.id(), HashSet::new());
        {
            let mut away = lock(&self.away);
            away.retain(|_, at| at.elapsed() < AWAY);
            addresses.retain(|address| {
                address.id != own && !away.contains_key(&address.id) && seen.insert(address.id)
            });
        }
        addresses.truncate(PEERS_ASKED_MAX);
        let mut meeting = JoinSet::new();
        for address in addresses {
            let node = node.clone();
            meeting.spawn(async move {
                let id = address.id;
                let open = async {
                    let network = node.network().await.ok()?;
                    let session = network.session_at(address.clone(), Vec::new()).await.ok()?;
                    let peer = Peer::new(network.net(), address);
                    Some(Met { session, peer })
                };
                (id, timeout(ANSWER_TIME, open).await.ok().flatten())
            });
        }
        let mut met = Vec::new();
        while let Some(Ok((id, found))) = meeting.join_next().await {
            match found {
                Some(found) => met.push(found),
                None => {
                    lock(&self.away).insert(id, Instant::now());
                    lock(&self.named).remove(id.as_bytes());
                }
            }
        }
        Ok(met)
    }
}

/// Says what to do for a file now.
pub(super) async fn next(origin: &Origin, spool: &Arc<Spool>, waiting: &mut Waiting) -> Next {
    // What not everyone may read there is not spoken of.
    if waiting.alone || !origin.is_public() {
        return Next::Hub;
    }
    let node = origin.node();
    let known = &node.origin_state().peers;
    let mut rounds = 0;
    let (own, answers) = loop {
        let there = match known.there(node, rounds > 0).await {
            Ok(there) => there,
            Err(failure) => {
                tracing::debug!(%failure, "no peers are asked for a file of another hub");
                return Next::Hub;
            }
        };
        let Some(own) = node.network_if_up().map(|network| network.id()) else {
            return Next::Hub;
        };
        let answers = ask(origin, spool, &there).await;
        for (met, _, others) in &answers {
            known.name(others, met.session.is_loopback());
        }
        rounds += 1;
        // Two who were told of each other by a third must not both go to the hub before they have asked each other.
        if rounds == ROUNDS_MAX || !known.names_more_than(&there, own) {
            break (own, answers);
        }
    };
    let (mut holders, mut wanted, mut progress) = (Vec::new(), Vec::new(), None);
    for (met, file, _) in answers {
        let id = met.peer.id();
        if waiting.is_bad(&id) {
            continue;
        }
        if let Some(version) = file.version {
            let peer = met.peer;
            holders.push(Holder { peer, version });
        } else if let Some(bytes) = file.fetching {
            progress = Some(bytes.max(progress.unwrap_or(0)));
        } else if file.wanted {
            wanted.push(*id.as_bytes());
        }
    }
    if !holders.is_empty() {
        return Next::Peers(holders);
    }
    if let Some(bytes) = progress {
        if bytes > waiting.most {
            (waiting.most, waiting.since) = (bytes, Instant::now());
        }
        if waiting.since.elapsed() < PATIENCE {
            return Next::Wait;
        }
        spool.take_anyway();
        return Next::Hub;
    }
    match spool.take(&own, &wanted) {
        Ok(()) => Next::Hub,
        Err(before) => {
            let turn = TURN * u32::try_from(before).unwrap_or(u32::MAX).min(100);
            if waiting.since.elapsed() < PATIENCE + turn {
                return Next::Wait;
            }
            spool.take_anyway();
            Next::Hub
        }
    }
}

/// What each peer says of the file, and whom it names.
async fn ask(
    origin: &Origin,
    spool: &Spool,
    there: &[Met],
) -> Vec<(Met, OriginFile, Vec<PeerAddr>)> {
    let repository = origin.repository();
    let mut asking = JoinSet::new();
    for met in there.iter().cloned() {
        let (publisher, name) = (repository.publisher(), repository.name().to_owned());
        let file = ByteBuf::from(spool.file().digest.as_bytes());
        asking.spawn(async move {
            let asked = met.session.origin(publisher, &name, vec![file]);
            let (files, peers) = timeout(ANSWER_TIME, asked).await.ok()?.ok()??;
            Some((met, *files.first()?, peers))
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer.ok().flatten());
    }
    answers
}

/// Takes a file from peers that have it, as far as they give it.
pub(super) async fn take(
    origin: &Origin,
    spool: &Arc<Spool>,
    mut hasher: Hasher,
    waiting: &mut Waiting,
    holders: Vec<Holder>,
) -> Result<Hasher, Failure> {
    let peers: Vec<Peer> = holders.iter().map(|holder| holder.peer.clone()).collect();
    let Some(first) = holders.first() else {
        return Ok(hasher);
    };
    let list = match list(spool, first).await {
        Ok(list) => list,
        Err(why) => {
            tracing::debug!(peer = %first.peer.id().fmt_short(), why, "a peer does not give a file that it has");
            waiting.failed(first.peer.id());
            tokio::time::sleep(POLL).await;
            return Ok(hasher);
        }
    };
    let mut batches = Batches::new(&list, spool.written());
    // Nodes that take the same file at once begin with different peers.
    let turn = spool.file().digest.as_bytes()[0] as usize;
    let own = origin
        .node()
        .network_if_up()
        .map_or(0, |network| network.id().as_bytes()[0] as usize);
    let mut number = turn + own;
    let mut coming = batches.next().map(|batch| fetch(&peers, number, batch));
    while let Some(batch) = coming.take() {
        let (bytes, skip) = match batch.await {
            Ok(batch) => batch,
            Err(why) => {
                tracing::debug!(why, "peers do not give all of a file that they have");
                peers.iter().for_each(|peer| waiting.failed(peer.id()));
                tokio::time::sleep(POLL).await;
                return Ok(hasher);
            }
        };
        number += 1;
        coming = batches.next().map(|batch| fetch(&peers, number, batch));
        let mut skip = skip;
        for chunk in bytes {
            let chunk = chunk.slice(skip.min(chunk.len())..);
            skip = 0;
            let length = chunk.len() as u64;
            if spool.written() + length > spool.file().size {
                waiting.failed(first.peer.id());
                return Ok(hasher);
            }
            waiting.taken = true;
            hasher = origin.append(spool, hasher, chunk).await?;
            let count = &origin.node().origin_state().from_peers;
            count.fetch_add(length, Ordering::Relaxed);
        }
    }
    Ok(hasher)
}

/// The chunks of a file as a peer's version names them.
async fn list(spool: &Spool, holder: &Holder) -> Result<ChunkList, String> {
    let peers = std::slice::from_ref(&holder.peer);
    let options = FetchOptions::default();
    let document = |hash: ChunkHash, limit: usize| {
        let options = &options;
        async move {
            let found = fetch_documents(peers, &[hash], limit as u64, options).await;
            let found = found.map_err(|error| error.to_string())?;
            found
                .into_iter()
                .next()
                .ok_or_else(|| "it is not there".to_owned())
        }
    };
    let bytes = document(holder.version.into(), store_limits::VERSION_BYTES_MAX).await?;
    let version =
        VersionBytes::decode_as(holder.version, bytes).map_err(|error| error.to_string())?;
    let bytes = document(version.doc.tree.into(), store_limits::TREE_BYTES_MAX).await?;
    let tree = Tree::decode(&bytes).map_err(|error| error.to_string())?;
    let wanted = spool.file();
    let same = |file: &&lode_store::tree::File| {
        file.size == wanted.size && record::matches(file, wanted.digest)
    };
    let file = tree
        .files()
        .iter()
        .find(same)
        .ok_or("its version has no such file")?;
    let (seq, lengths) = match file.chunks.count {
        0 => (Bytes::new(), Bytes::new()),
        _ => (
            document(file.chunks.seq, store_limits::DOCUMENT_BYTES_MAX).await?,
            document(file.chunks.lengths, store_limits::DOCUMENT_BYTES_MAX).await?,
        ),
    };
    ChunkList::from_documents(&file.chunks, file.size, &seq, &lengths)
        .map_err(|error| error.to_string())
}

/// The chunks of a file from some offset on, in parts.
struct Batches {
    chunks: std::vec::IntoIter<(ChunkHash, u32)>,
    /// Bytes of the first chunk that are there already.
    skip: usize,
}

impl Batches {
    fn new(list: &ChunkList, from: u64) -> Self {
        let mut chunks = Vec::new();
        let (mut at, mut skip) = (0, 0);
        for (hash, length) in list.hashes.iter().zip(&list.lengths) {
            let end = at + u64::from(*length);
            if end > from {
                if chunks.is_empty() {
                    skip = usize::try_from(from.saturating_sub(at)).unwrap_or(0);
                }
                chunks.push((*hash, *length));
            }
            at = end;
        }
        Self {
            chunks: chunks.into_iter(),
            skip,
        }
    }

    /// The next chunks, and how many bytes of the first are there already.
    fn next(&mut self) -> Option<(Vec<ChunkHash>, usize)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some((hash, length)) = self.chunks.as_slice().first().copied() {
            if !batch.is_empty() && bytes + u64::from(length) > BATCH_BYTES {
                break;
            }
            self.chunks.next();
            bytes += u64::from(length);
            batch.push(hash);
        }
        (!batch.is_empty()).then(|| (batch, std::mem::take(&mut self.skip)))
    }
}

/// Begins to fetch a batch: one of the peers is asked first, by `number`.
fn fetch(
    peers: &[Peer],
    number: usize,
    (hashes, skip): (Vec<ChunkHash>, usize),
) -> impl Future<Output = Result<(Vec<Bytes>, usize), String>> + use<> {
    let mut peers = peers.to_vec();
    let first = number % peers.len().max(1);
    peers.rotate_left(first);
    let fetching = tokio::spawn(async move {
        let options = FetchOptions::default();
        fetch_documents(&peers, &hashes, store_limits::CHUNK_BYTES_MAX, &options).await
    });
    async move {
        let fetched = fetching.await.map_err(|error| error.to_string())?;
        Ok((fetched.map_err(|error| error.to_string())?, skip))
    }
}

/// Waits a moment for another node. A reader who waits gets some bytes from the hub all the while, or it would take
/// the connection for dead.
pub(super) async fn wait(
    origin: &Origin,
    spool: &Arc<Spool>,
    mut hasher: Hasher,
    waiting: &mut Waiting,
) -> Result<Hasher, Failure> {
    if spool.is_read() && waiting.dripped.elapsed() >= DRIP_EVERY {
        let file = spool.file();
        let end = file.size.saturating_sub(2 * HELD_BACK_BYTES);
        let written = spool.written();
        if waiting.drip.is_empty() && written < end {
            waiting.drip = origin
                .drip(file, written, end.min(written + DRIP_BYTES))
                .await?;
        }
        let step = usize::try_from(DRIP_STEP_BYTES)
            .unwrap_or(usize::MAX)
            .min(waiting.drip.len());
        if step > 0 {
            hasher = origin
                .append(spool, hasher, waiting.drip.split_to(step))
                .await?;
        }
        waiting.dripped = Instant::now();
    }
    tokio::time::sleep(POLL).await;
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_begun_goes_on_inside_a_chunk() {
        let list = ChunkList {
            hashes: (0..5_u8).map(|at| ChunkHash::of(&[at])).collect(),
            lengths: vec![16 << 20, 16 << 20, 1, 2, 3],
        };
        let mut batches = Batches::new(&list, (16 << 20) + 5);
        let (batch, skip) = batches.next().expect("three chunks are left whole");
        assert_eq!((batch, skip), (list.hashes[1..].to_vec(), 5));
        assert!(batches.next().is_none());
        let mut batches = Batches::new(&list, 0);
        let lengths: Vec<usize> = std::iter::from_fn(|| batches.next())
            .map(|(batch, _)| batch.len())
            .collect();
        assert_eq!(lengths, [2, 3]);
        assert!(Batches::new(&list, (32 << 20) + 6).next().is_none());
    }

    #[test]
    fn a_peer_that_fails_once_is_asked_again_and_not_for_ever() {
        let mut waiting = Waiting::new(false);
        let id = iroh::SecretKey::from_bytes(&[1; 32]).public();
        for _ in 0..FAILURES_MAX {
            assert!(!waiting.is_bad(&id));
            waiting.failed(id);
        }
        assert!(waiting.is_bad(&id));
    }

    #[test]
    fn a_bounded_number_of_peers_that_others_name_is_remembered() {
        let known = Known::default();
        let peers: Vec<PeerAddr> = (0..=PEERS_ASKED_MAX)
            .map(|at| PeerAddr {
                id: *iroh::SecretKey::from_bytes(&[u8::try_from(at).unwrap_or(0); 32])
                    .public()
                    .as_bytes(),
                ip: vec!["127.0.0.1:5".to_owned()],
                relay: Vec::new(),
            })
            .collect();
        known.name(&peers, true);
        assert_eq!(lock(&known.named).len(), PEERS_ASKED_MAX);
    }
}
