//! Models, documents and single chunks that are not here, from known peers.
//!
//! Bounded in time and rate; what no peer has is remembered for a few seconds, so that a storm of
//! requests for what does not exist reaches no peer. Records and documents are verified as those of a
//! pull are. No alias is bound here, and a model that was removed from the home is not brought back.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use lode_store::{
    ChunkHash, PublisherId, TreeId, VersionId, limits,
    local::{Keep, keep_key},
    manifest::VersionBytes,
    name::Rev,
    sync::receiver::{Peer, fetch_documents},
    tree::{File, Tree},
};
use lode_tensors::ByteRange;
use tokio::{task::JoinSet, time::timeout};

use super::{
    Fetcher, Of,
    limits::{
        ABSENT_AGE_MAX, ABSENT_MAX, HEADERS_AT_A_TIME, LOOK_TIMEOUT, LOOKS_PER_SECOND_MAX,
        MEET_TIMEOUT, STALL,
    },
    no_peer,
};
use crate::{
    EventSink, Node,
    command::{Failure, FailureKind},
    origin,
    pull::{
        documents::{Documents, documents},
        records::Peers,
    },
    read::{FileTensors, Layout, Parsed, ReadError, may_have_tensors, parse_header},
};

/// Something that peers are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sought {
    Model(PublisherId, String, Option<Rev>),
    Chunk(ChunkHash),
}

/// What is being sought, and what was not found.
#[derive(Debug)]
pub(super) struct Learning {
    absent: Mutex<HashMap<Sought, Instant>>,
    under_way: Mutex<HashMap<Sought, Weak<tokio::sync::Mutex<()>>>>,
    second: Mutex<(Instant, u32)>,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            absent: Mutex::default(),
            under_way: Mutex::default(),
            second: Mutex::new((Instant::now(), 0)),
        }
    }
}

impl Learning {
    fn is_absent(&self, sought: &Sought) -> bool {
        let absent = lock(&self.absent);
        absent
            .get(sought)
            .is_some_and(|since| since.elapsed() < ABSENT_AGE_MAX)
    }

    fn note_absent(&self, sought: Sought) {
        let mut absent = lock(&self.absent);
        if absent.len() >= ABSENT_MAX {
            absent.retain(|_, since| since.elapsed() < ABSENT_AGE_MAX);
        }
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(sought, Instant::now());
    }

    /// The lock of one search: whoever else wants the same waits for its end.
    fn lock_of(&self, sought: &Sought) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = lock(&self.under_way);
        under_way.retain(|_, held| held.strong_count() > 0);
        let held = under_way.get(sought).and_then(Weak::upgrade);
        held.unwrap_or_else(|| {
            let new = Arc::default();
            under_way.insert(sought.clone(), Arc::downgrade(&new));
            new
        })
    }

    /// Counts a search against the rate; false when there are too many.
    fn pass(&self) -> bool {
        let mut second = lock(&self.second);
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 += 1;
        second.1 <= LOOKS_PER_SECOND_MAX
    }
}

/// Counts a search that waits while it lives: it may be given up.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a version whose bytes are fetched for readers, as a pulled one is kept.
pub(super) fn adopt(node: &Node, version: VersionId) -> Result<(), Failure> {
    let key = keep_key(&version);
    if node.store().local_get(&key)?.is_none() && node.reads().version(version).is_ok() {
        node.store().local_set(&key, &Keep::now(false).encode())?;
    }
    Ok(())
}

impl Fetcher {
    /// Asks known peers for a model, and for the version that `rev` names with its files: whether
    /// they are here now. Afterwards the version is kept like a pulled one.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when too much is being searched for.
    pub async fn learn(
        &self,
        publisher: PublisherId,
        model: &str,
        rev: Option<&Rev>,
    ) -> Result<bool, Failure> {
        let sought = Sought::Model(publisher, model.to_owned(), rev.cloned());
        let here = async {
            let here = self.is_here(publisher, model, rev).await?;
            Ok(here.then_some(()))
        };
        let look = self.look_for(publisher, model, rev);
        let found = Box::pin(self.seek(sought, here, look)).await?;
        Ok(found.is_some())
    }

