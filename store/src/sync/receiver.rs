//! Fetches ranges of files from several peers at once.
//!
//! Wanted ranges of chunk lists become requests of up to 32 MiB that name ranges of many children of a
//! HashSeq. Several streams go to each peer, and peers may join while it runs; what a peer fails at, lacks or
//! is slow with goes to others. Every byte is verified before it reaches the [`PieceSink`], on threads
//! that may block. A peer that sends a wrong byte is dropped at once; what it sent before and was verified is kept.
//! Memory: two pieces a stream, [`DOWNLOAD_BUFFER_BYTES_MAX`] in all.

mod board;
mod documents;
mod have;
mod link;
mod peer;
mod worker;

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_lite::future;
use iroh::EndpointId;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub use documents::{DocumentError, fetch_documents};
pub use have::{EVERY_PIECE, Have};
pub use peer::Peer;

use crate::{ChunkHash, piece::PieceSink, tree::ChunkList};

use super::{
    lanes::Lanes,
    limits::{DOWNLOAD_BUFFER_BYTES_MAX, FAST_BYTES_PER_SECOND, PLAN_BYTES, SWARM_PEERS_MAX},
    rate::Rate,
    selection::Selection,
};
use board::{Board, Outcome, Part};

/// Ranges of one file, and where they go.
#[derive(Clone)]
pub struct Want {
    /// The HashSeq of the file: the root under which its chunks are asked for.
    pub seq: ChunkHash,
    /// Its chunks.
    pub list: Arc<ChunkList>,
    /// Chunk numbers with byte ranges in them: widened to whole groups of 16 KiB where that is nearly free, else
    /// to leaves of 1 KiB.
    pub ranges: Vec<(u32, Range<u32>)>,
    /// Where verified bytes go.
    pub sink: Arc<dyn PieceSink>,
    /// Whether those who receive it pass it on before they have all: only then is what a peer gave to others left
    /// to them.
    pub passed_on: bool,
}

/// How to fetch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FetchOptions {
    /// Streams of each connection to a peer.
    pub streams: usize,
    /// Bytes a second of a peer for each of its connections, above which it gets another one.
    pub fast: u64,
    /// Bytes a second, of all peers together.
    pub rate: Option<u64>,
    /// A limit that this fetch shares with others.
    pub shared_rate: Option<Arc<Rate>>,
    /// The lanes of the node.
    pub lanes: Option<Arc<Lanes>>,
    /// Whether somebody waits for the bytes: other fetches on the same lanes stand back.
    pub urgent: bool,
    /// While this is true, no new request is made.
    pub paused: Option<watch::Receiver<bool>>,
    /// A stream on which nothing comes for so long is given up; a peer after the second time.
    pub stall: Duration,
    /// Counts the peers that were caught sending wrong bytes.
    pub lies: Arc<AtomicU64>,
    /// How long connecting to a peer may take.
    pub connect: Duration,
    /// When nobody has what is missing, how long peers that may still come by it are waited for.
    pub patience: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            streams: 4,
            fast: FAST_BYTES_PER_SECOND,
            rate: None,
            shared_rate: None,
            lanes: None,
            urgent: false,
            paused: None,
            stall: Duration::from_secs(15),
            lies: Arc::default(),
            connect: Duration::from_secs(20),
            patience: Duration::from_secs(30),
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
    /// It sends so slowly that others do better.
    #[error("it sends less than {0} bytes a second")]
    Slow(u64),
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
    /// Why the LAN path was not used to the end, if it was wanted.
    pub no_lan: Option<String>,
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
    /// The peers, by their number on the board.
    peers: Mutex<Vec<Arc<Member>>>,
}

/// A peer of one fetch.
struct Member {
    peer: Peer,
    index: usize,
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> Vec<PeerReport> {
        let dropped = self.board.reasons();
        let report = |(member, dropped): (&Arc<Member>, Option<Reason>)| PeerReport {
            peer: member.peer.id(),
            bytes: member.bytes.load(Ordering::Relaxed),
            requests: member.requests.load(Ordering::Relaxed),
            dropped,
            no_lan: member.peer.why_no_lan(),
        };
        self.members().iter().zip(dropped).map(report).collect()
    }

    fn drop_peer(&self, member: &Member, reason: Reason) {
        if self.board.drop_peer(member.index, reason.clone()) {
            let peer = member.peer.id();
            tracing::debug!(peer = %peer.fmt_short(), %reason, "a peer is dropped");
            self.progress.dropped(peer, &reason);
        }
    }

