//! One file on its way from another hub or from peers: bytes that are not checked yet.
//!
//! Invariant: such bytes lie outside the store, in a part file that only this knows, and go to readers who asked
//! for this file through this node. No reader gets the last [`HELD_BACK_BYTES`] before the hash of the whole
//! holds, so nobody takes a wrong file for a whole one. However many want it, it is fetched once.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use iroh::EndpointId;
use lode_store::{sync::message::PeerAddr, tree};
use lode_tensors::ByteRange;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    limits::{HELD_BACK_BYTES, INTEREST, PEERS_ASKED_MAX},
    listing::{Digest, FileAt},
};
use crate::command::Failure;

/// The name of the part file in its folder; the store takes files of a folder.
const PART: &str = "0";

/// Bytes that are hashed at a time when a part file is taken up again.
const READ_BYTES: usize = 1 << 20;

/// How far a file has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Bytes from the start that are in the part file.
    pub(super) written: u64,
    /// Whether the hash of all of them holds.
    pub(super) verified: bool,
    /// How it ended: the file in the store, or why it is not.
    pub(super) end: Option<Result<tree::File, Failure>>,
}

/// One file on its way.
#[derive(Debug)]
pub struct Spool {
    file: FileAt,
    folder: PathBuf,
    part: File,
    progress: watch::Sender<Progress>,
    users: AtomicUsize,
    /// Reads that wait for bytes now.
    reading: AtomicUsize,
    /// Whether it goes on without users.
    detached: AtomicBool,
    pub(super) cancel: CancellationToken,
    /// Held while bytes are written.
    writing: Mutex<()>,
    claim: Mutex<Claim>,
}

/// Who fetches the file from the hub.
#[derive(Debug, Default)]
struct Claim {
    /// Whether this node does.
    own: bool,
    /// Other nodes that want the file too, as they said lately.
    interested: Vec<(PeerAddr, Instant)>,
}

/// What a node says of a file that it is bringing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It wants it.
    Wanted,
    /// It receives it from the hub, and has so many bytes.
    Fetching(u64),
}

/// A spool in use: the last one to let go of it stops it, unless it goes on by itself.
#[derive(Debug)]
pub struct Using(Arc<Spool>);

impl Using {
    pub(super) fn new(spool: Arc<Spool>) -> Self {
        spool.users.fetch_add(1, Ordering::AcqRel);
        Self(spool)
    }
}

impl Using {
    /// The spool, for reading.
    pub(super) fn shared(&self) -> &Arc<Spool> {
        &self.0
    }
}

impl Clone for Using {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl std::ops::Deref for Using {
    type Target = Spool;

    fn deref(&self) -> &Spool {
        &self.0
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let last = self.0.users.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && !self.0.detached.load(Ordering::Acquire) {
            self.0.cancel.cancel();
        }
    }
}

/// The hash of what has come so far.
pub(super) enum Hasher {
    Sha256(Box<Sha256>),
    Git(Box<Sha1>),
}

impl Hasher {
    fn new(file: &FileAt) -> Self {
        match file.digest {
            Digest::Sha256(_) => Self::Sha256(Box::default()),
            Digest::Git(_) => Self::Git(Box::new(Sha1::new_with_prefix(format!(
                "blob {}\0",
                file.size
            )))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Git(hasher) => Digest::Git(hasher.finalize().into()),
        }
    }
}

impl Spool {
    /// Opens the part file of `file` in `folder`, which is made; what an earlier run left of it is taken up.
    ///
    /// # Errors
    /// The folder or the file cannot be made or read.
    pub(super) fn open(file: FileAt, folder: PathBuf) -> io::Result<(Self, Hasher)> {
        fs::create_dir_all(&folder)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let part = options.open(folder.join(PART))?;
        let mut hasher = Hasher::new(&file);
        let length = part.metadata()?.len();
        if length > file.size {
            part.set_len(0)?;
        }
        let left = if length > file.size { 0 } else { length };
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        while at < left {
            let most = usize::try_from(left - at)
                .unwrap_or(READ_BYTES)
                .min(READ_BYTES);
            part.read_exact_at(&mut buffer[..most], at)?;
            hasher.update(&buffer[..most]);
            at += most as u64;
        }
        let progress = Progress {
            written: left,
            ..Progress::default()
        };
        let spool = Self {
            file,
            folder,
            part,
            progress: watch::Sender::new(progress),
            users: AtomicUsize::new(0),
            reading: AtomicUsize::new(0),
            detached: AtomicBool::new(false),
            cancel: CancellationToken::new(),
            writing: Mutex::default(),
            claim: Mutex::default(),
        };
        Ok((spool, hasher))
    }

