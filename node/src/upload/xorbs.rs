//! Xorbs: chunks that clients send before they say which files are made of them.
//!
//! Invariant: a xorb that was acknowledged is either here as a file of its decoded chunks, or a map says in
//! which stored files they lie; once one is forgotten, the *epoch* changes, which clients take for another
//! store, so that they send everything again instead of counting on what is gone.
//!
//! A xorb's file is its chunks one after the other, their lengths (u32 each), the count of chunks (u32) and
//! `LODEXORB`. It is renamed to its name when it is whole and checked, and not synced: what a loss of power
//! may have taken is told by another boot of the machine, after which all of them are dropped.

mod assemble;
mod spread;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io::{self, BufWriter, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Folder, Inbox, UploadError, Uploads, limits, lock,
    map::{self, At, Key, Mapped},
};

const MAGIC: [u8; 8] = *b"LODEXORB";
/// Bytes behind the lengths of a xorb's file.
const TAIL_BYTES: usize = 12;
/// Bytes of chunks that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// The hash that names a xorb, as its bytes stand in a shard.
pub type XorbName = [u8; 32];

/// Chunks of a xorb that are the next bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The xorb.
    pub xorb: XorbName,
    /// Its chunks.
    pub chunks: Range<u32>,
    /// How many bytes they have, as the client says.
    pub len: u64,
}

/// A file that is made of chunks of xorbs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    /// Its SHA-256, if the client says it.
    pub sha256: Option<[u8; 32]>,
    /// Its bytes.
    pub pieces: Vec<Piece>,
}

/// What is remembered of xorbs.
#[derive(Debug)]
pub(super) struct Xorbs {
    folder: PathBuf,
    epoch: u64,
    /// In which map each xorb is, and where.
    known: HashMap<Key, (u64, At)>,
    /// The files that maps name.
    files: HashSet<[u8; 32]>,
    /// The maps, oldest first.
    maps: BTreeMap<u64, SystemTime>,
}

