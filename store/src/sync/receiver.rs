//! Fetches ranges of files from several peers at once.
//!
//! Wanted ranges of chunk lists become requests of up to 32 MiB that name ranges of many children of a
//! HashSeq. Several streams go to each peer; what a peer fails at, lacks or is slow with goes to others. Every
//! byte is verified before it reaches the [`PieceSink`], on threads that may block. A peer that sends
//! a wrong byte is dropped at once; what it sent before and was verified is kept.
//! Memory: two pieces a stream, [`DOWNLOAD_BUFFER_BYTES_MAX`] in all.

mod board;
mod documents;
mod peer;
mod rate;
mod worker;

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use iroh::EndpointId;
use tokio::{sync::Semaphore, task::JoinSet};

pub use documents::{DocumentError, fetch_documents};
pub use peer::Peer;

use crate::{ChunkHash, piece::PieceSink, tree::ChunkList};

use super::{
    limits::{DOWNLOAD_BUFFER_BYTES_MAX, PLAN_BYTES},
    selection::Selection,
};
use board::{Board, Outcome, Part};
use rate::Rate;

/// Ranges of one file, and where they go.
#[derive(Clone)]
pub struct Want {
    /// The HashSeq of the file: the root under which its chunks are asked for.
    pub seq: ChunkHash,
    /// Its chunks.
    pub list: Arc<ChunkList>,
    /// Chunk numbers with byte ranges in them. Ranges shorter than 16 KiB are widened to 1 KiB, others to 16 KiB.
    pub ranges: Vec<(u32, Range<u32>)>,
    /// Where verified bytes go.
    pub sink: Arc<dyn PieceSink>,
}

/// What a peer is known to hold. What it does not hold is not asked of it.
pub trait Holdings: Send + Sync + 'static {
    /// Whether it holds a chunk.
    fn holds(&self, hash: &ChunkHash) -> bool;
}

/// How to fetch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FetchOptions {
    /// Streams to each peer.
    pub streams: usize,
    /// Bytes a second, of all peers together.
    pub rate: Option<u64>,
    /// A stream on which nothing comes for so long is given up; a peer after the second time.
    pub stall: Duration,
    /// How long connecting to a peer may take.
    pub connect: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            streams: 4,
            rate: None,
            stall: Duration::from_secs(15),
            connect: Duration::from_secs(20),
        }
    }
}

/// Hears of a fetch as it goes. Called from many threads.
pub trait Progress: Send + Sync + 'static {
    /// Verified bytes of a peer reached a sink.
    fn received(&self, peer: EndpointId, bytes: u64) {
        let _ = (peer, bytes);
    }

    /// A peer is not asked any more.
    fn dropped(&self, peer: EndpointId, reason: &Reason) {
        let _ = (peer, reason);
    }
}

/// Hears nothing.
impl Progress for () {}

/// Why a peer is not asked any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Its connection broke, and nothing came after the last one was made.
    #[error("its connection broke: {0}")]
    Lost(String),
    /// It sent nothing for too long.
    #[error("it sent nothing for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// It sent bytes that do not match the hash that was asked for.
    #[error("it sent wrong bytes for chunk {0}")]
    Lied(ChunkHash),
}

/// What one peer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerReport {
    /// The peer.
    pub peer: EndpointId,
    /// Verified bytes that it sent.
    pub bytes: u64,
    /// Requests made to it.
    pub requests: u64,
    /// Why it was dropped, if it was.
    pub dropped: Option<Reason>,
}

/// A fetch that has all that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// Verified bytes that came; more than was wanted where ranges were widened or fetched twice.
    pub bytes: u64,
    /// What each peer gave.
    pub peers: Vec<PeerReport>,
}

/// Why a fetch has not all that was wanted. What was verified has reached the sinks all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// A want names a chunk or a range that its list does not have.
    #[error("a wanted range is not in the chunk list: chunk {chunk}, bytes {range:?}")]
    BadWant {
        /// The chunk's number.
        chunk: u32,
        /// The range.
        range: Range<u32>,
    },
    /// Peers answered, but none of them has the rest.
    #[error("no peer has chunk {chunk} ({bytes} bytes are missing)")]
    NoPeerHasIt {
        /// One of the missing chunks.
        chunk: ChunkHash,
        /// Bytes of all that is missing.
        bytes: u64,
        /// What each peer gave.
        peers: Vec<PeerReport>,
    },
    /// Every peer failed.
    #[error("every peer failed ({bytes} bytes are missing): {}", reasons(.peers))]
    AllPeersFailed {
        /// Bytes of all that is missing.
        bytes: u64,
        /// What each peer gave, and why it was dropped.
        peers: Vec<PeerReport>,
    },
    /// The bytes cannot be stored.
    #[error("cannot store what was received: {0}")]
    Sink(#[source] io::Error),
}

fn reasons(peers: &[PeerReport]) -> String {
    let reason = |peer: &PeerReport| {
        let reason = peer.dropped.as_ref()?;
        Some(format!("{}: {reason}", peer.peer.fmt_short()))
    };
    let list: Vec<String> = peers.iter().filter_map(reason).collect();
    if list.is_empty() {
        "there is none".to_owned()
    } else {
        list.join("; ")
    }
}

