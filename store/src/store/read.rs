//! Reading chunks: the places of a chunk in order, and bytes that are right or do not leave.

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{ReadError, Store};
use crate::{
    ChunkHash,
    container::{Container, ContainerId},
    index::{Known, Place},
    outboard::{self, Outboard},
    sidecar::{ChunkEntry, ContainerKind, Encoding, Sidecar, SidecarError},
};

/// A chunk, or document, that is open for reading.
#[derive(Debug)]
pub struct ChunkReader {
    hash: ChunkHash,
    len: u32,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Document(Bytes),
    Stored(Box<Stored>),
}

#[derive(Debug)]
struct Stored {
    store: Store,
    container: Arc<Container>,
    place: Place,
    outboard: OnceLock<Outboard>,
}

/// Where all of a file lies in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// Its path.
    pub path: PathBuf,
    /// Whether the user owns it; else it is a whole container of the home.
    pub outside: bool,
    /// The container.
    pub container: ContainerId,
}

impl Store {
    /// Opens a chunk or document: places of the home first, then files of users, then the log.
    ///
    /// Places that turn out to be gone or changed are given up, and the next is tried.
    ///
    /// # Errors
    /// [`ReadError`] when no place is left and one of them was damaged, or the index cannot be read.
    pub fn chunk(&self, hash: &ChunkHash) -> Result<Option<ChunkReader>, ReadError> {
        let mut container = None;
        let mut removals = None;
        while removals != Some(self.inner().open.removals()) {
            removals = Some(self.inner().open.removals());
            container = self.first_container(&self.places(hash)?)?;
        }
        if let Some((place, container)) = container {
            let len = place.entry.plain_len;
            let stored = Stored {
                store: self.clone(),
                container,
                place,
                outboard: OnceLock::new(),
            };
            return Ok(Some(ChunkReader {
                hash: *hash,
                len,
                source: Source::Stored(stored.into()),
            }));
        }
        let Some(bytes) = self.document(hash)? else {
            return Ok(None);
        };
        let len = u32::try_from(bytes.len()).expect("documents are bounded");
        Ok(Some(ChunkReader {
            hash: *hash,
            len,
            source: Source::Document(bytes),
        }))
    }

    fn first_container(
        &self,
        places: &[Place],
    ) -> Result<Option<(Place, Arc<Container>)>, ReadError> {
        for place in places {
            if let Some(container) = self.container_of(place)? {
                return Ok(Some((*place, container)));
            }
        }
        Ok(None)
    }

