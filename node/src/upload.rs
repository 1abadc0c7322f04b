//! What clients send to a node before they commit it, and the commits that make versions of it.
//!
//! The bytes of large files come first, by their SHA-256 or as xorbs, and a commit names them later. A file
//! that arrived is checked and imported like one that is pushed, cut and deduplicated, and then *staged*: kept
//! for the model that it was sent to, until a commit takes it or [`limits::STAGED_AGE_MAX`] is over. A commit
//! reads no bytes of large files: it is an edit of the parent's tree ([`commit`]).
//!
//! `HOME/uploads` holds what is on its way:
//!
//! | path | what |
//! |---|---|
//! | `incoming/` | files that are being received; discarded when the home is opened |
//! | `xorbs/INBOX/HASH` | xorbs whose files are not known yet ([`xorbs`]) |
//! | `maps/N` | where the chunks of xorbs lie in staged files ([`map`]) |
//! | `epoch` | names what this node remembers of xorbs; another one after it forgot some |
//!
//! An upload that is cut off, or whose node is killed, leaves nothing but staged files and xorbs that are
//! whole, and those expire. What is staged answers only to whoever may write to the same model: that a model
//! has a file tells nobody else about it. Everything here blocks.

pub mod commit;
mod error;
mod find;
mod incoming;
pub mod limits;
mod map;
mod parts;
mod repository;
mod staged;
mod sweep;
mod xorbs;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use lode_store::PublisherId;

use crate::Node;

pub use crate::read::RefKind;
pub use error::UploadError;
pub use incoming::Incoming;
pub use repository::{Created, NewModel};
pub use xorbs::{Assembly, NewXorb, Piece, XorbName};

pub(crate) use staged::Quiet;

use parts::Parts;
use xorbs::Xorbs;

/// The uploads of a node. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct Uploads {
    node: Node,
}

/// The model that uploads are for. What was sent to one is unknown to all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    publisher: PublisherId,
    model: String,
    id: InboxId,
}

/// Names an inbox on disk: the start of a hash of publisher and model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InboxId([u8; 16]);

impl Inbox {
    /// The inbox of a model.
    pub fn new(publisher: PublisherId, model: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("lode 2026 upload inbox");
        hasher.update(publisher.as_bytes()).update(model.as_bytes());
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self {
            publisher,
            model: model.to_owned(),
            id: InboxId(id),
        }
    }

    /// Whose model it is.
    pub fn publisher(&self) -> PublisherId {
        self.publisher
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Its name on disk.
    pub fn id(&self) -> InboxId {
        self.id
    }
}

impl std::fmt::Display for InboxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// What all uploads of a node share.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    next: AtomicU64,
    /// Held while a branch is looked at and moved.
    commits: Mutex<()>,
    /// Held while files are made from xorbs: one shard's lists are in memory at a time.
    assembling: Mutex<()>,
    parts: Parts,
    xorbs: Mutex<Xorbs>,
    swept: Mutex<Option<Instant>>,
}

impl State {
    /// What an earlier process left that is whole stays; the rest goes.
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        let folder = home.join("uploads");
        match fs::remove_dir_all(folder.join("incoming")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            xorbs: Mutex::new(Xorbs::open(&folder)?),
            folder,
            next: AtomicU64::new(0),
            commits: Mutex::default(),
            assembling: Mutex::default(),
            parts: Parts::default(),
            swept: Mutex::default(),
        })
    }
}

impl Uploads {
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }

    fn state(&self) -> &State {
        self.node.upload_state()
    }

    /// Waits until nobody else makes files of xorbs: what one shard lists may fill much of the memory.
    pub fn turn(&self) -> impl Drop + '_ {
        lock(&self.state().assembling)
    }

    /// A path in `incoming/` that nothing has.
    fn new_path(&self) -> Result<PathBuf, UploadError> {
        let folder = self.state().folder.join("incoming");
        fs::create_dir_all(&folder).map_err(UploadError::io(&folder))?;
        let number = self.state().next.fetch_add(1, Ordering::Relaxed);
        Ok(folder.join(number.to_string()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of files on their way, which goes when it is dropped with all that was not taken from it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create(path: PathBuf) -> Result<Self, UploadError> {
        fs::create_dir(&path).map_err(UploadError::io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a folder of an upload is left");
        }
    }
}
