//! The bytes of a pull: what is held is copied or named, the rest comes from all peers at once.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use iroh::EndpointId;
use lode_store::{
    VersionId,
    download::{Download, Options, Packs, Target, write_link},
    sync::{
        grants::Traffic,
        hub::Hub,
        receiver::{
            FetchError, FetchOptions, Fetched, Peer, Progress, Reason, Want, fetch_documents,
            fetch_from,
        },
    },
    tree::{Mode, Tree},
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
            done: AtomicU64::new(0),
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
        );
        let sessions = self.peers.sessions.iter().cloned();
        recruits
            .enlist(sessions.zip(self.peers.providers.iter().cloned()))
            .await;
        let mut senders = HashSet::new();
        let mut rest = planned;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(FILES_AT_A_TIME));
            let (held, fetched) = self.batch(rest, &recruits, &numbers, &meter).await?;
            done.held += held;
            if let Some(fetched) = fetched {
                done.fetched += fetched.bytes;
                let sent = fetched.peers.iter().filter(|peer| peer.bytes > 0);
                senders.extend(sent.map(|peer| peer.peer));
            }
            rest = later;
        }
        done.providers = u32::try_from(senders.len()).unwrap_or(u32::MAX);
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
    ) -> Result<(u64, Option<Fetched>), Failure> {
        let (links, files): (Vec<_>, Vec<_>) = planned
            .into_iter()
            .partition(|file| self.folder.is_some() && file.file.mode == Mode::Link);
        for link in links {
            self.link(link, &recruits.peers()).await?;
        }
        let folder = self.folder.map(PathBuf::from);
        let force = self.request.force;
        let seen = Arc::clone(meter);
        let packs = Packs::new(self.node.store());
        let shared = Arc::clone(&packs);
        let passing = self.passing(numbers);
        let (downloads, passed, wants) = self
            .node
            .blocking(move |node| {
                let (mut downloads, mut passed, mut wants) = (Vec::new(), Vec::new(), Vec::new());
                for file in files {
                    if seen.events.is_cancelled() {
                        return Err(Failure::cancelled());
                    }
                    let (download, mut want) =
                        begin(node, folder.as_deref(), file, force, &shared)?;
                    let missing: u64 = want
                        .ranges
                        .iter()
                        .map(|(_, range)| range.len() as u64)
                        .sum();
                    seen.add(download.wanted_bytes().saturating_sub(missing));
                    if missing > 0 {
                        if let Some(passing) = &passing {
                            let pass_on = Arc::new(passing.of(&want, &download));
                            passed.push(Arc::clone(&pass_on));
                            want.sink = pass_on;
                        }
                        wants.push(want);
                    }
                    downloads.push((download, missing));
                }
                Ok((downloads, passed, wants))
            })
            .await?;
        let held = downloads
            .iter()
            .map(|(download, missing)| download.wanted_bytes().saturating_sub(*missing))
            .sum();
        let mut fetched = None;
        if !wants.is_empty() {
            let (providers, newcomers, _forward) = recruits.join();
            if providers.is_empty() {
                let missing: u64 = downloads.iter().map(|(_, missing)| missing).sum();
                return Err(no_peer(format!(
                    "{missing} bytes are not here, and no peer could be asked for them"
                )));
            }
            let mut options = FetchOptions::default();
            options.rate = self.request.max_rate;
            options.patience = PATIENCE;
            if let Some(network) = self.node.network_if_up() {
                options.lanes = Some(network.lanes().clone());
                options.shared_rate = network.download_rate().cloned();
            }
            let progress: Arc<dyn Progress> = Arc::clone(meter) as Arc<dyn Progress>;
            fetched = Some(
                fetch_from(wants, providers, newcomers, options, progress)
                    .await
                    .map_err(failure)?,
            );
        }
        self.node
            .blocking(move |_| {
                for (download, _) in downloads {
                    download.finish()?;
                }
                packs.seal()?;
                passed.iter().for_each(|file| file.finished());
                Ok(())
            })
            .await?;
        Ok((held, fetched))
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
                let mut found =
                    fetch_documents(providers, &[hash], limit, &FetchOptions::default())
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

impl Passing {
    fn of(&self, want: &Want, download: &Arc<Download>) -> PassOn {
        let first = self.numbers.first_of(&want.list);
        PassOn::new(
            &self.receiving,
            self.hub.clone(),
            self.version,
            (want.seq, first),
            Arc::clone(&want.list),
            download,
        )
    }
}

/// Opens a download with all that is here already in it, and says what is missing.
fn begin(
    node: &Node,
    folder: Option<&Path>,
    file: Planned,
    force: bool,
    packs: &Arc<Packs>,
) -> Result<(Arc<Download>, Want), Failure> {
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
        exec: file.file.mode == Mode::Exec,
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
    let download = Arc::new(download);
    let want = Want {
        seq: file.file.chunks.seq,
        list: file.list,
        ranges: download.missing(),
        sink: Arc::clone(&download) as Arc<dyn lode_store::piece::PieceSink>,
    };
    Ok((download, want))
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

/// Adds up what is there.
struct Meter {
    events: EventSink,
    done: AtomicU64,
    total: u64,
    traffic: Option<Traffic>,
    senders: Mutex<HashSet<EndpointId>>,
}

impl Meter {
    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let peers = self
            .senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        let peers = u32::try_from(peers).unwrap_or(u32::MAX);
        self.events
            .progress("pull", done.min(self.total), self.total, peers);
    }
}

impl Progress for Meter {
    fn received(&self, peer: EndpointId, bytes: u64) {
        self.senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(peer);
        if let Some(traffic) = &self.traffic {
            traffic.of(peer).add_received(bytes);
        }
        self.add(bytes);
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
