//! A file system in memory that forgets at a crash whatever was not synced.
//!
//! A seeded random number generator decides what survives: of the writes to a file since its last sync each is
//! kept, lost or torn at a sector; of the names created, renamed and removed since the last sync of their
//! folder, those up to some moment are kept. A failing test is run again by its seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile};
use crate::segment::{OpenError, SegmentFile};

/// Bytes that a device writes as a whole.
const SECTOR: usize = 512;

/// The simulated file system; clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<SimFile>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<(PathBuf, Option<usize>)>,
    dirs: BTreeSet<PathBuf>,
    random: u64,
    operations: u64,
    crash_at: Option<u64>,
    fail_sync_at: Option<u64>,
    syncs: u64,
    capacity: Option<usize>,
    boot: u64,
}

#[derive(Debug, Default)]
struct SimFile {
    data: Vec<u8>,
    durable: Vec<u8>,
    writes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

#[derive(Debug)]
struct Handle {
    disk: SimDisk,
    file: usize,
    boot: u64,
}

impl State {
    /// SplitMix64.
    fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below.max(1) as u64).unwrap_or(0)
    }

    /// Counts a call that changes something; from the crash on, all of them fail.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.crash_at {
            Some(at) if self.operations > at => Err(io::Error::other("simulated crash")),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        Ok(*self.names.get(path).ok_or(io::ErrorKind::NotFound)?)
    }

    fn rename(&mut self, path: &Path, to: Option<usize>) {
        self.changes.push((path.to_owned(), to));
        set_name(&mut self.names, path, to);
    }
}

fn set_name(names: &mut BTreeMap<PathBuf, usize>, path: &Path, to: Option<usize>) {
    match to {
        Some(file) => names.insert(path.to_owned(), file),
        None => names.remove(path),
    };
}

fn apply(data: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, bytes) => {
            let end = at + bytes.len();
            data.resize(data.len().max(end), 0);
            data[*at..end].copy_from_slice(bytes);
        }
        Change::Len(len) => data.resize(*len, 0),
    }
}

