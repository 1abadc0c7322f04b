//! The hubs of a node: which commit a name is, and what all fetches from hubs share.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use lode_store::{PublisherId, sync::message::PeerAddr};
use tokio::sync::Semaphore;

use super::{
    Figures,
    bring::{Facts, Origin},
    client::{Client, Counts, Upstream},
    document::{self, Repository},
    error::OriginError,
    limits::{COMMITS_MAX, FILES_AT_A_TIME, LEFT_AGE_MAX, REF_AGE_MAX, REFS_MAX, REV_BYTES_MAX},
    listing::{CommitId, Digest, FileAt, Info},
    peers,
    read::Passed,
    record,
    spool::Spool,
};
use crate::{Node, command::Failure};

/// Models of other hubs of a node. Clones are handles of the same.
#[derive(Clone)]
pub struct Origins {
    pub(super) node: Node,
}

/// A commit of a model.
type CommitKey = (PublisherId, String, CommitId);

/// What all fetches from other hubs share.
pub(crate) struct State {
    pub(super) folder: PathBuf,
    pub(super) counts: Arc<Counts>,
    pub(super) files: AtomicU64,
    pub(super) wrong: AtomicU64,
    pub(super) from_peers: AtomicU64,
    /// The client of the hub that the node was told of.
    pub(super) client: Mutex<Option<Client>>,
    pub(super) commits: Mutex<HashMap<CommitKey, (Arc<Facts>, Instant)>>,
    pub(super) refs: Mutex<HashMap<(String, String), (Info, Instant)>>,
    pub(super) spools: Mutex<HashMap<(PublisherId, String, Digest), Arc<Spool>>>,
    pub(super) slots: Arc<Semaphore>,
    /// Files of which peers, or an earlier run, had wrong bytes: they are taken from the hub alone.
    pub(super) distrusted: Mutex<BTreeSet<Digest>>,
    pub(super) peers: peers::Known,
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Origins({})", self.node.home().display())
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "origin::State({})", self.folder.display())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Part files that were left long ago go.
    pub(crate) fn open(home: &Path) -> Self {
        let folder = home.join("origins");
        let parts = fs::read_dir(&folder).into_iter().flatten().flatten();
        for part in parts {
            let changed = part
                .path()
                .join("0")
                .metadata()
                .and_then(|part| part.modified());
            let age = changed
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            if age.is_none_or(|age| age > LEFT_AGE_MAX)
                && let Err(error) = fs::remove_dir_all(part.path())
            {
                tracing::warn!(%error, path = %part.path().display(), "an old part file is left");
            }
        }
        Self {
            folder,
            counts: Arc::default(),
            files: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            from_peers: AtomicU64::new(0),
            client: Mutex::default(),
            commits: Mutex::default(),
            refs: Mutex::default(),
            spools: Mutex::default(),
            slots: Arc::new(Semaphore::new(FILES_AT_A_TIME)),
            distrusted: Mutex::default(),
            peers: peers::Known::default(),
        }
    }

    /// Stops what is being brought. The part files stay.
    pub(crate) fn stop(&self) {
        for spool in lock(&self.spools).values() {
            spool.cancel.cancel();
        }
    }

    /// Remembers who asked for files of other hubs: it is asked, too, before this node goes to the hub for one.
    pub(crate) fn heard_of(&self, asker: &PeerAddr) {
        // The address is that of its connection, so it is on this machine if it says so.
        self.peers.name(std::slice::from_ref(asker), true);
    }

    /// What is being brought with this hash.
    pub(crate) fn spool(
        &self,
        publisher: &PublisherId,
        model: &str,
        digest: Digest,
    ) -> Option<Arc<Spool>> {
        let spools = lock(&self.spools);
        spools.get(&(*publisher, model.to_owned(), digest)).cloned()
    }
}