    /// What is fetched.
    pub fn file(&self) -> &FileAt {
        &self.file
    }

    /// Lets it go on when nobody waits for it any more.
    pub fn detach(&self) {
        self.detached.store(true, Ordering::Release);
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    pub(super) fn written(&self) -> u64 {
        self.progress.borrow().written
    }

    /// Appends bytes. Blocks.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn append(&self, hasher: &mut Hasher, bytes: &[u8]) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let at = self.written();
        self.part.write_all_at(bytes, at)?;
        hasher.update(bytes);
        self.progress
            .send_modify(|progress| progress.written += bytes.len() as u64);
        Ok(())
    }

    /// Waits until no write is under way, after it was cancelled: then there will be none. Blocks.
    pub(super) fn settle(&self) {
        drop(self.writing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the hash of all bytes is that of the hub. Lets readers have the end if it is.
    pub(super) fn verify(&self, hasher: Hasher) -> Result<(), String> {
        let found = hasher.finish();
        if found != self.file.digest {
            return Err(format!(
                "its bytes hash to {found}, and not to {}",
                self.file.digest
            ));
        }
        self.progress
            .send_modify(|progress| progress.verified = true);
        Ok(())
    }

    /// Says how it ended.
    pub(super) fn end(&self, end: Result<tree::File, Failure>) {
        self.progress
            .send_modify(|progress| progress.end = Some(end));
    }

    /// Waits until the file is in the store.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn stored(&self) -> Result<tree::File, Failure> {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|progress| progress.end.is_some()).await;
        match ended.map(|progress| progress.end.clone()) {
            Ok(Some(end)) => end,
            _ => Err(Failure::cancelled()),
        }
    }

    /// Whether readers can have the start of a range soon: it has come, or is next.
    pub fn is_near(&self, at: u64, ahead: u64) -> bool {
        at <= self.written().saturating_add(ahead)
    }

    /// The first bytes of `range`, as soon as there are some.
    ///
    /// # Errors
    /// The file did not come, or turned out wrong: whoever reads must be cut off.
    pub async fn read(self: &Arc<Self>, range: ByteRange) -> Result<Bytes, Failure> {
        let mut progress = self.progress.subscribe();
        let free = |progress: &Progress| {
            let held_back = if progress.verified {
                0
            } else {
                HELD_BACK_BYTES
            };
            let end = progress
                .written
                .min(self.file.size.saturating_sub(held_back));
            end.min(range.end)
        };
        let waiting = Reading::new(&self.reading);
        let now = progress
            .wait_for(|progress| free(progress) > range.start || failed(progress).is_some())
            .await
            .map(|progress| progress.clone())
            .map_err(|_| Failure::cancelled())?;
        drop(waiting);
        if let Some(failure) = failed(&now) {
            return Err(failure);
        }
        let this = Arc::clone(self);
        let (start, end) = (range.start, free(&now));
        let read = tokio::task::spawn_blocking(move || {
            let length = usize::try_from(end - start).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            this.part.read_exact_at(&mut bytes, start)?;
            Ok::<_, io::Error>(Bytes::from(bytes))
        });
        let bytes = read
            .await
            .map_err(|error| Failure::failed(error.to_string()))?;
        bytes.map_err(|error| {
            Failure::failed(format!("{:?} cannot be read: {error}", self.file.path))
        })
    }

    /// Whether somebody waits for bytes now.
    pub(super) fn is_read(&self) -> bool {
        self.reading.load(Ordering::Acquire) > 0
    }

    fn claim(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a peer wants the file too, and says how far this node is with it.
    pub(crate) fn asked_by(&self, peer: PeerAddr) -> Stage {
        let mut claim = self.claim();
        claim
            .interested
            .retain(|(known, at)| known.id != peer.id && at.elapsed() < INTEREST);
        if claim.interested.len() < PEERS_ASKED_MAX {
            claim.interested.push((peer, Instant::now()));
        }
        match claim.own {
            true => Stage::Fetching(self.written()),
            false => Stage::Wanted,
        }
    }

    /// The peers that want the file too.
    pub(crate) fn interested(&self) -> Vec<PeerAddr> {
        let mut claim = self.claim();
        claim.interested.retain(|(_, at)| at.elapsed() < INTEREST);
        claim
            .interested
            .iter()
            .map(|(peer, _)| peer.clone())
            .collect()
    }

    /// Takes it on this node to fetch the file from the hub, unless one of those who want it too, by `heard` or
    /// since, comes first; gives how many do. Whoever asked before this was told that it is wanted here, and
    /// whoever asks after it is told that it is fetched: of two that want a file, one fetches it.
    pub(super) fn take(&self, own: &EndpointId, heard: &[[u8; 32]]) -> Result<(), usize> {
        let mut claim = self.claim();
        claim.interested.retain(|(_, at)| at.elapsed() < INTEREST);
        let rank = |id: &[u8; 32]| rank(id, &self.file.digest);
        let mine = rank(own.as_bytes());
        let mut others: Vec<&[u8; 32]> =
            claim.interested.iter().map(|(peer, _)| &peer.id).collect();
        others.extend(heard);
        others.sort_unstable();
        others.dedup();
        let first = others.into_iter().filter(|id| rank(id) > mine).count();
        if first == 0 {
            claim.own = true;
            return Ok(());
        }
        Err(first)
    }

    /// Takes it on this node whoever wants it too.
    pub(super) fn take_anyway(&self) {
        self.claim().own = true;
    }
}

/// Counts a read as long as it waits.
struct Reading<'a>(&'a AtomicUsize);

impl<'a> Reading<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn failed(progress: &Progress) -> Option<Failure> {
    progress
        .end
        .as_ref()
        .and_then(|end| end.as_ref().err())
        .cloned()
}

/// Who of several nodes fetches a file: the one with the highest (rendezvous hashing), the same for all who ask.
fn rank(node: &[u8; 32], digest: &Digest) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(node).update(digest.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use iroh::SecretKey;

    use super::*;

    fn file(bytes: &[u8]) -> FileAt {
        FileAt {
            path: "a".to_owned(),
            size: bytes.len() as u64,
            digest: Digest::Sha256(Sha256::digest(bytes).into()),
        }
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    #[tokio::test]
    async fn the_end_of_a_file_is_held_back_until_its_hash_holds() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = vec![7; 3 * HELD_BACK_BYTES as usize];
        let (spool, mut hasher) = Spool::open(file(&bytes), folder.path().join("a")).unwrap();
        let spool = Arc::new(spool);
        spool.append(&mut hasher, &bytes).unwrap();
        let size = bytes.len() as u64;
        let read = spool.read(range(0, size)).await.unwrap();
        assert_eq!(read.len() as u64, size - HELD_BACK_BYTES);
        let rest = range(size - HELD_BACK_BYTES, size);
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), spool.read(rest));
        assert!(early.await.is_err());
        spool.verify(hasher).unwrap();
        assert_eq!(
            spool.read(rest).await.unwrap().len() as u64,
            HELD_BACK_BYTES
        );
    }

