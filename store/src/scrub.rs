//! Scrub: every stored byte is read and checked against its hash.
//!
//! What is wrong is taken out of index and sidecar, so that it is fetched again; what is right in a
//! container that had become suspect is trusted again; outboards and sidecars that are lost or damaged
//! are made anew from the bytes that they describe. One chunk is in memory at a time.

use std::{path::PathBuf, sync::PoisonError};

use crate::{
    ChunkHash, ErrorKind, Store,
    container::{ContainerId, frames},
    disk::{Access, DiskFile},
    index::Known,
    log::{Damage, LogError},
    outboard,
    sidecar::{ChunkEntry, ContainerKind, Encoding, Pins, Sidecar, SidecarError},
    store::{ReadError, WriteError},
};

/// What a scrub found, and did about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scrubbed {
    /// Containers and outside files that were read.
    pub containers: u64,
    /// Chunks that were hashed.
    pub chunks: u64,
    /// Bytes of chunks that were hashed.
    pub bytes: u64,
    /// Chunks whose bytes are wrong; not held there any more.
    pub wrong_chunks: Vec<WrongChunk>,
    /// Outside files that changed or are gone; given up.
    pub outside_changed: Vec<PathBuf>,
    /// Outboards that were wrong, and made anew.
    pub outboards_mended: u64,
    /// Sidecars that were lost or damaged, and made anew.
    pub sidecars_mended: Vec<PathBuf>,
    /// Containers whose file is missing; given up.
    pub containers_lost: Vec<PathBuf>,
    /// Containers that had changed, and hold what they held.
    pub containers_cleared: u64,
    /// Damage in the log.
    pub log_damage: Vec<Damage>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Scrubbed {
    /// Whether bytes of the home are wrong or lost. A changed file of a user is not.
    pub fn found_damage(&self) -> bool {
        !(self.wrong_chunks.is_empty()
            && self.sidecars_mended.is_empty()
            && self.containers_lost.is_empty()
            && self.log_damage.is_empty())
            || self.outboards_mended > 0
    }
}

/// A chunk whose stored bytes are not its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongChunk {
    /// The chunk.
    pub hash: ChunkHash,
    /// The file.
    pub path: PathBuf,
    /// Byte of the file at which it starts.
    pub offset: u64,
}

/// How far a scrub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Bytes of all containers and outside files, as far as the index knows.
    pub bytes_total: u64,
}

/// Why a scrub ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrubError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was found could not be noted.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl ScrubError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(e) => e.kind(),
            Self::Write(e) => e.kind(),
        }
    }
}

impl From<crate::index::IndexError> for ScrubError {
    fn from(error: crate::index::IndexError) -> Self {
        Self::Read(error.into())
    }
}

struct Run<'a> {
    store: &'a Store,
    done: Scrubbed,
    total: u64,
    progress: &'a mut dyn FnMut(ScrubProgress) -> bool,
}

impl Store {
    /// Reads and checks everything. `progress` is called often, and stops the scrub by answering false.
    ///
    /// # Errors
    /// [`ScrubError`]; damage is no error, but what is returned.
    pub fn scrub(
        &self,
        progress: &mut dyn FnMut(ScrubProgress) -> bool,
    ) -> Result<Scrubbed, ScrubError> {
        let mut run = Run {
            store: self,
            done: Scrubbed::default(),
            total: 0,
            progress,
        };
        run.each_container(&mut |run, known| {
            run.total += known.header.len;
            Ok(true)
        })?;
        run.log()?;
        run.each_container(&mut |run, known| {
            run.container(known)?;
            run.done.containers += 1;
            Ok(run.go_on())
        })?;
        Ok(run.done)
    }
}

/// What a chunk's place turned out to be.
enum Checked {
    Right { pairs: Vec<u8> },
    Wrong,
}

type Each<'r, 'a> = &'r mut dyn FnMut(&mut Run<'a>, &Known) -> Result<bool, ScrubError>;

impl<'a> Run<'a> {
    fn go_on(&mut self) -> bool {
        let progress = ScrubProgress {
            bytes: self.done.bytes,
            bytes_total: self.total,
        };
        let go_on = (self.progress)(progress);
        self.done.stopped |= !go_on;
        go_on
    }

