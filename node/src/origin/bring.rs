//! Commits of another hub, and how their files are brought here: from peers that have them, else from the hub.
//!
//! A file is written to a [`Spool`], checked, and taken into the store as a version of its own, so that the
//! collector keeps it and peers may have it. When the last file of a commit is here, the commit becomes an origin
//! version, and those of single files go.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use lode_store::{
    PublisherId, VersionId,
    import::{ImportOptions, import},
    local::{self, Keep},
    log::Record,
    manifest::VersionBytes,
    tree,
};
use lode_tensors::ByteRange;
use tokio::time::timeout;

use super::{
    client::{Client, pause},
    document::{self, Repository},
    error::OriginError,
    limits::{BARREN_TRIES_MAX, DISTRUSTED_MAX},
    listing::{Digest, FileAt, Info, Listing},
    origins::State,
    peers::{self, Next},
    read::Passed,
    record,
    spool::{Hasher, Spool, Using},
};
use crate::{Node, command::Failure, resolve, upload::Quiet};

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// How long bytes wait for more before they are written: readers want them.
const WRITE_AFTER: Duration = Duration::from_millis(20);

/// A commit of a model of another hub.
pub struct Origin {
    pub(super) node: Node,
    pub(super) facts: Arc<Facts>,
}

/// What came of the wish to bring a file.
enum Begun {
    /// It has to be run.
    Here(Using, Arc<Spool>, Hasher),
    /// Somebody does already.
    ByOther(Using),
    /// Somebody did.
    Kept,
}

/// What is known of a commit.
pub struct Facts {
    pub(super) client: Client,
    pub(super) repository: Repository,
    pub(super) info: Info,
    pub(super) listing: Listing,
    /// The digests of its files that are here.
    pub(super) here: Mutex<BTreeSet<Digest>>,
    /// Held while the version is made.
    pub(super) finishing: tokio::sync::Mutex<()>,
    pub(super) passed: Passed,
}

