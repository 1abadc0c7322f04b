//! Containers: dead ones are unlinked, half-dead ones get holes.

use std::{collections::HashSet, io, sync::PoisonError};

use super::{GcError, Run};
use crate::{
    ChunkHash,
    container::ContainerId,
    disk::{Access, remove_if_there},
    index::Known,
    outboard,
    sidecar::{ChunkEntry, ContainerKind, Header, Sidecar, SidecarError, SidecarWriter},
    store::{ReadError, WriteError, protect::short},
};

/// Places that leave the index in one commit, during which nobody can ask for chunks.
const STEP: usize = 2048;
/// Bytes below which a hole frees no block.
const HOLE_BYTES_MIN: u64 = 4096;

impl Run<'_> {
    pub(super) fn sweep(&mut self) -> Result<(), GcError> {
        if !self.dry {
            self.remove_strays()?;
        }
        let mut after = None;
        loop {
            let page = self.store.index().containers_after(after, 256)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.header.id);
            for known in page {
                self.sweep_container(&known)?;
                self.containers += 1;
                if self.done.stopped || !self.go_on() {
                    return Ok(());
                }
            }
        }
    }

    fn sweep_container(&mut self, known: &Known) -> Result<(), GcError> {
        let inner = self.store.inner();
        let id = known.header.id;
        let _upkeep = inner.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.protect.write().covers_container(id) {
            return Ok(());
        }
        let Some(sidecar) = self.sidecar(id)? else {
            return Ok(());
        };
        let live_first = self.split(&sidecar)?;
        if live_first.dead.is_empty() {
            return if self.dry {
                Ok(())
            } else {
                self.punch(known, &live_first.kept, true)
            };
        }
        if self.dry {
            self.done.chunks += live_first.dead.len() as u64;
            if known.header.kind != ContainerKind::Outside {
                self.done.bytes += live_first.dead_bytes;
            }
            return Ok(());
        }
        if known.header.kind == ContainerKind::Outside {
            // live chunks need the file as it is, and it costs nothing to keep it known
            if live_first.kept.is_empty() && self.unlist(known, &live_first.dead)?.is_some() {
                self.store.drop_outside(id, "no kept version needs it")?;
                self.done.outside_dropped += 1;
            }
            return Ok(());
        }
        let Some(covered) = self.unlist(known, &live_first.dead)? else {
            return Ok(());
        };
        // what was live, or asked for, stays
        let mut kept = live_first.kept;
        if !covered.is_empty() {
            sidecar
                .entries(&mut |entry| {
                    if covered.contains(&short(&entry.hash)) && !self.live.contains(&entry.hash) {
                        kept.push(entry);
                    }
                    Ok::<_, SidecarError>(())
                })
                .map_err(|e| side_error(&inner.layout.side(id), e))?;
            kept.sort_by_key(|entry| entry.offset);
        }
        if kept.is_empty() {
            return self.unlink(known);
        }
        self.shrink(known, &sidecar, &kept)?;
        self.punch(known, &kept, false)
    }

    /// The sidecar of a container; none, and said so, when it cannot be used: scrub sees to it.
    fn sidecar(&self, id: ContainerId) -> Result<Option<Sidecar>, GcError> {
        let inner = self.store.inner();
        let path = inner.layout.side(id);
        let opened = inner
            .disk
            .open(&path, Access::Read)
            .map_err(SidecarError::Io);
        match opened.and_then(Sidecar::open) {
            Ok(sidecar) => Ok(Some(sidecar)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "not collected from: run lode scrub");
                Ok(None)
            }
        }
    }

    fn split(&self, sidecar: &Sidecar) -> Result<Split, GcError> {
        let mut split = Split::default();
        sidecar
            .entries(&mut |entry| {
                if self.live.contains(&entry.hash) {
                    split.kept.push(entry);
                } else {
                    split.dead_bytes += u64::from(entry.stored_len);
                    split.dead.push(entry.hash);
                }
                Ok::<_, SidecarError>(())
            })
            .map_err(|e| side_error(&self.store.inner().layout.side(sidecar.header().id), e))?;
        split.kept.sort_by_key(|entry| entry.offset);
        Ok(split)
    }

    /// Takes dead places out of the index, in steps. Returns those that turned out to be asked for, or
    /// none when it was stopped.
    fn unlist(
        &mut self,
        known: &Known,
        dead: &[ChunkHash],
    ) -> Result<Option<HashSet<u64>>, GcError> {
        let store = self.store;
        let inner = store.inner();
        let mut covered = HashSet::new();
        for step in dead.chunks(STEP) {
            loop {
                let state = inner.protect.write();
                if !self.live.is_current(store) {
                    drop(state);
                    self.live.catch_up(store)?;
                    continue;
                }
                let mut gone = Vec::with_capacity(step.len());
                for hash in step {
                    if state.covers_chunk(hash) || self.live.contains(hash) {
                        covered.insert(short(hash));
                    } else {
                        gone.push(*hash);
                    }
                }
                if !gone.is_empty() {
                    let index = store.index();
                    let changes = index.change()?;
                    self.done.chunks += changes.remove_places(&known.header, &gone)?;
                    changes.commit()?;
                    inner.open.removed();
                }
                break;
            }
            if !self.go_on() {
                return Ok(None);
            }
        }
        Ok(Some(covered))
    }

    /// Removes a container of which nothing is needed.
    fn unlink(&mut self, known: &Known) -> Result<(), GcError> {
        let inner = self.store.inner();
        let _gate = inner.enter();
        let id = known.header.id;
        let index = self.store.index();
        let changes = index.change()?;
        changes.remove_container(id)?;
        changes.commit()?;
        inner.open.forget(id);
        let (side, data) = (
            inner.layout.side(id),
            inner.layout.data(id, known.header.kind),
        );
        let dir = inner.layout.dir(id);
        let bytes = [&side, &data]
            .map(|path| inner.disk.stat(path).map_or(0, |stat| stat.allocated))
            .iter()
            .sum::<u64>();
        // data without a sidecar is nothing; a sidecar without data would be a loss
        remove_if_there(&*inner.disk, &side).map_err(WriteError::io(&side))?;
        inner.disk.sync_dir(&dir).map_err(WriteError::io(&dir))?;
        remove_if_there(&*inner.disk, &data).map_err(WriteError::io(&data))?;
        self.done.bytes += bytes;
        self.done.containers_removed += 1;
        Ok(())
    }

    /// Writes the sidecar again with `kept` entries alone; their outboards stay where they are.
    fn shrink(
        &mut self,
        known: &Known,
        sidecar: &Sidecar,
        kept: &[ChunkEntry],
    ) -> Result<(), GcError> {
        let store = self.store;
        let header = store.rewrite_sidecar(known, *sidecar.header(), kept, |writer| {
            for entry in kept {
                if let (Some(at), Some(pairs)) = (entry.outboard, sidecar.outboard(entry)?) {
                    writer.write_outboard_at(at, &pairs)?;
                }
            }
            Ok(())
        })?;
        debug_assert_eq!(header.chunks as usize, kept.len());
        Ok(())
    }

    /// Makes holes where `kept` has no chunk. `late`: only if an earlier collection could not.
    fn punch(&mut self, known: &Known, kept: &[ChunkEntry], late: bool) -> Result<(), GcError> {
        if known.header.kind == ContainerKind::Outside {
            return Ok(());
        }
        let inner = self.store.inner();
        let id = known.header.id;
        let holes = holes(kept, known.header.len);
        let hole_bytes: u64 = holes.iter().map(|(start, end)| end - start).sum();
        let path = inner.layout.data(id, known.header.kind);
        let io = WriteError::io(&path);
        let Ok(stat) = inner.disk.stat(&path) else {
            return Ok(());
        };
        let slack = 2 * HOLE_BYTES_MIN * (holes.len() as u64 + 1);
        let as_it_should_be = stat.allocated + hole_bytes <= known.header.len + slack;
        // under another name it is a file of somebody else, a segment that is searched: it stays whole until that name
        // is gone, and a later collection makes the holes
        if holes.is_empty() || (late && as_it_should_be) || stat.links > 1 {
            return Ok(());
        }
        if !inner.open.forget_unused(id) {
            self.done.containers_busy += 1;
            return Ok(());
        }
        let file = inner.disk.open(&path, Access::Write).map_err(&io)?;
        for (start, end) in &holes {
            match file.punch(*start..*end) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                    return self.copy(known, kept, hole_bytes);
                }
                Err(e) => return Err(io(e).into()),
            }
        }
        // the holes are no change of what is left: who trusted the container still may
        if stat.mtime_ns == known.header.mtime_ns {
            file.set_mtime(stat.mtime_ns).map_err(&io)?;
        }
        let after = file.stat().map_err(&io)?;
        self.done.bytes += stat.allocated.saturating_sub(after.allocated);
        self.done.containers_punched += 1;
        Ok(())
    }

    /// Where no holes can be made: copies live chunks to a new pack, when that is worth it.
    fn copy(&mut self, known: &Known, kept: &[ChunkEntry], dead: u64) -> Result<(), GcError> {
        if dead < known.header.len / 2 {
            return Ok(());
        }
        let store = self.store;
        let _protect = store.protect();
        let mut pack = store.pack_writer();
        let mut copied = HashSet::new();
        for entry in kept {
            if !copied.insert(entry.hash) {
                continue;
            }
            let Some(chunk) = store.chunk(&entry.hash)? else {
                continue;
            };
            let bytes = chunk.read(0..chunk.len())?;
            let (hash, pairs) = outboard::compute(&bytes);
            if hash != entry.hash {
                // found by a copy: scrub says what is lost
                tracing::error!(%hash, container = %known.header.id, "wrong bytes; not copied");
                return Ok(());
            }
            pack.add(hash, &bytes, &pairs)?;
            if pack.is_full() {
                std::mem::replace(&mut pack, store.pack_writer()).seal()?;
            }
        }
        pack.seal()?;
        store.forget_container(known)?;
        store.inner().open.removed();
        self.unlink(known)?;
        self.done.containers_removed -= 1;
        self.done.containers_copied += 1;
        Ok(())
    }

    /// Removes data without sidecar, and sidecars without data, that no writer is about to complete.
    fn remove_strays(&mut self) -> Result<(), GcError> {
        let inner = self.store.inner();
        let root = inner.layout.containers();
        let io = ReadError::io(root);
        for dir in inner.disk.list(root).map_err(&io)? {
            // nobody seals meanwhile
            let _gate = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
            let dir = root.join(dir);
            let index = self.store.index();
            for name in inner.disk.list(&dir).map_err(&io)? {
                let text = name.to_string_lossy();
                let id = text
                    .split_once('.')
                    .and_then(|(id, _)| id.parse::<ContainerId>().ok());
                let Some(id) = id else { continue };
                if index.container(id)?.is_none() && !inner.is_lost(id) {
                    let path = dir.join(&name);
                    self.done.bytes += inner.disk.stat(&path).map_or(0, |stat| stat.allocated);
                    remove_if_there(&*inner.disk, &path).map_err(WriteError::io(&path))?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Split {
    /// Live entries, by offset.
    kept: Vec<ChunkEntry>,
    dead: Vec<ChunkHash>,
    dead_bytes: u64,
}

/// The stretches of `0..len` that no entry covers, long enough to be worth a hole.
fn holes(kept: &[ChunkEntry], len: u64) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut at = 0;
    for entry in kept {
        holes.push((at, entry.offset));
        at = at.max(entry.offset + u64::from(entry.stored_len));
    }
    holes.push((at, len));
    holes.retain(|(start, end)| end.saturating_sub(*start) >= HOLE_BYTES_MIN);
    holes
}

fn side_error(path: &std::path::Path, error: SidecarError) -> GcError {
    match error {
        SidecarError::Io(e) => ReadError::io(path)(e).into(),
        SidecarError::Damaged(what) => WriteError::Corrupt {
            path: path.to_owned(),
            what: what.to_owned(),
        }
        .into(),
    }
}

impl crate::Store {
    /// Puts a new sidecar in the place of a container's: the outboards that `outboards` writes, and
    /// `entries`. Known to the index when this returns; places are the caller's.
    pub(crate) fn rewrite_sidecar(
        &self,
        known: &Known,
        header: Header,
        entries: &[ChunkEntry],
        outboards: impl FnOnce(&SidecarWriter) -> io::Result<()>,
    ) -> Result<Header, WriteError> {
        let inner = self.inner();
        let _gate = inner.enter();
        let id = known.header.id;
        let (draft, place, dir) = (
            inner.layout.partial_side(id),
            inner.layout.side(id),
            inner.layout.dir(id),
        );
        let io = WriteError::io(&draft);
        remove_if_there(&*inner.disk, &draft).map_err(&io)?;
        let file = inner.disk.create(&draft).map_err(&io)?;
        let writer = SidecarWriter::new(file);
        outboards(&writer).map_err(&io)?;
        let path = known.path.as_deref();
        let path_bytes = path.map_or(&b""[..], |path| path.as_os_str().as_encoded_bytes());
        let header = writer
            .finish(header, &mut entries.iter().copied(), path_bytes)
            .map_err(&io)?;
        inner
            .disk
            .rename(&draft, &place)
            .map_err(WriteError::io(&place))?;
        inner.disk.sync_dir(&dir).map_err(|e| {
            inner.poison(&dir);
            WriteError::io(&dir)(e)
        })?;
        let index = self.index();
        let changes = index.change()?;
        changes.put_container(&header, path)?;
        changes.commit()?;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_what_no_entry_covers() {
        let entry = |offset, len| ChunkEntry::plain(ChunkHash::of(b"x"), offset, len, None);
        assert_eq!(holes(&[], 10_000), [(0, 10_000)]);
        let kept = [
            entry(4096, 100),
            entry(4196, 4000),
            entry(20_000, 10),
            entry(20_100, 900),
        ];
        assert_eq!(
            holes(&kept, 30_000),
            [(0, 4096), (8196, 20_000), (21_000, 30_000)]
        );
        assert_eq!(holes(&[entry(0, 30_000)], 30_000), []);
    }
}