    fn each_container(&mut self, each: Each<'_, 'a>) -> Result<(), ScrubError> {
        let mut after = None;
        loop {
            let page = self.store.index().containers_after(after, 256)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.header.id);
            for known in page {
                if !each(self, &known)? {
                    return Ok(());
                }
            }
        }
    }

    fn log(&mut self) -> Result<(), ScrubError> {
        for segment in self.store.log_segments() {
            let scanned = self.store.inner().log.scan(&segment, true, &mut |_| Ok(()));
            match scanned {
                Ok(recovered) => self.done.log_damage.extend(recovered.damage),
                Err(LogError::Io { path, source }) => {
                    return Err(ReadError::Io { path, source }.into());
                }
                Err(error) => tracing::error!(%error, "a segment cannot be checked"),
            }
            if !self.go_on() {
                break;
            }
        }
        Ok(())
    }

    fn container(&mut self, known: &Known) -> Result<(), ScrubError> {
        let store = self.store;
        let inner = store.inner();
        let id = known.header.id;
        let _upkeep = inner.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        // it may have been collected, or shrunk, since it was listed
        let Some(known) = &store.index().container(id)? else {
            return Ok(());
        };
        let outside = known.header.kind == ContainerKind::Outside;
        let path = match &known.path {
            Some(path) => path.clone(),
            None => inner.layout.data(id, known.header.kind),
        };
        let file = match inner.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if outside => {
                store.drop_outside(id, &error.to_string())?;
                self.done.outside_changed.push(path);
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if store.index().container(id)?.is_some() {
                    self.lose(known, path)?;
                }
                return Ok(());
            }
            Err(error) => return Err(ReadError::io(&path)(error).into()),
        };
        let stat = file.stat().map_err(ReadError::io(&path))?;
        if outside && Pins::from(stat) != known.header.pins() {
            store.drop_outside(id, "the file changed")?;
            self.done.outside_changed.push(path);
            return Ok(());
        }
        let (sidecar, entries) = self.table(known)?;
        let checked = self.check(known, &path, &*file, sidecar.as_ref(), &entries)?;
        let Some(Good { right, mended }) = checked else {
            return Ok(());
        };
        if outside {
            if right.len() < entries.len() {
                store.drop_outside(id, "wrong bytes")?;
                self.done.outside_changed.push(path);
            } else if sidecar.is_none() || mended > 0 {
                self.mend(
                    known,
                    &file,
                    known.header.pins(),
                    &right,
                    sidecar.is_none(),
                    mended,
                )?;
            }
            return Ok(());
        }
        let same = stat.len == known.header.len && stat.mtime_ns == known.header.mtime_ns;
        if same && right.len() == entries.len() && sidecar.is_some() && mended == 0 {
            return Ok(());
        }
        if file.stat().map_err(ReadError::io(&path))?.mtime_ns != stat.mtime_ns {
            // somebody is at it right now: it stays suspect
            return Ok(());
        }
        let pins = Pins {
            device: 0,
            inode: 0,
            ctime_ns: 0,
            ..stat.into()
        };
        self.mend(known, &file, pins, &right, sidecar.is_none(), mended)?;
        inner.open.forget(id);
        if !same && right.len() == entries.len() {
            self.done.containers_cleared += 1;
        }
        Ok(())
    }

    /// The sidecar, if it can be used, and the chunk table: else from the index.
    fn table(&self, known: &Known) -> Result<(Option<Sidecar>, Vec<ChunkEntry>), ScrubError> {
        let inner = self.store.inner();
        let side = inner.layout.side(known.header.id);
        let mut entries = Vec::new();
        let opened = inner
            .disk
            .open(&side, Access::Read)
            .map_err(SidecarError::Io);
        let opened = opened.and_then(Sidecar::open).and_then(|sidecar| {
            sidecar.entries(&mut |entry| {
                entries.push(entry);
                Ok::<_, SidecarError>(())
            })?;
            Ok(sidecar)
        });
        match opened {
            Ok(sidecar) => Ok((Some(sidecar), entries)),
            Err(error) => {
                tracing::error!(path = %side.display(), %error, "a sidecar is made anew");
                let mut entries = self.store.index().entries_of(known.header.id)?;
                entries.sort_by_key(|entry| entry.offset);
                Ok((None, entries))
            }
        }
    }

    /// Hashes every chunk of a container; none when it was stopped.
    fn check(
        &mut self,
        known: &Known,
        path: &std::path::Path,
        file: &dyn DiskFile,
        sidecar: Option<&Sidecar>,
        entries: &[ChunkEntry],
    ) -> Result<Option<Good>, ScrubError> {
        let mut good = Good {
            right: Vec::with_capacity(entries.len()),
            mended: 0,
        };
        let mut wrong = Vec::new();
        for entry in entries {
            match check_chunk(file, entry).map_err(ReadError::io(path))? {
                Checked::Right { pairs } => {
                    good.right.push(*entry);
                    let stored = sidecar.and_then(|s| s.outboard(entry).ok().flatten());
                    if sidecar.is_some()
                        && stored.is_none_or(|stored| stored != pairs)
                        && !pairs.is_empty()
                    {
                        good.mended += 1;
                    }
                }
                Checked::Wrong => {
                    wrong.push(entry.hash);
                    if known.header.kind != ContainerKind::Outside {
                        let (hash, offset) = (entry.hash, entry.offset);
                        self.done.wrong_chunks.push(WrongChunk {
                            hash,
                            path: path.to_owned(),
                            offset,
                        });
                    }
                }
            }
            self.done.chunks += 1;
            self.done.bytes += u64::from(entry.stored_len);
            if !self.go_on() {
                return Ok(None);
            }
        }
        if !wrong.is_empty() {
            let index = self.store.index();
            let changes = index.change()?;
            changes.remove_places(&known.header, &wrong)?;
            changes.commit()?;
        }
        Ok(Some(good))
    }

    /// Writes the sidecar anew: the chunks that are right, with outboards computed from them.
    fn mend(
        &mut self,
        known: &Known,
        file: &std::sync::Arc<dyn DiskFile>,
        pins: Pins,
        right: &[ChunkEntry],
        was_lost: bool,
        mended: u64,
    ) -> Result<(), ScrubError> {
        let store = self.store;
        let inner = store.inner();
        let id = known.header.id;
        let mut entries = right.to_vec();
        let mut outboards_len = 0;
        for entry in &mut entries {
            let size = u64::from(outboard::size(entry.plain_len));
            entry.outboard = (size > 0).then_some(outboards_len);
            outboards_len += size;
        }
        let header = crate::sidecar::Header {
            len: pins.len,
            mtime_ns: pins.mtime_ns,
            outboards_len,
            ..known.header
        };
        let header = store.rewrite_sidecar(known, header, &entries, |writer| {
            for entry in &entries {
                if let (Some(at), Checked::Right { pairs }) =
                    (entry.outboard, check_chunk(&**file, entry)?)
                {
                    writer.write_outboard_at(at, &pairs)?;
                }
            }
            Ok(())
        })?;
        let index = store.index();
        for page in entries.chunks(4096) {
            let changes = index.change()?;
            changes.put_places(&header, page)?;
            changes.commit()?;
        }
        inner.open.forget(id);
        if was_lost {
            self.done.sidecars_mended.push(inner.layout.side(id));
        }
        self.done.outboards_mended += mended;
        Ok(())
    }

    /// Gives up a container whose file is gone.
    fn lose(&mut self, known: &Known, path: PathBuf) -> Result<(), ScrubError> {
        let store = self.store;
        let id = known.header.id;
        tracing::error!(path = %path.display(), "a container is missing");
        store.lose_container(known)?;
        store.inner().open.forget(id);
        self.done.containers_lost.push(path);
        Ok(())
    }
}