impl Xorbs {
    /// Reads what an earlier process left.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut this = Self {
            folder: folder.to_owned(),
            epoch: 0,
            known: HashMap::new(),
            files: HashSet::new(),
            maps: BTreeMap::new(),
        };
        let mut lost = false;
        for number in numbers(&this.folder.join("maps"))? {
            let path = this.map_path(number);
            let modified = fs::metadata(&path)?.modified()?;
            let (known, files) = (&mut this.known, &mut this.files);
            let scanned = map::scan(&path, &mut |key, at, mapped| {
                known.insert(key, (number, at));
                files.extend(mapped.segments.iter().map(|segment| segment.sha256));
            });
            match scanned {
                Ok(()) => drop(this.maps.insert(number, modified)),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "what was known of xorbs is lost");
                    fs::remove_file(&path)?;
                    lost = true;
                }
            }
        }
        let (epoch, boot) = this.read_epoch();
        let same_boot = boot.is_some() && boot == boot_id();
        let waiting = this.folder.join("xorbs");
        if !same_boot && waiting.exists() {
            fs::remove_dir_all(&waiting)?;
            lost = true;
        }
        match epoch {
            Some(epoch) if !lost => this.epoch = epoch,
            _ => this.renew()?,
        }
        if !same_boot {
            this.write_epoch()?;
        }
        Ok(this)
    }

    fn map_path(&self, number: u64) -> PathBuf {
        self.folder.join("maps").join(number.to_string())
    }

    fn raw_path(&self, key: &Key) -> PathBuf {
        let name = data_encoding::HEXLOWER.encode(&key.1);
        self.folder.join("xorbs").join(key.0.to_string()).join(name)
    }

    /// The epoch on disk, and the boot that it was written in.
    fn read_epoch(&self) -> (Option<u64>, Option<String>) {
        let text = fs::read_to_string(self.folder.join("epoch")).unwrap_or_default();
        let mut lines = text.lines();
        let epoch = lines
            .next()
            .and_then(|line| u64::from_str_radix(line, 16).ok());
        (epoch, lines.next().map(str::to_owned))
    }

    fn write_epoch(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let (path, new) = (self.folder.join("epoch"), self.folder.join("epoch.new"));
        let mut file = File::create(&new)?;
        writeln!(file, "{:016x}", self.epoch)?;
        writeln!(file, "{}", boot_id().unwrap_or_default())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Begins another epoch: something that was acknowledged is gone.
    fn renew(&mut self) -> io::Result<()> {
        self.epoch = getrandom::u64().map_err(io::Error::other)?;
        self.write_epoch()
    }

    /// Drops maps, and begins another epoch.
    fn forget(&mut self, maps: &[u64]) -> io::Result<()> {
        for number in maps {
            self.maps.remove(number);
            match fs::remove_file(self.map_path(*number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.known.retain(|_, (number, _)| !maps.contains(number));
        self.renew()
    }

    fn mapped(&self, key: &Key) -> io::Result<Option<Mapped>> {
        let Some((number, at)) = self.known.get(key) else {
            return Ok(None);
        };
        map::read(&self.map_path(*number), *at).map(Some)
    }

    /// Writes a map of these xorbs.
    fn remember(&mut self, xorbs: &[(Key, Mapped)]) -> io::Result<()> {
        if xorbs.is_empty() {
            return Ok(());
        }
        let number = self
            .maps
            .last_key_value()
            .map_or(0, |(number, _)| number + 1);
        let places = map::write(&self.map_path(number), xorbs)?;
        self.maps.insert(number, SystemTime::now());
        let known = places.into_iter().map(|(key, at)| (key, (number, at)));
        self.known.extend(known);
        let segments = xorbs.iter().flat_map(|(_, mapped)| &mapped.segments);
        self.files.extend(segments.map(|segment| segment.sha256));
        // What a newer map knows, too, is no loss.
        let newest: HashSet<u64> = self.known.values().map(|(number, _)| *number).collect();
        let useless: Vec<u64> = self
            .maps
            .keys()
            .copied()
            .filter(|number| !newest.contains(number))
            .collect();
        for number in useless {
            self.maps.remove(&number);
            fs::remove_file(self.map_path(number))?;
        }
        if self.known.len() > limits::XORBS_KNOWN_MAX {
            let oldest: Vec<u64> = self.maps.keys().copied().take(1).collect();
            self.forget(&oldest)?;
        }
        Ok(())
    }

    /// Notes that xorbs were named again.
    fn touch(&mut self, keys: impl Iterator<Item = Key>) -> io::Result<()> {
        let numbers: HashSet<u64> = keys
            .filter_map(|key| self.known.get(&key).map(|(number, _)| *number))
            .collect();
        for number in numbers {
            let now = SystemTime::now();
            File::options()
                .write(true)
                .open(self.map_path(number))?
                .set_modified(now)?;
            self.maps.insert(number, now);
        }
        Ok(())
    }

    /// Drops what has expired.
    pub(super) fn sweep(&mut self) -> io::Result<()> {
        let age = |at: &SystemTime| at.elapsed().unwrap_or_default();
        let old: Vec<u64> = self
            .maps
            .iter()
            .filter(|(_, at)| age(at) > limits::MAP_AGE_MAX)
            .map(|(number, _)| *number)
            .collect();
        let mut lost = !old.is_empty();
        for inbox in list(&self.folder.join("xorbs"))? {
            for path in list(&inbox)? {
                let modified = fs::metadata(&path)?.modified()?;
                if age(&modified) > limits::STAGED_AGE_MAX {
                    fs::remove_file(&path)?;
                    lost = true;
                }
            }
        }
        if lost { self.forget(&old) } else { Ok(()) }
    }
}

/// The numbers of the maps in a folder, oldest first; half-written ones are removed.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for path in list(folder)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match name.parse() {
            Ok(number) => numbers.push(number),
            Err(_) => fs::remove_file(&path)?,
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What is in a folder; nothing if it is not there.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Names this boot of the machine, where the system says it.
fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// A xorb that is being received: its chunks are checked by whoever adds them.
#[derive(Debug)]
pub struct NewXorb {
    folder: Folder,
    path: PathBuf,
    file: BufWriter<File>,
    lengths: Vec<u32>,
    len: u64,
}

impl NewXorb {
    /// Adds the next chunk.
    ///
    /// # Errors
    /// [`UploadError::TooLarge`].
    pub fn add(&mut self, chunk: &[u8]) -> Result<(), UploadError> {
        let len = u32::try_from(chunk.len()).ok();
        let len = len.filter(|_| chunk.len() <= limits::XORB_CHUNK_BYTES_MAX);
        let len = len.ok_or(UploadError::TooLarge {
            what: "bytes of a chunk of a xorb",
            max: limits::XORB_CHUNK_BYTES_MAX as u64,
        })?;
        self.len += u64::from(len);
        if self.len > limits::XORB_BYTES_MAX {
            return Err(UploadError::TooLarge {
                what: "bytes of a xorb",
                max: limits::XORB_BYTES_MAX,
            });
        }
        if self.lengths.len() == limits::XORB_CHUNKS_MAX {
            return Err(UploadError::TooLarge {
                what: "chunks of a xorb",
                max: limits::XORB_CHUNKS_MAX as u64,
            });
        }
        self.lengths.push(len);
        self.file
            .write_all(chunk)
            .map_err(UploadError::io(&self.path))
    }
}

impl Uploads {
    /// What clients are to take for the name of this store: another one once xorbs were forgotten.
    ///
    /// # Errors
    /// [`UploadError::Io`].
    pub fn epoch(&self) -> Result<u64, UploadError> {
        self.sweep_sometimes();
        let mut xorbs = lock(&self.state().xorbs);
        let mut gone = HashSet::new();
        for sha256 in &xorbs.files {
            if self.node.store().file_by_sha256(sha256)?.is_none() {
                gone.insert(*sha256);
            }
        }
        if !gone.is_empty() {
            let mut maps = Vec::new();
            for number in xorbs.maps.keys() {
                let mut named = false;
                let scanned = map::scan(&xorbs.map_path(*number), &mut |_, _, mapped| {
                    named |= mapped.segments.iter().any(|s| gone.contains(&s.sha256));
                });
                if named || scanned.is_err() {
                    maps.push(*number);
                }
            }
            let folder = xorbs.folder.clone();
            xorbs.forget(&maps).map_err(UploadError::io(&folder))?;
            xorbs.files.retain(|sha256| !gone.contains(sha256));
        }
        Ok(xorbs.epoch)
    }

    /// Whether a xorb is here, or was and is remembered.
    pub fn has_xorb(&self, inbox: &Inbox, name: &XorbName) -> bool {
        let xorbs = lock(&self.state().xorbs);
        let key = (inbox.id(), *name);
        xorbs.known.contains_key(&key) || xorbs.raw_path(&key).exists()
    }

    /// Begins to receive a xorb.
    ///
    /// # Errors
    /// [`UploadError::NoRoom`].
    pub fn begin_xorb(&self) -> Result<NewXorb, UploadError> {
        self.check_room(limits::XORB_BYTES_MAX)?;
        let folder = Folder::create(self.new_path()?)?;
        let path = folder.0.join("0");
        let file = File::create_new(&path).map_err(UploadError::io(&path))?;
        Ok(NewXorb {
            folder,
            path,
            file: BufWriter::with_capacity(WRITE_BYTES, file),
            lengths: Vec::new(),
            len: 0,
        })
    }

    /// Takes a xorb that is whole and has this name.
    ///
    /// # Errors
    /// [`UploadError::Io`].
    pub fn finish_xorb(
        &self,
        inbox: &Inbox,
        name: &XorbName,
        xorb: NewXorb,
    ) -> Result<(), UploadError> {
        let NewXorb {
            folder,
            path,
            mut file,
            lengths,
            ..
        } = xorb;
        let io = UploadError::io(&path);
        let count = u32::try_from(lengths.len()).expect("at most 8192");
        for len in lengths.iter().chain([&count]) {
            file.write_all(&len.to_le_bytes()).map_err(&io)?;
        }
        file.write_all(&MAGIC).map_err(&io)?;
        file.flush().map_err(&io)?;
        let xorbs = lock(&self.state().xorbs);
        let place = xorbs.raw_path(&(inbox.id(), *name));
        let parent = place.parent().unwrap_or(&place);
        fs::create_dir_all(parent).map_err(UploadError::io(parent))?;
        fs::rename(&path, &place).map_err(&io)?;
        drop(folder);
        Ok(())
    }
}

/// The file of a xorb's chunks.
#[derive(Debug)]
struct Raw {
    file: File,
    lengths: Vec<u32>,
}

impl Raw {
    /// Opens it; nothing if it is not there, or is none.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let len = file.metadata()?.len();
        let mut tail = [0; TAIL_BYTES];
        let Some(lengths_end) = len.checked_sub(TAIL_BYTES as u64) else {
            return Ok(None);
        };
        file.read_exact_at(&mut tail, lengths_end)?;
        let (count, magic) = tail.split_at(4);
        let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]);
        let lengths_len = u64::from(count) * 4;
        if magic != MAGIC || count as usize > limits::XORB_CHUNKS_MAX || lengths_len > lengths_end {
            return Ok(None);
        }
        let mut lengths = vec![0; count as usize * 4];
        file.read_exact_at(&mut lengths, lengths_end - lengths_len)?;
        let lengths: Vec<u32> = lengths
            .as_chunks::<4>()
            .0
            .iter()
            .map(|len| u32::from_le_bytes(*len))
            .collect();
        let sum: u64 = lengths.iter().map(|len| u64::from(*len)).sum();
        Ok((sum == lengths_end - lengths_len).then_some(Self { file, lengths }))
    }
}

