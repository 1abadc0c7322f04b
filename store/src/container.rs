//! Containers: the sealed files that hold chunks, opened for reading.
//!
//! A container of the home (whole or pack) is *trusted* while its length and time of modification are
//! those that its sidecar pins: its bytes are mapped and served as they are. When they differ it is
//! *suspect* for as long as it is open: nothing is mapped, and every byte is checked against its chunk's
//! hash before it leaves. Files of users (outside) are never trusted and never mapped.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;

pub(crate) mod frames;

use crate::{
    disk::{Access, Disk, DiskFile, mmap},
    limits::CONTAINERS_OPEN_MAX,
    outboard,
    sidecar::{ChunkEntry, ContainerKind, HEADER_BYTES, Header, Pins},
};

/// Names a container: random, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub u64);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerId({self})")
    }
}

impl FromStr for ContainerId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let id = u64::from_str_radix(text, 16).map(Self).map_err(|_| ())?;
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(())
        }
    }
}

/// Where the files of containers are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    containers: PathBuf,
    partial: PathBuf,
}

impl Layout {
    pub(crate) fn new(home: &Path) -> Self {
        Self {
            containers: home.join("containers"),
            partial: home.join("partial"),
        }
    }

    pub(crate) fn containers(&self) -> &Path {
        &self.containers
    }

    pub(crate) fn partial_dir(&self) -> &Path {
        &self.partial
    }

    /// The folder of a container: one of 256, by the first byte of its id.
    pub(crate) fn dir(&self, id: ContainerId) -> PathBuf {
        self.containers.join(&id.to_string()[..2])
    }

    /// The file of a container of the home.
    pub(crate) fn data(&self, id: ContainerId, kind: ContainerKind) -> PathBuf {
        self.dir(id).join(format!("{id}.{}", extension(kind)))
    }

    pub(crate) fn side(&self, id: ContainerId) -> PathBuf {
        self.dir(id).join(format!("{id}.side"))
    }

    pub(crate) fn partial_data(&self, id: ContainerId, kind: ContainerKind) -> PathBuf {
        self.partial.join(format!("{id}.{}", extension(kind)))
    }

    pub(crate) fn partial_side(&self, id: ContainerId) -> PathBuf {
        self.partial.join(format!("{id}.side"))
    }
}

fn extension(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Whole => "whole",
        ContainerKind::Pack => "pack",
        ContainerKind::Outside => "outside",
    }
}

/// A container that is open for reading.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    file: Arc<dyn DiskFile>,
    side: Option<Arc<dyn DiskFile>>,
    map: Option<Bytes>,
    /// Shared with every slice of the mapping.
    slices: Arc<()>,
    suspect: AtomicBool,
    used: AtomicU64,
}

impl Container {
    /// Opens the container that `header` and, for an outside file, `path` describe.
    pub(crate) fn open(
        disk: &dyn Disk,
        layout: &Layout,
        header: Header,
        path: Option<&Path>,
    ) -> io::Result<Self> {
        let outside = header.kind == ContainerKind::Outside;
        let path = match path {
            Some(path) if outside => path.to_owned(),
            _ => layout.data(header.id, header.kind),
        };
        let file = disk.open(&path, Access::Read)?;
        // a lost sidecar costs its outboards, which are computed again
        let side = disk.open(&layout.side(header.id), Access::Read).ok();
        let stat = file.stat()?;
        let suspect = outside || stat.len != header.len || stat.mtime_ns != header.mtime_ns;
        let slices = Arc::new(());
        let map = if suspect {
            None
        } else {
            Some(Bytes::from_owner(Held {
                bytes: file.map()?,
                _slices: slices.clone(),
            }))
        };
        if suspect && !outside {
            tracing::warn!(path = %path.display(), "a container changed; its chunks are checked as they are read, until a scrub");
        }
        let (suspect, used) = (AtomicBool::new(suspect), AtomicU64::new(0));
        Ok(Self {
            header,
            path,
            file,
            side,
            map,
            slices,
            suspect,
            used,
        })
    }

    /// Whether its bytes are the file as it was sealed or hashed: looks again.
    pub(crate) fn check_pins(&self) -> io::Result<bool> {
        let stat = self.file.stat()?;
        if self.is_outside() {
            return Ok(Pins::from(stat) == self.header.pins());
        }
        let same = stat.len == self.header.len && stat.mtime_ns == self.header.mtime_ns;
        if !same {
            self.suspect.store(true, Ordering::Relaxed);
        }
        Ok(same)
    }

    pub(crate) fn is_outside(&self) -> bool {
        self.header.kind == ContainerKind::Outside
    }

    /// Whether its bytes may be served as they are.
    pub(crate) fn is_trusted(&self) -> bool {
        self.map.is_some() && !self.suspect.load(Ordering::Relaxed)
    }

    /// Bytes of the file: a slice of the mapping where there is one and it is trusted.
    pub(crate) fn bytes(&self, offset: u64, len: u32) -> io::Result<Bytes> {
        if let Some(slice) = self.slice(offset, len) {
            return slice;
        }
        Ok(self.file.read_vec_at(offset, len as usize)?.into())
    }