    /// Whether a chunk or document is held, as far as the index knows.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn holds(&self, hash: &ChunkHash) -> Result<bool, ReadError> {
        let index = self.index();
        Ok(index.has_place(hash)? || index.document(hash)?.is_some())
    }

    /// The container of a place, open; none, and the place given up, when it is not what it was.
    fn container_of(&self, place: &Place) -> Result<Option<Arc<Container>>, ReadError> {
        let inner = self.inner();
        if let Some(container) = inner.open.get(place.container) {
            match container.check_pins() {
                // a file that was replaced by another of the same path is found by its path
                Ok(true) if !container.is_outside() || self.same_by_path(&container) => {
                    return Ok(Some(container));
                }
                // it is suspect from now on
                Ok(false) if !container.is_outside() => return Ok(Some(container)),
                _ => {}
            }
            inner.open.forget(place.container);
            if container.is_outside() {
                self.give_up_outside(place.container, "the file changed");
                return Ok(None);
            }
        }
        let Some(known) = inner.index().container(place.container)? else {
            return Ok(None);
        };
        let opened = Container::open(
            &*inner.disk,
            &inner.layout,
            known.header,
            known.path.as_deref(),
        );
        match opened {
            Ok(container) => {
                if container.is_outside() && !container.check_pins().unwrap_or(false) {
                    self.give_up_outside(place.container, "the file changed");
                    return Ok(None);
                }
                let container = Arc::new(container);
                inner.open.put(container.clone());
                Ok(Some(container))
            }
            Err(error) if place.outside => {
                self.give_up_outside(place.container, &error.to_string());
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // collected between the look into the index and this one, or lost
                if inner.index().container(place.container)?.is_some() {
                    tracing::error!(container = %place.container, "a container is missing");
                }
                Ok(None)
            }
            Err(error) => Err(ReadError::io(
                &inner.layout.data(known.header.id, known.header.kind),
            )(error)),
        }
    }

    fn same_by_path(&self, container: &Container) -> bool {
        let stat = self.inner().disk.stat(&container.path);
        stat.is_ok_and(|stat| crate::sidecar::Pins::from(stat) == container.header.pins())
    }

    /// A file that holds exactly these chunks, one after the other: a whole container, or a file of a
    /// user that has not changed. Empty files have no place.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn place_of_file(
        &self,
        size: u64,
        chunks: &[ChunkHash],
    ) -> Result<Option<FilePlace>, ReadError> {
        let Some(first) = chunks.first() else {
            return Ok(None);
        };
        for place in self.index().places(first)? {
            let Some(known) = self.index().container(place.container)? else {
                continue;
            };
            if known.header.len != size
                || known.header.kind == ContainerKind::Pack
                || known.header.chunks as usize != chunks.len()
            {
                continue;
            }
            let Some(container) = self.container_of(&place)? else {
                continue;
            };
            if self.is_file(&known, chunks).unwrap_or(false) {
                return Ok(Some(FilePlace {
                    path: container.path.clone(),
                    outside: container.is_outside(),
                    container: place.container,
                }));
            }
        }
        Ok(None)
    }

    fn is_file(&self, known: &Known, chunks: &[ChunkHash]) -> Result<bool, SidecarError> {
        let inner = self.inner();
        let path = inner.layout.side(known.header.id);
        let sidecar = Sidecar::open(inner.disk.open(&path, crate::disk::Access::Read)?)?;
        let (mut at, mut number, mut same) = (0, 0, true);
        sidecar.entries(&mut |entry| {
            same &= entry.offset == at && chunks.get(number) == Some(&entry.hash);
            at += u64::from(entry.stored_len);
            number += 1;
            Ok::<_, SidecarError>(())
        })?;
        Ok(same && number == chunks.len() && at == known.header.len)
    }

    /// Gives up one place of a chunk whose bytes turned out to be wrong.
    fn give_up_place(&self, container: &Container, hash: &ChunkHash, what: &str) {
        let path = &container.path;
        tracing::error!(%hash, path = %path.display(), what, "wrong bytes; the chunk is not held there any more");
        let index = self.index();
        let removed = || {
            let changes = index.change()?;
            changes.remove_places(&container.header, &[*hash])?;
            changes.commit()
        };
        if let Err(error) = removed() {
            tracing::error!(%error, "a wrong place stays in the index");
        }
    }
}

impl ChunkReader {
    /// The chunk's hash.
    pub fn hash(&self) -> ChunkHash {
        self.hash
    }

    /// Bytes of the chunk.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the chunk has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether bytes are served as they are, without a hash: those of sealed containers that have not
    /// changed, and documents (which were checked when they were opened).
    pub fn is_trusted(&self) -> bool {
        match &self.source {
            Source::Document(_) => true,
            Source::Stored(stored) => stored.container.is_trusted(),
        }
    }

    /// Reads a range: from a trusted container a slice of its mapping, else bytes that were checked.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] or [`ReadError::Changed`] when the bytes are not the chunk's any more: open
    /// it again to read it from another place.
    pub fn read(&self, range: Range<u32>) -> Result<Bytes, ReadError> {
        if range.start > range.end || range.end > self.len {
            let Range { start, end } = range;
            return Err(ReadError::Range {
                start,
                end,
                len: self.len,
            });
        }
        match &self.source {
            Source::Document(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Source::Stored(_) if range.is_empty() => Ok(Bytes::new()),
            Source::Stored(stored) => {
                let bytes = stored.read(range)?;
                stored.store.inner().read.add_bytes(bytes.len());
                Ok(bytes)
            }
        }
    }

    /// The whole outboard, each pair of it checked; computed when there is none to be read.
    ///
    /// # Errors
    /// As [`ChunkReader::read`].
    pub fn outboard(&self) -> Result<Bytes, ReadError> {
        match &self.source {
            Source::Document(bytes) => Ok(outboard::compute(bytes).1.into()),
            Source::Stored(stored) => Ok(stored.outboard()?.pairs().clone()),
        }
    }
}

impl Stored {
    fn entry(&self) -> &ChunkEntry {
        &self.place.entry
    }

