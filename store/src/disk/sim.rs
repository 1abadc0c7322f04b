//! A file system in memory that forgets at a crash whatever was not synced.
//!
//! What survives a crash is decided by a seeded random number generator, so a failing test is run again
//! by its seed:
//! - of the writes, lengths and holes of a file since its last sync, each is kept, lost, or torn (any
//!   subset of its 512-byte sectors is kept);
//! - of the names created, renamed and removed since the last sync of their folder, each is kept or lost;
//!   a rename is kept as a whole or lost as a whole, and syncing either of its folders keeps it;
//! - a failed sync forgets what it should have made durable, while readers still see it, as page caches do.
//!
//! Faults are set with [`SimDisk::crash_after`], [`SimDisk::fail_sync_after`], [`SimDisk::set_capacity`]
//! and [`SimDisk::set_read_only`]. After [`SimDisk::reboot`] all earlier handles fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{Access, Disk, DiskFile, DiskLock, Space, Stat};

const SECTOR: usize = 512;
const BLOCK: u64 = 4096;

/// The simulated file system; clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    nodes: Vec<Node>,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_dirs: BTreeSet<PathBuf>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    random: SplitMix,
    boot: u64,
    clock_ns: i64,
    operations: u64,
    crash_at: Option<u64>,
    fail_sync_at: Option<u64>,
    crashed: bool,
    read_only: bool,
    capacity: Option<u64>,
}

#[derive(Default)]
struct Node {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    mtime_ns: i64,
    ctime_ns: i64,
    durable_mtime_ns: i64,
    holes: u64,
}

enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
    Punch(Range<usize>),
}

#[derive(Clone)]
enum NameChange {
    Dir(PathBuf),
    Name {
        gone: Option<PathBuf>,
        set: Option<(PathBuf, usize)>,
    },
}