/// What the tasks of one fetch share.
struct Shared {
    board: Board,
    wants: Vec<Want>,
    options: FetchOptions,
    progress: Arc<dyn Progress>,
    rate: Option<Rate>,
    /// Bounds the streams at work, and so the memory.
    streams: Arc<Semaphore>,
    /// Cleared when the fetch ends or is dropped: nothing reaches a sink any more. Held for reading
    /// while a sink stores.
    alive: RwLock<bool>,
    sink_error: Mutex<Option<io::Error>>,
    counters: Vec<Counter>,
}

#[derive(Default)]
struct Counter {
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Shared {
    fn reports(&self, peers: &[Peer]) -> Vec<PeerReport> {
        let dropped = self.board.reasons();
        let report = |((peer, counter), dropped): ((&Peer, &Counter), Option<Reason>)| PeerReport {
            peer: peer.id(),
            bytes: counter.bytes.load(Ordering::Relaxed),
            requests: counter.requests.load(Ordering::Relaxed),
            dropped,
        };
        peers
            .iter()
            .zip(&self.counters)
            .zip(dropped)
            .map(report)
            .collect()
    }

    fn drop_peer(&self, index: usize, peer: &Peer, reason: Reason) {
        if self.board.drop_peer(index, reason.clone()) {
            tracing::debug!(peer = %peer.id().fmt_short(), %reason, "a peer is dropped");
            self.progress.dropped(peer.id(), &reason);
        }
    }
}

/// Keeps threads that cannot be aborted from the sinks, when a fetch has ended or is dropped. Waits for
/// those that store at this moment.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        *self.0.alive.write().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// Fetches `wants` from `peers`. Dropping the future cancels it.
///
/// # Errors
/// When bytes are missing and nobody is left to ask, or a sink fails.
pub async fn fetch(
    wants: Vec<Want>,
    peers: Vec<Peer>,
    options: FetchOptions,
    progress: Arc<dyn Progress>,
) -> Result<Fetched, FetchError> {
    let parts = parts(&wants)?;
    let holdings = peers.iter().map(Peer::holdings).collect();
    let shared = Arc::new(Shared {
        board: Board::new(parts, holdings, options.streams.max(1)),
        wants,
        rate: options.rate.map(Rate::new),
        options,
        progress,
        streams: Arc::new(Semaphore::new(DOWNLOAD_BUFFER_BYTES_MAX / (2 * PLAN_BYTES))),
        alive: RwLock::new(true),
        sink_error: Mutex::new(None),
        counters: peers.iter().map(|_| Counter::default()).collect(),
    });
    let alive = Alive(Arc::clone(&shared));
    let mut workers = JoinSet::new();
    for (index, peer) in peers.iter().enumerate() {
        workers.spawn(worker::run(Arc::clone(&shared), index, peer.clone()));
    }
    let outcome = loop {
        let changed = shared.board.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(outcome) = shared.board.outcome() {
            break outcome;
        }
        changed.await;
    };
    workers.shutdown().await;
    // A thread may still store a copy of what is there already.
    tokio::task::spawn_blocking(move || drop(alive)).await.ok();
    let peers = shared.reports(&peers);
    match outcome {
        Outcome::Done => Ok(Fetched {
            bytes: peers.iter().map(|peer| peer.bytes).sum(),
            peers,
        }),
        Outcome::Missing(missing) if missing.lacked => Err(FetchError::NoPeerHasIt {
            chunk: missing.chunk,
            bytes: missing.bytes,
            peers,
        }),
        Outcome::Missing(missing) => Err(FetchError::AllPeersFailed {
            bytes: missing.bytes,
            peers,
        }),
        Outcome::Stopped => {
            let error = shared
                .sink_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            Err(FetchError::Sink(
                error.unwrap_or_else(|| io::ErrorKind::Other.into()),
            ))
        }
    }
}

/// The wanted ranges, a part for each chunk, in the order of the wants.
fn parts(wants: &[Want]) -> Result<Vec<Part>, FetchError> {
    let mut parts = Vec::new();
    for (index, want) in wants.iter().enumerate() {
        let mut ranges = want.ranges.clone();
        ranges.sort_by_key(|(chunk, range)| (*chunk, range.start));
        for group in ranges.chunk_by(|(a, _), (b, _)| a == b) {
            let (chunk, first) = &group[0];
            let bad = || FetchError::BadWant {
                chunk: *chunk,
                range: first.clone(),
            };
            let at = usize::try_from(*chunk).map_err(|_| bad())?;
            let hash = want.list.hashes.get(at).ok_or_else(bad)?;
            let size = want.list.lengths.get(at).copied().ok_or_else(bad)?;
            if group
                .iter()
                .any(|(_, range)| range.end > size || range.start > range.end)
            {
                return Err(bad());
            }
            let ranges = group
                .iter()
                .map(|(_, r)| u64::from(r.start)..u64::from(r.end));
            let selection = Selection::of_bytes(u64::from(size), ranges);
            if !selection.is_empty() {
                parts.push(Part {
                    want: index,
                    chunk: *chunk,
                    hash: *hash,
                    selection,
                });
            }
        }
    }
    Ok(parts)
}
