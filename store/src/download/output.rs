//! Files that are written at final offsets: a whole container of the home, or a part file of a user's folder.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    DownloadError,
    folder::{self, There},
    layout::{Plan, Span},
};
use crate::{
    Store,
    container::ContainerId,
    disk::{Access, Disk, DiskFile, remove_if_there},
    outboard::{self, Outboard},
    sidecar::{ChunkEntry, Pins},
    store::{OutsideWriter, WholeWriter},
    tree::ChunkList,
};
/// Where each chunk's outboard is among the outboards of a file, and the table that says so.
#[derive(Debug)]
pub(super) struct Outboards {
    /// For each chunk, where its outboard starts; that of the first of the same content.
    starts: Vec<u64>,
    pub(super) len: u64,
}

impl Outboards {
    pub(super) fn new(plan: &Plan, list: &ChunkList) -> Self {
        let mut starts: Vec<u64> = Vec::with_capacity(list.len());
        let mut len = 0;
        for (number, chunk_len) in (0_u32..).zip(&list.lengths) {
            let first = plan.first(number).unwrap_or(number);
            if first == number {
                starts.push(len);
                len += u64::from(outboard::size(*chunk_len));
            } else {
                starts.push(starts[first as usize]);
            }
        }
        Self { starts, len }
    }

    pub(super) fn start(&self, chunk: u32) -> u64 {
        self.starts[chunk as usize]
    }

    /// The table of a file that is the chunks of `list`, one after the other.
    pub(super) fn table(&self, list: &ChunkList) -> Vec<ChunkEntry> {
        list.iter()
            .zip(&list.lengths)
            .zip(&self.starts)
            .map(|(((hash, range), len), start)| {
                let outboard = (outboard::size(*len) > 0).then_some(*start);
                ChunkEntry::plain(hash, range.start, *len, outboard)
            })
            .collect()
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) enum Output {
    Whole(WholeWriter),
    Part(PartFile),
}

impl Output {
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), DownloadError> {
        match self {
            Self::Whole(writer) => Ok(writer.write_at(offset, data)?),
            Self::Part(part) => part
                .file
                .write_at(data, offset)
                .map_err(DownloadError::io(&part.part)),
        }
    }

    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DownloadError> {
        match self {
            Self::Whole(writer) => Ok(writer.read_at(offset, buffer)?),
            Self::Part(part) => part
                .file
                .read_exact_at(buffer, offset)
                .map_err(DownloadError::io(&part.part)),
        }
    }

    pub(super) fn write_outboard_at(&self, offset: u64, data: &[u8]) -> Result<(), DownloadError> {
        match self {
            Self::Whole(writer) => Ok(writer.write_outboard_at(offset, data)?),
            Self::Part(PartFile {
                side: Some(side), ..
            }) => Ok(side.write_outboard_at(offset, data)?),
            Self::Part(_) => Ok(()),
        }
    }

    /// What is there of an outboard; unchecked.
    pub(super) fn read_outboard_at(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        match self {
            Self::Whole(writer) => writer.read_outboard_at(offset, len).ok(),
            Self::Part(part) => part.side.as_ref()?.read_outboard_at(offset, len).ok(),
        }
    }