/// SplitMix64: small, seeded, good enough to choose what a crash loses.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn failed(text: &'static str) -> io::Error {
    io::Error::other(text)
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    /// An empty file system with the folder `/` whose crashes are chosen by `seed`.
    pub fn new(seed: u64) -> Self {
        let root = BTreeSet::from([PathBuf::from("/")]);
        Self(Arc::new(Mutex::new(State {
            nodes: Vec::new(),
            dirs: root.clone(),
            names: BTreeMap::new(),
            durable_dirs: root,
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            locks: BTreeSet::new(),
            random: SplitMix(seed),
            boot: 0,
            clock_ns: 1_000_000_000_000,
            operations: 0,
            crash_at: None,
            fail_sync_at: None,
            crashed: false,
            read_only: false,
            capacity: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that change something, done so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Crashes in place of the operation that comes after `operations` more.
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.operations + operations);
    }

    /// Fails the first sync that comes after `operations` more, once, and forgets what it should keep.
    pub fn fail_sync_after(&self, operations: u64) {
        let mut state = self.state();
        state.fail_sync_at = Some(state.operations + operations);
    }

    /// Sets how many bytes all files together may have.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Makes every change fail as on a read-only mount.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// Whether the crash that was asked for has come.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Loses what a power failure now may lose, and starts again: no faults, all handles and locks gone.
    pub fn reboot(&self) {
        self.state().reboot();
    }

    /// Changes one byte of a file as a failing disk does: no time of modification changes.
    pub fn flip(&self, path: &Path, offset: u64) {
        let mut state = self.state();
        let node = state.names[path];
        let at = usize::try_from(offset).expect("a simulated file fits in memory");
        let node = &mut state.nodes[node];
        node.data[at] ^= 0x40;
        if let Some(byte) = node.durable.get_mut(at) {
            *byte ^= 0x40;
        }
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

impl State {
    /// Before every change: counts it, and is where crashes and refusals happen.
    fn change(&mut self) -> io::Result<()> {
        self.alive()?;
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            self.crashed = true;
            return Err(failed("simulated crash"));
        }
        self.operations += 1;
        self.clock_ns += 1_000_000;
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed {
            Err(failed("simulated crash"))
        } else {
            Ok(())
        }
    }

    /// Whether this sync is the one that fails.
    fn sync_fails(&mut self) -> bool {
        let fails = self.fail_sync_at.is_some_and(|at| self.operations >= at);
        if fails {
            self.fail_sync_at = None;
        }
        fails
    }

    fn room(&self, more: u64) -> io::Result<()> {
        let used: u64 = self
            .names
            .values()
            .map(|n| self.nodes[*n].data.len() as u64)
            .sum();
        if self.capacity.is_some_and(|capacity| used + more > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn parent_there(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.dirs.contains(parent) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn apply(&mut self, change: NameChange) {
        match change {
            NameChange::Dir(path) => {
                self.durable_dirs.insert(path);
            }
            NameChange::Name { gone, set } => {
                if let Some(path) = gone {
                    self.durable_names.remove(&path);
                }
                if let Some((path, node)) = set {
                    self.durable_names.insert(path, node);
                }
            }
        }
    }

    fn reboot(&mut self) {
        // how much survives: nothing, something, everything
        let odds = 25 * self.random.below(5);
        for change in std::mem::take(&mut self.pending) {
            if self.random.below(100) < odds {
                self.apply(change);
            }
        }
        self.dirs = self.durable_dirs.clone();
        let reachable = |dirs: &BTreeSet<PathBuf>, path: &Path| {
            path.ancestors().skip(1).all(|dir| dirs.contains(dir))
        };
        let dirs = self.dirs.clone();
        self.dirs.retain(|dir| reachable(&dirs, dir));
        let dirs = &self.dirs;
        self.durable_names.retain(|path, _| reachable(dirs, path));
        self.durable_dirs = self.dirs.clone();
        self.names = self.durable_names.clone();
        for node in &mut self.nodes {
            node.crash(&mut self.random, odds);
        }
        self.locks.clear();
        self.boot += 1;
        self.crash_at = None;
        self.fail_sync_at = None;
        self.crashed = false;
    }
}

impl Node {
    fn crash(&mut self, random: &mut SplitMix, odds: u64) {
        let mut data = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.pending) {
            if random.below(100) < odds {
                change.apply(&mut data);
            } else if let Change::Write(offset, bytes) = change
                && odds > 0
                && random.below(2) == 0
            {
                tear(&mut data, offset, &bytes, random);
            }
        }
        self.data.clone_from(&data);
        self.durable = data;
        if random.below(2) == 0 {
            self.mtime_ns = self.durable_mtime_ns;
        }
        self.durable_mtime_ns = self.mtime_ns;
    }

    fn flush(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    fn record(&mut self, change: Change) {
        change.apply(&mut self.data);
        self.pending.push(change);
    }
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                if data.len() < offset + bytes.len() {
                    data.resize(offset + bytes.len(), 0);
                }
                data[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Len(len) => data.resize(*len, 0),
            Self::Punch(range) => {
                let end = range.end.min(data.len());
                data[range.start.min(end)..end].fill(0);
            }
        }
    }
}

/// Keeps a random subset of the sectors of a write.
fn tear(data: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut SplitMix) {
    let mut at = 0;
    while at < bytes.len() {
        let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
        let end = end.min(bytes.len());
        if random.below(2) == 0 {
            Change::Write(offset + at, bytes[at..end].to_vec()).apply(data);
        }
        at = end;
    }
}

struct SimFile {
    disk: SimDisk,
    node: usize,
    boot: u64,
    writable: bool,
}

struct SimLock(SimDisk, PathBuf, u64);

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.boot == self.2 {
            state.locks.remove(&self.1);
        }
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.change()?;
        state.parent_there(path)?;
        if state.names.contains_key(path) || state.dirs.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = state.nodes.len();
        let now = state.clock_ns;
        state.nodes.push(Node {
            mtime_ns: now,
            ctime_ns: now,
            ..Node::default()
        });
        state.names.insert(path.to_owned(), node);
        state.pending.push(NameChange::Name {
            gone: None,
            set: Some((path.to_owned(), node)),
        });
        let boot = state.boot;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            node,
            boot,
            writable: true,
        }))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.alive()?;
        if access == Access::Write && state.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let node = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let writable = access == Access::Write;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            node,
            boot: state.boot,
            writable,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.parent_there(to)?;
        let node = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), node);
        let set = Some((to.to_owned(), node));
        state.pending.push(NameChange::Name {
            gone: Some(from.to_owned()),
            set,
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.pending.push(NameChange::Name {
            gone: Some(path.to_owned()),
            set: None,
        });
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> = {
            let state = self.state();
            state.alive()?;
            path.ancestors()
                .filter(|dir| !state.dirs.contains(*dir))
                .map(Path::to_owned)
                .collect()
        };
        for dir in missing.into_iter().rev() {
            let mut state = self.state();
            state.change()?;
            state.dirs.insert(dir.clone());
            state.pending.push(NameChange::Dir(dir.clone()));
            drop(state);
            self.sync_dir(dir.parent().unwrap_or(Path::new("/")))?;
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let fails = state.sync_fails();
        let touches = |change: &NameChange| match change {
            NameChange::Dir(dir) => dir.parent() == Some(path),
            NameChange::Name { gone, set } => {
                gone.as_deref().and_then(Path::parent) == Some(path)
                    || set.as_ref().and_then(|(name, _)| name.parent()) == Some(path)
            }
        };
        // an earlier change of a name that a kept change touches is older news
        let mut later = BTreeSet::new();
        let (mut kept, mut rest) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut state.pending).into_iter().rev() {
            let kept_here = touches(&change);
            let stale = match &change {
                NameChange::Dir(_) => false,
                NameChange::Name { gone, set } => {
                    let names = gone.iter().chain(set.iter().map(|(name, _)| name));
                    let stale = !kept_here && names.clone().any(|name| later.contains(name));
                    if kept_here {
                        later.extend(names.cloned());
                    }
                    stale
                }
            };
            match (kept_here, stale) {
                (true, _) => kept.push(change),
                (false, false) => rest.push(change),
                (false, true) => {}
            }
        }
        state.pending = rest.into_iter().rev().collect();
        if fails {
            return Err(failed("simulated failure of a sync"));
        }
        for change in kept.into_iter().rev() {
            state.apply(change);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        state.alive()?;
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut names: Vec<_> = state
            .names
            .keys()
            .chain(&state.dirs)
            .filter(|p| p.parent() == Some(path))
            .filter_map(|p| p.file_name().map(Into::into))
            .collect();
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.state();
        state.alive()?;
        if state.dirs.contains(path) {
            return Ok(Stat {
                is_file: false,
                ..state.stat(0, &Node::default())
            });
        }
        let node = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.stat(node, &state.nodes[node]))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        let mut state = self.state();
        state.alive()?;
        if state.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        let boot = state.boot;
        Ok(Some(DiskLock::new(SimLock(
            self.clone(),
            path.to_owned(),
            boot,
        ))))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state();
        let total = state.capacity.unwrap_or(u64::MAX / 2);
        let used: u64 = state
            .names
            .values()
            .map(|n| state.nodes[*n].data.len() as u64)
            .sum();
        Ok(Space {
            total,
            free: total.saturating_sub(used),
        })
    }

    fn network(&self, _path: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }
}

