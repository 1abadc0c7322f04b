//! Fetching on demand: bytes that a reader wants and that are not held, from peers, verified as they come.
//!
//! A [`Fetcher`] stands behind whoever reads a home for others (the gateway). It asks known peers for
//! models that are not here ([`Fetcher::learn`]), for documents, and for ranges of files
//! ([`RemoteFile`]). However many readers want a byte, it is fetched once; when the last of them leaves,
//! its fetch stops. Verified bytes reach readers at once; whole chunks go to the store, within its
//! quota, and parts of chunks stay in memory for a while ([`limits`]).
//!
//! Who may read is decided before, by `lode_store::access`.

mod flight;
mod keeper;
mod learn;
pub mod limits;
mod peers;
mod remote;
mod runs;
mod table;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lode_store::{PublisherId, VersionId, recent::Usage, sync::receiver::FetchOptions, tree::Tree};
use tokio::sync::Semaphore;

use crate::{
    Node,
    command::{Failure, FailureKind},
    read::FileReader,
};
use limits::{FLIGHT_BYTES_MAX, LOOKS_AT_A_TIME};

pub use remote::RemoteFile;

/// Bytes of one permit of the budget of flights.
const PERMIT_BYTES: u64 = 1024;

/// A version that is fetched from, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Of {
    /// Its publisher.
    pub publisher: PublisherId,
    /// Its model.
    pub model: String,
    /// Its id.
    pub version: VersionId,
}

/// What was fetched on demand since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Fetches begun, each for one or more ranges of a file.
    pub requests: u64,
    /// Of them, those that did not bring all they should.
    pub failed: u64,
    /// Verified bytes that came.
    pub bytes: u64,
    /// Bytes that peers were asked for and that are not all here yet.
    pub under_way: u64,
    /// Readers that wait for bytes now.
    pub waiting: u64,
    /// Bytes in memory now.
    pub cached: u64,
    /// Searches for models and chunks that are not here.
    pub lookups: u64,
    /// Searches that wait for their turn.
    pub lookups_waiting: u64,
    /// Whole chunks that wait for the store.
    pub keeping: u64,
    /// Times that bytes were asked for in memory, and whether they were there.
    pub memory: Usage,
    /// Peers that were caught sending wrong bytes, by pulls too.
    pub lies: u64,
}

/// Fetches on demand for readers of a node. Clones share everything.
#[derive(Clone)]
pub struct Fetcher {
    node: Node,
}

/// What all fetches of a node share.
pub(crate) struct Fetching {
    table: table::Table,
    peers: peers::Peers,
    keeper: keeper::Keeper,
    learning: learn::Learning,
    /// Bytes under way, in units of [`PERMIT_BYTES`].
    budget: Semaphore,
    looks: Semaphore,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Shared with every fetch of the node.
    lies: Arc<AtomicU64>,
    lookups_waiting: AtomicU64,
    requests: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    lookups: AtomicU64,
}

impl Default for Fetching {
    fn default() -> Self {
        let permits = usize::try_from(FLIGHT_BYTES_MAX / PERMIT_BYTES);
        Self {
            table: table::Table::default(),
            peers: peers::Peers::default(),
            keeper: keeper::Keeper::default(),
            learning: learn::Learning::default(),
            budget: Semaphore::new(permits.expect("32 Ki permits")),
            looks: Semaphore::new(LOOKS_AT_A_TIME),
            counts: Counts::default(),
        }
    }
}

impl Node {
    /// How peers are asked by whatever this node fetches.
    pub(crate) fn fetch_options(&self) -> FetchOptions {
        let mut options = FetchOptions::default();
        options.lies = Arc::clone(&self.fetching().counts.lies);
        options
    }
}

impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetching({} bytes in memory)", self.table.bytes())
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetcher({})", self.node.home().display())
    }
}

impl Fetcher {
    /// Fetches for readers of `node`.
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }

    /// What was fetched so far.
    pub fn figures(&self) -> Figures {
        let shared = self.shared();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            requests: count(&shared.counts.requests),
            failed: count(&shared.counts.failed),
            bytes: count(&shared.counts.bytes),
            under_way: FLIGHT_BYTES_MAX
                .saturating_sub(shared.budget.available_permits() as u64 * PERMIT_BYTES),
            waiting: shared.table.waiting(),
            cached: shared.table.bytes() as u64,
            lookups: count(&shared.counts.lookups),
            lookups_waiting: count(&shared.counts.lookups_waiting),
            keeping: shared.keeper.queued(),
            memory: shared.table.usage(),
            lies: count(&shared.counts.lies),
        }
    }

    /// Waits until nothing that came whole is still on its way to the store.
    pub async fn settled(&self) {
        self.shared().keeper.settled().await;
    }

    /// A file of a version, whose bytes come from peers where they are not held.
    pub fn file(&self, of: Of, tree: Arc<Tree>, reader: Arc<FileReader>) -> RemoteFile {
        RemoteFile::new(self.clone(), of, tree, reader)
    }

    fn shared(&self) -> &Arc<Fetching> {
        self.node.fetching()
    }
}

/// That no peer has something now.
fn no_peer(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::NoPeer, message)
        .advise("start a node that has it, or add one that does: `lode peers add TICKET`")
}
