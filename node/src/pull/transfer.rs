//! The bytes of a pull: what is held is copied or named, the rest comes from all peers at once.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use iroh::EndpointId;
use lode_store::{
    ChunkHash, VersionId,
    download::{Download, Layout, Options, Packs, Target, write_link},
    piece::PieceSink,
    sync::{
        grants::Traffic,
        hub::Hub,
        receiver::{
            FetchError, Fetched, Peer, Progress, Reason, Want, fetch_documents, fetch_from,
        },
    },
    tree::{ChunkList, Mode, Tree},
};

use super::{
    listen::{Numbers, Recruits},
    no_peer,
    plan::{self, Planned},
    records::Peers,
};
use crate::{
    EventSink, Node,
    command::{Failure, FailureKind, Pull},
    receiving::{PassOn, Receiving},
};

/// Files that are received at a time: bounds open files and memory.
const FILES_AT_A_TIME: usize = 64;

/// Ranges that are asked for at a time, each of at least 1 KiB: about 30 MiB of memory. Columns of a large model
/// are millions of ranges.
const RANGES_AT_A_TIME: usize = 512 << 10;

/// How long peers that are still receiving are waited for, when nobody has what is missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a transfer did.
#[derive(Debug, Default)]
pub(crate) struct Transferred {
    /// The folder, or the file when it is one.
    pub(crate) path: Option<String>,
    /// Bytes that peers sent.
    pub(crate) fetched: u64,
    /// Bytes that were here already.
    pub(crate) held: u64,
    /// Peers that sent some.
    pub(crate) providers: u32,
}

/// Where a pull writes to, and how.
pub(crate) struct Job<'a> {
    pub(crate) node: &'a Node,
    pub(crate) peers: &'a Peers,
    pub(crate) version: VersionId,
    pub(crate) tree: &'a Tree,
    pub(crate) folder: Option<&'a Path>,
    pub(crate) request: &'a Pull,
    pub(crate) events: &'a EventSink,
}