/// A xorb's name as clients write it: four numbers of eight bytes, the last byte first.
fn shown(name: &[u8; 32]) -> String {
    let words = name.as_chunks::<8>().0.iter();
    words
        .map(|word| format!("{:016x}", u64::from_le_bytes(*word)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::upload::InboxId;

    fn key(number: u64) -> Key {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&number.to_le_bytes());
        (InboxId([1; 16]), name)
    }

    fn one(number: u64) -> [(Key, Mapped); 1] {
        let lengths = vec![1];
        let segments = Vec::new();
        [(key(number), Mapped { lengths, segments })]
    }

    #[test]
    fn so_many_xorbs_are_remembered_and_then_the_oldest_map_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut xorbs = Xorbs::open(folder.path()).unwrap();
        let epoch = xorbs.epoch;
        xorbs.remember(&one(0)).unwrap();
        let place = xorbs.known[&key(0)];
        // As if the first map held all but one of those that may be.
        let others = 1..limits::XORBS_KNOWN_MAX as u64 - 1;
        xorbs
            .known
            .extend(others.map(|number| (key(number), place)));
        xorbs.remember(&one(u64::MAX)).unwrap();
        assert_eq!(xorbs.known.len(), limits::XORBS_KNOWN_MAX);
        assert_eq!((xorbs.maps.len(), xorbs.epoch), (2, epoch));
        xorbs.remember(&one(u64::MAX - 1)).unwrap();
        assert_eq!(xorbs.known.len(), 2);
        assert!(xorbs.mapped(&key(0)).unwrap().is_none());
        assert!(xorbs.mapped(&key(u64::MAX)).unwrap().is_some());
        // Clients hear of it by another epoch.
        assert_ne!(xorbs.epoch, epoch);
        assert!(!xorbs.map_path(0).exists());
    }
}