    fn read(&self, range: Range<u32>) -> Result<Bytes, ReadError> {
        if self.container.is_trusted() {
            return self.raw(range);
        }
        if self.container.is_outside() {
            self.check_pins()?;
        }
        if self.entry().encoding != Encoding::Plain {
            let all = self.raw(0..self.entry().plain_len)?;
            if ChunkHash::of(&all) != self.entry().hash {
                return Err(self.wrong("the hash of the chunk"));
            }
            return Ok(all.slice(range.start as usize..range.end as usize));
        }
        let outboard = self.outboard()?;
        let groups = outboard.around(range.clone());
        let bytes = self.raw(groups.clone())?;
        if let Err(error) = outboard.verify(groups.start, &bytes) {
            return Err(self.wrong(&error.to_string()));
        }
        if self.container.is_outside() {
            self.check_pins()?;
        }
        let start = (range.start - groups.start) as usize;
        Ok(bytes.slice(start..start + range.len()))
    }

    /// Bytes of the chunk as they are stored, decoded, unchecked unless the container is trusted.
    fn raw(&self, range: Range<u32>) -> Result<Bytes, ReadError> {
        let entry = self.entry();
        if entry.encoding != Encoding::Plain {
            let stored = self.bytes(entry.offset, entry.stored_len)?;
            let plain =
                crate::container::frames::decode(entry.encoding, &stored, entry.plain_len, range);
            return plain.map(Bytes::from).map_err(|what| self.wrong(what));
        }
        let len = range.end - range.start;
        self.bytes(entry.offset + u64::from(range.start), len)
    }

    fn bytes(&self, offset: u64, len: u32) -> Result<Bytes, ReadError> {
        self.container.bytes(offset, len).map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                self.wrong("the file is cut short")
            } else {
                ReadError::io(&self.container.path)(e)
            }
        })
    }

    fn outboard(&self) -> Result<&Outboard, ReadError> {
        if let Some(outboard) = self.outboard.get() {
            return Ok(outboard);
        }
        let entry = self.entry();
        let recent = &self.store.inner().recent;
        if let Some(outboard) = recent.outboard(&entry.hash) {
            return Ok(self.outboard.get_or_init(|| outboard));
        }
        let stored = match self.container.outboard(entry) {
            None if outboard::size(entry.plain_len) == 0 => Some(Bytes::new()),
            stored => stored,
        };
        let checked =
            stored.and_then(|pairs| Outboard::parse(entry.hash, entry.plain_len, pairs).ok());
        let outboard = match checked {
            Some(outboard) => outboard,
            None => {
                // lost or damaged: the chunk itself has all that it takes
                let computed = Outboard::of(&self.raw(0..entry.plain_len)?);
                if computed.root() != entry.hash {
                    return Err(self.wrong("the hash of the chunk"));
                }
                tracing::warn!(hash = %entry.hash, container = %self.place.container, "an outboard was lost or damaged, and computed again");
                computed
            }
        };
        recent.keep_outboard(&outboard);
        Ok(self.outboard.get_or_init(|| outboard))
    }

    /// For outside files: that they are what they were when they were hashed.
    fn check_pins(&self) -> Result<(), ReadError> {
        let same = self
            .container
            .check_pins()
            .map_err(ReadError::io(&self.container.path))?;
        if same {
            Ok(())
        } else {
            Err(self.wrong("the file changed"))
        }
    }

    /// Gives the place up.
    fn wrong(&self, what: &str) -> ReadError {
        self.store.inner().read.add_wrong();
        let (hash, path) = (self.entry().hash, self.container.path.clone());
        if self.container.is_outside() {
            self.store.inner().open.forget(self.place.container);
            self.store.give_up_outside(self.place.container, what);
            return ReadError::Changed { hash, path };
        }
        self.store.give_up_place(&self.container, &hash, what);
        ReadError::Corrupt {
            hash,
            path,
            what: what.to_owned(),
        }
    }
}