    #[tokio::test]
    async fn readers_of_wrong_bytes_are_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = vec![7; 2 * HELD_BACK_BYTES as usize];
        let (spool, mut hasher) = Spool::open(file(&bytes), folder.path().join("a")).unwrap();
        let spool = Arc::new(spool);
        let mut wrong = bytes.clone();
        wrong[5] = 8;
        spool.append(&mut hasher, &wrong).unwrap();
        let why = spool.verify(hasher).unwrap_err();
        spool.end(Err(Failure::failed(why)));
        assert!(spool.read(range(0, 10)).await.is_err());
        assert!(spool.stored().await.is_err());
    }

    #[test]
    fn what_an_earlier_run_left_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = b"what a great file".repeat(100_000);
        let part = folder.path().join("a");
        let (spool, mut hasher) = Spool::open(file(&bytes), part.clone()).unwrap();
        spool.append(&mut hasher, &bytes[..1_234_567]).unwrap();
        drop((spool, hasher));
        let (spool, mut hasher) = Spool::open(file(&bytes), part.clone()).unwrap();
        assert_eq!(spool.written(), 1_234_567);
        spool.append(&mut hasher, &bytes[1_234_567..]).unwrap();
        assert!(spool.verify(hasher).is_ok());
        // More than the file has is of something else.
        let (spool, _) = Spool::open(file(&bytes[1..]), part).unwrap();
        assert_eq!(spool.written(), 0);
    }

    #[test]
    fn of_two_nodes_that_want_a_file_one_fetches_it_whatever_the_order() {
        let ids = [1, 2].map(|seed| SecretKey::from_bytes(&[seed; 32]).public());
        let addr = |id: &EndpointId| PeerAddr {
            id: *id.as_bytes(),
            ip: Vec::new(),
            relay: Vec::new(),
        };
        // Each asks the other and then decides: all orders of the four steps in which asking comes first.
        for order in [
            [0, 1, 2, 3],
            [0, 2, 1, 3],
            [0, 2, 3, 1],
            [2, 3, 0, 1],
            [2, 0, 3, 1],
            [2, 0, 1, 3],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let spools = [0, 1].map(|at| {
                Spool::open(file(b"bytes"), folder.path().join(at.to_string()))
                    .unwrap()
                    .0
            });
            let mut heard = [Stage::Wanted; 2];
            let mut fetches = [false; 2];
            for step in order {
                let (me, other) = (step / 2, 1 - step / 2);
                if step % 2 == 0 {
                    heard[me] = spools[other].asked_by(addr(&ids[me]));
                } else if heard[me] == Stage::Wanted {
                    let wanted = [*ids[other].as_bytes()];
                    fetches[me] = spools[me].take(&ids[me], &wanted).is_ok();
                }
            }
            assert_eq!(
                fetches.iter().filter(|fetches| **fetches).count(),
                1,
                "{order:?}"
            );
        }
    }

    #[test]
    fn a_bounded_number_of_interested_peers_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(file(b"bytes"), folder.path().join("a")).unwrap();
        for at in 0..=PEERS_ASKED_MAX {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(at as u64).to_le_bytes());
            spool.asked_by(PeerAddr {
                id,
                ip: Vec::new(),
                relay: Vec::new(),
            });
        }
        assert_eq!(spool.interested().len(), PEERS_ASKED_MAX);
    }

    #[test]
    fn whoever_lets_go_last_stops_what_does_not_go_on_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            |name: &str| Arc::new(Spool::open(file(b"x"), folder.path().join(name)).unwrap().0);
        let spool = open("a");
        let first = Using::new(Arc::clone(&spool));
        let second = first.clone();
        drop(first);
        assert!(!spool.cancel.is_cancelled());
        drop(second);
        assert!(spool.cancel.is_cancelled());
        let spool = open("b");
        let using = Using::new(Arc::clone(&spool));
        using.detach();
        drop(using);
        assert!(!spool.cancel.is_cancelled());
    }
}