struct Good {
    right: Vec<ChunkEntry>,
    /// Outboards that are not those of their chunk.
    mended: u64,
}

fn check_chunk(file: &dyn DiskFile, entry: &ChunkEntry) -> std::io::Result<Checked> {
    let stored = match file.read_vec_at(entry.offset, entry.stored_len as usize) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Checked::Wrong),
        other => other?,
    };
    let plain = if entry.encoding == Encoding::Plain {
        stored
    } else {
        match frames::decode(entry.encoding, &stored, entry.plain_len, 0..entry.plain_len) {
            Ok(plain) => plain,
            Err(_) => return Ok(Checked::Wrong),
        }
    };
    let (hash, pairs) = outboard::compute(&plain);
    Ok(if hash == entry.hash {
        Checked::Right { pairs }
    } else {
        Checked::Wrong
    })
}

impl Store {
    /// Notes that a container of the home is gone, and takes it out of the index.
    fn lose_container(&self, known: &Known) -> Result<(), WriteError> {
        let id: ContainerId = known.header.id;
        let record =
            crate::log::Record::gone(crate::log::Kind::ContainerGone, id, "the file is missing");
        self.append(&[record])?;
        self.forget_container(known)?;
        let inner = self.inner();
        let side = inner.layout.side(id);
        crate::disk::remove_if_there(&*inner.disk, &side).map_err(WriteError::io(&side))
    }
}
