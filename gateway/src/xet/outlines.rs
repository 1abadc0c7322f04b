//! The outlines of files that clients read by Xet: made once somebody asks for a file, and kept.
//!
//! `HOME/xet/SHA256` is the outline of the file with this SHA-256 ([`outline`](super::outline)); all of it may be
//! deleted. One that is not what it must be is removed and made again, and so is one whose file left the home. One file is read at
//! a time for it, and whoever asked meanwhile does without.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lode_node::read::{ReadError, Reads};
use lode_store::{recent::Recent, tree};
use lode_tensors::ByteRange;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    hash::XetHash,
    outline::{OUTLINE_HEAD_BYTES, Outline, Outliner},
};
use crate::limits::{
    XET_FILE_BYTES_MAX, XET_MAKING_MAX, XET_MAKING_RETRY, XET_OUTLINES_BYTES_MAX, XET_OUTLINES_MAX,
    XET_SWEEP_EVERY,
};

/// Names a file by its bytes.
type Sha256 = [u8; 32];

/// The outlines of a home.
#[derive(Debug)]
pub(crate) struct Outlines {
    folder: PathBuf,
    names: Mutex<Names>,
    recent: Recent<Sha256, Arc<Outline>>,
    turn: Semaphore,
    stopping: CancellationToken,
}

/// What is known without reading outlines.
#[derive(Debug, Default)]
struct Names {
    hashes: HashMap<Sha256, XetHash>,
    files: HashMap<XetHash, Sha256>,
    /// Files whose outlines are made, or could not be made a moment ago.
    making: HashMap<Sha256, Option<Instant>>,
    swept: Option<Instant>,
}

/// What an outline says never changes.
const ALWAYS: u64 = 0;

/// Why an outline is not made.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the file is not as long as its version says")]
    Length,
    #[error("the node is stopping")]
    Stopping,
}

impl Outlines {
    /// Those that an earlier process left in a folder, which need not be there.
    pub(crate) fn open(folder: PathBuf, stopping: CancellationToken) -> Self {
        let mut names = Names::default();
        if let Err(error) = names.read(&folder) {
            tracing::warn!(%error, "outlines of files are made again");
        }
        Self {
            folder,
            names: Mutex::new(names),
            recent: Recent::new(XET_OUTLINES_BYTES_MAX),
            turn: Semaphore::new(1),
            stopping,
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, sha256: &Sha256) -> PathBuf {
        self.folder.join(data_encoding::HEXLOWER.encode(sha256))
    }

    /// The hash of a file, if it has an outline.
    pub(crate) fn hash_of(&self, sha256: &Sha256) -> Option<XetHash> {
        self.names().hashes.get(sha256).copied()
    }

    /// The file with this hash, if it has an outline.
    pub(super) fn file_of(&self, hash: &XetHash) -> Option<Sha256> {
        self.names().files.get(hash).copied()
    }

    /// Has the outline of a file made, if there is none and all of the file is here. Does not wait for it.
    pub(crate) fn ask(self: &Arc<Self>, reads: &Reads, file: &tree::File) {
        let sha256 = file.sha256;
        let mut names = self.names();
        let recent =
            |since: &Option<Instant>| since.is_none_or(|at| at.elapsed() < XET_MAKING_RETRY);
        names.making.retain(|_, failed| recent(failed));
        if names.hashes.contains_key(&sha256)
            || names.making.contains_key(&sha256)
            || names.making.len() >= XET_MAKING_MAX
            || names.hashes.len() >= XET_OUTLINES_MAX
            || file.size > XET_FILE_BYTES_MAX
        {
            return;
        }
        names.making.insert(sha256, None);
        drop(names);
        let (this, reads, file) = (Arc::clone(self), reads.clone(), file.clone());
        tokio::spawn(async move {
            let _turn = this.turn.acquire().await;
            let maker = Arc::clone(&this);
            let made = tokio::task::spawn_blocking(move || maker.make(&reads, &file)).await;
            let mut names = this.names();
            match made {
                Ok(Ok(hash)) => {
                    names.making.remove(&sha256);
                    names.insert(sha256, hash);
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a file has no outline for Xet");
                    names.making.insert(sha256, Some(Instant::now()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a file has no outline for Xet");
                    names.making.insert(sha256, Some(Instant::now()));
                }
            }
        });
    }

    fn make(&self, reads: &Reads, file: &tree::File) -> Result<XetHash, MakeError> {
        self.sweep(reads);
        let reader = reads.file(file)?;
        let mut rest = ByteRange {
            start: 0,
            end: file.size,
        };
        reader.check_held(rest)?;
        let mut outliner = Outliner::default();
        while rest.start < rest.end {
            if self.stopping.is_cancelled() {
                return Err(MakeError::Stopping);
            }
            let bytes = reader.read(rest)?;
            if bytes.is_empty() {
                return Err(MakeError::Length);
            }
            outliner.push(&bytes);
            rest.start += bytes.len() as u64;
        }
        let outline = outliner.finish().ok_or(MakeError::Length)?;
        fs::create_dir_all(&self.folder)?;
        let path = self.path(&file.sha256);
        let new = path.with_extension("new");
        // What a loss of power tears is told by the seal.
        fs::write(&new, outline.encode())?;
        fs::rename(&new, &path)?;
        let hash = outline.hash();
        let weight = outline.weight();
        self.recent
            .put(file.sha256, Arc::new(outline), weight, ALWAYS);
        Ok(hash)
    }

    /// The outline of a file. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn load(&self, sha256: &Sha256) -> io::Result<Option<Arc<Outline>>> {
        if let Some(kept) = self.recent.get(sha256, ALWAYS) {
            return Ok(Some(kept));
        }
        let Some(hash) = self.hash_of(sha256) else {
            return Ok(None);
        };
        let path = self.path(sha256);
        let bytes = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read?),
        };
        let outline = bytes.as_deref().and_then(Outline::decode);
        let Some(outline) = outline.filter(|outline| outline.hash() == hash) else {
            tracing::warn!(path = %path.display(), "an outline is not what it must be");
            self.remove(sha256)?;
            return Ok(None);
        };
        let outline = Arc::new(outline);
        self.recent
            .put(*sha256, Arc::clone(&outline), outline.weight(), ALWAYS);
        Ok(Some(outline))
    }