impl SimDisk {
    /// An empty disk, whose crashes follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed,
            ..State::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the call after so many more that change something, all calls fail.
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.operations + operations);
    }

    /// The sync after so many more fails, once; what it should have kept may be lost.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut state = self.state();
        state.fail_sync_at = Some(state.syncs + syncs);
    }

    /// Bytes that all files together may have.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    /// Calls so far that changed something.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Loses what may be lost, and runs again; handles from before fail.
    pub fn reboot(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let kept = state.draw(state.changes.len() + 1);
        let changes = std::mem::take(&mut state.changes);
        for (path, to) in changes.into_iter().take(kept) {
            set_name(&mut state.durable_names, &path, to);
        }
        for index in 0..state.files.len() {
            let writes = std::mem::take(&mut state.files[index].writes);
            let mut data = std::mem::take(&mut state.files[index].durable);
            for change in writes {
                match (state.draw(3), change) {
                    (0, _) => {}
                    (1, change) => apply(&mut data, &change),
                    (_, Change::Write(at, bytes)) => {
                        for (sector, part) in bytes.chunks(SECTOR).enumerate() {
                            if state.draw(2) == 0 {
                                apply(
                                    &mut data,
                                    &Change::Write(at + sector * SECTOR, part.to_vec()),
                                );
                            }
                        }
                    }
                    (_, change) => apply(&mut data, &change),
                }
            }
            state.files[index].durable.clone_from(&data);
            state.files[index].data = data;
        }
        state.names = state.durable_names.clone();
        state.crash_at = None;
        state.fail_sync_at = None;
        state.boot += 1;
    }

    /// Changes bytes of a file behind everybody's back.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn corrupt(&self, path: &Path, change: &mut dyn FnMut(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.find(path).expect("the file to damage is there");
        let file = &mut state.files[file];
        change(&mut file.data);
        file.durable.clone_from(&file.data);
        file.writes.clear();
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.step()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(SimFile::default());
        state.rename(path, Some(file));
        Ok(Box::new(Handle {
            disk: self.clone(),
            file,
            boot: state.boot,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        let file = state.find(path)?;
        Ok(Box::new(Handle {
            disk: self.clone(),
            file,
            boot: state.boot,
        }))
    }

    fn read(&self, path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
        let state = self.state();
        let data = &state.files[state.find(path)?].data;
        if data.len() as u64 > len_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(data.clone())
    }

    fn segment(&self, path: &Path) -> Result<SegmentFile, OpenError> {
        SegmentFile::from_bytes(self.read(path, u64::MAX)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let file = state.find(from)?;
        // one change of names is lost or kept as a whole: the new name first, so that none is lost
        state.rename(to, Some(file));
        state.rename(from, None);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let file = state.find(from)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.rename(to, Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.find(path)?;
        state.rename(path, None);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if !state.dirs.insert(path.to_owned()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let state = &mut *state;
        for (name, to) in std::mem::take(&mut state.changes) {
            if name.parent() == Some(path) {
                set_name(&mut state.durable_names, &name, to);
            } else {
                state.changes.push((name, to));
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state
            .names
            .keys()
            .filter(|name| name.parent() == Some(path));
        let names = inside.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned()));
        Ok(names.collect())
    }
}

impl Handle {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.boot != self.boot {
            return Err(io::Error::other("a handle from before the crash"));
        }
        let crashed = state.step();
        let grows = match &change {
            Change::Write(at, bytes) => at + bytes.len(),
            Change::Len(len) => *len,
        };
        let grows = grows.saturating_sub(state.files[self.file].data.len());
        let named: BTreeSet<usize> = state.names.values().copied().collect();
        let used: usize = named.iter().map(|file| state.files[*file].data.len()).sum();
        if state
            .capacity
            .is_some_and(|capacity| used + grows > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // the write during which power fails may still reach the disk
        let file = &mut state.files[self.file];
        apply(&mut file.data, &change);
        file.writes.push(change);
        crashed
    }
}

impl DiskFile for Handle {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Change::Write(offset, data.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(usize::try_from(len).map_err(io::Error::other)?))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.boot != self.boot {
            return Err(io::Error::other("a handle from before the crash"));
        }
        state.step()?;
        state.syncs += 1;
        let failed = state.fail_sync_at.is_some_and(|at| state.syncs == at + 1);
        let file = &mut state.files[self.file];
        if failed {
            // the pages are marked clean although nothing reached the disk
            file.writes.clear();
            return Err(io::Error::other("simulated failure of a sync"));
        }
        file.durable.clone_from(&file.data);
        file.writes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_nothing_else_must() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..64 {
            let disk = SimDisk::new(seed);
            let dir = Path::new("/d");
            disk.create_dir(dir).unwrap();
            let file = disk.create(&dir.join("a")).unwrap();
            file.write_at(b"durable", 0).unwrap();
            file.sync().unwrap();
            disk.sync_dir(dir).unwrap();
            file.write_at(b"pending", 0).unwrap();
            disk.create(&dir.join("b")).unwrap();
            disk.reboot();
            let data = disk.read(&dir.join("a"), 100).unwrap();
            match &data[..] {
                b"durable" => lost += 1,
                b"pending" => kept += 1,
                other => panic!("seed {seed}: {other:?}"),
            }
            assert!(file.write_at(b"x", 0).is_err(), "an old handle");
        }
        assert!(lost > 0 && kept > 0);
    }

    #[test]
    fn a_full_disk_says_so() {
        let disk = SimDisk::new(1);
        disk.set_capacity(Some(4));
        let file = disk.create(Path::new("/a")).unwrap();
        file.write_at(b"1234", 0).unwrap();
        let error = file.write_at(b"5", 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