impl State {
    fn stat(&self, inode: usize, node: &Node) -> Stat {
        let len = node.data.len() as u64;
        Stat {
            is_file: true,
            len,
            allocated: (len.div_ceil(BLOCK) * BLOCK).saturating_sub(node.holes),
            device: 1,
            inode: inode as u64,
            links: 1,
            mtime_ns: node.mtime_ns,
            ctime_ns: node.ctime_ns,
        }
    }
}

impl SimFile {
    fn change(
        &self,
        needs: impl FnOnce(&Node) -> u64,
        make: impl FnOnce() -> Change,
    ) -> io::Result<()> {
        let mut state = self.live()?;
        state.change()?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        state.room(needs(&state.nodes[self.node]))?;
        let now = state.clock_ns;
        let node = &mut state.nodes[self.node];
        node.record(make());
        (node.mtime_ns, node.ctime_ns) = (now, now);
        Ok(())
    }

    fn live(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.alive()?;
        if state.boot != self.boot {
            return Err(failed("a handle from before the simulated crash"));
        }
        Ok(state)
    }

    fn sync(&self, attributes: bool) -> io::Result<()> {
        let mut state = self.live()?;
        state.change()?;
        let fails = state.sync_fails();
        let node = &mut state.nodes[self.node];
        if fails {
            node.pending.clear();
            return Err(failed("simulated failure of a sync"));
        }
        node.flush();
        if attributes {
            node.durable_mtime_ns = node.mtime_ns;
        }
        Ok(())
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.node)
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits in memory")
}