    /// Whether outboards are kept.
    pub(super) fn has_outboards(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Part(part) => part.side.is_some(),
        }
    }

    pub(super) fn sync(&self) -> Result<(), DownloadError> {
        match self {
            Self::Whole(writer) => Ok(writer.sync()?),
            Self::Part(part) => part.sync(),
        }
    }

    /// The file that is being written.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Whole(writer) => writer.path(),
            Self::Part(part) => &part.part,
        }
    }

    /// Writes bytes from `offset` of a chunk to all places that want them.
    pub(super) fn spread(
        &self,
        plan: &Plan,
        chunk: u32,
        offset: u32,
        data: &[u8],
    ) -> Result<(), DownloadError> {
        let end = u32::try_from(data.len())
            .ok()
            .and_then(|len| offset.checked_add(len));
        let range = offset..end.ok_or(DownloadError::OutOfChunk { chunk, offset })?;
        for span in plan.spans(chunk, &range) {
            let mut parts = span
                .parts()
                .map(|part| &data[(part.start - offset) as usize..(part.end - offset) as usize]);
            let Some(first) = parts.next() else { continue };
            if first.len() as u64 == span.len {
                self.write_at(span.target, first)?;
                continue;
            }
            // runs lie side by side in the target: one write for all of them
            let bytes = std::iter::once(first).chain(parts).flatten();
            self.write_at(span.target, &bytes.copied().collect::<Vec<u8>>())?;
        }
        Ok(())
    }

    /// Reads the wanted bytes in `range` of a chunk back, one after the other; none if two places that
    /// want the same bytes differ, or the file is too short.
    pub(super) fn gather(
        &self,
        plan: &Plan,
        chunk: u32,
        range: &Range<u32>,
    ) -> Result<Option<Vec<u8>>, DownloadError> {
        let mut spans = plan.spans(chunk, range).peekable();
        let Some(first) = spans.next() else {
            return Ok(Some(Vec::new()));
        };
        if spans.peek().is_none() {
            // the target has them in the order of the chunk
            return self.read_span(&first);
        }
        let mut bytes = vec![0; range.len()];
        let mut filled = vec![false; range.len()];
        for span in std::iter::once(first).chain(spans) {
            let Some(found) = self.read_span(&span)? else {
                return Ok(None);
            };
            let mut rest = &found[..];
            for part in span.parts() {
                let (found, after) = rest.split_at(part.len());
                rest = after;
                let at = (part.start - range.start) as usize..(part.end - range.start) as usize;
                let places = bytes[at.clone()].iter_mut().zip(&mut filled[at]);
                for ((byte, filled), found) in places.zip(found) {
                    if std::mem::replace(filled, true) && *byte != *found {
                        return Ok(None);
                    }
                    *byte = *found;
                }
            }
        }
        let wanted = bytes.into_iter().zip(filled);
        let wanted = wanted.filter_map(|(byte, filled)| filled.then_some(byte));
        Ok(Some(wanted.collect()))
    }

    fn read_span(&self, span: &Span) -> Result<Option<Vec<u8>>, DownloadError> {
        let len = usize::try_from(span.len).expect("at most the bytes of a chunk");
        let mut bytes = vec![0; len];
        match self.read_at(span.target, &mut bytes) {
            Err(DownloadError::Io { source, .. })
                if source.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Ok(None)
            }
            done => done.map(|()| Some(bytes)),
        }
    }

    /// Makes sure that the outboard of a chunk that is wholly there is: checks it, or computes it again.
    /// False when the bytes are not the chunk's.
    pub(super) fn settle_outboard(
        &self,
        plan: &Plan,
        list: &ChunkList,
        outboards: &Outboards,
        chunk: u32,
    ) -> Result<bool, DownloadError> {
        let (hash, len) = (list.hashes[chunk as usize], list.lengths[chunk as usize]);
        let (start, size) = (outboards.start(chunk), outboard::size(len) as usize);
        if size == 0 {
            return Ok(true);
        }
        let there = self
            .read_outboard_at(start, size)
            .is_some_and(|pairs| Outboard::parse(hash, len, pairs.into()).is_ok());
        if there {
            return Ok(true);
        }
        let bytes = self.gather(plan, chunk, &(0..len))?;
        let Some((root, pairs)) = bytes.map(|bytes| outboard::compute(&bytes)) else {
            return Ok(false);
        };
        if root != hash {
            return Ok(false);
        }
        self.write_outboard_at(start, &pairs)?;
        Ok(true)
    }
}

/// Where a file of a user goes.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    /// Relative to the root, as the tree says it.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) part: PathBuf,
    pub(super) exec: bool,
    pub(super) force: bool,
}

/// A part file that has got its name.
#[derive(Debug)]
pub(super) struct Placed {
    /// The outside place that it became.
    pub(super) container: Option<ContainerId>,
    /// What it looks like.
    pub(super) pins: Pins,
}

/// A hidden file beside the place of the one that it becomes.
#[derive(Debug)]
pub(super) struct PartFile {
    store: Store,
    place: Place,
    part: PathBuf,
    file: Arc<dyn DiskFile>,
    pub(super) side: Option<OutsideWriter>,
}