impl std::ops::Deref for Origin {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Origin({}@{})",
            self.repository.model(),
            self.info.commit
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Origin {
    /// Which repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Its commit and files.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// What people call the hub.
    pub fn hub(&self) -> String {
        self.client.host()
    }

    /// Whether everyone may read it there.
    pub fn is_public(&self) -> bool {
        self.info.public
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    fn state(&self) -> &State {
        self.node.origin_state()
    }

    fn key(&self, digest: Digest) -> (PublisherId, String, Digest) {
        (
            self.repository.publisher(),
            self.repository.name().to_owned(),
            digest,
        )
    }

    /// The file of the store with this hash, if it is here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn held(&self, digest: Digest) -> Result<Option<(tree::File, VersionId)>, Failure> {
        let repository = self.repository.clone();
        let look = move |node: &Node| Ok(record::file(node.store(), &repository, digest));
        self.node.blocking(look).await
    }

    /// Begins to bring a file, or joins those who wait for it; nothing when it is here.
    ///
    /// # Errors
    /// The home cannot be written.
    pub async fn bring(self: &Arc<Self>, at: usize) -> Result<Option<Using>, Failure> {
        let file = self.listing.files[at].clone();
        let digest = file.digest;
        if self.held(digest).await?.is_some() {
            return Ok(None);
        }
        while let Some(spool) = self.running(digest) {
            if !spool.cancel.is_cancelled() {
                return Ok(Some(Using::new(spool)));
            }
            // One that was let go of may still write to the part file.
            spool.stored().await.ok();
        }
        let this = Arc::clone(self);
        let begin = self.node.blocking(move |node| this.begin(node, file));
        match begin.await? {
            Begun::Kept => Ok(None),
            Begun::ByOther(using) => Ok(Some(using)),
            Begun::Here(using, spool, hasher) => {
                let this = Arc::clone(self);
                tokio::spawn(async move { this.run(spool, hasher).await });
                Ok(Some(using))
            }
        }
    }

    /// Puts a file among those that are being brought, unless somebody was faster.
    fn begin(&self, node: &Node, file: FileAt) -> Result<Begun, Failure> {
        let (digest, folder) = (file.digest, self.part_folder(file.digest));
        let opened = Spool::open(file, folder.clone());
        let (spool, hasher) =
            opened.map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
        let spool = Arc::new(spool);
        let mut spools = lock(&self.state().spools);
        if let Some(other) = spools.get(&self.key(digest)) {
            // Both opened the same part file, and nothing was written yet.
            return Ok(Begun::ByOther(Using::new(Arc::clone(other))));
        }
        // A file is recorded first, and not being brought any more after.
        if record::file(node.store(), &self.repository, digest).is_some() {
            fs::remove_dir_all(spool.folder()).ok();
            return Ok(Begun::Kept);
        }
        spools.insert(self.key(digest), Arc::clone(&spool));
        Ok(Begun::Here(Using::new(Arc::clone(&spool)), spool, hasher))
    }

    pub(super) fn running(&self, digest: Digest) -> Option<Arc<Spool>> {
        lock(&self.state().spools).get(&self.key(digest)).cloned()
    }

    fn part_folder(&self, digest: Digest) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.repository.publisher().as_bytes());
        hasher
            .update(self.repository.name().as_bytes())
            .update(digest.as_bytes());
        self.state().folder.join(&hasher.finalize().to_hex()[..32])
    }

    /// Brings a file to its end. Until all of it has come, it may be stopped.
    async fn run(self: Arc<Self>, spool: Arc<Spool>, hasher: Hasher) {
        let received = tokio::select! {
            received = Box::pin(self.receive(&spool, hasher)) => received,
            () = spool.cancel.cancelled() => Err(Failure::cancelled()),
        };
        let brought = match received {
            Ok((hasher, mixed)) => self.keep(&spool, hasher, mixed).await,
            Err(failure) => {
                // A write that is under way must not go on beside the next attempt.
                let (stopped, end) = (Arc::clone(&spool), failure.clone());
                spool.cancel.cancel();
                let settled = move |_: &Node| {
                    stopped.settle();
                    Ok(())
                };
                self.node.blocking(settled).await.and(Err(end))
            }
        };
        lock(&self.state().spools).remove(&self.key(spool.file().digest));
        if brought.is_ok() {
            self.state().files.fetch_add(1, Ordering::Relaxed);
            lock(&self.here).insert(spool.file().digest);
            if let Err(failure) = self.finish().await {
                tracing::warn!(%failure, commit = %self.info.commit, "a commit of another hub does not become a version");
            }
        }
        spool.end(brought);
    }

    /// Receives what is missing of a file, from peers or from the hub; whether all came from the hub, and now.
    async fn receive(
        self: &Arc<Self>,
        spool: &Arc<Spool>,
        mut hasher: Hasher,
    ) -> Result<(Hasher, bool), Failure> {
        let distrusted = lock(&self.state().distrusted).contains(&spool.file().digest);
        let mut waiting = peers::Waiting::new(distrusted);
        let taken_up = spool.written() > 0;
        while spool.written() < spool.file().size {
            match peers::next(self, spool, &mut waiting).await {
                Next::Hub => hasher = self.receive_from_hub(spool, hasher).await?,
                Next::Peers(held) => {
                    hasher = peers::take(self, spool, hasher, &mut waiting, held).await?;
                }
                Next::Wait => hasher = peers::wait(self, spool, hasher, &mut waiting).await?,
            }
        }
        Ok((hasher, taken_up || waiting.has_taken()))
    }

    /// Takes a file that has come into the store, if its hash holds.
    async fn keep(
        self: &Arc<Self>,
        spool: &Arc<Spool>,
        hasher: Hasher,
        mixed: bool,
    ) -> Result<tree::File, Failure> {
        let (checked, this) = (Arc::clone(spool), Arc::clone(self));
        self.node
            .blocking(move |node| {
                if let Err(why) = checked.verify(hasher) {
                    this.state().wrong.fetch_add(1, Ordering::Relaxed);
                    if mixed {
                        this.distrust(checked.file().digest);
                    }
                    fs::remove_dir_all(checked.folder()).ok();
                    return Err(OriginError::Wrong {
                        hub: this.client.host(),
                        path: checked.file().path.clone(),
                        why,
                    }
                    .into());
                }
                this.store(node, &checked)
            })
            .await
    }

    /// Receives what is missing of a file from the hub, through cuts.
    async fn receive_from_hub(
        &self,
        spool: &Arc<Spool>,
        mut hasher: Hasher,
    ) -> Result<Hasher, Failure> {
        let slot = Arc::clone(&self.state().slots).acquire_owned().await;
        let file = spool.file();
        let (mut barren, mut etag) = (0, None);
        loop {
            let before = spool.written();
            if before == file.size {
                drop(slot);
                return Ok(hasher);
            }
            let mut opened = self
                .client
                .open(&self.info, file, (before, None), etag.as_ref())
                .await?;
            etag = opened.etag.take();
            // A hub that knows no ranges, or has other bytes by now, begins anew; the hash of the whole decides.
            let mut skip = before - opened.start;
            let mut buffer = BytesMut::new();
            let why = loop {
                let next = match buffer.is_empty() {
                    true => Ok(opened.next().await),
                    false => timeout(WRITE_AFTER, opened.next()).await,
                };
                let ended = match next {
                    Ok(Ok(Some(part))) => {
                        let skipped = skip.min(part.len() as u64);
                        skip -= skipped;
                        buffer.extend_from_slice(&part[usize::try_from(skipped).unwrap_or(0)..]);
                        if spool.written() + buffer.len() as u64 > file.size {
                            fs::remove_dir_all(spool.folder()).ok();
                            return Err(self.longer(file));
                        }
                        if buffer.len() < WRITE_BYTES {
                            continue;
                        }
                        None
                    }
                    Ok(Ok(None)) => Some("the answer ended early".to_owned()),
                    Ok(Err(error)) => Some(crate::failure::chain(&error)),
                    Err(_) => None,
                };
                hasher = self.append(spool, hasher, buffer.split().freeze()).await?;
                match ended {
                    _ if spool.written() == file.size => break String::new(),
                    Some(why) => break why,
                    None => {}
                }
            };
            barren = if spool.written() > before {
                0
            } else {
                barren + 1
            };
            if spool.written() < file.size {
                if barren == BARREN_TRIES_MAX {
                    return Err(OriginError::Away {
                        hub: self.client.host(),
                        why: format!("{:?}: {why}", file.path),
                    }
                    .into());
                }
                tracing::debug!(
                    path = file.path,
                    why,
                    written = spool.written(),
                    "a file is asked for again"
                );
                tokio::time::sleep(pause(barren + 1)).await;
            }
        }
    }

    /// Takes a file from the hub alone from now on.
    fn distrust(&self, digest: Digest) {
        let mut distrusted = lock(&self.state().distrusted);
        if distrusted.len() >= DISTRUSTED_MAX {
            distrusted.clear();
        }
        distrusted.insert(digest);
    }

    /// Whether a file that turned out wrong may come right when it is brought again: not all of its bytes came from
    /// the hub in one go.
    pub(super) fn may_come_right(&self, digest: Digest) -> bool {
        lock(&self.state().distrusted).contains(&digest)
    }

    fn longer(&self, file: &FileAt) -> Failure {
        self.state().wrong.fetch_add(1, Ordering::Relaxed);
        OriginError::Wrong {
            hub: self.client.host(),
            path: file.path.clone(),
            why: format!("it has more than {} bytes", file.size),
        }
        .into()
    }

    pub(super) async fn append(
        &self,
        spool: &Arc<Spool>,
        mut hasher: Hasher,
        bytes: Bytes,
    ) -> Result<Hasher, Failure> {
        let spool = Arc::clone(spool);
        self.node
            .blocking(move |_| {
                let written = spool.append(&mut hasher, &bytes);
                written.map_err(|error| {
                    Failure::failed(format!("{}: {error}", spool.folder().display()))
                })?;
                Ok(hasher)
            })
            .await
    }

    /// Takes a checked file into the store. Blocks.
    fn store(&self, node: &Node, spool: &Spool) -> Result<tree::File, Failure> {
        let options = ImportOptions {
            adopt: true,
            ..ImportOptions::default()
        };
        let imported = import(node.store(), spool.folder(), &options, &Quiet)?;
        let files = node.reads().tree(imported.tree)?;
        let digest = spool.file().digest;
        let file = files
            .files()
            .first()
            .filter(|file| record::matches(file, digest));
        let file = file.cloned().ok_or_else(|| {
            Failure::failed(format!(
                "{:?} changed while it was stored",
                spool.file().path
            ))
        })?;
        let (version, tree) = self.repository.one_file(file.clone(), digest)?;
        let version = VersionBytes::new(version)?;
        node.store().append(&[
            Record::document(tree.encode()),
            Record::document(version.bytes),
            Record::local_set(&local::keep_key(&version.id), &Keep::now(false).encode())?,
            record::file_record(&self.repository, digest, version.id)?,
        ])?;
        drop(imported.guard);
        if let Err(error) = fs::remove_dir_all(spool.folder()) {
            tracing::warn!(%error, path = %spool.folder().display(), "a part file is left");
        }
        Ok(file)
    }

    /// Takes a file of no bytes into the store: nobody has to be asked for it. Blocks.
    fn store_empty(&self, node: &Node, file: &FileAt) -> Result<(), Failure> {
        let folder = self.part_folder(file.digest);
        let failed =
            |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
        let (spool, hasher) = Spool::open(file.clone(), folder.clone()).map_err(failed)?;
        if let Err(why) = spool.verify(hasher) {
            fs::remove_dir_all(&folder).map_err(failed)?;
            return Err(OriginError::Wrong {
                hub: self.client.host(),
                path: file.path.clone(),
                why,
            }
            .into());
        }
        self.store(node, &spool).map(drop)
    }

    /// Makes the version of the commit, if all of its files are here. Gives it.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn finish(self: &Arc<Self>) -> Result<Option<VersionId>, Failure> {
        let _one = self.finishing.lock().await;
        let this = Arc::clone(self);
        let all = {
            let here = lock(&self.here);
            let mut files = self.listing.files.iter();
            files.all(|file| file.size == 0 || here.contains(&file.digest))
        };
        if !all {
            return Ok(None);
        }
        self.node.blocking(move |node| this.make(node)).await
    }

    fn make(&self, node: &Node) -> Result<Option<VersionId>, Failure> {
        let store = node.store();
        let (publisher, name) = (self.repository.publisher(), self.repository.name());
        if let Some(known) = record::at(store, &publisher, name, self.listing.commit) {
            return Ok(Some(known));
        }
        let _guard = store.protect();
        let (mut files, mut single) = (Vec::new(), BTreeSet::new());
        for wanted in &self.listing.files {
            if wanted.size == 0 && record::file(store, &self.repository, wanted.digest).is_none() {
                self.store_empty(node, wanted)?;
            }
            let Some((file, of)) = record::file(store, &self.repository, wanted.digest) else {
                // It left for room.
                lock(&self.here).remove(&wanted.digest);
                return Ok(None);
            };
            single.insert(of);
            files.push(tree::File {
                path: wanted.path.clone(),
                mode: tree::Mode::File,
                ..file
            });
        }
        let (version, tree) = self.repository.version(&self.listing, files)?;
        let version = VersionBytes::new(version)?;
        let mut records = vec![
            Record::document(tree.encode()),
            Record::document(version.bytes),
            Record::local_set(&local::keep_key(&version.id), &Keep::now(false).encode())?,
            record::commit_record(&self.repository, self.listing.commit, version.id)?,
        ];
        for file in &self.listing.files {
            records.push(record::file_record(
                &self.repository,
                file.digest,
                version.id,
            )?);
        }
        for id in single {
            let document = node.reads().version(id)?;
            if document::commit(&document.doc).is_none() {
                records.push(Record::local_delete(&local::keep_key(&id)));
            }
        }
        store.append(&records)?;
        resolve::is_back(node, &publisher, name)?;
        Ok(Some(version.id))
    }

    /// A range from the hub.
    pub(super) async fn pass(&self, file: &FileAt, range: ByteRange) -> Result<Bytes, Failure> {
        let end = range.end;
        let wanted = usize::try_from(end - range.start).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::new();
        let mut tries = 0;
        while bytes.len() < wanted {
            let start = range.start + bytes.len() as u64;
            let mut opened = self
                .client
                .open(&self.info, file, (start, Some(end)), None)
                .await?;
            if opened.start != start {
                return Err(OriginError::Away {
                    hub: self.client.host(),
                    why: format!("it sends no ranges of {:?}", file.path),
                }
                .into());
            }
            let why = loop {
                match opened.next().await {
                    Ok(Some(part)) => {
                        bytes.extend_from_slice(&part[..part.len().min(wanted - bytes.len())])
                    }
                    Ok(None) => break "the answer ended early".to_owned(),
                    Err(error) => break crate::failure::chain(&error),
                }
                if bytes.len() == wanted {
                    return Ok(bytes.freeze());
                }
            };
            tries += 1;
            if tries == BARREN_TRIES_MAX {
                return Err(OriginError::Away {
                    hub: self.client.host(),
                    why: format!("{:?}: {why}", file.path),
                }
                .into());
            }
            tokio::time::sleep(pause(tries)).await;
        }
        Ok(bytes.freeze())
    }

    /// A few bytes more of a file for readers who wait while another node fetches it.
    pub(super) async fn drip(&self, file: &FileAt, start: u64, end: u64) -> Result<Bytes, Failure> {
        self.pass(file, ByteRange { start, end }).await
    }
}
