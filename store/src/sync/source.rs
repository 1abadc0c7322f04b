//! What the sync part needs from a store and from access rules, as traits: the doors know no disk.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use iroh::EndpointId;

use crate::{ChunkHash, PublisherId, VersionId};

use super::{
    hub::VersionFiles,
    message::{ChunkPieces, OriginFile, OriginQuery, PeerAddr},
};

/// Where the provider reads chunks and documents from. Its functions may block.
pub trait ChunkSource: Send + Sync + 'static {
    /// Finds the bytes of a chunk or document, or nothing when they are not held.
    ///
    /// # Errors
    /// When the place cannot be read; the peer is told no more than that the answer ends.
    fn open(&self, hash: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>>;

    /// Opens a blob for `caller`: one that [`Access::may_read`] let it read or, with a `parent`, a child
    /// of such a HashSeq.
    ///
    /// For sources where one hash may stand for the bytes of several versions, of which a caller may not
    /// read all.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn open_for(
        &self,
        caller: &Caller,
        parent: Option<&ChunkHash>,
        hash: &ChunkHash,
    ) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let _ = (caller, parent);
        self.open(hash)
    }
}

/// The bytes of one chunk or document. Its functions may block.
pub trait ChunkRead: Send + Sync {
    /// Bytes of the whole.
    fn size(&self) -> u64;

    /// Whether [`read`](Self::read) hands out owned, sealed, mapped bytes without a copy.
    fn is_mapped(&self) -> bool;

    /// Whether what [`read`](Self::read) returns needs no check any more; else each group is hashed
    /// against the outboard before it leaves.
    fn is_verified(&self) -> bool {
        true
    }

    /// The bytes `range`, a range of whole 16 KiB groups (the last may be short).
    ///
    /// Bytes of a place that is not trusted are verified against the chunk's hash before they are returned,
    /// unless [`is_verified`](Self::is_verified) says otherwise.
    ///
    /// # Errors
    /// When they cannot be read, or are no longer what the chunk's hash says.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;

    /// The pre-order outboard of 16 KiB groups, without a size: empty up to one group.
    ///
    /// # Errors
    /// When it cannot be read or computed.
    fn outboard(&self) -> io::Result<Bytes>;

    /// The byte ranges that are held, in order: all, unless the chunk is still being received.
    fn held(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.size()).collect()
    }

    /// Whether all of `range` is held.
    fn holds(&self, range: &Range<u64>) -> bool {
        let inside = |held: &Range<u64>| held.start <= range.start && range.end <= held.end;
        self.held().iter().any(inside)
    }
}

/// A peer as the doors see it: who it is, and what it has shown.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its node key, proven by the connection.
    pub id: EndpointId,
    /// Capabilities (signed records) that it shows on a living `/lode/1` connection. Not verified here.
    pub capabilities: Arc<[Bytes]>,
}

/// Decides what a peer may read. Its functions may block.
///
/// What is refused and what is absent get one answer, so nothing can be learned by asking.
pub trait Access: Send + Sync + 'static {
    /// Whether `caller` may read the blob `root` and, if it is a HashSeq, its children.
    fn may_read(&self, caller: &Caller, root: &ChunkHash) -> bool;

    /// Whether everybody may read `version`, and `root` is reached from it: asked beside
    /// [`may_read`](Self::may_read) for what leaves unencrypted. Without a word to the contrary nothing does.
    fn is_public(&self, version: &VersionId, root: &ChunkHash) -> bool {
        let _ = (version, root);
        false
    }
}

/// What a refs query answers: signed records, opaque here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelRecords {
    /// The publisher's identity log, oldest first.
    pub identities: Vec<Bytes>,
    /// The model's ref records.
    pub refs: Vec<Bytes>,
    /// Signatures of the versions that the refs name.
    pub signatures: Vec<Bytes>,
}

/// Which chunks of a version are held, in the order of the tree: files by path, chunks in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldMap {
    /// Chunks of the version.
    pub count: u64,
    /// A bit a chunk, lowest bit first; empty when every chunk is held.
    pub bits: Bytes,
}

impl HeldMap {
    /// Every one of `count` chunks.
    pub fn all(count: u64) -> Self {
        Self {
            count,
            bits: Bytes::new(),
        }
    }

    /// The map of `held`, one entry a chunk.
    pub fn of(held: impl IntoIterator<Item = bool>) -> Self {
        let (mut count, mut every, mut bits) = (0u64, true, Vec::new());
        for bit in held {
            if count.is_multiple_of(8) {
                bits.push(0u8);
            }
            if let (true, Some(last)) = (bit, bits.last_mut()) {
                *last |= 1 << (count % 8);
            }
            every &= bit;
            count += 1;
        }
        Self {
            count,
            bits: if every { Bytes::new() } else { bits.into() },
        }
    }

    /// Whether chunk `index` is held.
    pub fn holds(&self, index: u64) -> bool {
        if index >= self.count {
            return false;
        }
        if self.bits.is_empty() {
            return true;
        }
        let byte = usize::try_from(index / 8)
            .ok()
            .and_then(|at| self.bits.get(at));
        byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// Chunks that are held.
    pub fn held(&self) -> u64 {
        if self.bits.is_empty() {
            self.count
        } else {
            (0..self.count).filter(|&index| self.holds(index)).count() as u64
        }
    }
}

/// What `/lode/1` answers from. Its functions may block.
///
/// As with [`Access`], `None` stands for absent and for refused.
pub trait RefSource: Send + Sync + 'static {
    /// The records of a model.
    fn refs(&self, caller: &Caller, publisher: &PublisherId, model: &str) -> Option<ModelRecords>;

    /// Which chunks of a version are held.
    fn held(&self, caller: &Caller, version: &VersionId) -> Option<HeldMap>;

    /// The files of a version, in the order of its have-map; nothing when it cannot be watched.
    fn files(&self, caller: &Caller, version: &VersionId) -> Option<VersionFiles> {
        let _ = (caller, version);
        None
    }

    /// Pieces that are held of chunks which [`held`](Self::held) does not name: those being received.
    fn receiving(&self, version: &VersionId) -> Vec<ChunkPieces> {
        let _ = version;
        Vec::new()
    }

    /// Other peers that are believed to hold chunks of a version.
    fn peers(&self, caller: &Caller, version: &VersionId) -> Vec<PeerAddr>;

    /// How far the node is with files of a model of another hub that `asker` wants too, and who else wants some of
    /// them; nothing when it knows no such model, or `caller` may not.
    fn origin(
        &self,
        caller: &Caller,
        asker: &PeerAddr,
        query: &OriginQuery,
    ) -> Option<(Vec<OriginFile>, Vec<PeerAddr>)> {
        let _ = (caller, asker, query);
        None
    }

    /// Takes a peer's hint of other peers that hold chunks of a version.
    fn hinted(&self, caller: &Caller, version: Option<VersionId>, peers: Vec<PeerAddr>);
}
