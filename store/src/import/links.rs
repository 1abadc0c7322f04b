//! Symlinks of a tree: their bytes are their target.

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::{
    ChunkHash,
    cut::CDC_1,
    store::WriteError,
    tree::{ChunkList, File, Mode},
};

use super::{ImportError, session::Session, target::lock};

impl Session<'_> {
    /// Stores the symlinks.
    pub(super) fn add_links(&self) -> Result<(), ImportError> {
        for (path, target) in self.links() {
            let bytes = target.as_bytes();
            let hash = ChunkHash::of(bytes);
            if self.chunks.claim(&hash, false).map_err(WriteError::from)? {
                self.chunks.add(hash, bytes, &[])?;
                lock(&self.results).size_new += bytes.len() as u64;
            }
            let length = u32::try_from(bytes.len()).expect("the walk bounds targets");
            let list = ChunkList {
                hashes: vec![hash],
                lengths: vec![length],
            };
            let git = Sha1::new_with_prefix(format!("blob {length}\0")).chain_update(bytes);
            let file = File {
                path: path.to_owned(),
                mode: Mode::Link,
                size: length.into(),
                sha256: Sha256::digest(bytes).into(),
                git: Some(git.finalize().into()),
                chunks: list.reference(CDC_1),
                root: self.options.file_roots.then_some(hash),
            };
            lock(&self.results).note(file, &list);
        }
        Ok(())
    }
}
