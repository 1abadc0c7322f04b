//! What a home holds, as its doors read it: names to versions, versions to files and tensors, and
//! their bytes.
//!
//! Everything here blocks: async callers use a thread where blocking is fine. Who may read is decided
//! before, by `lode_store::access`. Trees, chunk lists and tensor lists that were decoded a moment ago
//! are kept, within [`limits`].

mod access;
mod cache;
mod chunk;
mod figures;
mod file;
mod layout;
pub mod limits;
mod names;
mod offsets;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use lode_store::{
    ChunkHash, TreeId, VersionId,
    manifest::VersionBytes,
    store::Store,
    tree::{ChunkList, File, Mode, Tree},
};
use lode_tensors::{ByteRange, Header, ParseError};

use crate::{
    command::{Failure, FailureKind},
    variants,
};
pub(crate) use cache::Cache;
use file::FileMap;
pub(crate) use file::Part;

pub use chunk::ChunkSource;
pub use figures::ReadFigures;
pub use file::{ChunkAt, FileReader};
pub use layout::{FileTensors, FindError, Layout, RowsError, TensorAt, parse_rows};
pub use names::{ModelAt, RefAt, RefKind, Resolved};

/// Reads a home. Clones share its caches.
#[derive(Clone)]
pub struct Reads {
    store: Store,
    caches: Arc<Caches>,
}

/// What was decoded, laid out or made a moment ago.
pub(crate) struct Caches {
    pub(crate) variants: variants::Variants,
    pub(crate) blocks: variants::Blocks,
    trees: Cache<TreeId, Tree>,
    maps: Cache<(ChunkHash, ChunkHash), FileMap>,
    layouts: Cache<TreeId, Layout>,
    /// Held while something large is decoded, so that many requests do not do it at once.
    decoding: Mutex<()>,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reads({})", self.store.home().display())
    }
}

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such thing in this home.
    #[error("there is no {what}")]
    Absent {
        /// What was asked for.
        what: String,
    },
    /// It exists, and its bytes are not here now.
    #[error("{what} is not held here now")]
    NotHeld {
        /// What was asked for.
        what: String,
    },
    /// The request itself makes no sense.
    #[error("{what}")]
    Usage {
        /// Why.
        what: String,
    },
    /// What is stored is not what it must be.
    #[error("{what}")]
    Corrupt {
        /// What, and how.
        what: String,
    },
    /// The store could not read it.
    #[error(transparent)]
    Store(#[from] lode_store::store::ReadError),
}

impl ReadError {
    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        use lode_store::store::ReadError as Store;
        match self {
            Self::Absent { .. } => FailureKind::NotFound,
            Self::NotHeld { .. } | Self::Store(Store::Changed { .. }) => FailureKind::NoPeer,
            Self::Usage { .. } => FailureKind::Usage,
            Self::Corrupt { .. } | Self::Store(Store::Corrupt { .. }) => FailureKind::Corrupt,
            Self::Store(_) => FailureKind::Failed,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let kind = error.kind();
        let advice = match kind {
            FailureKind::NoPeer => Some("pull the version again to complete it".to_owned()),
            FailureKind::Corrupt => Some("lode scrub finds all that is damaged".to_owned()),
            _ => None,
        };
        Self {
            kind,
            message: error.to_string(),
            advice,
        }
    }
}

impl Reads {
    /// Reads what `store` holds.
    pub fn new(store: Store) -> Self {
        let caches = Caches {
            variants: variants::variants(),
            blocks: variants::Blocks::default(),
            trees: Cache::new(limits::TREES_BYTES_MAX),
            maps: Cache::new(limits::MAPS_BYTES_MAX),
            layouts: Cache::new(limits::LAYOUTS_BYTES_MAX),
            decoding: Mutex::new(()),
        };
        Self {
            store,
            caches: Arc::new(caches),
        }
    }

