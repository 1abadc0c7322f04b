//! How much a home takes, in allocated blocks, and room made by letting pulled versions go.

use std::path::Path;

use crate::{
    Store, VersionId,
    gc::GcError,
    local::{Keep, keep_key, used_key},
    manifest::Version,
    store::{ReadError, WriteError},
    tree::{ChunkList, Tree},
};

/// What a home takes. Bytes of allocated blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Containers of the home.
    pub containers: u64,
    /// Sidecars, those of outside files included.
    pub sidecars: u64,
    /// The log.
    pub log: u64,
    /// The index.
    pub index: u64,
    /// Unfinished downloads and writes.
    pub partial: u64,
    /// Hash trees of whole files, which leave before anything else does.
    pub cache: u64,
    /// What the home may have.
    pub max: Option<u64>,
    /// Room on its file system.
    pub free: u64,
    /// Length of the files that users own and that are known; not in the home.
    pub outside: u64,
}

impl Usage {
    /// All that counts against the home's size.
    pub fn total(&self) -> u64 {
        self.containers + self.sidecars + self.log + self.index + self.partial + self.cache
    }
}

impl Store {
    /// What the home takes now.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn usage(&self) -> Result<Usage, ReadError> {
        let inner = self.inner();
        let (disk, home) = (&*inner.disk, &inner.home);
        let mut usage = Usage {
            max: inner.options.max_size,
            ..Usage::default()
        };
        let allocated = |path: &Path| disk.stat(path).map_or(0, |stat| stat.allocated);
        let list = |dir: &Path| disk.list(dir).map_err(ReadError::io(dir));
        let root = inner.layout.containers();
        for dir in list(root)? {
            let dir = root.join(dir);
            for name in list(&dir)? {
                let path = dir.join(name);
                let bytes = allocated(&path);
                if path.extension().is_some_and(|e| e == "side") {
                    usage.sidecars += bytes;
                } else {
                    usage.containers += bytes;
                }
            }
        }
        for name in list(&home.join("log"))? {
            usage.log += allocated(&home.join("log").join(name));
        }
        for name in list(inner.layout.partial_dir())? {
            usage.partial += allocated(&inner.layout.partial_dir().join(name));
        }
        usage.cache = self
            .cache_bytes()
            .map_err(ReadError::io(&home.join("cache")))?;
        usage.index = allocated(&home.join("index.redb"));
        usage.free = disk.space(home).map_err(ReadError::io(home))?.free;
        let mut after = None;
        loop {
            let page = self.index().containers_after(after, 256)?;
            let Some(last) = page.last() else { break };
            after = Some(last.header.id);
            let outside = page.iter().filter(|known| known.path.is_some());
            usage.outside += outside.map(|known| known.header.len).sum::<u64>();
        }
        Ok(usage)
    }

    /// Sees to it that `bytes` more fit the home's size: versions that were pulled, and are not pinned,
    /// leave, least recently used first; own ones stay. Returns those that left.
    ///
    /// # Errors
    /// [`WriteError::OverQuota`] when it cannot be; then nothing left.
    pub fn make_room(&self, bytes: u64) -> Result<Vec<VersionId>, GcError> {
        let Some(max) = self.options().max_size else {
            return Ok(Vec::new());
        };
        let over = |store: &Self| -> Result<u64, GcError> {
            Ok((store.usage()?.total() + bytes).saturating_sub(max))
        };
        let mut excess = over(self)?;
        if excess == 0 {
            return Ok(Vec::new());
        }
        // what nobody keeps costs nobody anything, and what can be made again costs time alone
        self.sweep_cache(|_| false, false)
            .map_err(ReadError::io(self.home()))?;
        self.gc(false, &mut |_| true)?;
        excess = over(self)?;
        let mut candidates = self.least_recently_used()?;
        let held: u64 = candidates.iter().map(|(_, size)| size).sum();
        if excess > held {
            return Err(WriteError::OverQuota { needed: bytes, max }.into());
        }
        let mut left = Vec::new();
        while excess > 0 {
            let mut freed = 0;
            let mut records = Vec::new();
            while freed < excess && !candidates.is_empty() {
                let (version, size) = candidates.remove(0);
                tracing::info!(%version, "a pulled version leaves to make room");
                records.push(crate::log::Record::local_delete(&keep_key(&version)));
                records.push(crate::log::Record::local_delete(&used_key(&version)));
                freed += size;
                left.push(version);
            }
            if records.is_empty() {
                return Err(WriteError::OverQuota { needed: bytes, max }.into());
            }
            self.append(&records)?;
            self.gc(false, &mut |_| true)?;
            // chunks that versions share do not go with the first of them
            excess = over(self)?;
        }
        Ok(left)
    }

    /// Versions that may leave, least recently used first, with the bytes of them that are held.
    fn least_recently_used(&self) -> Result<Vec<(VersionId, u64)>, GcError> {
        let mut found = Vec::new();
        for (version, keep) in self.kept()? {
            if keep.own || self.local_get(&crate::local::pin_key(&version))?.is_some() {
                continue;
            }
            let used = self.local_get(&used_key(&version))?;
            let used = used
                .and_then(|value| Keep::decode(&value))
                .map_or(0, |used| used.time);
            found.push((used.max(keep.time), version, self.version_bytes(&version)?));
        }
        found.sort_unstable();
        Ok(found
            .into_iter()
            .map(|(_, version, size)| (version, size))
            .collect())
    }

    /// Bytes of a version's chunks that are held: of one that readers had a part of, the part.
    fn version_bytes(&self, version: &VersionId) -> Result<u64, ReadError> {
        let read = |hash| self.document(&hash);
        let Some(bytes) = read((*version).into())? else {
            return Ok(0);
        };
        let Ok(version) = Version::decode(&bytes) else {
            return Ok(0);
        };
        let Some(bytes) = read(version.tree.into())? else {
            return Ok(0);
        };
        let Ok(tree) = Tree::decode(&bytes) else {
            return Ok(0);
        };
        let mut held = 0;
        for file in tree.files().iter().filter(|file| file.chunks.count > 0) {
            let of = &file.chunks;
            let (Some(sequence), Some(lengths)) = (read(of.seq)?, read(of.lengths)?) else {
                continue;
            };
            let list = ChunkList::from_documents(of, file.size, &sequence, &lengths);
            let Ok(list) = list else { continue };
            for (hash, length) in list.hashes.iter().zip(&list.lengths) {
                if self.holds(hash)? {
                    held += u64::from(*length);
                }
            }
        }
        Ok(held)
    }
}