    /// A chunk or document by its hash, from any known peer that gives it to us.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when too much is being searched for.
    pub async fn chunk(&self, hash: ChunkHash) -> Result<Option<Bytes>, Failure> {
        let here = async { Ok(self.shared().table.whole(&hash).map(Bytes::from)) };
        let look = async {
            // A version that needs it says what to show to peers.
            let of = self.node.blocking(move |node| {
                let mut id = None;
                node.store().versions_of(&hash, &mut |version| {
                    id = Some(version);
                    false
                })?;
                Ok(id.and_then(|id| node.reads().version(id).ok()))
            });
            let of = of.await?;
            let model = of
                .as_ref()
                .and_then(|version| origin::whose(&version.doc))
                .map(|(publisher, model)| (publisher, model.to_owned()));
            let met = self.shared().peers.reach(&self.node, model).await?;
            let peers: Vec<Peer> = met.into_iter().map(|met| met.peer).collect();
            let mut options = self.node.fetch_options();
            (options.stall, options.connect) = (STALL, MEET_TIMEOUT);
            let found = fetch_documents(&peers, &[hash], limits::CHUNK_BYTES_MAX, &options).await;
            let Some(bytes) = found.ok().and_then(|mut found| found.pop()) else {
                return Ok(None);
            };
            let shared = self.shared();
            shared
                .counts
                .bytes
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let len = u32::try_from(bytes.len()).expect("a chunk has at most 16 MiB");
            if shared.table.insert(&hash, len, 0, &bytes) {
                match of {
                    Some(version) => shared.keeper.offer(&self.node, hash, len, version.id),
                    None => shared.table.kept(&hash, false),
                }
            }
            Ok(Some(bytes))
        };
        Box::pin(self.seek(Sought::Chunk(hash), here, look)).await
    }

    /// Brings the chunk lists of files of a version that are not held.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when no known peer has them.
    pub async fn lists(&self, of: &Of, files: &[&File]) -> Result<(), Failure> {
        let mut wanted: Vec<ChunkHash> = files
            .iter()
            .filter(|file| file.chunks.count > 0)
            .flat_map(|file| [file.chunks.seq, file.chunks.lengths])
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.adopt(of).await?;
        let look = async {
            let met = self
                .shared()
                .peers
                .reach(&self.node, Some((of.publisher, of.model.clone())));
            let peers = Peers::of(met.await?.into_iter().map(|met| (met.session, met.peer)));
            let limit = limits::DOCUMENT_BYTES_MAX as u64;
            documents(&self.node, &peers, &wanted, limit).await
        };
        match timeout(LOOK_TIMEOUT, Box::pin(look)).await {
            Ok(found) => found.map(|_| ()),
            Err(_) => Err(no_peer(
                "no known peer sent the version's chunk lists in time",
            )),
        }
    }