impl Job<'_> {
    /// Brings all that was planned to its place.
    pub(crate) async fn run(&self, planned: Vec<Planned>) -> Result<Transferred, Failure> {
        let mut done = Transferred {
            path: match (self.folder, planned.as_slice()) {
                (Some(folder), [file]) => Some(folder.join(&file.path).display().to_string()),
                (Some(folder), _) => Some(folder.display().to_string()),
                (None, _) => None,
            },
            ..Transferred::default()
        };
        if self.request.dry_run {
            let (held, missing) = self
                .node
                .blocking(move |node| estimate(node, &planned))
                .await?;
            return Ok(Transferred {
                held,
                fetched: missing,
                ..done
            });
        }
        let total: u64 = planned.iter().map(|file| file.len).sum();
        let meter = Arc::new(Meter {
            events: self.events.clone(),
            settled: AtomicU64::new(0),
            open: Mutex::default(),
            total,
            traffic: self
                .node
                .network_if_up()
                .map(|network| network.traffic().clone()),
            senders: Mutex::default(),
        });
        let numbers = Arc::new(Numbers::new(self.tree, &planned));
        let recruits = Recruits::new(
            self.node,
            self.version,
            Arc::clone(&numbers),
            self.peers.capabilities.clone(),
            self.events.clone(),
            !self.request.no_lan,
        );
        let sessions = self.peers.sessions.iter().cloned();
        recruits
            .enlist(sessions.zip(self.peers.providers.iter().cloned()))
            .await;
        let mut sent: HashMap<EndpointId, u64> = HashMap::new();
        let mut rest = planned;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(FILES_AT_A_TIME));
            let (held, fetched) = self.batch(rest, &recruits, &numbers, &meter).await?;
            done.held += held;
            for fetched in fetched {
                done.fetched += fetched.bytes;
                for peer in fetched.peers.iter().filter(|peer| peer.bytes > 0) {
                    *sent.entry(peer.peer).or_default() += peer.bytes;
                }
            }
            rest = later;
        }
        done.providers = u32::try_from(sent.len()).unwrap_or(u32::MAX);
        recruits.learn(&sent).await?;
        Ok(done)
    }

    /// How what comes is passed on to others, once the network is up.
    fn passing(&self, numbers: &Arc<Numbers>) -> Option<Passing> {
        let network = self.node.network_if_up()?;
        Some(Passing {
            receiving: network.receiving().clone(),
            hub: network.hub().clone(),
            version: self.version,
            numbers: Arc::clone(numbers),
        })
    }

    async fn batch(
        &self,
        planned: Vec<Planned>,
        recruits: &Recruits,
        numbers: &Arc<Numbers>,
        meter: &Arc<Meter>,
    ) -> Result<(u64, Vec<Fetched>), Failure> {
        let size = planned.iter().map(|file| file.len).sum();
        let (links, files): (Vec<_>, Vec<_>) = planned
            .into_iter()
            .partition(|file| self.folder.is_some() && file.mode == Mode::Link);
        for link in links {
            self.link(link, &recruits.peers()).await?;
        }
        let folder = self.folder.map(PathBuf::from);
        let force = self.request.force;
        let seen = Arc::clone(meter);
        let packs = Packs::new(self.node.store());
        let shared = Arc::clone(&packs);
        let passing = self.passing(numbers);
        let open = self
            .node
            .blocking(move |node| {
                let mut open = Vec::new();
                for file in files {
                    if seen.events.is_cancelled() {
                        return Err(Failure::cancelled());
                    }
                    let mut file = Open::begin(node, folder.as_deref(), file, force, &shared)?;
                    seen.open(&file.download);
                    if let Some(passing) = passing.as_ref().filter(|_| file.missing > 0) {
                        file.pass_on(passing);
                    }
                    open.push(file);
                }
                Ok(Arc::new(open))
            })
            .await?;
        let held = open.iter().map(Open::held).sum();
        let fetched = self.fetch(&open, recruits, meter).await?;
        self.node
            .blocking(move |_| {
                for file in open.iter() {
                    file.download.finish()?;
                }
                packs.seal()?;
                let passed = open.iter().filter_map(|file| file.passed.as_ref());
                passed.for_each(|file| file.finished());
                Ok(())
            })
            .await?;
        meter.settle(size);
        Ok((held, fetched))
    }

    /// Fetches what is missing of open files, in rounds: a cut by columns has a range a row.
    async fn fetch(
        &self,
        open: &Arc<Vec<Open>>,
        recruits: &Recruits,
        meter: &Arc<Meter>,
    ) -> Result<Vec<Fetched>, Failure> {
        let mut rounds = Vec::new();
        let mut before = u64::MAX;
        loop {
            let files = Arc::clone(open);
            let (wants, missing) = self
                .node
                .blocking(move |_| {
                    let missing = files.iter().map(|file| file.download.missing_bytes()).sum();
                    Ok((wants(&files, RANGES_AT_A_TIME), missing))
                })
                .await?;
            // what a round did not bring, the end of the download names
            if wants.is_empty() || missing >= before {
                return Ok(rounds);
            }
            before = missing;
            let (providers, newcomers, _forward) = recruits.join();
            if providers.is_empty() {
                return Err(no_peer(format!(
                    "{missing} bytes are not here, and no peer could be asked for them"
                )));
            }
            let mut options = self.node.fetch_options();
            options.rate = self.request.max_rate;
            options.patience = PATIENCE;
            options.paused = Some(self.events.paused());
            if let Some(network) = self.node.network_if_up() {
                options.lanes = Some(network.lanes().clone());
                options.shared_rate = network.download_rate().cloned();
            }
            let progress: Arc<dyn Progress> = Arc::clone(meter) as Arc<dyn Progress>;
            let round = fetch_from(wants, providers, newcomers, options, progress).await;
            rounds.push(round.map_err(failure)?);
        }
    }

    /// Writes a link: its target is its only chunk, which the home keeps, since no file holds it.
    async fn link(&self, file: Planned, providers: &[Peer]) -> Result<(), Failure> {
        let Some(hash) = file.list.hashes.first().copied() else {
            return Ok(());
        };
        let held = self
            .node
            .blocking(move |node| match node.store().chunk(&hash)? {
                Some(chunk) => Ok(Some(chunk.read(0..chunk.len())?)),
                None => Ok(None),
            })
            .await?;
        let target = match held {
            Some(target) => target,
            None => {
                let limit = lode_store::limits::LINK_BYTES_MAX;
                let options = self.node.fetch_options();
                let mut found = fetch_documents(providers, &[hash], limit, &options)
                    .await
                    .map_err(|error| no_peer(error.to_string()))?;
                let target = found.pop().unwrap_or_default();
                let chunk = target.clone();
                self.node
                    .blocking(move |node| {
                        let mut pack = node.store().pack_writer();
                        pack.add(hash, &chunk, &[])?;
                        pack.seal()?;
                        Ok(())
                    })
                    .await?;
                target
            }
        };
        let folder = self.folder.map(PathBuf::from).unwrap_or_default();
        let force = self.request.force;
        self.node
            .blocking(move |node| {
                write_link(node.store(), &folder, &file.path, &target, force)?;
                Ok(())
            })
            .await
    }
}

/// Passes on what a pull receives.
struct Passing {
    receiving: Receiving,
    hub: Hub,
    version: VersionId,
    numbers: Arc<Numbers>,
}

/// A file that is being received.
struct Open {
    download: Arc<Download>,
    seq: ChunkHash,
    list: Arc<ChunkList>,
    /// Whether all of it is, and not parts.
    whole: bool,
    /// Bytes that are missing at first.
    missing: u64,
    /// Passes on what comes.
    passed: Option<Arc<PassOn>>,
}