    fn remove(&self, sha256: &Sha256) -> io::Result<()> {
        self.names().remove(sha256);
        match fs::remove_file(self.path(sha256)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes outlines whose files left the home, if that was not looked for a moment ago.
    fn sweep(&self, reads: &Reads) {
        let known: Vec<Sha256> = {
            let mut names = self.names();
            if names.swept.is_some_and(|at| at.elapsed() < XET_SWEEP_EVERY) {
                return;
            }
            names.swept = Some(Instant::now());
            names.hashes.keys().copied().collect()
        };
        for sha256 in known {
            if let Ok(None) = reads.store().file_by_sha256(&sha256)
                && let Err(error) = self.remove(&sha256)
            {
                tracing::warn!(%error, "an outline stays");
            }
        }
    }
}

impl Names {
    fn insert(&mut self, sha256: Sha256, hash: XetHash) {
        self.hashes.insert(sha256, hash);
        self.files.insert(hash, sha256);
    }

    fn remove(&mut self, sha256: &Sha256) {
        if let Some(hash) = self.hashes.remove(sha256) {
            self.files.remove(&hash);
        }
    }

    /// Reads which files have outlines; what is none is removed.
    fn read(&mut self, folder: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries.take(XET_OUTLINES_MAX) {
            let entry = entry?;
            let name = entry.file_name();
            let sha256 = name.to_str().and_then(|name| {
                let bytes = data_encoding::HEXLOWER.decode(name.as_bytes()).ok()?;
                Sha256::try_from(bytes).ok()
            });
            let mut head = [0; OUTLINE_HEAD_BYTES];
            let read = File::open(entry.path()).and_then(|mut file| file.read_exact(&mut head));
            match (sha256, read.ok().and_then(|()| Outline::peek(&head))) {
                (Some(sha256), Some(hash)) => self.insert(sha256, hash),
                _ => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }
}

/// All of an outline's file; one that is longer than an outline can be is none.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // A chunk has 8 KiB or more but for the last, and 4 bytes of the outline.
    let bytes_max = XET_FILE_BYTES_MAX / 1024;
    if file.metadata()?.len() > bytes_max {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