    /// The tensors of a version, from headers that are held or come from peers.
    ///
    /// # Errors
    /// [`FailureKind::NoPeer`] when no known peer has a header.
    pub async fn layout(
        &self,
        of: &Of,
        id: TreeId,
        tree: &Arc<Tree>,
    ) -> Result<Arc<Layout>, Failure> {
        let files: Vec<&File> = tree
            .files()
            .iter()
            .filter(|file| may_have_tensors(file))
            .collect();
        self.lists(of, &files).await?;
        let mut tensors: Vec<FileTensors> = Vec::new();
        for files in files.chunks(HEADERS_AT_A_TIME) {
            let mut reading = JoinSet::new();
            for file in files {
                let (this, of, tree, file) =
                    (self.clone(), of.clone(), Arc::clone(tree), (*file).clone());
                reading.spawn(async move { this.header(of, tree, file).await });
            }
            while let Some(read) = reading.join_next().await {
                let read =
                    read.map_err(|error| Failure::failed(format!("reading stopped: {error}")))?;
                tensors.extend(read?);
            }
        }
        tensors.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.node.reads().put_layout(id, tensors))
    }

    async fn header(
        &self,
        of: Of,
        tree: Arc<Tree>,
        file: File,
    ) -> Result<Option<FileTensors>, Failure> {
        let wanted = file.clone();
        let reader = self
            .node
            .blocking(move |node| Ok(node.reads().file(&wanted)?))
            .await?;
        let remote = self.file(of, tree, Arc::new(reader));
        let mut bytes = lode_tensors::limits::PREFIX_BYTES_FIRST;
        loop {
            let end = bytes.min(file.size);
            let prefix = remote.read_all(ByteRange { start: 0, end }).await?;
            match parse_header(&file, &prefix) {
                Parsed::Header(header) => return Ok(Some(FileTensors::new(file.path, header))),
                Parsed::NeedMore(more) => bytes = more,
                Parsed::Broken => return Ok(None),
            }
        }
    }

    async fn adopt(&self, of: &Of) -> Result<(), Failure> {
        let version = of.version;
        self.node.blocking(move |node| adopt(node, version)).await
    }

    /// Runs one search, unless what is sought is `here`, or the same search runs, just failed, or too
    /// many do.
    async fn seek<T>(
        &self,
        sought: Sought,
        here: impl Future<Output = Result<Option<T>, Failure>>,
        look: impl Future<Output = Result<Option<T>, Failure>>,
    ) -> Result<Option<T>, Failure> {
        let shared = self.shared();
        let learning = &shared.learning;
        if learning.is_absent(&sought) {
            return Ok(None);
        }
        let one = learning.lock_of(&sought);
        let _one = one.lock().await;
        // Whoever was before may have found it, or looked in vain.
        if let Some(found) = here.await? {
            return Ok(Some(found));
        }
        // Who knows nobody says at once, and as often as it likes, that nobody has it.
        if learning.is_absent(&sought) || !shared.peers.anybody(&self.node).await? {
            return Ok(None);
        }
        let search = async {
            let waiting = Waiting::new(&shared.counts.lookups_waiting);
            let _look = shared.looks.acquire().await.ok();
            drop(waiting);
            if !learning.pass() {
                return Err(no_peer(
                    "peers are asked for too many things at once: come back later",
                ));
            }
            shared.counts.lookups.fetch_add(1, Ordering::Relaxed);
            look.await
        };
        let found = timeout(LOOK_TIMEOUT, search).await.unwrap_or(Ok(None));
        match &found {
            Ok(None) => learning.note_absent(sought),
            Ok(Some(_)) => {}
            Err(failure) => tracing::debug!(?sought, %failure, "a search among peers failed"),
        }
        found
    }

    async fn look_for(
        &self,
        publisher: PublisherId,
        model: &str,
        rev: Option<&Rev>,
    ) -> Result<Option<()>, Failure> {
        let gone = format!("gone/{publisher}/{model}");
        if self.node.store().local_get(&gone)?.is_some() {
            return Ok(None);
        }
        let met = self
            .shared()
            .peers
            .reach(&self.node, Some((publisher, model.to_owned())))
            .await?;
        if met.is_empty() {
            return Ok(None);
        }
        let peers = Peers::of(met.into_iter().map(|met| (met.session, met.peer)));
        let heard = peers
            .take_records(&self.node, &publisher, model, &EventSink::discard())
            .await?;
        let Some(rev) = rev else {
            return Ok(heard.then_some(()));
        };
        let (name, asked) = (model.to_owned(), rev.clone());
        let named = self.node.blocking(move |node| {
            if let Rev::Version(prefix) = &asked
                && let Some(id) = prefix.full()
            {
                return Ok(Some(id));
            }
            match node.reads().resolve(publisher, &name, &asked) {
                Ok(found) => Ok(Some(found.version)),
                Err(ReadError::Absent { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        let Some(version) = named.await? else {
            return Ok(None);
        };
        let documents = Documents::fetch(&self.node, &peers, publisher, model, version).await;
        let documents = match documents {
            Ok(documents) => documents,
            // Another model's version, or one that nobody has or signed.
            Err(failure) if matches!(failure.kind, FailureKind::Refused | FailureKind::NoPeer) => {
                tracing::debug!(%version, %failure, "a version is not taken from peers");
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        self.adopt(&Of {
            publisher,
            model: model.to_owned(),
            version,
        })
        .await?;
        drop(documents);
        Ok(Some(()))
    }

    /// Whether the version's document and tree are held, or the model's refs.
    async fn is_here(
        &self,
        publisher: PublisherId,
        model: &str,
        rev: Option<&Rev>,
    ) -> Result<bool, Failure> {
        let (model, rev) = (model.to_owned(), rev.cloned());
        let look = self.node.blocking(move |node| {
            let reads = node.reads();
            let Some(rev) = rev else {
                return Ok(reads.model(publisher, &model).is_ok());
            };
            let version = |id: VersionId| -> Result<VersionBytes, ReadError> { reads.version(id) };
            let found = reads
                .model(publisher, &model)
                .and_then(|_| reads.resolve(publisher, &model, &rev))
                .and_then(|found| version(found.version))
                .and_then(|found| reads.tree(found.doc.tree));
            Ok(found.is_ok())
        });
        look.await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_not_found_is_remembered_in_bounded_memory() {
        let learning = Learning::default();
        let sought = |at: usize| Sought::Chunk(ChunkHash::of(&at.to_le_bytes()));
        for at in 0..=ABSENT_MAX {
            learning.note_absent(sought(at));
            assert!(learning.is_absent(&sought(at)));
            assert!(lock(&learning.absent).len() <= ABSENT_MAX);
        }
        assert!(!learning.is_absent(&sought(ABSENT_MAX + 1)));
    }

    #[test]
    fn searches_that_begin_in_one_second_are_bounded() {
        let learning = Learning::default();
        // A second that does not end while the test runs.
        lock(&learning.second).0 = Instant::now() + Duration::from_secs(3600);
        for _ in 0..LOOKS_PER_SECOND_MAX {
            assert!(learning.pass());
        }
        assert!(!learning.pass());
    }

    #[test]
    fn those_who_seek_the_same_share_one_lock() {
        let learning = Learning::default();
        let sought = |at: u8| Sought::Chunk(ChunkHash::of(&[at]));
        let first = learning.lock_of(&sought(1));
        assert!(Arc::ptr_eq(&first, &learning.lock_of(&sought(1))));
        assert!(!Arc::ptr_eq(&first, &learning.lock_of(&sought(2))));
        drop(first);
        learning.lock_of(&sought(3));
        assert_eq!(lock(&learning.under_way).len(), 1);
    }
}