impl Open {
    /// Opens a download with all that is here already in it.
    fn begin(
        node: &Node,
        folder: Option<&Path>,
        file: Planned,
        force: bool,
        packs: &Arc<Packs>,
    ) -> Result<Self, Failure> {
        let target = match folder {
            Some(folder) => Target::File {
                root: folder.to_owned(),
                path: file.path.clone(),
            },
            None => Target::Store,
        };
        let layout = match folder {
            Some(_) => file.layout,
            None => plan::whole_chunks(&file),
        };
        let options = Options {
            force,
            exec: file.mode == Mode::Exec,
            packs: Some(Arc::clone(packs)),
        };
        let download = Download::begin(
            node.store(),
            Arc::clone(&file.list),
            &layout,
            &target,
            &options,
        )?;
        download.fill_local()?;
        Ok(Self {
            whole: layout == Layout::whole(&file.list),
            missing: download.missing_bytes(),
            download: Arc::new(download),
            seq: file.seq,
            list: file.list,
            passed: None,
        })
    }

    /// Bytes that were here.
    fn held(&self) -> u64 {
        self.download.wanted_bytes() - self.missing
    }

    /// Passes on what comes of a whole file; parts of chunks prove nothing to others.
    fn pass_on(&mut self, passing: &Passing) {
        let first = passing.numbers.first_of(&self.list);
        self.passed = self.whole.then(|| {
            Arc::new(PassOn::new(
                &passing.receiving,
                passing.hub.clone(),
                passing.version,
                (self.seq, first),
                Arc::clone(&self.list),
                &self.download,
            ))
        });
    }

    /// Where verified bytes go.
    fn sink(&self) -> Arc<dyn PieceSink> {
        match &self.passed {
            Some(passed) => Arc::clone(passed) as Arc<dyn PieceSink>,
            None => Arc::clone(&self.download) as Arc<dyn PieceSink>,
        }
    }
}

/// What is missing of files, as far as it is about `ranges`.
fn wants(files: &[Open], ranges: usize) -> Vec<Want> {
    let (mut wants, mut left) = (Vec::new(), ranges);
    for file in files {
        if left == 0 {
            break;
        }
        let missing = file.download.missing_some(left);
        left = left.saturating_sub(missing.len());
        if !missing.is_empty() {
            wants.push(Want {
                seq: file.seq,
                list: Arc::clone(&file.list),
                ranges: missing,
                sink: file.sink(),
                // Others gather what this node gathers, and have nothing of it to give before their end.
                passed_on: !file.download.is_gathered(),
            });
        }
    }
    wants
}

/// Bytes that are held and that are missing, for a dry run.
fn estimate(node: &Node, planned: &[Planned]) -> Result<(u64, u64), Failure> {
    let (mut held, mut missing) = (0, 0);
    for file in planned {
        for (chunk, bytes) in &file.parts {
            if node.store().holds(&file.list.hashes[*chunk as usize])? {
                held += bytes;
            } else {
                missing += bytes;
            }
        }
    }
    Ok((held, missing))
}

fn failure(error: FetchError) -> Failure {
    match error {
        FetchError::NoPeerHasIt { .. } | FetchError::AllPeersFailed { .. } => no_peer(error.to_string()),
        FetchError::Sink(_) => Failure::failed(crate::failure::chain(&error))
            .advise("free some room or check the folder, then run the same command again: it goes on from here"),
        other => Failure::new(FailureKind::Corrupt, other.to_string()),
    }
}

/// Adds up what is there: of what is asked for, which may be less than what comes.
struct Meter {
    events: EventSink,
    /// Bytes of files that are done.
    settled: AtomicU64,
    /// Files that are being received.
    open: Mutex<Vec<Arc<Download>>>,
    total: u64,
    traffic: Option<Traffic>,
    senders: Mutex<HashSet<EndpointId>>,
}

impl Meter {
    fn open(&self, download: &Arc<Download>) {
        lock(&self.open).push(Arc::clone(download));
        self.show();
    }

    /// All open files are done: `bytes` of them.
    fn settle(&self, bytes: u64) {
        lock(&self.open).clear();
        self.settled.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    fn show(&self) {
        let open: u64 = lock(&self.open).iter().map(|file| file.done_bytes()).sum();
        let done = self.settled.load(Ordering::Relaxed) + open;
        let peers = u32::try_from(lock(&self.senders).len()).unwrap_or(u32::MAX);
        self.events
            .progress("pull", done.min(self.total), self.total, peers);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress for Meter {
    fn received(&self, peer: EndpointId, bytes: u64) {
        lock(&self.senders).insert(peer);
        if let Some(traffic) = &self.traffic {
            traffic.of(peer).add_received(bytes);
        }
        self.show();
    }

    fn dropped(&self, peer: EndpointId, reason: &Reason) {
        if let Some(traffic) = &self.traffic {
            traffic.of(peer).set_dropped(reason.to_string());
        }
        self.events.warn(format!(
            "{} is not asked any more: {reason}",
            peer.fmt_short()
        ));
    }
}
