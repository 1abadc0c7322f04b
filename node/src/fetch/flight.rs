//! One fetch from peers: the missing parts of a file that some reader wants next.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    sync::{Arc, Weak, atomic::Ordering},
};

use iroh::EndpointId;
use lode_store::{
    ChunkHash,
    piece::{Parent, PieceSink},
    sync::{
        grants::Traffic,
        receiver::{FetchError, Have, Peer, Progress, Want, fetch},
    },
    tree::ChunkList,
};

use super::{
    Fetcher, Of, PERMIT_BYTES,
    limits::{FLIGHT_BYTES_MAX, MEET_TIMEOUT, ONE_STREAM_BYTES_MAX, STALL},
    no_peer,
    table::Flight,
};
use crate::{Node, command::Failure, read::Part};

/// Streams to each peer of a large fetch.
const STREAMS: usize = 4;

/// The file that a flight brings parts of.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) of: Of,
    pub(super) path: String,
    pub(super) seq: ChunkHash,
    pub(super) list: Arc<ChunkList>,
    /// Number of its first chunk among those of the tree.
    pub(super) first: u64,
}

/// Starts a flight. It goes on until it is done, or nobody holds `flight` any more.
pub(super) fn start(fetcher: &Fetcher, source: Source, flight: &Arc<Flight>, parts: Vec<Part>) {
    let fetcher = fetcher.clone();
    let mut landing = Landing {
        flight: Arc::downgrade(flight),
        outcome: Err(Failure::failed("a fetch stopped before its end")),
    };
    let task = tokio::spawn(async move {
        let counts = &fetcher.shared().counts;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let outcome = run(&fetcher, &source, parts).await;
        if let Err(failure) = &outcome {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(path = source.path, %failure, "a fetch on demand failed");
        }
        landing.land(outcome);
    });
    flight.carried_by(task.abort_handle());
}

/// Says how a flight ended, however it did.
struct Landing {
    flight: Weak<Flight>,
    outcome: Result<(), Failure>,
}

impl Landing {
    fn land(&mut self, outcome: Result<(), Failure>) {
        self.outcome = outcome;
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.upgrade() {
            flight.end(self.outcome.clone());
        }
    }
}

async fn run(fetcher: &Fetcher, source: &Source, parts: Vec<Part>) -> Result<(), Failure> {
    let shared = fetcher.shared();
    let bytes: u64 = parts.iter().map(|part| part.range.len() as u64).sum();
    let permits = bytes.min(FLIGHT_BYTES_MAX).div_ceil(PERMIT_BYTES);
    let permits = u32::try_from(permits).expect("32 Ki permits at most");
    // Never closed, so this does not fail.
    let _permit = shared.budget.acquire_many(permits).await.ok();
    shared.keeper.room().await;
    let indexes = parts
        .iter()
        .map(|part| source.first + u64::from(part.chunk));
    let providers = shared
        .peers
        .of_version(&fetcher.node, &source.of, indexes)
        .await?;
    let mut peers: Vec<Peer> = Vec::new();
    for provider in &providers.list {
        let holds = |part: &&Part| provider.holds(source.first + u64::from(part.chunk));
        let held: Vec<ChunkHash> = parts.iter().filter(holds).map(|part| part.hash).collect();
        if held.len() == parts.len() {
            // Among peers that have it all, pieces come in order.
            peers.push(provider.peer.clone().holding(Have::all()));
        } else if !held.is_empty() {
            peers.push(provider.peer.clone().holding(Have::chunks(held)));
        }
    }
    if peers.is_empty() {
        return Err(no_peer(format!(
            "no known peer has the bytes of {:?} that are asked for",
            source.path
        )));
    }
    let mut options = fetcher.node.fetch_options();
    options.streams = if bytes <= ONE_STREAM_BYTES_MAX {
        1
    } else {
        STREAMS
    };
    options.stall = STALL;
    options.connect = MEET_TIMEOUT;
    options.patience = STALL;
    options.urgent = true;
    if let Some(network) = fetcher.node.network_if_up() {
        options.lanes = Some(Arc::clone(network.lanes()));
        options.shared_rate = network.download_rate().cloned();
    }
    let mut ranges: Vec<(u32, Range<u32>)> = parts
        .iter()
        .map(|part| (part.chunk, part.range.clone()))
        .collect();
    ranges.sort_by_key(|(chunk, range)| (*chunk, range.start));
    let sink = Sink {
        node: fetcher.node.clone(),
        of: source.of.clone(),
        chunks: parts
            .iter()
            .map(|part| (part.chunk, (part.hash, part.len)))
            .collect(),
    };
    let want = Want {
        seq: source.seq,
        list: Arc::clone(&source.list),
        ranges,
        sink: Arc::new(sink),
        passed_on: true,
    };
    let heard = Heard {
        node: fetcher.node.clone(),
        traffic: fetcher
            .node
            .network_if_up()
            .map(|network| network.traffic().clone()),
    };
    match fetch(vec![want], peers, options, Arc::new(heard)).await {
        Ok(fetched) => {
            shared.peers.judge(&source.of, &fetched.peers);
            Ok(())
        }
        Err(error) => {
            if let FetchError::NoPeerHasIt { peers, .. }
            | FetchError::AllPeersFailed { peers, .. } = &error
            {
                shared.peers.judge(&source.of, peers);
            }
            shared.peers.forget(&source.of);
            Err(match error {
                FetchError::Sink(error) => Failure::failed(error.to_string()),
                error => no_peer(error.to_string()),
            })
        }
    }
}

/// Puts verified bytes into the table.
struct Sink {
    node: Node,
    of: Of,
    chunks: HashMap<u32, (ChunkHash, u32)>,
}

impl PieceSink for Sink {
    fn store(&self, chunk: u32, offset: u32, data: &[u8], _: &[Parent]) -> io::Result<()> {
        let Some((hash, len)) = self.chunks.get(&chunk) else {
            return Err(io::Error::other("a chunk that was not asked for"));
        };
        let shared = self.node.fetching();
        if shared.table.insert(hash, *len, offset, data) {
            shared
                .keeper
                .offer(&self.node, *hash, *len, self.of.version);
        }
        Ok(())
    }

    fn may_wait(&self) -> bool {
        false
    }
}

/// Counts what comes.
struct Heard {
    node: Node,
    traffic: Option<Traffic>,
}

impl Progress for Heard {
    fn received(&self, peer: EndpointId, bytes: u64) {
        self.node
            .fetching()
            .counts
            .bytes
            .fetch_add(bytes, Ordering::Relaxed);
        if let Some(traffic) = &self.traffic {
            traffic.of(peer).add_received(bytes);
        }
    }
}