impl PartFile {
    fn disk(&self) -> &dyn Disk {
        &*self.store.inner().disk
    }

    /// Creates the part file, in place of one that nobody goes on with, and takes its room.
    pub(super) fn create(
        store: &Store,
        place: &Place,
        len: u64,
        outboards: bool,
    ) -> Result<Self, DownloadError> {
        let disk = &*store.inner().disk;
        let io = DownloadError::io(&place.part);
        if folder::look(disk, &place.part)? != There::Nothing {
            disk.remove(&place.part).map_err(&io)?;
        }
        let side = outboards.then(|| store.outside_writer()).transpose()?;
        let file = disk.create(&place.part).map_err(&io)?;
        let part = Self {
            store: store.clone(),
            place: place.clone(),
            part: place.part.clone(),
            file,
            side,
        };
        if let Err(e) = part.file.allocate(len) {
            part.discard();
            return Err(io(e));
        }
        Ok(part)
    }

    /// Opens the part file of an earlier try, if it is there and has its length.
    pub(super) fn resume(
        store: &Store,
        place: &Place,
        len: u64,
        outboards: bool,
    ) -> Result<Option<Self>, DownloadError> {
        let disk = &*store.inner().disk;
        if folder::look(disk, &place.part)? != There::File {
            return Ok(None);
        }
        let io = DownloadError::io(&place.part);
        let file = disk.open(&place.part, Access::Write).map_err(&io)?;
        if file.stat().map_err(&io)?.len != len {
            return Ok(None);
        }
        let side = outboards.then(|| store.outside_writer()).transpose()?;
        Ok(Some(Self {
            store: store.clone(),
            place: place.clone(),
            part: place.part.clone(),
            file,
            side,
        }))
    }

    fn sync(&self) -> Result<(), DownloadError> {
        let dir = self.part.parent().unwrap_or(Path::new("/"));
        self.file
            .sync_data()
            .map_err(DownloadError::io(&self.part))?;
        self.disk().sync_dir(dir).map_err(DownloadError::io(dir))
    }

    /// Removes the part file.
    pub(super) fn discard(&self) {
        if let Err(error) = remove_if_there(self.disk(), &self.part) {
            tracing::warn!(%error, path = %self.part.display(), "a part file stays behind");
        }
    }

    /// Gives the file its name, durable, and makes it an outside place.
    pub(super) fn place(
        mut self,
        table: &[ChunkEntry],
        outboards_len: u64,
    ) -> Result<Placed, DownloadError> {
        let disk = self.store.inner().disk.clone();
        let io = DownloadError::io(&self.part);
        let path = self.place.path.clone();
        self.file.set_exec(self.place.exec).map_err(&io)?;
        self.file.sync_all().map_err(&io)?;
        folder::walk(&*disk, &self.place.root, &self.place.name, false)?;
        let stat = self.file.stat().map_err(&io)?;
        let same = disk
            .stat(&self.part)
            .is_ok_and(|by_path| (by_path.device, by_path.inode) == (stat.device, stat.inode));
        if !same {
            return Err(DownloadError::Changed { path: self.part });
        }
        match folder::look(&*disk, &path)? {
            There::Nothing => {}
            There::Folder => {
                let found = "a folder where a file must be";
                return Err(DownloadError::InTheWay { path, found });
            }
            There::File | There::Link if self.place.force => {}
            There::Link => return Err(DownloadError::Exists { path }),
            There::File => {
                let there = disk.stat(&path).map_err(DownloadError::io(&path))?;
                if !self.equals(&path, stat.len)? {
                    return Err(DownloadError::Exists { path });
                }
                if self.side.is_none() {
                    self.discard();
                    return Ok(Placed {
                        container: None,
                        pins: there.into(),
                    });
                }
            }
        }
        disk.rename(&self.part, &path)
            .map_err(DownloadError::io(&path))?;
        let dir = path.parent().unwrap_or(&self.place.root);
        disk.sync_dir(dir).map_err(DownloadError::io(dir))?;
        let pins = Pins::from(self.file.stat().map_err(DownloadError::io(&path))?);
        let container = match self.side.take() {
            Some(side) if !table.is_empty() => {
                Some(side.seal(&path, pins, table, outboards_len)?)
            }
            _ => None,
        };
        Ok(Placed { container, pins })
    }

