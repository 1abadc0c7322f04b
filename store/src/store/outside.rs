//! Outside places: chunks in files that users own, pinned by what the files looked like when hashed.

use std::path::Path;

use super::{
    ReadError, Store, WriteError,
    write::{Sealing, check_file_table},
};
use crate::{
    container::ContainerId,
    disk::{Access, remove_if_there},
    index::Known,
    log::{Kind, Record},
    sidecar::{ChunkEntry, ContainerKind, Pins, Sidecar, SidecarError, SidecarWriter},
};

/// Chunks that are given up in one step.
const PAGE: usize = 4096;

/// Describes a file of a user: outboards in any order, then the table.
#[derive(Debug)]
pub struct OutsideWriter {
    store: Store,
    id: ContainerId,
    side: Option<SidecarWriter>,
}

impl Store {
    /// A writer for an outside place.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn outside_writer(&self) -> Result<OutsideWriter, WriteError> {
        let inner = self.inner();
        inner.writable()?;
        let id = inner.draw_id();
        let path = inner.layout.partial_side(id);
        let file = inner.disk.create(&path).map_err(WriteError::io(&path))?;
        Ok(OutsideWriter {
            store: self.clone(),
            id,
            side: Some(SidecarWriter::new(file)),
        })
    }

    /// Adds an outside place in one call: see [`OutsideWriter`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn add_outside(
        &self,
        path: &Path,
        pins: Pins,
        table: &[ChunkEntry],
        outboards: &[u8],
    ) -> Result<ContainerId, WriteError> {
        let writer = self.outside_writer()?;
        writer.write_outboard_at(0, outboards)?;
        writer.seal(path, pins, table, outboards.len() as u64)
    }

    /// What a file looks like now.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn pins(&self, path: &Path) -> Result<Pins, ReadError> {
        self.inner()
            .disk
            .stat(path)
            .map(Pins::from)
            .map_err(ReadError::io(path))
    }

    /// The outside place of a path, if there is one and the file has not changed since.
    ///
    /// # Errors
    /// When the index or the sidecar cannot be read.
    pub fn outside_at(&self, path: &Path) -> Result<Option<(Known, Vec<ChunkEntry>)>, ReadError> {
        let Some(id) = self.index().outside_at(path)? else {
            return Ok(None);
        };
        let Some(known) = self.index().container(id)? else {
            return Ok(None);
        };
        if self.pins(path).ok() != Some(known.header.pins()) {
            return Ok(None);
        }
        let inner = self.inner();
        let side = inner.layout.side(id);
        let io = ReadError::io(&side);
        let read = || {
            let sidecar = Sidecar::open(inner.disk.open(&side, Access::Read)?)?;
            let mut table = Vec::new();
            sidecar.entries(&mut |entry| {
                table.push(entry);
                Ok::<_, SidecarError>(())
            })?;
            Ok(table)
        };
        match read() {
            Ok(table) => Ok(Some((known, table))),
            Err(SidecarError::Io(e)) => Err(io(e)),
            Err(SidecarError::Damaged(_)) => Ok(None),
        }
    }

    /// Gives up an outside place: its chunks are not held there any more.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn drop_outside(&self, id: ContainerId, reason: &str) -> Result<(), WriteError> {
        let inner = self.inner();
        let index = self.index();
        let Some(known) = index.container(id)? else {
            return Ok(());
        };
        if known.header.kind != ContainerKind::Outside {
            return Ok(());
        }
        inner.open.forget(id);
        self.append(&[Record::gone(Kind::OutsideGone, id, reason)])?;
        self.forget_container(&known)?;
        let side = inner.layout.side(id);
        remove_if_there(&*inner.disk, &side).map_err(WriteError::io(&side))
    }

    /// Takes a container and its places out of the index at once.
    pub(crate) fn forget_container(&self, known: &Known) -> Result<(), WriteError> {
        let inner = self.inner();
        let id = known.header.id;
        let side = inner.layout.side(id);
        let index = self.index();
        let changes = index.change()?;
        let whole = inner
            .disk
            .open(&side, Access::Read)
            .map_err(SidecarError::Io)
            .and_then(Sidecar::open)
            .and_then(|sidecar| {
                let mut page = Vec::with_capacity(PAGE);
                let mut failed = None;
                sidecar.entries(&mut |entry| {
                    page.push(entry.hash);
                    if page.len() == PAGE && failed.is_none() {
                        failed = changes.remove_places(&known.header, &page).err();
                        page.clear();
                    }
                    Ok::<_, SidecarError>(())
                })?;
                Ok((page, failed))
            });
        changes.remove_container(id)?;
        match whole {
            Ok((page, None)) => {
                changes.remove_places(&known.header, &page)?;
            }
            Ok((_, Some(error))) => return Err(error.into()),
            // without its sidecar, a look at every place says which were in there
            Err(_) => changes.remove_stray_places()?,
        }
        Ok(changes.commit()?)
    }

    /// [`Store::drop_outside`] while reading, where a failure to note it must not hide the first one.
    pub(super) fn give_up_outside(&self, id: ContainerId, reason: &str) {
        tracing::warn!(container = %id, reason, "an outside file is given up; its chunks are not held there any more");
        if let Err(error) = self.drop_outside(id, reason) {
            tracing::error!(%error, "an outside file that changed stays in the index");
        }
    }
}

impl OutsideWriter {
    fn side(&self) -> &SidecarWriter {
        self.side
            .as_ref()
            .expect("there until the writer is sealed, which takes it")
    }

    /// Writes bytes of the outboards, whose layout is the caller's: the table says where each starts.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write_outboard_at(&self, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        let path = self.store.inner().layout.partial_side(self.id);
        self.side()
            .write_outboard_at(offset, data)
            .map_err(WriteError::io(&path))
    }

    /// Reads back bytes of the outboards.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn read_outboard_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, WriteError> {
        let path = self.store.inner().layout.partial_side(self.id);
        self.side()
            .read_outboard_at(offset, len)
            .map_err(WriteError::io(&path))
    }

    /// Makes the place known: `path` (absolute) held the chunks of `table`, one after the other, while
    /// it looked like `pins`. An earlier place of the same path is given up.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn seal(
        mut self,
        path: &Path,
        pins: Pins,
        table: &[ChunkEntry],
        outboards_len: u64,
    ) -> Result<ContainerId, WriteError> {
        if !path.is_absolute() {
            return Err(WriteError::Table(format!(
                "{} is not absolute",
                path.display()
            )));
        }
        check_file_table(table, pins.len)?;
        let earlier = self.store.index().outside_at(path)?;
        let id = self.store.publish(&Sealing {
            id: self.id,
            kind: ContainerKind::Outside,
            side: self.side(),
            outboards_len,
            table,
            data: None,
            outside: Some((path, pins)),
        })?;
        self.side = None;
        if let Some(earlier) = earlier {
            self.store
                .drop_outside(earlier, "the file was added again")?;
        }
        Ok(id)
    }
}

impl Drop for OutsideWriter {
    fn drop(&mut self) {
        if self.side.take().is_some() {
            let inner = self.store.inner();
            // what stays is removed at the next opening
            let _ = remove_if_there(&*inner.disk, &inner.layout.partial_side(self.id));
        }
    }
}