impl DiskFile for SimFile {
    fn stat(&self) -> io::Result<Stat> {
        let state = self.live()?;
        Ok(state.stat(self.node, &state.nodes[self.node]))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.live()?;
        let data = &state.nodes[self.node].data;
        let start = index(offset).min(data.len());
        let len = buf.len().min(data.len() - start);
        buf[..len].copy_from_slice(&data[start..start + len]);
        Ok(len)
    }

    fn read_at_hand(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + data.len() as u64;
        self.change(
            |node| end.saturating_sub(node.data.len() as u64),
            || Change::Write(index(offset), data.to_vec()),
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|_| 0, || Change::Len(index(len)))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.stat()?.len >= len {
            return Ok(());
        }
        self.change(
            |node| len.saturating_sub(node.data.len() as u64),
            || Change::Len(index(len)),
        )
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let whole = (range.end / BLOCK).saturating_sub(range.start.div_ceil(BLOCK)) * BLOCK;
        self.change(
            |_| 0,
            || Change::Punch(index(range.start)..index(range.end)),
        )?;
        self.disk.state().nodes[self.node].holes += whole;
        Ok(())
    }

    fn set_mtime(&self, mtime_ns: i64) -> io::Result<()> {
        let mut state = self.live()?;
        state.change()?;
        state.nodes[self.node].mtime_ns = mtime_ns;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(false)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(true)
    }

    fn map(&self) -> io::Result<Bytes> {
        Ok(Bytes::copy_from_slice(&self.live()?.nodes[self.node].data))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn path(text: &str) -> PathBuf {
        PathBuf::from(text)
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            disk.create_dir_all(&path("/a/b")).unwrap();
            let file = disk.create(&path("/a/b/part")).unwrap();
            file.write_at(&[1; 3000], 0).unwrap();
            file.sync_data().unwrap();
            disk.rename(&path("/a/b/part"), &path("/a/done")).unwrap();
            disk.sync_dir(&path("/a")).unwrap();
            disk.reboot();
            let file = disk.open(&path("/a/done"), Access::Read).unwrap();
            assert_eq!(
                file.read_vec_at(0, 3000).unwrap(),
                vec![1; 3000],
                "seed {seed}"
            );
            assert!(
                disk.open(&path("/a/b/part"), Access::Read).is_err(),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn what_was_not_synced_is_lost_torn_or_kept() {
        let (mut lost, mut torn, mut kept, mut unnamed) = (0, 0, 0, 0);
        for seed in 0..400 {
            let disk = SimDisk::new(seed);
            let file = disk.create(&path("/f")).unwrap();
            file.write_at(&[9; 2048], 0).unwrap();
            disk.reboot();
            assert!(
                file.stat().is_err(),
                "a handle from before the crash works, seed {seed}"
            );
            match disk.open(&path("/f"), Access::Read) {
                Err(_) => unnamed += 1,
                Ok(file) => {
                    let data = file.map().unwrap();
                    match data.iter().filter(|b| **b == 9).count() {
                        0 => lost += 1,
                        2048 => kept += 1,
                        _ => torn += 1,
                    }
                }
            }
        }
        assert!(
            lost > 0 && torn > 0 && kept > 0 && unnamed > 0,
            "{lost} {torn} {kept} {unnamed}"
        );
    }

    #[test]
    fn a_failed_sync_loses_what_readers_still_see() {
        let disk = SimDisk::new(1);
        let file = disk.create(&path("/f")).unwrap();
        disk.sync_dir(&path("/")).unwrap();
        file.write_at(b"x", 0).unwrap();
        disk.fail_sync_after(0);
        assert!(file.sync_data().is_err());
        assert_eq!(&file.map().unwrap()[..], b"x");
        disk.reboot();
        assert_eq!(disk.stat(&path("/f")).unwrap().len, 0);
    }
}
