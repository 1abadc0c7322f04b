//! The folder `cache/`: outboards of whole files, that any time may take away.
//!
//! A file `ROOT.tree` holds the pairs and nothing else. Nothing rests on it: it is checked pair by pair
//! before it is used, and one that is wrong, or lost, is made again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use super::{lock, tree};
use crate::{
    ChunkHash, Store,
    disk::{Access, DiskFile, remove_if_there},
    limits::ROOT_CACHE_BYTES_MAX,
};

/// Extension of a kept outboard.
const TREE: &str = "tree";

/// Numbers drafts, which one process alone writes.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

impl Store {
    fn cache_dir(&self) -> PathBuf {
        self.home().join("cache")
    }

    fn kept_path(&self, root: &ChunkHash) -> PathBuf {
        self.cache_dir().join(format!("{root}.{TREE}"))
    }

    /// The kept outboard of a file, checked; a wrong one is removed.
    pub(super) fn kept_outboard(&self, root: &ChunkHash, size: u64) -> Option<Bytes> {
        let path = self.kept_path(root);
        let file = self.inner().disk.open(&path, Access::Read).ok()?;
        let len = file.stat().ok()?.len;
        if len == tree::outboard_len(size)
            && let Ok(pairs) = file.map()
            && tree::leads_to(root, size, &pairs)
        {
            return Some(pairs);
        }
        tracing::warn!(path = %path.display(), "a kept hash tree is damaged; it is made again");
        let _kept = lock(&self.inner().roots.kept);
        if let Err(error) = remove_if_there(&*self.inner().disk, &path) {
            tracing::warn!(%error, path = %path.display(), "a damaged hash tree cannot be removed");
        }
        None
    }

    /// Starts to keep the outboard of a file of `size` bytes; none when it would be over the bound.
    pub(crate) fn outboard_writer(&self, size: u64) -> io::Result<Option<OutboardWriter>> {
        let len = tree::outboard_len(size);
        if len > ROOT_CACHE_BYTES_MAX {
            return Ok(None);
        }
        let disk = &self.inner().disk;
        disk.create_dir_all(&self.cache_dir())?;
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = self.cache_dir().join(format!("{number}.draft"));
        remove_if_there(&**disk, &draft)?;
        Ok(Some(OutboardWriter {
            store: self.clone(),
            file: disk.create(&draft)?,
            draft: Some(draft),
            len,
        }))
    }

    /// Removes what an interrupted writer left.
    pub(crate) fn clean_cache(&self) -> io::Result<()> {
        let (disk, dir) = (&self.inner().disk, self.cache_dir());
        let names = match disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        for name in names {
            let path = dir.join(name);
            if path.extension().is_some_and(|e| e == "draft") {
                remove_if_there(&**disk, &path)?;
            }
        }
        Ok(())
    }

    /// Kept outboards with their roots, oldest first, and bytes of allocated blocks.
    fn kept_outboards(&self) -> io::Result<Vec<(i64, PathBuf, u64)>> {
        let (disk, dir) = (&self.inner().disk, self.cache_dir());
        let names = match disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        let mut found = Vec::new();
        for name in names {
            let path = dir.join(name);
            if path.extension().is_some_and(|e| e == TREE) {
                let stat = disk.stat(&path)?;
                found.push((stat.mtime_ns, path, stat.allocated));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Bytes of allocated blocks of `cache/`.
    pub(crate) fn cache_bytes(&self) -> io::Result<u64> {
        let kept = self.kept_outboards()?;
        Ok(kept.iter().map(|(_, _, bytes)| bytes).sum())
    }

    /// Removes the kept outboards whose root `live` does not know, or with `dry_run` only counts them.
    /// Returns bytes of allocated blocks.
    pub(crate) fn sweep_cache(
        &self,
        live: impl Fn(&ChunkHash) -> bool,
        dry_run: bool,
    ) -> io::Result<u64> {
        let _kept = lock(&self.inner().roots.kept);
        let mut freed = 0;
        for (_, path, bytes) in self.kept_outboards()? {
            if root_of(&path).is_some_and(|root| live(&root)) {
                continue;
            }
            if !dry_run {
                remove_if_there(&*self.inner().disk, &path)?;
            }
            freed += bytes;
        }
        Ok(freed)
    }
}

fn root_of(path: &Path) -> Option<ChunkHash> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// An outboard that is being written.
#[derive(Debug)]
pub(crate) struct OutboardWriter {
    store: Store,
    file: Arc<dyn DiskFile>,
    draft: Option<PathBuf>,
    len: u64,
}

impl OutboardWriter {
    /// Writes pairs at their place.
    pub(crate) fn write(&self, offset: u64, pairs: &[u8]) -> io::Result<()> {
        self.file.write_at(pairs, offset)
    }

    /// Names it, after older ones made room for it.
    pub(crate) fn seal(mut self, root: &ChunkHash) -> io::Result<()> {
        self.file.sync_data()?;
        let disk = &self.store.inner().disk;
        let _kept = lock(&self.store.inner().roots.kept);
        let kept = self.store.kept_outboards()?;
        let mut sum: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in kept {
            if sum + self.len <= ROOT_CACHE_BYTES_MAX {
                break;
            }
            remove_if_there(&**disk, &path)?;
            sum -= bytes;
        }
        if let Some(draft) = &self.draft {
            disk.rename(draft, &self.store.kept_path(root))?;
        }
        self.draft = None;
        Ok(())
    }
}

impl Drop for OutboardWriter {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.take()
            && let Err(error) = remove_if_there(&*self.store.inner().disk, &draft)
        {
            tracing::debug!(%error, path = %draft.display(), "a draft stays");
        }
    }
}
