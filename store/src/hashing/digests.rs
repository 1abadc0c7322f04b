//! The hashes of a whole file that need its bytes in order.

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::{
    ChunkHash,
    limits::GIT_HASH_FILE_BYTES_MAX,
    root::{RootBuilder, SEGMENT_BYTES},
};

use super::HashOptions;

/// SHA-256, the git blob SHA-1 of small files, and the BLAKE3 root if asked for.
#[derive(Debug)]
pub(super) struct Digests {
    sha256: Option<Sha256>,
    git: Option<Sha1>,
    root: Option<Root>,
}

/// The BLAKE3 root on its way.
#[derive(Debug)]
enum Root {
    /// Of a file whose hash tree is made when somebody asks for it.
    Small(Box<blake3::Hasher>),
    /// Of a file whose hash tree is kept.
    Large(Box<RootBuilder>),
}

/// Pairs of the hash tree of the whole file: where they lie in its outboard, in bytes, and what they are.
pub(super) type Pairs = Vec<(u64, Vec<u8>)>;

/// What [`Digests`] come to.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) sha256: [u8; 32],
    pub(super) git: Option<[u8; 20]>,
    pub(super) root: Option<ChunkHash>,
}

impl Digests {
    /// For a file of `size` bytes.
    pub(super) fn new(size: u64, options: &HashOptions) -> Self {
        let small = options.digests && size <= GIT_HASH_FILE_BYTES_MAX;
        Self {
            sha256: options.digests.then(Sha256::new),
            git: small.then(|| Sha1::new_with_prefix(format!("blob {size}\0"))),
            root: options.roots.then(|| {
                if size > SEGMENT_BYTES {
                    Root::Large(Box::new(RootBuilder::new(size)))
                } else {
                    Root::Small(Box::default())
                }
            }),
        }
    }

    /// Takes the next bytes; returns the pairs that they complete.
    pub(super) fn update(&mut self, data: &[u8]) -> Pairs {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(data);
        }
        if let Some(git) = &mut self.git {
            git.update(data);
        }
        let mut pairs = Vec::new();
        match &mut self.root {
            None => {}
            Some(Root::Small(hasher)) => {
                hasher.update(data);
            }
            Some(Root::Large(builder)) => {
                builder.update(data, &mut |at, block| pairs.push((at, block.to_vec())));
            }
        }
        pairs
    }

    pub(super) fn finish(self) -> Finished {
        Finished {
            sha256: self
                .sha256
                .map_or([0; 32], |sha256| sha256.finalize().into()),
            git: self.git.map(|git| git.finalize().into()),
            root: self.root.and_then(|root| match root {
                Root::Small(hasher) => Some(hasher.finalize().into()),
                Root::Large(builder) => builder.root(),
            }),
        }
    }
}