    /// Whether the file at `path` has the same bytes.
    fn equals(&self, path: &Path, len: u64) -> Result<bool, DownloadError> {
        const STEP: u64 = 1 << 20;
        let io = DownloadError::io(path);
        let other = self.disk().open(path, Access::Read).map_err(&io)?;
        if other.stat().map_err(&io)?.len != len {
            return Ok(false);
        }
        let mut at = 0;
        while at < len {
            let step = usize::try_from(STEP.min(len - at)).expect("at most a MiB");
            let theirs = other.read_vec_at(at, step).map_err(&io)?;
            let ours = self.file.read_vec_at(at, step);
            if ours.map_err(DownloadError::io(&self.part))? != theirs {
                return Ok(false);
            }
            at += step as u64;
        }
        Ok(true)
    }
}

/// A file of a user that is what was asked for already.
#[derive(Debug)]
pub(super) struct KeptFile {
    place: Place,
    file: Arc<dyn DiskFile>,
    pins: Pins,
    side: Option<OutsideWriter>,
    registered: Option<ContainerId>,
}

impl KeptFile {
    /// The file at `place`, if it has the content of `list`: hashed, unless it is an outside place that
    /// has not changed.
    pub(super) fn find(
        store: &Store,
        place: &Place,
        list: &ChunkList,
        outboards: &Outboards,
    ) -> Result<Option<Self>, DownloadError> {
        let io = DownloadError::io(&place.path);
        let disk = &*store.inner().disk;
        let file = disk.open(&place.path, Access::Read).map_err(&io)?;
        let pins = Pins::from(file.stat().map_err(&io)?);
        if pins.len != list.size() {
            return Ok(None);
        }
        if let Some((known, table)) = store.outside_at(&place.path)? {
            let same = known.header.pins() == pins
                && table.len() == list.len()
                && table
                    .iter()
                    .zip(&list.hashes)
                    .all(|(e, hash)| e.hash == *hash);
            if same {
                return Ok(Some(Self {
                    place: place.clone(),
                    file,
                    pins,
                    side: None,
                    registered: Some(known.header.id),
                }));
            }
        }
        let side = store.outside_writer()?;
        let chunks: Vec<_> = (0_u32..).zip(list.iter()).collect();
        let same = super::all(&chunks, list.size(), |(number, (hash, range))| {
            let len = list.lengths[*number as usize] as usize;
            let (root, pairs) =
                outboard::compute(&file.read_vec_at(range.start, len).map_err(&io)?);
            if root == *hash {
                side.write_outboard_at(outboards.start(*number), &pairs)?;
            }
            Ok::<_, DownloadError>(root == *hash)
        })?;
        let after = Pins::from(file.stat().map_err(&io)?);
        Ok((same && after == pins).then(|| Self {
            place: place.clone(),
            file,
            pins,
            side: Some(side),
            registered: None,
        }))
    }

    /// Makes the file an outside place.
    pub(super) fn place(
        self,
        store: &Store,
        list: &ChunkList,
        outboards: &Outboards,
    ) -> Result<Option<ContainerId>, DownloadError> {
        let path = &self.place.path;
        let io = DownloadError::io(path);
        let changed = || DownloadError::Changed { path: path.clone() };
        if Pins::from(self.file.stat().map_err(&io)?) != self.pins {
            return Err(changed());
        }
        self.file.set_exec(self.place.exec).map_err(&io)?;
        let pins = Pins::from(self.file.stat().map_err(&io)?);
        match self.side {
            Some(side) if !list.is_empty() => {
                let table = outboards.table(list);
                Ok(Some(side.seal(path, pins, &table, outboards.len)?))
            }
            None if pins != self.pins => {
                // its mode was another: what is registered is out of date
                let again = Self::find(store, &self.place, list, outboards)?;
                again.ok_or_else(changed)?.place(store, list, outboards)
            }
            _ => Ok(self.registered),
        }
    }
}