    /// What was decoded, laid out or made a moment ago.
    pub(crate) fn caches(&self) -> &Caches {
        &self.caches
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The document of a version.
    ///
    /// # Errors
    /// It is not held, or its bytes are not a version's.
    pub fn version(&self, id: VersionId) -> Result<VersionBytes, ReadError> {
        let what = || format!("the document of version {id}");
        let bytes = self.document(&id.into(), what)?;
        VersionBytes::decode_as(id, bytes).map_err(|error| ReadError::Corrupt {
            what: format!("{}: {error}", what()),
        })
    }

    /// The files of a version.
    ///
    /// # Errors
    /// The tree is not held, or its bytes are not a tree's.
    pub fn tree(&self, id: TreeId) -> Result<Arc<Tree>, ReadError> {
        if let Some(tree) = self.caches.trees.get(id) {
            return Ok(tree);
        }
        let _one = self
            .caches
            .decoding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = self.caches.trees.get(id) {
            return Ok(tree);
        }
        let what = || format!("tree {id}");
        let bytes = self.document(&id.into(), what)?;
        let tree = Tree::decode(&bytes).map_err(|error| ReadError::Corrupt {
            what: format!("{}: {error}", what()),
        })?;
        let tree = Arc::new(tree);
        // A decoded file takes about twice the bytes of its document.
        self.caches.trees.put(id, &tree, bytes.len() * 2);
        Ok(tree)
    }

    /// Opens a file of a tree.
    ///
    /// # Errors
    /// Its chunk list is not held, or is not what the tree says.
    pub fn file(&self, file: &File) -> Result<FileReader, ReadError> {
        let map = self.map(file)?;
        let sha256 = file.sha256;
        Ok(FileReader::new(
            self.store.clone(),
            file.path.clone(),
            sha256,
            file.chunks.seq,
            map,
        ))
    }

    fn map(&self, file: &File) -> Result<Arc<FileMap>, ReadError> {
        // Both, since a tree may lie about lengths: a list kept from one file must not shift another's.
        let key = (file.chunks.seq, file.chunks.lengths);
        if let Some(map) = self.caches.maps.get(key)
            && map.file_len() == file.size
        {
            return Ok(map);
        }
        let what = || format!("the chunk list of {:?}", file.path);
        let (seq, lengths) = match file.chunks.count {
            0 => (Bytes::new(), Bytes::new()),
            _ => (
                self.document(&file.chunks.seq, what)?,
                self.document(&file.chunks.lengths, what)?,
            ),
        };
        let list = ChunkList::from_documents(&file.chunks, file.size, &seq, &lengths).map_err(
            |error| ReadError::Corrupt {
                what: format!("{}: {error}", what()),
            },
        )?;
        let map = Arc::new(FileMap::new(list));
        self.caches.maps.put(key, &map, map.weight());
        Ok(map)
    }

    /// The tensors of a tree: of its files that were cut by their tensors, or are named as if they
    /// had some. Files that claim a format and break it have none.
    ///
    /// # Errors
    /// A header is not held or cannot be read.
    pub fn layout(&self, id: TreeId) -> Result<Arc<Layout>, ReadError> {
        if let Some(layout) = self.caches.layouts.get(id) {
            return Ok(layout);
        }
        let tree = self.tree(id)?;
        let _one = self
            .caches
            .decoding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = self.caches.layouts.get(id) {
            return Ok(layout);
        }
        let mut files = Vec::new();
        for file in tree.files().iter().filter(|file| may_have_tensors(file)) {
            if let Some(header) = self.header(file)? {
                files.push(FileTensors::new(file.path.clone(), header));
            }
        }
        Ok(self.put_layout(id, files))
    }

    /// Keeps the tensors of a tree, whose headers were read elsewhere.
    pub(crate) fn put_layout(&self, id: TreeId, files: Vec<FileTensors>) -> Arc<Layout> {
        let layout = Arc::new(Layout::new(files));
        self.caches.layouts.put(id, &layout, layout.weight());
        layout
    }

    /// The header of a file of tensors; nothing when it is none, or breaks the format it claims.
    ///
    /// # Errors
    /// The header is not held or cannot be read.
    pub fn header(&self, file: &File) -> Result<Option<Header>, ReadError> {
        let reader = self.file(file)?;
        let mut bytes = lode_tensors::limits::PREFIX_BYTES_FIRST;
        loop {
            let end = bytes.min(file.size);
            let prefix = reader.read_all(ByteRange { start: 0, end })?;
            match parse_header(file, &prefix) {
                Parsed::Header(header) => return Ok(Some(header)),
                Parsed::NeedMore(more) => bytes = more,
                Parsed::Broken => return Ok(None),
            }
        }
    }

    /// Opens a chunk or document by its hash.
    ///
    /// # Errors
    /// It is not held, or cannot be read.
    pub fn chunk(&self, hash: ChunkHash) -> Result<ChunkSource, ReadError> {
        ChunkSource::open(self.store.clone(), hash)
    }

    fn document(&self, hash: &ChunkHash, what: impl Fn() -> String) -> Result<Bytes, ReadError> {
        self.store
            .document(hash)?
            .ok_or_else(|| ReadError::NotHeld { what: what() })
    }
}

/// What the first bytes of a file of tensors say.
pub(crate) enum Parsed {
    /// Its header.
    Header(Header),
    /// That so many bytes are needed.
    NeedMore(u64),
    /// That it is none.
    Broken,
}

/// Reads the header of a file from its first bytes.
pub(crate) fn parse_header(file: &File, prefix: &[u8]) -> Parsed {
    let read = prefix.len() as u64;
    match lode_tensors::parse(prefix, file.size) {
        Ok(header) => Parsed::Header(header),
        Err(ParseError::NeedMore { bytes }) if bytes > read && read < file.size => {
            Parsed::NeedMore(bytes)
        }
        Err(error) => {
            tracing::debug!(path = file.path, %error, "no tensors are listed");
            Parsed::Broken
        }
    }
}

pub(crate) fn may_have_tensors(file: &File) -> bool {
    if file.mode == Mode::Link {
        return false;
    }
    let named = || {
        let extension = file.path.rsplit_once('.').map(|(_, extension)| extension);
        extension.is_some_and(|extension| {
            extension.eq_ignore_ascii_case("safetensors") || extension.eq_ignore_ascii_case("gguf")
        })
    };
    file.chunks.rule == "tensors/1" || named()
}