impl Origins {
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }

    fn state(&self) -> &State {
        self.node.origin_state()
    }

    /// What was done so far.
    pub fn figures(&self) -> Figures {
        let state = self.state();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            requests: count(&state.counts.requests),
            bytes: count(&state.counts.bytes),
            files: count(&state.files),
            wrong: count(&state.wrong),
            from_peers: count(&state.from_peers),
        }
    }

    /// The hub that the node was told of.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.node.options().upstream.as_ref()
    }

    /// A client of `upstream`, or of the hub that the node was told of.
    pub(super) fn client(&self, upstream: Option<&Upstream>) -> Result<Client, OriginError> {
        let counts = Arc::clone(&self.state().counts);
        if let Some(upstream) = upstream {
            return Client::new(upstream, counts);
        }
        let mut known = lock(&self.state().client);
        if let Some(client) = &*known {
            return Ok(client.clone());
        }
        let default = Upstream {
            url: super::DEFAULT_URL.to_owned(),
            ..Upstream::default()
        };
        let client = Client::new(self.upstream().unwrap_or(&default), counts)?;
        *known = Some(client.clone());
        Ok(client)
    }

    /// Checks that the hub that the node was told of can be one.
    ///
    /// # Errors
    /// Its address is none, or its token cannot be read.
    pub fn check(&self) -> Result<(), Failure> {
        self.client(None).map(drop).map_err(Failure::from)
    }

    /// The coordinates of a model of the hub that the node was told of; without one, of a model that is here. Nothing for
    /// what is no name.
    pub fn coordinates(&self, organisation: &str, name: &str) -> Option<Repository> {
        if self.upstream().is_some() {
            let client = self.client(None).ok()?;
            return Repository::new(&client.namespace(), organisation, name).ok();
        }
        let known = record::all(self.node.store()).ok()?.into_iter();
        let mut known =
            known.filter(|known| known.organisation() == organisation && known.name() == name);
        match (known.next(), known.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// What the hub that the node was told of says of a repository at a revision.
    ///
    /// # Errors
    /// There is none, or the hub cannot be asked or lies.
    pub async fn look(&self, repository: &Repository, rev: &str) -> Result<Info, Failure> {
        let client = self.client(None)?;
        let found = self.info(&client, repository.organisation(), repository.name(), rev);
        Ok(found.await?)
    }

    /// What the hub says of a repository at a revision, asked a moment ago or now.
    async fn info(
        &self,
        client: &Client,
        organisation: &str,
        name: &str,
        rev: &str,
    ) -> Result<Info, OriginError> {
        let key = (client.namespace(), format!("{organisation}/{name}@{rev}"));
        if let Some((info, at)) = lock(&self.state().refs).get(&key)
            && at.elapsed() < REF_AGE_MAX
        {
            return Ok(info.clone());
        }
        let info = client.info(organisation, name, rev).await?;
        let mut refs = lock(&self.state().refs);
        if refs.len() >= REFS_MAX {
            refs.retain(|_, (_, at)| at.elapsed() < REF_AGE_MAX);
        }
        if refs.len() >= REFS_MAX {
            refs.clear();
        }
        refs.insert(key, (info.clone(), Instant::now()));
        Ok(info)
    }

    /// The commit that `rev` names at a hub: at `upstream`, or at the one that the node was told of.
    ///
    /// # Errors
    /// There is none, or the hub cannot be asked or lies.
    pub async fn open(
        &self,
        upstream: Option<&Upstream>,
        organisation: &str,
        name: &str,
        rev: &str,
    ) -> Result<Arc<Origin>, Failure> {
        let client = self.client(upstream)?;
        let hub = client.host();
        if rev.is_empty() || rev.len() > REV_BYTES_MAX {
            return Err(Failure::usage(format!(
                "a revision has 1 to {REV_BYTES_MAX} bytes"
            )));
        }
        let info = self.info(&client, organisation, name, rev).await?;
        let repository = Repository::new(&client.namespace(), &info.organisation, &info.name)?;
        let (noted, noted_rev, commit) = (repository.clone(), rev.to_owned(), info.commit);
        let public = info.public;
        self.node
            .blocking(move |node| {
                record::note(node.store(), &noted, public)?;
                if CommitId::parse(&noted_rev).is_none() {
                    record::note_ref(node.store(), &noted, &noted_rev, commit)?;
                }
                Ok(())
            })
            .await?;
        let key = (repository.publisher(), repository.name().to_owned(), commit);
        if let Some((open, used)) = lock(&self.state().commits).get_mut(&key) {
            *used = Instant::now();
            return Ok(self.of(Arc::clone(open)));
        }
        let listing = client.listing(&info).await?;
        if listing.files.len() > document::FILES_MAX {
            return Err(Failure::refused(format!(
                "{hub}: a commit of {} files, at most {} are taken",
                listing.files.len(),
                document::FILES_MAX
            )));
        }
        let (looked, digests) = (repository.clone(), listing.files.clone());
        let here = self
            .node
            .blocking(move |node| {
                let held =
                    |file: &&FileAt| record::file(node.store(), &looked, file.digest).is_some();
                Ok(digests
                    .iter()
                    .filter(held)
                    .map(|file| file.digest)
                    .collect())
            })
            .await?;
        let facts = Arc::new(Facts {
            client,
            repository,
            info,
            listing,
            here: Mutex::new(here),
            finishing: tokio::sync::Mutex::default(),
            passed: Passed::default(),
        });
        let mut commits = lock(&self.state().commits);
        while commits.len() >= COMMITS_MAX {
            let oldest = commits.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            commits.remove(&oldest);
        }
        let entry = commits.entry(key).or_insert((facts, Instant::now()));
        Ok(self.of(Arc::clone(&entry.0)))
    }

    fn of(&self, facts: Arc<Facts>) -> Arc<Origin> {
        Arc::new(Origin {
            node: self.node.clone(),
            facts,
        })
    }
}
