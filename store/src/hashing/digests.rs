//! The hashes of a whole file that need its bytes in order.

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::{ChunkHash, limits::GIT_HASH_FILE_BYTES_MAX};

use super::HashOptions;

/// SHA-256, the git blob SHA-1 of small files, and the BLAKE3 root if asked for.
#[derive(Debug)]
pub(super) struct Digests {
    sha256: Option<Sha256>,
    git: Option<Sha1>,
    root: Option<Box<blake3::Hasher>>,
}

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
            root: options.roots.then(Box::default),
        }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(data);
        }
        if let Some(git) = &mut self.git {
            git.update(data);
        }
        if let Some(root) = &mut self.root {
            root.update(data);
        }
    }

    pub(super) fn finish(self) -> Finished {
        Finished {
            sha256: self
                .sha256
                .map_or([0; 32], |sha256| sha256.finalize().into()),
            git: self.git.map(|git| git.finalize().into()),
            root: self.root.map(|root| root.finalize().into()),
        }
    }
}