    /// A slice of the mapping; nothing where there is none or it is not trusted.
    fn slice(&self, offset: u64, len: u32) -> Option<io::Result<Bytes>> {
        let map = self.map.as_ref().filter(|_| self.is_trusted())?;
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(len as usize));
        Some(match (start, end) {
            (Some(start), Some(end)) if end <= map.len() => Ok(map.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    /// A slice of the mapping, if the container is trusted and the kernel has the slice in memory.
    pub(crate) fn slice_at_hand(&self, offset: u64, len: u32) -> Option<Bytes> {
        let bytes = self.slice(offset, len)?.ok()?;
        mmap::is_in_memory(&bytes).then_some(bytes)
    }

    /// Bytes of the file, unchecked, if the kernel has them in memory.
    pub(crate) fn bytes_at_hand(&self, offset: u64, len: u32) -> Option<Bytes> {
        let mut buf = vec![0; len as usize];
        match self.file.read_at_hand(&mut buf, offset) {
            Ok(Some(read)) if read == buf.len() => Some(buf.into()),
            _ => None,
        }
    }

    /// The outboard that the sidecar has for an entry, unchecked.
    pub(crate) fn outboard(&self, entry: &ChunkEntry) -> Option<Bytes> {
        let (side, at) = (self.side.as_ref()?, entry.outboard?);
        let len = outboard::size(entry.plain_len) as usize;
        side.read_vec_at(HEADER_BYTES + at, len)
            .ok()
            .map(Bytes::from)
    }
}

/// A mapping that says whether a slice of it is held.
struct Held {
    bytes: Bytes,
    _slices: Arc<()>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The containers that are open, least recently used first out.
#[derive(Debug, Default)]
pub(crate) struct OpenContainers {
    state: Mutex<OpenState>,
    clock: AtomicU64,
    /// Counts removals of places by the collector: see [`OpenContainers::removals`].
    removals: AtomicU64,
}

#[derive(Debug, Default)]
struct OpenState {
    open: HashMap<ContainerId, Arc<Container>>,
    /// Of every container that was opened: alive while it, or a slice of its mapping, is in use.
    users: HashMap<ContainerId, Vec<Weak<()>>>,
}

impl OpenContainers {
    fn state(&self) -> MutexGuard<'_, OpenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, container: &Container) {
        container.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn get(&self, id: ContainerId) -> Option<Arc<Container>> {
        let container = self.state().open.get(&id)?.clone();
        self.tick(&container);
        Some(container)
    }

    pub(crate) fn put(&self, container: Arc<Container>) {
        self.tick(&container);
        let mut state = self.state();
        if state.open.len() >= CONTAINERS_OPEN_MAX {
            let oldest = state
                .open
                .values()
                .min_by_key(|c| c.used.load(Ordering::Relaxed));
            if let Some(id) = oldest.map(|c| c.header.id) {
                state.open.remove(&id);
            }
            state
                .users
                .retain(|_, users| users.iter().any(|user| user.strong_count() > 0));
        }
        let id = container.header.id;
        state
            .users
            .entry(id)
            .or_default()
            .push(Arc::downgrade(&container.slices));
        state.open.insert(id, container);
    }

    /// Takes a container out; who reads it goes on with it.
    pub(crate) fn forget(&self, id: ContainerId) {
        self.state().open.remove(&id);
    }

    /// Takes a container out, and says whether nobody reads it, or holds a slice of it, any more.
    pub(crate) fn forget_unused(&self, id: ContainerId) -> bool {
        let mut state = self.state();
        state.open.remove(&id);
        let Some(users) = state.users.get_mut(&id) else {
            return true;
        };
        users.retain(|user| user.strong_count() > 0);
        let unused = users.is_empty();
        if unused {
            state.users.remove(&id);
        }
        unused
    }

    /// How often places were removed. Who looks a place up and then opens its container asks before and
    /// after: when it is the same, the collector sees that the container is in use before it makes a
    /// hole; else the place may be stale, and is looked up again.
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    /// Notes that places were removed from the index, before holes are made where they were.
    pub(crate) fn removed(&self) {
        self.removals.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_slice_keeps_its_container_in_use() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path());
        let id = ContainerId(5);
        std::fs::create_dir_all(layout.dir(id)).unwrap();
        let path = layout.data(id, ContainerKind::Pack);
        std::fs::write(&path, b"some bytes").unwrap();
        let pins = Pins::from(crate::disk::RealDisk.stat(&path).unwrap());
        let header = Header {
            id,
            kind: ContainerKind::Pack,
            len: 10,
            mtime_ns: pins.mtime_ns,
            ctime_ns: 0,
            device: 0,
            inode: 0,
            outboards_len: 0,
            chunks: 0,
            path_len: 0,
        };
        let open = OpenContainers::default();
        let container =
            Arc::new(Container::open(&crate::disk::RealDisk, &layout, header, None).unwrap());
        open.put(container.clone());
        let slice = container.bytes(5, 5).unwrap();
        assert!(container.is_trusted());
        assert!(!open.forget_unused(id), "a reader is open");
        assert!(open.get(id).is_none());
        drop(container);
        assert!(!open.forget_unused(id), "a slice is held");
        assert_eq!(&slice[..], b"bytes");
        drop(slice);
        assert!(open.forget_unused(id));
    }

    #[test]
    fn ids_are_sixteen_digits_and_nothing_else() {
        let id = ContainerId(0x00ab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "ab",
            "00000000000000AB",
            "+0000000000000ab",
            "",
            "00000000000000abc",
        ] {
            assert_eq!(wrong.parse::<ContainerId>(), Err(()), "{wrong}");
        }
    }
}