    /// Takes in a peer, unless it is known or there are enough: what is to be done for it.
    fn join(self: &Arc<Self>, peer: Peer) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut members = self.members();
        if members.len() >= SWARM_PEERS_MAX || members.iter().any(|m| m.peer.id() == peer.id()) {
            return None;
        }
        let have = peer.have();
        let index = self.board.join(have.as_ref().map(|have| have.known()));
        let member = Arc::new(Member {
            peer,
            index,
            bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        });
        members.push(Arc::clone(&member));
        drop(members);
        let shared = Arc::clone(self);
        Some(async move {
            // What the peer says of itself is heard for as long as it is asked for anything.
            let hear = async {
                let Some(have) = have else {
                    return future::pending().await;
                };
                loop {
                    shared.board.news(index, have.news().await);
                }
            };
            future::or(hear, worker::run(Arc::clone(&shared), member)).await;
        })
    }
}

/// Keeps threads that cannot be aborted from the sinks, when a fetch has ended or is dropped. Waits for
/// those that store at this moment.
struct Alive(Arc<Shared>);

impl Alive {
    /// Ends it now, unless a thread stores at this moment.
    fn try_end(&self) -> bool {
        let alive = self.0.alive.try_write();
        alive.map(|mut alive| *alive = false).is_ok()
    }
}

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
    let (_, nobody) = mpsc::channel(1);
    fetch_from(wants, peers, nobody, options, progress).await
}

/// Fetches `wants` from `peers` and from those that come through `newcomers` while it runs. Dropping the
/// future cancels it.
///
/// # Errors
/// When bytes are missing and nobody is left to ask who may come by them in time, or a sink fails.
pub async fn fetch_from(
    wants: Vec<Want>,
    peers: Vec<Peer>,
    mut newcomers: mpsc::Receiver<Peer>,
    options: FetchOptions,
    progress: Arc<dyn Progress>,
) -> Result<Fetched, FetchError> {
    let parts = parts(&wants)?;
    let _urgent = options
        .lanes
        .as_ref()
        .filter(|_| options.urgent)
        .map(Lanes::urgent);
    let patience = options.patience;
    let shared = Arc::new(Shared {
        board: Board::new(parts, options.streams.max(1), rand::random()),
        wants,
        rate: options.rate.map(Rate::new),
        options,
        progress,
        streams: Arc::new(Semaphore::new(DOWNLOAD_BUFFER_BYTES_MAX / (2 * PLAN_BYTES))),
        alive: RwLock::new(true),
        sink_error: Mutex::new(None),
        peers: Mutex::default(),
    });
    let alive = Alive(Arc::clone(&shared));
    let mut workers = JoinSet::new();
    let mut joining = peers.into_iter().filter_map(|peer| shared.join(peer));
    // Whoever wants little is here for an answer soon, and another task wakes other threads: the first peer is asked
    // from this one.
    let mut first = match shared.options.streams {
        0 | 1 => joining.next().map(Box::pin),
        _ => None,
    };
    joining.for_each(|work| drop(workers.spawn(work)));
    let mut joinable = true;
    let mut open = (shared.board.open_bytes(), Instant::now());
    let outcome = loop {
        let changed = shared.board.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(outcome) = shared.board.outcome() {
            break outcome;
        }
        // Strangers may still join; but that is no more than a hope.
        let wait = if shared.board.has_live() {
            patience
        } else {
            patience / 4
        };
        tokio::select! {
            biased;
            peer = newcomers.recv(), if joinable => match peer {
                Some(peer) => {
                    if let Some(work) = shared.join(peer) {
                        workers.spawn(work);
                    }
                }
                None => {
                    joinable = false;
                    shared.board.close();
                }
            },
            () = changed => {}
            () = async {
                match &mut first {
                    Some(first) => first.await,
                    None => future::pending().await,
                }
            } => first = None,
            () = sleep_until(open.1 + wait) => {}
        }
        let bytes = shared.board.open_bytes();
        if bytes != open.0 || is_paused(&shared.options) {
            open = (bytes, Instant::now());
        } else if open.1.elapsed() >= wait {
            open.1 = Instant::now();
            shared.board.give_up();
        }
    };
    drop(first);
    workers.shutdown().await;
    // A thread may still store a copy of what is there already.
    if !alive.try_end() {
        tokio::task::spawn_blocking(move || drop(alive)).await.ok();
    }
    let peers = shared.reports();
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

fn is_paused(options: &FetchOptions) -> bool {
    options
        .paused
        .as_ref()
        .is_some_and(|paused| *paused.borrow())
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
                    passed_on: want.passed_on,
                });
            }
        }
    }
    Ok(parts)
}
